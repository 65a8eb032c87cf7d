//! What was found about one end of a connection a moment ago: the rules that the address is under, and its class. Whoever has
//! been judged with one peer need not be looked up for the next, until the agent writes to a map of policies. Knows where that
//! stands, nothing of rules.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Address;
use crate::limits::ENDS;
use crate::policy::{PeerClass, Policed, RuleSetId};

word! {
    /// What is known of an end.
    #[derive(Debug)]
    pub struct Facts(pub u32);
}

impl Facts {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The address is of IPv6.
    pub const IPV6: Self = Self(1);
    /// Whether it is under a policy was looked up.
    pub const RULES: Self = Self(2);
    /// It is, and by which rules.
    pub const POLICED: Self = Self(4);
    /// Its class was looked up.
    pub const CLASS: Self = Self(8);
    /// It is under no policy, and may come by [`End::device`].
    pub const FREE_BEHIND: Self = Self(16);
    /// Policies do not mention it: it is under none, and no rule names the address itself.
    pub const UNMENTIONED: Self = Self(32);
}

bits!(Facts);

/// Value of the `ends` map, by [`Spread::place`]. What it says holds as long as the `policywrites` map holds the number `writes`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct End {
    /// The address; IPv4 in the first word.
    pub addr: [u32; 4],
    /// Writes to the maps of policies before anything was looked up.
    pub writes: u32,
    /// What is known.
    pub facts: Facts,
    /// If it is policed, the device that it is behind; see [`Facts::FREE_BEHIND`] for others.
    pub device: u32,
    /// Always zero.
    pub pad: u32,
    /// Rules about what it sends.
    pub egress: RuleSetId,
    /// Rules about what it gets.
    pub ingress: RuleSetId,
    /// What it is to the rules of others.
    pub class: PeerClass,
}

impl End {
    /// Makes it about an address after so many writes: what is known of that already stays.
    #[inline(always)]
    pub fn turn_to<A: Address>(&mut self, addr: &A, writes: u32) {
        if self.is_about(addr, writes) {
            return;
        }
        (self.addr, self.writes, self.facts) = (addr.to_words(), writes, family::<A>());
    }

    #[inline(always)]
    fn is_about<A: Address>(&self, addr: &A, writes: u32) -> bool {
        let words = addr.to_words();
        self.writes == writes
            && self.facts.0 & Facts::IPV6.0 == family::<A>().0
            && self.addr.iter().zip(&words).take(A::WORDS).all(|(one, other)| one == other)
    }

    /// Notes the rules that it is under; `None` if it is under none.
    #[inline(always)]
    pub fn note_rules(&mut self, policed: Option<&Policed>) {
        self.facts = self.facts.with(Facts::RULES);
        if let Some(policed) = policed {
            (self.egress, self.ingress, self.device) = (policed.egress, policed.ingress, policed.device);
            self.facts = self.facts.with(Facts::POLICED);
        }
    }

    /// Notes that policies do not mention it. Its class is `class`, unless that depends on the prefixes that rules name.
    #[inline(always)]
    pub fn note_unmentioned(&mut self, class: Option<PeerClass>) {
        let facts = self.facts.with(Facts::RULES).with(Facts::UNMENTIONED);
        self.facts = match class {
            Some(class) => {
                self.class = class;
                facts.with(Facts::CLASS)
            }
            None => facts,
        };
    }

    /// Notes its class.
    #[inline(always)]
    pub fn note_class(&mut self, class: PeerClass) {
        self.class = class;
        self.facts = self.facts.with(Facts::CLASS);
    }

    /// Notes that it is under no policy, and that nobody is who sends by this device.
    #[inline(always)]
    pub fn note_free_behind(&mut self, device: u32) {
        self.device = device;
        self.facts = self.facts.with(Facts::FREE_BEHIND);
    }
}

#[inline(always)]
const fn family<A: Address>() -> Facts {
    if A::WORDS == 1 { Facts::NONE } else { Facts::IPV6 }
}

/// A hash of an address, of which the upper bits are the best. Made once, it says where the address stands here and in the
/// `mentioned` map.
#[derive(Clone, Copy)]
pub struct Spread(u64);

impl Spread {
    /// Of an address.
    #[inline(always)]
    pub fn of<A: Address>(addr: &A) -> Self {
        Self::of_words(addr.to_words())
    }

