//! What the rules say: about a connection by those of both ends, about a class of peers by one rule set.

use core::cell::Cell;

use proxy_common::{
    PeerClass, Reason, RuleId, RuleSetId, VerdictKey,
    end::Facts,
    policy::{self, Effect, Interval},
    precedent::{Matter, place},
};

use super::{
    Case,
    case::Sender,
    end::{self, class_of},
};
use crate::maps::policy::{PRECEDENTS, VERDICTS};
use crate::verified::police::Judging;

/// Asks the sender's rules about what it sends and the receiver's about what it gets. [`Reason::NotAService`]: neither is
/// under a policy. What decided stands in the case.
#[inline(always)]
pub fn judge<F: Judging>(case: &mut Case<F::Addr>) -> Reason {
    if case.sender == Sender::UNKNOWN {
        let Some(sender) = end::of::<F>(&case.key.src, case.writes) else { return Reason::DeniedEgress };
        case.note_sender(sender);
    }
    let Some(receiver) = end::of::<F>(&case.key.dst, case.writes) else { return Reason::DeniedIngress };
    let ingress = receiver.facts.has(Facts::POLICED).then_some(receiver.ingress);
    let is_policed = case.sender == Sender::POLICED;
    if !is_policed && ingress.is_none() {
        return Reason::NotAService;
    }
    let mut reason = Reason::Judged;
    if is_policed && case.egress != RuleSetId::OPEN {
        let peer = class_of::<F>(receiver);
        if F::weigh(case, case.egress, peer) == Effect::DENY {
            reason = Reason::DeniedEgress;
        }
    }
    if let Some(ingress) = ingress
        && reason == Reason::Judged
        && ingress != RuleSetId::OPEN
    {
        let Some(sender) = end::of::<F>(&case.key.src, case.writes) else { return Reason::DeniedEgress };
        let peer = class_of::<F>(sender);
        if F::weigh(case, ingress, peer) == Effect::DENY {
            reason = Reason::DeniedIngress;
        }
    }
    reason
}

/// What `rules` say about a port of a class; the rule that says it is written to `by`. What they said a moment ago is one array
/// lookup away, on each processor, and a packet's program is interrupted by no other packet's: see [`crate::scratch`].
#[inline(always)]
pub fn weigh(rules: RuleSetId, peer: PeerClass, matter: Matter, by: &mut RuleId) -> Effect {
    let Some(known) = PRECEDENTS.get_ptr_mut(place(rules, peer)) else { return Effect::DENY };
    // SAFETY: an element of an array lives as long as the map, any bytes are a value of it, and nobody else on this processor
    // has a reference: see above.
    let known = unsafe { &mut *known };
    if !known.is_about(rules, peer, matter) {
        known.key = VerdictKey::new(rules, peer, 0);
        known.writes = matter.writes;
        search(&mut known.key, &mut known.said, matter);
    }
    *by = known.said.by;
    known.said.effect
}

/// The key lies in the map, because the stack is full.
#[inline(always)]
fn search(key: &mut VerdictKey, said: &mut Interval, matter: Matter) {
    let key = Cell::from_mut(key);
    let page = |number| {
        key.set(VerdictKey { page: number, ..key.get() });
        // SAFETY: an element without preallocation is freed only after the program is done; nobody writes the key meanwhile.
        unsafe { VERDICTS.get(&*key.as_ptr()) }
    };
    *said = policy::decide_around(page, matter.proto, matter.port);
}
