//! Whether policies mention an address, in three bits of a word: who has not all of them is under no policy, and no rule names
//! the address itself. Who has them may be mentioned. Knows where the bits stand, nothing of rules.

use crate::addr::Address;
use crate::end::Spread;
use crate::limits::MENTIONED;

/// Where the bits of an address stand in the `mentioned` map. Others may share them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// The word: below [`MENTIONED`].
    pub word: u32,
    /// Its bits: three, or fewer if some are the same.
    pub bits: u64,
}

impl Mark {
    /// Of an address.
    #[inline(always)]
    pub fn of<A: Address>(addr: &A) -> Self {
        Self::at(Spread::of(addr))
    }

    /// Of an address with this hash.
    #[inline(always)]
    pub const fn at(spread: Spread) -> Self {
        let mix = spread.bits();
        let word = 64 - MENTIONED.trailing_zeros();
        let bits = 1_u64 << (mix >> (word - 6) & 63)
            | 1_u64 << (mix >> (word - 12) & 63)
            | 1_u64 << (mix >> (word - 18) & 63);
        Self { word: (mix >> word) as u32, bits }
    }

    /// Whether a word has them all.
    #[inline(always)]
    pub const fn is_in(self, word: u64) -> bool {
        word & self.bits == self.bits
    }
}

const _: () = assert!(MENTIONED.is_power_of_two() && MENTIONED.trailing_zeros() <= 32);

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::addr::{Addr4, Addr6};
    use crate::strangers;

    fn mistaken<A: Address>(noted: impl Fn(u32) -> IpAddr, other: impl Fn(u32) -> IpAddr) -> usize {
        let place = |addr: &A| {
            let Mark { word, bits } = Mark::of(addr);
            (word, bits)
        };
        strangers::mistaken(MENTIONED, place, noted, other)
    }

    #[test]
    fn of_a_hundred_strangers_three_look_as_if_they_were_among_a_hundred_thousand_who_are_mentioned() {
        let v4 = |net: u32| move |number: u32| IpAddr::V4(Ipv4Addr::from((net << 24) + number));
        let v6 = |net: u128| move |number: u32| IpAddr::V6(Ipv6Addr::from((net << 96) + u128::from(number)));
        let by_node = |number: u32| {
            let (node, pod) = (u128::from(number / 250), u128::from(number % 250));
            IpAddr::V6(Ipv6Addr::from((0xfd00_0010_0244_u128 << 80) + (node << 64) + pod))
        };
        for share in [
            mistaken::<Addr4>(v4(10), v4(198)),
            mistaken::<Addr6>(v6(0xfd00_0001), v6(0x2001_0db8)),
            mistaken::<Addr6>(by_node, v6(0x2001_0db8)),
        ] {
            assert!(share < 40, "{share} of a thousand");
        }
    }
}
