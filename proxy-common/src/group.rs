//! Groups of addresses that no prefix of a rule divides: the class of one is that of all. How finely the addresses of a
//! neighbourhood, of one /16 over IPv4 and one /32 over IPv6, are divided stands in the `spans` map. Knows where that stands
//! and who belongs together, nothing of rules.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Address;
use crate::end::Spread;
use crate::limits::{GROUPS, SPANS};
use crate::policy::PeerClass;
use crate::prefix::PrefixKey;

word! {
    /// How many bits the addresses of a group have in common.
    #[derive(Debug)]
    pub struct Grain(pub u32);
}

impl Grain {
    /// A neighbourhood is one group.
    pub const COARSEST: Self = Self(0);
    /// Each address is a group of its own.
    pub const FINEST: Self = Self(4);

    /// Bits in common, from the coarsest to the finest.
    const LENGTHS4: [u8; 5] = [16, 20, 24, 28, 32];
    const LENGTHS6: [u8; 5] = [32, 48, 64, 96, 128];

    /// The coarsest of which a prefix of `len` bits divides no group.
    #[must_use]
    pub fn of<A: Address>(len: u8) -> Self {
        let lengths = if A::WORDS == 1 { Self::LENGTHS4 } else { Self::LENGTHS6 };
        (0..).zip(lengths).find(|(_, length)| len <= *length).map_or(Self::FINEST, |(grain, _)| Self(grain))
    }

    /// Bits in common.
    #[inline(always)]
    #[must_use]
    pub const fn bits<A: Address>(self) -> u8 {
        let lengths = if A::WORDS == 1 { Self::LENGTHS4 } else { Self::LENGTHS6 };
        // Not an index: a program has nobody to tell that it is out of bounds.
        match self.0 {
            0 => lengths[0],
            1 => lengths[1],
            2 => lengths[2],
            3 => lengths[3],
            _ => lengths[4],
        }
    }

    /// Groups of this grain are a neighbourhood, one address, or have more bits than [`Whole`].
    #[inline(always)]
    const fn is_never_whole<A: Address>(self) -> bool {
        self.0 == Self::COARSEST.0 || self.0 > if A::WORDS == 1 { 3 } else { 2 }
    }

    /// What the group of an address has in common, in network order; the other bits are zero.
    #[inline(always)]
    pub fn common<A: Address>(self, addr: &A) -> [u32; 4] {
        let [a, b, c, d] = addr.to_words();
        if A::WORDS == 1 {
            return [a & (u32::MAX << (16 - 4 * (self.0 & 7))).to_be(), 0, 0, 0];
        }
        let second = match self.0 {
            0 => 0,
            1 => 0xffff_0000_u32.to_be(),
            _ => u32::MAX,
        };
        [a, b & second, if self.0 < 3 { 0 } else { c }, if self.0 < 4 { 0 } else { d }]
    }
}

word! {
    /// Which prefixes a search in the `blocks` maps looks at: their scope. A neighbourhood that nobody divides needs the wide
    /// ones alone, which are few.
    #[derive(Debug)]
    pub struct Tier(pub u32);
}

impl Tier {
    /// Those that hold whole neighbourhoods.
    pub const WIDE: Self = Self(0);
    /// Those that lie within one.
    pub const NARROW: Self = Self(1);

    /// Of a prefix of so many bits.
    #[must_use]
    pub fn of<A: Address>(len: u8) -> Self {
        if Grain::of::<A>(len) == Grain::COARSEST { Self::WIDE } else { Self::NARROW }
    }

    /// The key of a prefix in the `blocks` maps; bits of `addr` beyond its length are zero.
    #[must_use]
    pub fn key<A: Address>(addr: A, len: u8) -> PrefixKey<A> {
        PrefixKey::new(Self::of::<A>(len).0, addr, len)
    }
}

word! {
    /// How prefixes divide a neighbourhood: a bit for each grain that one of them needs, and one more if one of them is not in the
    /// `wholes` map. More bits are always right.
    #[derive(Debug)]
    pub struct Division(pub u32);
}

impl Division {
    const ODD: u32 = 16;
    /// Of a word of which nothing is known.
    pub const UNKNOWN: Self = Self(0xff);

    /// By a prefix of so many bits.
    #[must_use]
    pub fn by<A: Address>(len: u8) -> Self {
        match Grain::of::<A>(len) {
            Grain::COARSEST => Self(0),
            grain if grain.bits::<A>() == len && !grain.is_never_whole::<A>() => Self(1 << (grain.0 - 1)),
            grain => Self(1 << (grain.0 - 1) | Self::ODD),
        }
    }

    /// How fine the groups are: the longest prefix counts.
    #[inline(always)]
    #[must_use]
    pub const fn grain(self) -> Grain {
        match self.0 & 15 {
            0 => Grain::COARSEST,
            1 => Grain(1),
            2..=3 => Grain(2),
            4..=7 => Grain(3),
            _ => Grain::FINEST,
        }
    }

