//! Packets of which no connection is known: whether they may begin one, and what is remembered of it.

use proxy_common::{FlowFlags, FlowKey, Proto, Reason, recent::Judge, tcp::TcpFlags};

use super::{
    Case, Question,
    case::{self, deny, tell},
    end,
    recent::Place,
    source::{self, Role, Whence},
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
    match found {
        Ok(found) => planned::<F>(frame, packet, hook, plan, case, found),
        // What another pod says in the middle of a connection that nobody knows is judged where it arrives.
        Err(Reason::MidStream) if hook.is_from_pod() && !source::is_policed(frame.device()) => found,
        Err(reason) => plain::<F>(frame, packet, hook, case, reason),
    }
}

/// What the rules of both ends say about the case, which is about the packet's connection by whoever has begun it; or that
/// the packet's source is forged. What was found a moment ago is not looked for again, unless somebody listens, who wants
/// to know the rule.
#[inline(always)]
fn ask<F: Judging>(
    frame: &Frame,
    packet: &Packet<F::Addr>,
    hook: Hook,
    case: &mut Case<F::Addr>,
    sender: Role,
) -> Reason {
    let judge = match sender {
        _ if !hook.is_from_pod() => Judge::ELSEWHERE,
        Role::Client => Judge::of_client(frame.device()),
        Role::Server => Judge::of_server(frame.device()),
    };
    let place = if super::is_watched() { None } else { Place::of::<F>(&case.key, judge) };
    if let Some(reason) = place.as_ref().and_then(|place| place.recall(&case.key)) {
        return reason;
    }
    case::begin(case);
    let question = if hook.is_from_pod() { Question::all(sender) } else { Question::RULES };
    let reason = F::answer(case, frame.device(), question);
    if reason == Reason::ForgedSource {
        case.key = packet.key;
        tell::<F>(frame, case, reason);
        return reason;
    }
    if let Some(place) = place {
        place.note(&case.key, case.writes, reason);
    }
    reason
}

/// To be translated: judged by its client, its backend and the port there (policy items 37, 38).
#[inline(always)]
fn planned<F: Judging>(
    frame: &Frame,
    packet: &Packet<F::Addr>,
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
    match ask::<F>(frame, packet, hook, case, Role::Client) {
        Reason::Judged => {
            tell::<F>(frame, case, found.reason);
            Ok(found)
        }
        Reason::NotAService => Ok(found),
        Reason::ForgedSource => Err(Reason::ForgedSource),
        reason => Err(deny::<F>(frame, case, reason)),
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
        if is_translated::<F>(&packet.key, packet.tcp) {
            return Err(why);
        }
        match F::whence(frame, packet) {
            Whence::Turned => return Err(why),
            // No pod refuses it (policy item 34); but a pod that may not send must be able to answer.
            Whence::Node if end::policed::<F>(&packet.key.dst).is_none() => return Err(why),
            Whence::Node => return remember::<F>(frame, &packet.key, hook, begin),
            Whence::Elsewhere => {}
        }
    }
    // An answer says who began. In the middle of a connection that is older than what we remember, any other packet may be
    // one, too.
    let answers = why == Reason::MidStream && packet.tcp.any(TcpFlags::SYN);
    let sender = if answers { Role::Server } else { Role::Client };
    if answers {
        case.turn_to(packet.key.reversed());
    }
    let reason = ask::<F>(frame, packet, hook, case, sender);
    match reason {
        Reason::NotAService => return Err(why),
        Reason::ForgedSource => return Err(reason),
        Reason::Judged if answers => return remember::<F>(frame, &packet.key, hook, Begin::FirstAnswer),
        Reason::Judged => {
            if !is_told(frame, hook) {
                tell::<F>(frame, case, reason);
            }
            if is_remembered(packet) {
                return remember::<F>(frame, &packet.key, hook, begin);
            }
            return Err(reason);
        }
        _ => {}
    }
    if why == Reason::MidStream && !answers {
        let denied = (case.rules, case.by);
        case.turn_to(packet.key.reversed());
        if F::judge(case) == Reason::Judged {
            if is_remembered(packet) {
                tell::<F>(frame, case, Reason::Judged);
                return remember::<F>(frame, &packet.key, hook, Begin::Answer);
            }
            return Err(Reason::Judged);
        }
        (case.rules, case.by) = denied;
        case.key = packet.key;
    }
    Err(deny::<F>(frame, case, reason))
}

/// Whether a packet that passes makes entries. The first of TCP does not (`docs/decisions/0025-*`): its answer says itself
/// that it is one, and is judged as such. Nor does one that ends a connection.
#[inline(always)]
fn is_remembered<A>(packet: &Packet<A>) -> bool {
    packet.key.proto != Proto::TCP || !packet.tcp.any(TcpFlags::SYN | TcpFlags::RST)
}

/// Whoever listens was told at the hook of the pod that has sent the packet. One lookup, while somebody listens.
#[inline(always)]
fn is_told(frame: &Frame, hook: Hook) -> bool {
    hook.direction == Direction::Egress && super::is_watched() && source::is_pod(frame.arrived_by())
}

/// The packet is what a translation has made of another, which was judged then; or the answer to one that was judged.
///
/// The entry of the answers to a connection that is only judged may be left over from one of the same ports: entries are
/// collected one by one. It says nothing about whoever begins another.
#[inline(always)]
pub fn is_translated<F: Judging>(key: &FlowKey<F::Addr>, tcp: TcpFlags) -> bool {
    let Some(answers) = scratch::take::<FlowKey<F::Addr>>(Area::OtherKey) else { return false };
    *answers = key.reversed();
    // What opens a connection is no answer.
    let other = if tcp.opens() { FlowFlags::PLAIN } else { FlowFlags::PLAIN.with(FlowFlags::REPLY) };
    flow::known::<F>(answers).is_some_and(|flow| !flow.flags.has(other))
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
        Begin::Answered | Begin::Answer | Begin::FirstAnswer => Table::Answered,
    };
    if flow::remember::<F>(key, begin, super::epoch(), hook.origin(frame.device())) {
        Ok(Found { table, reason: Reason::Judged })
    } else {
        Err(Reason::Judged)
    }
}
