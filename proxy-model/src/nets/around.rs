//! Ranges cut into those that lie around single addresses. The programs ask whether any range holds an address, so that one
//! which is not to be found must be in none. Knows no map and not whose the addresses are.

use std::collections::BTreeSet;

use proxy_common::Address;

/// Network address and length.
type Net<A> = (A, u8);

/// The ranges without the holes, in at most `room` of them if that can be had. Each hole takes as many as a range is bits
/// longer; where that is too much, a block of addresses around the hole is left out with it, the smallest that will do.
/// Ranges without a hole come as they are, in their order.
pub(super) fn around<A: Address>(ranges: &[Net<A>], holes: &BTreeSet<A>, room: usize) -> Vec<Net<A>> {
    let mut block = whole::<A>();
    loop {
        let holes: BTreeSet<A> = holes.iter().map(|hole| hole.and(A::prefix_mask(block))).collect();
        let holes: Vec<A> = holes.into_iter().collect();
        let mut left = Vec::new();
        for (addr, len) in ranges {
            let (net, len) = (addr.and(A::prefix_mask(*len)), (*len).min(whole::<A>()));
            let inside =
                |hole: &&A| hole.and(A::prefix_mask(len.min(block))) == net.and(A::prefix_mask(block));
            let holes: Vec<A> = holes.iter().filter(inside).copied().collect();
            cut((net, len), &holes, block, &mut left);
        }
        if left.len() <= room || block == 0 {
            return left;
        }
        block -= 1;
    }
}

/// Adds what is left of a range. The holes are sorted, and each is the first address of a block of that length.
fn cut<A: Address>((net, len): Net<A>, holes: &[A], block: u8, left: &mut Vec<Net<A>>) {
    if holes.is_empty() {
        return left.push((net, len));
    }
    if len >= block {
        return;
    }
    let half = len + 1;
    let middle = holes.partition_point(|hole| hole.and(A::prefix_mask(half)) == net);
    let (lower, upper) = holes.split_at(middle);
    cut((net, half), lower, block, left);
    cut((with_bit(net, len), half), upper, block, left);
}

/// The same with a bit set; counted from the highest.
fn with_bit<A: Address>(addr: A, bit: u8) -> A {
    let mut words = addr.to_words();
    if let Some(word) = words.get_mut(usize::from(bit / 32)) {
        *word |= (1_u32 << (31 - bit % 32)).to_be();
    }
    A::from_padded(words)
}

fn whole<A: Address>() -> u8 {
    u8::try_from(8 * size_of::<A>()).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests {
    use proxy_common::{Addr4, Addr6};

    use super::*;

    fn texts<A: Address>(ranges: &[&str], holes: &[&str], room: usize) -> Vec<String> {
        let addr = |text: &str| A::from_ip(text.parse().unwrap()).unwrap();
        let range = |text: &&str| {
            let (net, len) = text.split_once('/').unwrap();
            (addr(net), len.parse().unwrap())
        };
        let ranges: Vec<Net<A>> = ranges.iter().map(range).collect();
        let left = around(&ranges, &holes.iter().map(|hole| addr(hole)).collect(), room);
        left.iter().map(|(net, len)| format!("{}/{len}", net.to_ip())).collect()
    }

    #[test]
    fn what_lies_beside_a_hole_is_left_and_ranges_without_one_are_as_they_were() {
        let ranges = ["192.0.2.0/24", "10.96.0.0/29"];
        assert_eq!(texts::<Addr4>(&ranges, &["10.96.0.8"], 9), ranges);
        assert_eq!(
            texts::<Addr4>(&ranges, &["10.96.0.2", "10.96.0.3", "10.96.0.7"], 9),
            ["192.0.2.0/24", "10.96.0.0/31", "10.96.0.4/31", "10.96.0.6/32"]
        );
        assert_eq!(
            texts::<Addr6>(&["fd00:96::/126", "fd00:97::/108"], &["fd00:96::1"], 9),
            ["fd00:96::/128", "fd00:96::2/127", "fd00:97::/108"]
        );
        assert_eq!(texts::<Addr4>(&["10.96.0.1/32"], &["10.96.0.1"], 9), [""; 0]);
    }

    #[test]
    fn where_there_is_no_room_the_holes_are_larger() {
        let ranges = ["10.96.0.0/29", "192.0.2.0/24"];
        assert_eq!(
            texts::<Addr4>(&ranges, &["10.96.0.2"], 3),
            ["10.96.0.0/31", "10.96.0.4/30", "192.0.2.0/24"]
        );
        assert_eq!(texts::<Addr4>(&ranges, &["10.96.0.2"], 2), ["10.96.0.4/30", "192.0.2.0/24"]);
        assert_eq!(texts::<Addr4>(&ranges, &["10.96.0.2"], 1), ["192.0.2.0/24"]);
        assert_eq!(texts::<Addr4>(&ranges, &[], 1), ranges, "what has no hole is not ours to leave out");
    }

    #[test]
    fn the_longest_and_the_shortest_range_have_all_of_their_other_addresses() {
        let left = texts::<Addr6>(&["::/0"], &["::"], 128);
        assert_eq!((left.len(), left[0].as_str(), left[127].as_str()), (128, "::1/128", "8000::/1"));
    }
}