    /// The groups may be in the `wholes` map.
    #[inline(always)]
    #[must_use]
    pub const fn has_wholes<A: Address>(self) -> bool {
        !self.grain().is_never_whole::<A>()
    }

    /// All prefixes in the neighbourhood are groups of its grain: where none is one, none is found by a search.
    #[inline(always)]
    #[must_use]
    pub const fn is_even(self) -> bool {
        matches!(self.0, 1 | 2 | 4)
    }
}

/// Where the `spans` map tells how a neighbourhood is divided. Neighbourhoods may share the place, and then the bits of all are
/// there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// The word: below [`SPANS`].
    pub word: u32,
    /// The lowest of its eight bits.
    shift: u32,
}

impl Span {
    /// Of the neighbourhood of an address.
    #[inline(always)]
    pub fn of<A: Address>(addr: &A) -> Self {
        /// 2^3 times eight bits are a word.
        const PARTS: u32 = 3;
        let mix = Spread::of_words(Grain::COARSEST.common(addr)).bits();
        let word = 64 - SPANS.trailing_zeros();
        Self { word: (mix >> word) as u32, shift: 8 * ((mix >> (word - PARTS)) as u32 & 7) }
    }

    /// What a word of the map says about it.
    #[inline(always)]
    pub const fn division(self, word: u64) -> Division {
        Division((word >> self.shift) as u32 & 0xff)
    }

    /// What is to be set in the word so that it is divided at least so.
    #[must_use]
    pub const fn bits(self, division: Division) -> u64 {
        (division.0 as u64) << self.shift
    }
}

/// Key of the `wholes` map: a group of several addresses in a neighbourhood, which is a prefix that rules name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Whole {
    /// What its addresses have in common, in network order: all of it, because no group with more bits is one of these.
    pub words: [u32; 2],
    /// Bits in common, from which the family is known, too.
    pub bits: u32,
}

impl Whole {
    /// Of a prefix of the `blocks` maps, if it is one.
    #[must_use]
    pub fn of<A: Address>(key: &PrefixKey<A>) -> Option<Self> {
        let [first, second, ..] = key.addr.to_words();
        Division::by::<A>(key.len())
            .is_even()
            .then_some(Self { words: [first, second], bits: u32::from(key.len()) })
    }

    /// The prefix, if it is one of this family.
    #[must_use]
    pub fn key<A: Address>(&self) -> Option<PrefixKey<A>> {
        let len = u8::try_from(self.bits).ok().filter(|len| usize::from(*len) <= 8 * size_of::<A>())?;
        let key = Tier::key(A::from_padded([self.words[0], self.words[1], 0, 0]), len);
        (Self::of(&key) == Some(*self)).then_some(key)
    }
}

/// Value of the `groups` map, by [`Group::place`]. What it says holds as long as the `policywrites` map holds the number `writes`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Group {
    /// How many bits its addresses have in common, and the first of them; no bits if the place is empty.
    pub whole: Whole,
    /// The others.
    pub rest: [u32; 2],
    /// Writes to the maps of policies before its class was looked up.
    pub writes: u32,
    /// What its addresses are to rules that do not name them one by one.
    pub class: PeerClass,
}

impl Group {
    /// The group of an address, of which nothing is known.
    #[inline(always)]
    pub fn of<A: Address>(addr: &A, grain: Grain, writes: u32) -> Self {
        let [a, b, c, d] = grain.common(addr);
        let whole = Whole { words: [a, b], bits: grain.bits::<A>() as u32 };
        Self { whole, rest: [c, d], writes, class: PeerClass::WORLD }
    }

    #[inline(always)]
    fn common(&self) -> [u32; 4] {
        let ([a, b], [c, d]) = (self.whole.words, self.rest);
        [a, b, c, d]
    }

    /// Where it stands: below [`GROUPS`]. Two may share a place; then the last one has it.
    #[inline(always)]
    pub fn place(&self) -> u32 {
        (Spread::of_words(self.common()).bits() >> (64 - GROUPS.trailing_zeros())) as u32
    }

    /// Whether both are about the same addresses, after as many writes.
    #[inline(always)]
    pub fn is_about(&self, other: &Self) -> bool {
        let alike = |(one, other): (&u32, &u32)| one == other;
        self.writes == other.writes
            && self.whole.bits == other.whole.bits
            && self.common().iter().zip(&other.common()).all(alike)
    }
}

const _: () = assert!(GROUPS.is_power_of_two() && SPANS.is_power_of_two());
const _: () = assert!(size_of::<Group>() == 32);

#[cfg(test)]
mod tests {
    use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use super::*;
    use crate::addr::{Addr4, Addr6};

    const GRAINS: [Grain; 5] = [Grain(0), Grain(1), Grain(2), Grain(3), Grain(4)];

