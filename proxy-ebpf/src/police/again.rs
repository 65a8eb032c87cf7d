//! Connections that were judged by other rules, or before there were any: once per connection and change.

use proxy_common::{FlowFlags, FlowKey, Reason, decide::Ownership};

use super::{
    case::{self, deny, tell},
    source::Role,
};
use crate::flow;
use crate::lookup::owner;
use crate::packet::cursor::{Access as _, Frame};
use crate::road::Hook;
use crate::verified::police::Judging;

/// Judges the connection of the entry of `key` by who began it, and notes that in the entry. `Some` says why the packet
/// does not pass.
///
/// A connection that is denied keeps its entries, and they their old epoch: each of its packets comes here again. Without
/// them the next one would be in the middle of an unknown connection, and pass as the answer of one in the other
/// direction. They are collected as those of any connection that is silent.
#[inline(always)]
pub fn judge_again<F: Judging>(frame: &Frame, key: &FlowKey<F::Addr>, hook: Hook) -> Option<Reason> {
    let flow = flow::known::<F>(key)?;
    let case = case::take::<F>()?;
    // Field by field: a tuple made for the assignment would take room on the stack.
    (case.key.proto, case.key.pad) = (key.proto, [0; 3]);
    let role = if flow.flags.has(FlowFlags::REPLY) {
        (case.key.src, case.key.sport) = (flow.dst, flow.dport);
        (case.key.dst, case.key.dport) = (key.src, key.sport);
        Role::Server
    } else {
        (case.key.src, case.key.sport) = (key.src, key.sport);
        (case.key.dst, case.key.dport) = (flow.dst, flow.dport);
        Role::Client
    };
    let epoch = super::epoch();
    case::begin(case);
    if hook.is_from_pod() {
        if epoch != 0 && F::is_forged(case, frame.device(), role) {
            // Whoever's connection it is keeps it.
            tell::<F>(frame, case, Reason::ForgedSource);
            return Some(Reason::ForgedSource);
        }
        // If the rules deny it, its old epoch still says that it is due.
        flow.origin = frame.device();
    }
    // The node's own connections pass everywhere (policy item 34).
    if epoch != 0 && flow.epoch != epoch && owner::ownership::<F>(case.key.src) == Ownership::Other {
        match F::judge(case) {
            Reason::Judged | Reason::NotAService => {}
            reason => return Some(deny::<F>(frame, case, reason)),
        }
    }
    flow.epoch = epoch;
    None
}
