//! Whose packets connections in the tables may have, in one bit for each address: an address without its bit is the source of no
//! entry. Who has it may be one. Knows where the bits stand, nothing of connections.

use crate::addr::Address;
use crate::end::Spread;
use crate::limits::PARTIES;

/// Where the bit of an address stands in the `parties` map. Others may share it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Party {
    /// The word: below [`PARTIES`].
    pub word: u32,
    /// Its bit.
    pub bit: u64,
}

impl Party {
    /// Of an address.
    #[inline(always)]
    pub fn of<A: Address>(addr: &A) -> Self {
        let mix = Spread::of(addr).bits();
        let word = 64 - PARTIES.trailing_zeros();
        Self { word: (mix >> word) as u32, bit: 1 << (mix >> (word - 6) & 63) }
    }

    /// Whether a word has it.
    #[inline(always)]
    pub const fn is_in(self, word: u64) -> bool {
        word & self.bit != 0
    }
}

/// Whether each source of an entry has its bit: the word behind those of addresses, [`Parties::WORD`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Parties(pub u32);

impl Parties {
    /// Where it stands.
    pub const WORD: u32 = PARTIES;
    /// Size of the map.
    pub const WORDS: u32 = PARTIES + 1;

    /// Nobody knows: the bits say nothing.
    pub const UNKNOWN: Self = Self(0);
    /// Each has.
    pub const NAMED: Self = Self(1);
    /// Whoever makes an entry sets the bit first, but there may be older ones without.
    pub const BEING_NAMED: Self = Self(2);

    /// As it is read.
    #[inline(always)]
    pub const fn are_named(word: u64) -> bool {
        word == Self::NAMED.0 as u64
    }
}

const _: () = assert!(PARTIES.is_power_of_two() && PARTIES.trailing_zeros() <= 32);

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::addr::{Addr4, Addr6};
    use crate::strangers;

    fn mistaken<A: Address>(noted: impl Fn(u32) -> IpAddr, other: impl Fn(u32) -> IpAddr) -> usize {
        let place = |addr: &A| {
            let Party { word, bit } = Party::of(addr);
            (word, bit)
        };
        strangers::mistaken(PARTIES, place, noted, other)
    }

    #[test]
    fn of_a_hundred_strangers_five_look_as_if_they_were_among_a_hundred_thousand_who_had_connections() {
        let v4 = |net: u32| move |number: u32| IpAddr::V4(Ipv4Addr::from((net << 24) + number));
        let v6 = |net: u128| move |number: u32| IpAddr::V6(Ipv6Addr::from((net << 96) + u128::from(number)));
        for share in [mistaken::<Addr4>(v4(198), v4(10)), mistaken::<Addr6>(v6(0x2001_0db8), v6(0xfd00_0001))]
        {
            assert!(share < 55, "{share} of a thousand");
        }
    }
}
