//! Packets of which no connection is known: whether they may begin one, and what is remembered of it.

use proxy_common::{FlowFlags, FlowKey, Reason};

use super::{
    Case,
    case::{self, tell},
    source,
};
use crate::flow::{self, Begin, Found, Plan, Table};
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::road::{Direction, Hook};
use crate::scratch::{self, Area};
use crate::verified::police::Judging;

/// Judges a packet that has no entry: `found` says that it is to be translated as planned, or that it is not
/// ([`Reason::NotAService`], [`Reason::MidStream`]); see [`super::concerns`].
///
/// The same comes back where policies have nothing to say.
#[inline(always)]
pub fn police<F: Judging>(
    frame: &Frame,
    packet: &Packet<F::Addr>,
    hook: Hook,
    plan: &Plan<F::Addr>,
    found: Result<Found, Reason>,
) -> Result<Found, Reason> {
    let Some(case) = case::take::<F>() else { return Err(Reason::FlowTableFull) };
    case.key = packet.key;
    if hook.is_from_pod() {
        // What another pod says in the middle of a connection that nobody knows is judged where it arrives.
        if matches!(found, Err(Reason::MidStream)) && !source::is_policed(frame.device()) {
            return found;
        }
        if source::is_forged::<F>(&packet.key.src, frame.device()) {
            tell::<F>(frame, case, Reason::ForgedSource);
            return Err(Reason::ForgedSource);
        }
    }
    match found {
        Ok(found) => planned::<F>(frame, hook, plan, case, found),
        Err(reason) => plain::<F>(frame, packet, hook, case, reason),
    }
}

/// To be translated: judged by its client, its backend and the port there (policy items 37, 38).
#[inline(always)]
fn planned<F: Judging>(
    frame: &Frame,
    hook: Hook,
    plan: &Plan<F::Addr>,
    case: &mut Case<F::Addr>,
    found: Found,
) -> Result<Found, Reason> {
    if hook.direction == Direction::Egress {
        // The node's own, which no pod refuses (policy item 34).
        return Ok(found);
    }
    (case.key.dst, case.key.dport) = (plan.backend.addr, plan.backend.port);
    match F::judge(case) {
        Reason::Judged => {
            tell::<F>(frame, case, found.reason);
            Ok(found)
        }
        Reason::NotAService => Ok(found),
        reason => {
            tell::<F>(frame, case, reason);
            Err(reason)
        }
    }
}

/// Not to be translated, at a pod's hook.
#[inline(always)]
fn plain<F: Judging>(
    frame: &Frame,
    packet: &Packet<F::Addr>,
    hook: Hook,
    case: &mut Case<F::Addr>,
    why: Reason,
) -> Result<Found, Reason> {
    let begin = if why == Reason::MidStream { Begin::Answered } else { Begin::Unanswered };
    if hook.direction == Direction::Egress {
        if is_translated::<F>(&packet.key) {
            return Err(why);
        }
        if frame.is_from_here() {
            // The node's own, which no pod refuses (policy item 34); but a pod that may not send must be able to answer.
            // SAFETY: an element without preallocation is freed only after the program is done.
            return match unsafe { F::policed().get(&packet.key.dst) } {
                Some(_) => remember::<F>(frame, &packet.key, hook, begin),
                None => Err(why),
            };
        }
    }
    let reason = F::judge(case);
    match reason {
        Reason::NotAService => return Err(why),
        Reason::Judged => {
            tell::<F>(frame, case, reason);
            return remember::<F>(frame, &packet.key, hook, begin);
        }
        _ => {}
    }
    // In the middle of a connection that is older than what we remember, the packet may as well be an answer.
    if why == Reason::MidStream {
        let denied = (case.rules, case.by);
        case.key = packet.key.reversed();
        if F::judge(case) == Reason::Judged {
            tell::<F>(frame, case, Reason::Judged);
            return remember::<F>(frame, &packet.key, hook, Begin::Answer);
        }
        (case.rules, case.by) = denied;
        case.key = packet.key;
    }
    tell::<F>(frame, case, reason);
    Err(reason)
}

/// The packet is what a translation has made of another, which was judged then; or the answer to one that was judged.
///
/// The entry of the answers to a connection that is only judged may be left over from one of the same ports: entries are
/// collected one by one. It says nothing about whoever begins another.
#[inline(always)]
pub fn is_translated<F: Judging>(key: &FlowKey<F::Addr>) -> bool {
    let Some(answers) = scratch::take::<FlowKey<F::Addr>>(Area::OtherKey) else { return false };
    *answers = key.reversed();
    flow::known::<F>(answers).is_some_and(|flow| !flow.flags.has(FlowFlags::PLAIN.with(FlowFlags::REPLY)))
}

/// Makes the entries of a connection that passes. Without room for them its packets are judged one by one.
#[inline(always)]
fn remember<F: Judging>(
    frame: &Frame,
    key: &FlowKey<F::Addr>,
    hook: Hook,
    begin: Begin,
) -> Result<Found, Reason> {
    let table = match begin {
        Begin::Unanswered => Table::Unanswered,
        Begin::Answered | Begin::Answer => Table::Answered,
    };
    if flow::remember::<F>(key, begin, super::epoch(), hook.origin(frame.device())) {
        Ok(Found { table, reason: Reason::Judged })
    } else {
        Err(Reason::Judged)
    }
}