    /// Of its words, or of the first bits of them.
    #[inline(always)]
    pub const fn of_words(words: [u32; 4]) -> Self {
        /// 2^64 divided by the golden ratio: products with it differ in their upper bits.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        /// Odd, and no small multiple of the other. Two products, of which neither waits for the other.
        const OTHER: u64 = 0xc2b2_ae3d_27d4_eb4f;
        let [a, b, c, d] = words;
        let (a, b, c, d) = (a as u64, b as u64, c as u64, d as u64);
        let mix = (a | b << 32).wrapping_mul(GOLDEN) ^ (c | d << 32).wrapping_mul(OTHER);
        // The bytes that differ most are the last ones of an address: the upper ones of a word, which move no bit below them.
        Self((mix ^ mix >> 32).wrapping_mul(GOLDEN))
    }

    /// Where the address stands: below [`ENDS`]. Two may share a place; then the last one has it.
    #[inline(always)]
    pub const fn place(self) -> u32 {
        (self.0 >> (64 - ENDS.trailing_zeros())) as u32
    }

    /// All of its bits.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.0
    }
}

const _: () = assert!(ENDS.is_power_of_two());
const _: () = assert!(size_of::<End>() == 56);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Addr4, Addr6};
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    const WRITES: u32 = 7;
    const RULES: Policed = Policed { egress: RuleSetId(1), ingress: RuleSetId(2), device: 3, pad: 0 };

    fn v4(host: u8) -> Addr4 {
        Addr4::from_ip(IpAddr::V4(Ipv4Addr::new(10, 1, 0, host))).unwrap()
    }

    fn v6(host: u16) -> Addr6 {
        Addr6::from_ip(IpAddr::V6(Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, host))).unwrap()
    }

    /// An end of which everything is known.
    fn known() -> End {
        let mut end = End::default();
        end.turn_to(&v4(1), WRITES);
        end.note_rules(Some(&RULES));
        end.note_class(PeerClass(4));
        end
    }

    #[test]
    fn what_is_known_holds_for_the_same_address_and_count_and_for_nothing_else() {
        let mut end = known();
        end.turn_to(&v4(1), WRITES);
        assert_eq!(end, known());
        let of_v6 = Addr6::from_ip(IpAddr::V6(Ipv6Addr::from(0x0a01_0001_u128 << 96))).unwrap();
        for turn in [
            |end: &mut End, _| end.turn_to(&v4(2), WRITES),
            |end: &mut End, _| end.turn_to(&v4(1), WRITES + 1),
            |end: &mut End, same_word: &Addr6| end.turn_to(same_word, WRITES),
        ] {
            let mut end = known();
            turn(&mut end, &of_v6);
            assert!(!end.facts.has(Facts::RULES) && !end.facts.has(Facts::CLASS), "{end:?}");
        }
    }

    #[test]
    fn an_empty_place_says_nothing_about_the_address_of_zeros_before_the_first_write() {
        let mut end = End::default();
        end.turn_to(&Addr4::default(), 0);
        assert_eq!(end.facts, Facts::NONE);
        end.turn_to(&Addr6::default(), 0);
        assert_eq!(end.facts, Facts::IPV6);
    }

    #[test]
    fn an_end_without_rules_is_known_to_have_none() {
        let mut end = End::default();
        end.turn_to(&v6(1), WRITES);
        end.note_rules(None);
        assert!(end.facts.has(Facts::RULES) && !end.facts.has(Facts::POLICED));
        end.note_free_behind(9);
        assert!(end.facts.has(Facts::FREE_BEHIND) && end.device == 9);
    }

    #[test]
    fn the_pods_of_a_range_have_places_of_their_own() {
        let mut taken = [[0_u32; ENDS as usize]; 2];
        for host in 0..=u8::MAX {
            taken[0][Spread::of(&v4(host)).place() as usize] += 1;
            taken[1][Spread::of(&v6(host.into())).place() as usize] += 1;
        }
        for taken in taken {
            let lost: u32 = taken.iter().map(|count| count.saturating_sub(1)).sum();
            // As many as of a hash that knows nothing: 256 in 1,024 places lose 29 or so.
            assert!(lost < 60, "{lost} of 256 share a place");
        }
    }
}
