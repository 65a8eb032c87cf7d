//! Connections in the tables of two layouts: where the bytes of an entry lie in the entry of the other layout, and which of two
//! entries counts that have the same key and are not of the same connection. Knows no layout itself, and no table.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Addr4, Addr6};
use crate::flow::{Flow, FlowFlags, FlowKey};

/// The byte has no place in the other layout.
pub const NOWHERE: u8 = u8::MAX;
/// Most bytes of a key of the other layout.
pub const FOREIGN_KEY: usize = 64;
/// Most bytes of a value of the other layout.
pub const FOREIGN_VALUE: usize = 192;

/// For each byte of ours its place in theirs, or [`NOWHERE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Places {
    /// Of the keys of `flows4`.
    pub key4: [u8; size_of::<FlowKey<Addr4>>()],
    /// Of the values of `flows4`.
    pub flow4: [u8; size_of::<Flow<Addr4>>()],
    /// Of the keys of `flows6`.
    pub key6: [u8; size_of::<FlowKey<Addr6>>()],
    /// Of the values of `flows6`.
    pub flow6: [u8; size_of::<Flow<Addr6>>()],
}

impl Places {
    /// Nothing is known of the other layout.
    pub const NONE: Self = Self {
        key4: [NOWHERE; size_of::<FlowKey<Addr4>>()],
        flow4: [NOWHERE; size_of::<Flow<Addr4>>()],
        key6: [NOWHERE; size_of::<FlowKey<Addr6>>()],
        flow6: [NOWHERE; size_of::<Flow<Addr6>>()],
    };
}

/// What a side may have seen of a connection's end.
pub const ENDS: FlowFlags = FlowFlags::FIN.with(FlowFlags::RST);

/// Which table of a layout an entry was found in. A number, so that programs can hand it on through memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(transparent)]
pub struct Stage(u32);

impl Stage {
    /// In none.
    pub const NONE: Self = Self(0);
    /// `halfopen`.
    pub const HALF_OPEN: Self = Self(1);
    /// `flows`.
    pub const ANSWERED: Self = Self(2);

    /// What [`Stage::number`] gave.
    #[inline(always)]
    #[must_use]
    pub const fn of(number: u32) -> Self {
        Self(number)
    }

    /// As a function that is no part of its caller gives it.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// Two entries of one key are of one connection: their packets go to the same place.
#[inline(always)]
#[must_use]
pub fn leads_alike<A: PartialEq>(one: &Flow<A>, other: &Flow<A>) -> bool {
    one.src == other.src && one.dst == other.dst && one.sport == other.sport && one.dport == other.dport
}

/// Two entries of one key are of one connection: they lead to the same place, and it is not so that one of them has seen an end, and
/// the other has begun to wait for an answer after that.
#[inline(always)]
#[must_use]
pub fn is_one<A: PartialEq>((one, at): (&Flow<A>, Stage), (other, there): (&Flow<A>, Stage)) -> bool {
    leads_alike(one, other)
        && !begins_anew((one, at), (other, there))
        && !begins_anew((other, there), (one, at))
}

/// In one and the same moment an end comes after the beginning.
#[inline(always)]
fn begins_anew<A>((one, at): (&Flow<A>, Stage), (other, there): (&Flow<A>, Stage)) -> bool {
    at == Stage::HALF_OPEN
        && there == Stage::ANSWERED
        && other.flags.0 & ENDS.0 != 0
        && (one.seen.wrapping_sub(other.seen) as i32) > 0
}

/// The entry is the other half of that of `key`. Field by field: a key made for the comparison would take room on a stack.
#[inline(always)]
#[must_use]
pub fn leads_back<A: PartialEq>(flow: &Flow<A>, key: &FlowKey<A>) -> bool {
    flow.dst == key.src && flow.dport == key.sport && flow.src == key.dst && flow.sport == key.dport
}

/// Of two connections with one key, each on a side of its own, the one that began later; the other is over, or the key would
/// not have been free. Given are when each was last seen, as [`Flow::seen`], and its table: in one and the same
/// moment, what waits for its first answer is the later one.
#[inline(always)]
#[must_use]
pub const fn is_later(one: (u32, Stage), other: (u32, Stage)) -> bool {
    // Jiffies wrap.
    let since = one.0.wrapping_sub(other.0) as i32;
    since > 0 || (since == 0 && one.1.0 < other.1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::{Port, Proto};

    const KEY: FlowKey<u8> = FlowKey::new(1, Port::new(10), 2, Port::new(20), Proto::TCP);

    fn forward() -> Flow<u8> {
        Flow { src: 1, sport: Port::new(10), dst: 3, dport: Port::new(30), ..Flow::default() }
    }

    #[test]
    fn the_halves_of_a_connection_lead_to_each_other() {
        let reply = forward().twin(&KEY);
        assert!(leads_back(&reply, &KEY) && leads_back(&forward(), &forward().other(Proto::TCP)));
        for stranger in [
            Flow { src: 9, ..reply },
            Flow { dst: 9, ..reply },
            Flow { sport: Port::new(9), ..reply },
            Flow { dport: Port::new(9), ..reply },
        ] {
            assert!(!leads_back(&stranger, &KEY) && !leads_alike(&stranger, &reply), "{stranger:?}");
        }
        assert!(leads_alike(&Flow { seen: 7, flags: FlowFlags::FIN, ..reply }, &reply));
    }

    #[test]
    fn what_begins_after_an_end_is_another_connection_to_the_same_place() {
        let at = |seen, flags| Flow { seen, flags, ..forward() };
        let (half, whole, none) = (Stage::HALF_OPEN, Stage::ANSWERED, FlowFlags::default());
        for (one, other, same) in [
            ((at(5, none), half), (at(4, FlowFlags::FIN), whole), false),
            ((at(5, none), half), (at(4, FlowFlags::RST), whole), false),
            // Their side has seen more of it.
            ((at(4, none), half), (at(4, FlowFlags::FIN), whole), true),
            ((at(4, none), half), (at(5, FlowFlags::FIN), whole), true),
            ((at(5, none), half), (at(4, none), whole), true),
            ((at(5, none), whole), (at(4, FlowFlags::FIN), whole), true),
            ((at(5, none), half), (at(4, FlowFlags::RST), half), true),
        ] {
            for [(one, at), (other, there)] in [[one, other], [other, one]] {
                assert_eq!(is_one((&one, at), (&other, there)), same, "{one:?} {at:?} {other:?} {there:?}");
            }
        }
        let elsewhere = Flow { dst: 9, ..at(4, none) };
        assert!(!is_one((&elsewhere, half), (&at(4, none), whole)));
    }

    #[test]
    fn who_was_seen_last_is_the_later_one_also_when_the_clock_wraps() {
        let (half, whole) = (Stage::HALF_OPEN, Stage::ANSWERED);
        for (one, other, later) in [
            ((5, whole), (4, half), true),
            ((4, half), (5, whole), false),
            ((1, half), (u32::MAX, whole), true),
            ((u32::MAX, half), (1, whole), false),
            ((4, half), (4, whole), true),
            ((4, whole), (4, half), false),
            ((4, whole), (4, whole), false),
        ] {
            assert_eq!(is_later(one, other), later, "{one:?} {other:?}");
        }
    }
}
