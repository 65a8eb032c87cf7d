//! Flows: finds the entry of a packet, or makes one for a packet that opens a connection.

mod open;
mod plain;
mod plan;
mod table;

pub use open::open;
pub use plain::{Begin, remember};
pub use plan::{Plan, UNWRAPPED, admit};
pub use table::{Draft, answered};

use proxy_common::{Flow, FlowFlags, FlowKey, FrontendKey, Proto, Reason, ServiceId, tcp::TcpFlags};

use crate::family::Wired;
use crate::lookup;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::{self, Packet};
use crate::police;
use crate::road::{Direction, Hook, Service, Side, is_stale, jiffies};
use crate::scratch::{self, Area};
use crate::tally::tally;
use crate::tunnel;
use crate::verified::{Verified, party};

/// A packet's entry, and what to count it as.
pub struct Entry<A: 'static> {
    /// What to translate to. In the map: a change to it stays.
    pub flow: &'static mut Flow<A>,
    /// [`Reason::FlowForward`], [`Reason::FlowReply`], or why the flow is new.
    pub reason: Reason,
}

/// Which table an entry is in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// `flows`.
    Answered,
    /// `halfopen`.
    Unanswered,
    /// `tunnels`.
    Tunnel,
    /// There is none yet, only a plan.
    Neither,
}

/// There is an entry, or a plan for one.
pub struct Found {
    /// Where.
    pub table: Table,
    /// As in [`Entry`].
    pub reason: Reason,
}

/// The entry that says what becomes of the packet, or the reason why there is none.
#[inline(always)]
pub fn find<F: Verified>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    hook: Hook,
) -> Result<Entry<F::Addr>, Reason> {
    let epoch = police::epoch();
    if let Some(flow) = table::answered::<F>(&packet.key) {
        if !applies(frame, hook, flow.flags) {
            if epoch == 0 || hook.side == Side::Wire {
                return Err(Reason::NotAService);
            }
        } else if !packet.tcp.opens() || !is_over::<F>(packet, flow) {
            let reason = reason_of(flow.flags);
            return still_allowed::<F>(frame, packet, hook, epoch, Entry { flow, reason });
        }
    }
    if tunnel::begins(hook)
        && let Some(flow) = tunnel::going::<F>(packet)
    {
        return Ok(Entry { flow, reason: Reason::FlowForward });
    }
    let is_late = packet.key.proto == Proto::TCP
        && !packet.tcp.concerns_setup()
        && !(tunnel::begins(hook) && F::is_agreed_on(packet));
    if is_late {
        if let Some(entry) = doubted::<F>(frame, packet) {
            return Ok(entry);
        }
        if epoch == 0 || hook.side == Side::Wire {
            return Err(mid_stream(hook));
        }
    }
    if !packet::is_whole::<F>(frame, packet) {
        return Err(Reason::Malformed);
    }
    let plan = scratch::take::<Plan<F::Addr>>(Area::Plan).ok_or(Reason::FlowTableFull)?;
    (plan.service, plan.epoch, plan.origin) = (ServiceId::NONE, epoch, hook.origin(frame.device()));
    let found = if is_late { Err(mid_stream(hook)) } else { F::set_up(frame, packet, hook, plan) };
    let found = if epoch != 0 && police::concerns(hook, &found) {
        F::police(frame, packet, hook, plan, found)
    } else {
        found
    };
    let found = match found {
        Ok(Found { table: Table::Neither, reason }) => F::open(frame, packet, plan, reason),
        found => found,
    };
    // A plan has a Service only if the packet opens, or would open, a connection to it.
    match &found {
        Ok(Found { reason, .. }) | Err(reason) => tally(plan.service, *reason),
    }
    let Found { table, reason } = found?;
    let flow = entry_in::<F>(table, &packet.key, hook).ok_or(Reason::FlowTableFull)?;
    // The backend's node judges what goes there in a tunnel.
    if table == Table::Tunnel {
        return Ok(Entry { flow, reason });
    }
    still_allowed::<F>(frame, packet, hook, epoch, Entry { flow, reason })
}

/// What opens a connection does not belong to that of the entry: it is over, or the other end has begun it, and it was judged
/// for that one only.
#[inline(always)]
fn is_over<F: Wired>(packet: &Packet<F::Addr>, flow: &Flow<F::Addr>) -> bool {
    flow.flags.has(FlowFlags::PLAIN.with(FlowFlags::REPLY)) || table::forget_if_over::<F>(&packet.key, flow)
}