    fn v4(word: u32) -> Addr4 {
        Addr4::from_ip(IpAddr::V4(Ipv4Addr::from(word))).unwrap()
    }

    fn v6(word: u128) -> Addr6 {
        Addr6::from_ip(IpAddr::V6(Ipv6Addr::from(word))).unwrap()
    }

    fn all_of<A: Address>(ones: A, lengths: [u8; 5], wholes: u32) {
        for (grain, len) in GRAINS.into_iter().zip(lengths) {
            assert_eq!(grain.common(&ones), A::prefix_mask(len).to_words(), "{grain:?}");
            assert_eq!(Grain::of::<A>(len), grain);
            assert_eq!(grain.bits::<A>(), len);
            let key = |len| Tier::key(ones.and(A::prefix_mask(len)), len);
            let whole = Whole::of::<A>(&key(len));
            assert_eq!(whole.is_some(), (1..=wholes).contains(&grain.0), "{grain:?}");
            assert_eq!(whole.and_then(|whole| whole.key::<A>()), whole.map(|_| key(len)));
            assert_eq!(Whole::of::<A>(&key(len - 1)), None);
            assert!(whole.is_none_or(|whole| whole == Group::of(&ones, grain, 0).whole), "{grain:?}");
            assert_eq!(Grain::of::<A>(len + 1), Grain((grain.0 + 1).min(4)));
            assert_eq!(Tier::of::<A>(len), if grain == Grain::COARSEST { Tier::WIDE } else { Tier::NARROW });
        }
        assert_eq!(Grain::of::<A>(0), Grain::COARSEST);
    }

    #[test]
    fn a_group_has_the_first_bits_in_common_and_a_longer_prefix_divides_it() {
        all_of(v4(u32::MAX), [16, 20, 24, 28, 32], 3);
        all_of(v6(u128::MAX), [32, 48, 64, 96, 128], 2);
        let six = Whole::of(&Tier::key(v6(0xfd64_0001_0002 << 80), 48)).unwrap();
        assert_eq!(six.key::<Addr4>(), None, "of another family");
    }

    fn neighbours<A: Address>([some, near, far]: [A; 3], lengths: [u8; 5], wholes: u32) {
        let (span, other) = (Span::of(&some), Span::of(&far));
        assert_eq!(span, Span::of(&near), "one neighbourhood");
        assert_ne!(span, other);
        let mut word = 0;
        for (grain, len) in GRAINS.into_iter().zip(lengths) {
            word |= span.bits(Division::by::<A>(len));
            let found = span.division(word);
            assert_eq!((found.grain(), found.is_even()), (grain, grain == Grain(1)), "beside coarser ones");
            assert_eq!(found.has_wholes::<A>(), (1..=wholes).contains(&grain.0));
            let alone = Division::by::<A>(len);
            assert_eq!((alone.grain(), alone.is_even()), (grain, (1..=wholes).contains(&grain.0)), "alone");
            let odd = Division::by::<A>(len - 1);
            assert_eq!((odd.grain(), odd.is_even()), (grain, false), "a prefix that is no group");
        }
        assert_eq!((Division::UNKNOWN.grain(), Division::UNKNOWN.has_wholes::<A>()), (Grain::FINEST, false));
        if span.word == other.word {
            assert_eq!(other.division(word).grain(), Grain::COARSEST);
        }
    }

    #[test]
    fn how_a_neighbourhood_is_divided_can_only_become_finer_and_less_even_and_others_are_not_concerned() {
        neighbours([0x6401_0203, 0x6401_ff04, 0x6402_0203].map(v4), [16, 20, 24, 28, 32], 3);
        let six = [0xfd64_0001 << 96 | 7, 0xfd64_0001_ffff << 80, 0xfd64_0002 << 96 | 7].map(v6);
        neighbours(six, [32, 48, 64, 96, 128], 2);
    }

    #[test]
    fn a_group_is_about_its_own_addresses_of_its_own_family_and_grain_after_as_many_writes() {
        let group = Group::of(&v4(0x6401_0203), Grain(2), 7);
        assert!(group.is_about(&Group::of(&v4(0x6401_02ff), Grain(2), 7)));
        assert_eq!(group.place(), Group::of(&v4(0x6401_02ff), Grain(2), 7).place());
        let others = [
            Group::of(&v4(0x6401_0303), Grain(2), 7),
            Group::of(&v4(0x6401_0203), Grain(1), 7),
            Group::of(&v4(0x6401_0203), Grain(2), 8),
            Group::of(&v6(0x6401_0200 << 96), Grain(2), 7),
            Group::default(),
        ];
        for other in others {
            assert!(!group.is_about(&other), "{other:?}");
        }
        let zeros = [Group::of(&v4(0), Grain::COARSEST, 0), Group::of(&v6(0), Grain::COARSEST, 0)];
        assert!(zeros.iter().all(|zeros| !zeros.is_about(&Group::default())), "an empty place is nobody's");
    }
}
