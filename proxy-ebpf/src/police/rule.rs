//! What the rules say: about a connection by those of both ends, about a class of peers by one rule set.

use proxy_common::{
    PeerClass, Proto, Reason, RuleId, RuleSetId, VerdictKey,
    end::Facts,
    policy::{self, Effect},
};

use super::{
    Case,
    case::Sender,
    end::{self, class_of},
};
use crate::maps::policy::VERDICTS;
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

/// What `rules` say about a port of a class; the rule that says it is written to `by`.
#[inline(always)]
pub fn weigh(rules: RuleSetId, peer: PeerClass, proto: Proto, port: u16, by: &mut RuleId) -> Effect {
    // SAFETY: an element without preallocation is freed only after the program is done.
    let page = |number| unsafe { VERDICTS.get(VerdictKey::new(rules, peer, number)) };
    let ruling = policy::decide(page, proto, port);
    *by = ruling.by;
    ruling.effect
}