/// The entry of a packet, looked up again: a function that is verified on its own cannot hand over a place in a map. For
/// the first packets of a connection only.
#[inline(always)]
fn entry_in<F: Verified>(
    table: Table,
    key: &FlowKey<F::Addr>,
    hook: Hook,
) -> Option<&'static mut Flow<F::Addr>> {
    match table {
        Table::Answered => table::answered::<F>(key),
        Table::Unanswered => table::unanswered::<F>(key),
        Table::Tunnel if tunnel::begins(hook) => tunnel::entry::<F>(key),
        Table::Tunnel | Table::Neither => None,
    }
}

/// The entry, unless the rules have changed and deny its connection now.
#[inline(always)]
fn still_allowed<F: Verified>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    hook: Hook,
    epoch: u32,
    entry: Entry<F::Addr>,
) -> Result<Entry<F::Addr>, Reason> {
    if police::is_due(entry.flow, epoch, frame, hook)
        && let Some(reason) = F::judge_again(frame, packet, hook)
    {
        return Err(reason);
    }
    Ok(entry)
}

/// The entry of an unanswered connection of which the backend says that it has another one of these ports: by a bare
/// acknowledgement, which the client answers by a RST, and then tries again. The acknowledgement is translated, and is no
/// answer. If the ports are the client's own, so may the other connection be: it gets to keep them.
///
/// One lookup more for acknowledgements without data that are not ours. Longer packets, most of all others, are told by
/// their length: the header with all of its options has sixty bytes.
#[inline(always)]
fn doubted<F: Wired>(frame: &Frame, packet: &Packet<F::Addr>) -> Option<Entry<F::Addr>> {
    if !packet.tcp.only_acknowledges() || frame.length() > packet.transport + 60 {
        return None;
    }
    let flow = table::unanswered::<F>(&packet.key)?;
    if !flow.flags.has(FlowFlags::REPLY) || table::is_given_up(&packet.key, flow.flags) {
        return None;
    }
    if flow.flags.0 & (FlowFlags::MASQUERADED.0 | FlowFlags::PLAIN.0) == 0 {
        table::give_up::<F>(&packet.key, flow);
    }
    let reason = reason_of(flow.flags);
    Some(Entry { flow, reason })
}

/// The entry of the packets with this tuple, answered or not. Nothing changes by the question.
#[inline(always)]
pub fn known<F: Wired>(key: &FlowKey<F::Addr>) -> Option<&'static mut Flow<F::Addr>> {
    match table::answered::<F>(key) {
        Some(flow) => Some(flow),
        None => table::unanswered::<F>(key),
    }
}

/// The entry of a packet that needs no translation; one of an answer moves to the answered ones.
#[inline(always)]
pub fn note_answer<F: Wired>(key: &FlowKey<F::Addr>) -> Option<&'static mut Flow<F::Addr>> {
    if let Some(flow) = table::answered::<F>(key) {
        let now = jiffies();
        if is_stale(now, flow.seen) {
            flow.seen = now;
        }
        return Some(flow);
    }
    let flow = table::unanswered::<F>(key)?;
    flow.seen = jiffies();
    if flow.flags.has(FlowFlags::REPLY) && promote::<F>(key, flow) {
        return table::answered::<F>(key);
    }
    Some(flow)
}

/// [`table::promote`], once the client is named: the LRU may have dropped its entry before anybody did.
#[inline(always)]
fn promote<F: Wired>(key: &FlowKey<F::Addr>, reply: &Flow<F::Addr>) -> bool {
    party::name(&reply.dst);
    table::promote::<F>(key, reply)
}

/// What packets of a flow count as.
#[inline(always)]
pub fn reason_of(flags: FlowFlags) -> Reason {
    if flags.has(FlowFlags::PLAIN) {
        Reason::JudgedFlow
    } else if flags.has(FlowFlags::REPLY) {
        Reason::FlowReply
    } else {
        Reason::FlowForward
    }
}

/// Packets that were translated where they came in pass an egress hook, too, and may then look like the node's
/// own requests: only what has come in by no device is one. Those of plain entries are the same everywhere.
#[inline(always)]
pub fn applies(frame: &Frame, hook: Hook, flags: FlowFlags) -> bool {
    match hook.direction {
        Direction::Ingress => true,
        Direction::Egress => flags.0 & (FlowFlags::REPLY.0 | FlowFlags::PLAIN.0) != 0 || frame.is_from_here(),
    }
}

