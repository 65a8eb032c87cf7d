//! What the rules said about a class of peers a moment ago: whoever is judged by the same rules against the same class next need
//! not search the verdicts, until the agent writes to a map of policies. Knows where that stands, nothing of addresses.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Proto;
use crate::limits::PRECEDENTS;
use crate::policy::{Interval, PeerClass, RuleSetId, VerdictKey};

/// Value of the `precedents` map, by [`place`]. What it says holds as long as the `policywrites` map holds the number `writes`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Precedent {
    /// The rules that were asked, and about whom; the page is the last one that was looked at. An empty place is about rules that
    /// are never asked: [`RuleSetId::OPEN`].
    pub key: VerdictKey,
    /// What they said, and about which ports.
    pub said: Interval,
    /// Writes to the maps of policies before they were asked.
    pub writes: u32,
    /// Always zero.
    pub pad: u32,
}

impl Precedent {
    /// Whether it says what `rules` say about this port of this class, after so many writes.
    #[inline(always)]
    pub fn is_about(&self, rules: RuleSetId, peer: PeerClass, matter: Matter) -> bool {
        self.key.rules == rules
            && self.key.peer == peer
            && self.writes == matter.writes
            && self.said.is_around(matter.proto, matter.port)
    }
}

/// What rules are asked about a class: a port, and after how many writes to the maps of policies.
#[derive(Clone, Copy, Debug)]
pub struct Matter {
    /// Protocol.
    pub proto: Proto,
    /// Not in network order; zero for protocols without ports.
    pub port: u16,
    /// What the count was before anything was looked up.
    pub writes: u32,
}

/// Where it stands: below [`PRECEDENTS`]. Both ids are digests, whose bits are as good as those of a hash. Two may share a place;
/// then the last one has it.
#[inline(always)]
pub const fn place(rules: RuleSetId, peer: PeerClass) -> u32 {
    (rules.0 ^ peer.0) as u32 & (PRECEDENTS - 1)
}

const _: () = assert!(PRECEDENTS.is_power_of_two());
const _: () = assert!(size_of::<Precedent>() == 48);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Effect, RuleId};

    const RULES: RuleSetId = RuleSetId(1);
    const PEER: PeerClass = PeerClass(2);
    const WRITES: u32 = 7;
    const SAID: Interval = Interval {
        by: RuleId(3),
        first: 80,
        last: 90,
        proto: Proto::TCP,
        effect: Effect::ALLOW,
        pad: [0; 2],
    };

    const fn about(proto: Proto, port: u16) -> Matter {
        Matter { proto, port, writes: WRITES }
    }

    #[test]
    fn what_was_said_holds_for_the_ports_it_was_said_about_and_for_nothing_else() {
        let key = VerdictKey::new(RULES, PEER, 3);
        let precedent = Precedent { key, said: SAID, writes: WRITES, pad: 0 };
        for port in [80, 85, 90] {
            assert!(precedent.is_about(RULES, PEER, about(Proto::TCP, port)), "{port}");
        }
        let others = [
            (RuleSetId(9), PEER, about(Proto::TCP, 80)),
            (RULES, PeerClass(9), about(Proto::TCP, 80)),
            (RULES, PEER, about(Proto::UDP, 80)),
            (RULES, PEER, about(Proto::TCP, 79)),
            (RULES, PEER, about(Proto::TCP, 91)),
            (RULES, PEER, Matter { writes: WRITES + 1, ..about(Proto::TCP, 80) }),
        ];
        for (rules, peer, matter) in others {
            assert!(!precedent.is_about(rules, peer, matter), "{rules:?} {peer:?} {matter:?}");
        }
    }

    #[test]
    fn an_empty_place_says_nothing_about_rules_that_are_asked() {
        let nothing = Matter { proto: Proto::default(), port: 0, writes: 0 };
        assert!(!Precedent::default().is_about(RULES, PeerClass::WORLD, nothing));
    }

    #[test]
    fn classes_under_the_same_rules_have_places_of_their_own() {
        let digest = |number: u64| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
        let of = |peer| place(RULES, PeerClass(digest(peer)));
        let mut taken = [0_u32; PRECEDENTS as usize];
        for peer in 0..128 {
            taken[of(peer) as usize] += 1;
        }
        let lost: u32 = taken.iter().map(|count| count.saturating_sub(1)).sum();
        // As many as of a hash that knows nothing: 128 in 512 places lose 15 or so.
        assert!(lost < 30, "{lost} of 128 share a place");
    }
}
