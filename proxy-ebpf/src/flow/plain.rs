//! The entries of connections that are judged and not translated: the packets of either direction find one, and stay as
//! they are.

use proxy_common::{Flow, FlowFlags, FlowKey};

use super::table::{self, Draft};
use crate::family::Wired;
use crate::road::jiffies;
use crate::scratch::{self, Area};
use crate::verified::party;

/// Where a connection begins for us.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// The packet opens it.
    Unanswered,
    /// It is older, and the packet is its client's.
    Answered,
    /// It is older, and the packet is an answer.
    Answer,
    /// The packet is the answer to what has opened it.
    FirstAnswer,
}

/// Makes both entries of the connection of a packet `key`, which was judged at `epoch` and comes in by the device
/// `origin`. False: there is no room, or the answers are those of another connection.
#[inline(always)]
pub fn remember<F: Wired>(key: &FlowKey<F::Addr>, begin: Begin, epoch: u32, origin: u32) -> bool {
    let Some(Draft { key: other, flow }) = scratch::take::<Draft<F::Addr>>(Area::Entry) else { return false };
    party::name(&key.src);
    party::name(&key.dst);
    *other = key.reversed();
    *flow = Flow { epoch, seen: jiffies(), ..Flow::plain(other) };
    match begin {
        Begin::Unanswered | Begin::Answered => flow.flags = flow.flags.with(FlowFlags::REPLY),
        Begin::Answer => {}
        // Its client has not been heard since.
        Begin::FirstAnswer => flow.flags = flow.flags.with(FlowFlags::BRIEF),
    }
    if begin == Begin::Unanswered {
        if !table::is_free::<F>(key, other) || !table::enter_reply::<F>(key, other, flow) {
            return false;
        }
        turn(key, flow, origin);
        return table::enter_forward::<F>(key, flow);
    }
    if !table::enter_answered::<F>(other, flow) {
        return false;
    }
    turn(key, flow, origin);
    if table::enter_answered::<F>(key, flow) {
        return true;
    }
    table::forget::<F>(other);
    false
}

/// Makes the entry of `key` of the other one.
#[inline(always)]
fn turn<A: Copy>(key: &FlowKey<A>, flow: &mut Flow<A>, origin: u32) {
    (flow.src, flow.sport, flow.dst, flow.dport) = (key.src, key.sport, key.dst, key.dport);
    flow.flags = FlowFlags(flow.flags.0 ^ FlowFlags::REPLY.0).without(FlowFlags::BRIEF);
    flow.origin = origin;
}