/// No answer was seen yet: a half-open connection, or none at all.
#[inline(always)]
pub fn set_up<F: Wired>(
    frame: &Frame,
    packet: &Packet<F::Addr>,
    hook: Hook,
    plan: &mut Plan<F::Addr>,
) -> Result<Found, Reason> {
    if let Some(flow) = table::unanswered::<F>(&packet.key) {
        let reason = reason_of(flow.flags);
        let given_up = table::is_given_up(&packet.key, flow.flags);
        if flow.flags.has(FlowFlags::REPLY) {
            if !given_up {
                return answer::<F>(packet, flow);
            }
        } else if applies(frame, hook, flow.flags) {
            if given_up {
                // The entry of the answers stays, and its ports with whoever has them.
                if !packet.tcp.opens() {
                    return Err(Reason::ForeignReset);
                }
            } else if still_right::<F>(packet, flow) {
                return Ok(Found { table: Table::Unanswered, reason });
            } else {
                table::forget_unanswered::<F>(&packet.key, flow);
            }
        }
    }
    if packet.key.proto == Proto::TCP && packet.tcp.concerns_setup() && !packet.tcp.opens() {
        return Err(mid_stream(hook));
    }
    if hook.direction == Direction::Egress && !frame.is_from_here() {
        return Err(Reason::NotAService);
    }
    let reason = plan::plan::<F>(&packet.key, hook, frame.device(), plan)?;
    // In the middle of a connection that every node gives to the same backend: it goes on in a tunnel, or not at all.
    if tunnel::begins(hook)
        && packet.key.proto == Proto::TCP
        && !packet.tcp.opens()
        && plan.source != plan::TUNNELLED
    {
        return Err(Reason::MidStream);
    }
    Ok(Found { table: Table::Neither, reason })
}

/// What becomes of a packet in the middle of a connection of which nothing is known.
#[inline(always)]
fn mid_stream(hook: Hook) -> Reason {
    match hook.service {
        // The stack would take it for a packet to the frontend.
        Service::Unwrapped => Reason::StrayTunnel,
        Service::Served | Service::Gateway | Service::FlowsOnly => Reason::MidStream,
    }
}

/// The backend's first packet: the connection is answered, unless it says no.
#[inline(always)]
fn answer<F: Wired>(packet: &Packet<F::Addr>, flow: &mut Flow<F::Addr>) -> Result<Found, Reason> {
    let reason = reason_of(flow.flags);
    if packet.tcp.any(TcpFlags::RST) {
        table::abort_unanswered::<F>(&packet.key, flow);
        return Ok(Found { table: Table::Unanswered, reason });
    }
    if flow.flags.has(FlowFlags::BRIEF) {
        // The client has been taken elsewhere; this is the answer to what it asked before.
        return Ok(Found { table: Table::Unanswered, reason });
    }
    if promote::<F>(&packet.key, flow) {
        Ok(Found { table: Table::Answered, reason })
    } else if flow.flags.has(FlowFlags::PLAIN) {
        // What need not be translated need not be remembered either.
        Ok(Found { table: Table::Unanswered, reason })
    } else {
        Err(Reason::FlowTableFull)
    }
}

/// A client that tries again gets the same backend, unless it was refused or the backends have changed since. One that
/// has reset an earlier connection there needs just that backend: a client's kernel tries at once only once.
#[inline(always)]
fn still_right<F: Wired>(packet: &Packet<F::Addr>, flow: &Flow<F::Addr>) -> bool {
    if flow.flags.has(FlowFlags::RST) && table::is_refused::<F>(&packet.key, flow) {
        return !packet.tcp.opens();
    }
    if flow.service == ServiceId::NONE {
        return true;
    }
    let key = FrontendKey::new(packet.key.dst, packet.key.dport, packet.key.proto);
    // One that was replaced while it is read differs, or says the same.
    match lookup::frontend::at::<F>(key) {
        // Datagrams are not told apart by what opens a connection, and their flows stay where they are while their backend
        // serves (items 101, 103): the agent ends those of backends that are gone.
        Some(frontend) if packet.key.proto == Proto::UDP => frontend.service == flow.service,
        Some(frontend) => frontend.generation == flow.generation && frontend.service == flow.service,
        None => false,
    }
}
