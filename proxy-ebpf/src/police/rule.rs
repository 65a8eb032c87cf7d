//! What the rules say: about a connection by those of both ends, about a class of peers by one rule set.

use aya_ebpf::maps::lpm_trie::Key;
use proxy_common::{
    PeerClass, PrefixKey, Proto, Reason, RuleId, RuleSetId, VerdictKey,
    policy::{self, Effect},
};

use super::{Case, case::Sender, state};
use crate::maps::{Prefix, policy::PolicyTables, policy::VERDICTS};
use crate::verified::police::Judging;

/// Asks the sender's rules about what it sends and the receiver's about what it gets. [`Reason::NotAService`]: neither is
/// under a policy. What decided stands in the case.
#[inline(always)]
pub fn judge<F: Judging>(case: &mut Case<F::Addr>) -> Reason {
    // SAFETY: an element without preallocation is freed only after the program is done.
    let receiver = unsafe { F::policed().get(&case.key.dst) };
    if case.sender == Sender::UNKNOWN {
        // SAFETY: as above.
        case.note_sender(unsafe { F::policed().get(&case.key.src) });
    }
    let is_policed = case.sender == Sender::POLICED;
    if !is_policed && receiver.is_none() {
        return Reason::NotAService;
    }
    let mut reason = Reason::Judged;
    if is_policed && case.egress != RuleSetId::OPEN {
        let peer = class_of::<F>(&case.key.dst);
        if F::weigh(case, case.egress, peer) == Effect::DENY {
            reason = Reason::DeniedEgress;
        }
    }
    if let Some(receiver) = receiver
        && reason == Reason::Judged
        && receiver.ingress != RuleSetId::OPEN
    {
        let peer = class_of::<F>(&case.key.src);
        if F::weigh(case, receiver.ingress, peer) == Effect::DENY {
            reason = Reason::DeniedIngress;
        }
    }
    reason
}

/// What an address is to the rules: a pod or a node of its own, a part of a prefix that a rule names, or the world. In a frame of its own: what it needs is gone when the verdict is looked up.
#[inline(never)]
fn class_of<F: PolicyTables>(addr: &F::Addr) -> PeerClass {
    // SAFETY: an element without preallocation is freed only after the program is done.
    if let Some(class) = unsafe { F::peers().get(addr) } {
        return *class;
    }
    if !state().flags.has(F::BLOCKS) {
        return PeerClass::WORLD;
    }
    let PrefixKey { bits, scope, addr } = PrefixKey::exactly(0, *addr);
    match F::blocks().get(Key::new(bits, Prefix { scope, addr })) {
        Some(class) => *class,
        None => PeerClass::WORLD,
    }
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
