//! Packets that belong to a connection without being part of it: ICMP errors about its packets, pings of a Service's
//! address, and the fragments of which all but the first have no ports (items 54, 110, 111).
//!
//! Nothing here is on the way of a packet with ports: the parser gives up first.

mod echo;
mod error;
mod fragment;
mod size;

pub use error::quoted;
pub use size::{Cutter, Size, headers, judge};

use proxy_common::{Flow, FlowFlags, FlowKey, Proto, Reason, Route};

use crate::action::Verdict;
use crate::family::Wired;
use crate::family::related::Unusual;
use crate::flow;
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::icmp::IcmpError;
use crate::road::{Direction, Hook, route_for};
use crate::route;
use crate::verified;

/// What becomes of a packet without ports.
pub enum Outcome {
    /// This.
    Ends(Verdict),
    /// It has some after all: they are in the packet's tuple now.
    HasPorts,
    /// It goes along with a flow whose packets leave in a tunnel: [`quoted`] is that flow.
    ByTunnel,
}

/// Judges what the parser has given `why` for; only the addresses, the protocol and the place of what follows are read.
#[inline(always)]
pub fn judge_unusual<F: Unusual>(
    frame: &mut Frame,
    packet: &mut Packet<F::Addr>,
    why: Reason,
    hook: Hook,
) -> Outcome {
    match why {
        Reason::Fragment => fragment::handle::<F>(frame, packet, hook),
        Reason::NoPorts if packet.key.proto == F::ICMP => icmp::<F>(frame, packet, hook),
        reason => Outcome::Ends(Verdict::of(reason)),
    }
}

#[inline(always)]
fn icmp<F: Unusual>(frame: &mut Frame, packet: &Packet<F::Addr>, hook: Hook) -> Outcome {
    // What the message quotes may lie in fragments of memory, too.
    frame.linearise();
    Outcome::Ends(match frame.read::<IcmpError>(verified::apart(packet.transport)) {
        Some(header) if F::is_error(header.kind[0]) => {
            return error::translate::<F>(frame, packet, header, hook);
        }
        Some(header) if header.kind == [F::ECHO.0, 0] => echo::answer::<F>(frame, packet, header, hook),
        Some(_) => Verdict::of(Reason::NoPorts),
        None => Verdict::of(Reason::Malformed),
    })
}

/// The entry of the packets with this tuple, answered or not, if it counts at this hook.
#[inline(always)]
fn entry<F: Wired>(frame: &Frame, key: &FlowKey<F::Addr>, hook: Hook) -> Option<&'static mut Flow<F::Addr>> {
    flow::known::<F>(key).filter(|flow| flow::applies(frame, hook, flow.flags))
}

/// The way of a packet that goes where the flow's packets go; what it lacks is looked up first.
#[inline(always)]
fn way<F: Wired>(frame: &Frame, proto: Proto, flow: &mut Flow<F::Addr>, hook: Hook) -> Route {
    let turned = match hook.direction {
        Direction::Ingress => true,
        // It is on its way to the flow's old destination.
        Direction::Egress => !flow.flags.has(FlowFlags::REPLY),
    };
    if !turned {
        return Route::STACK;
    }
    if !flow.flags.has(FlowFlags::ROUTED) {
        route::resolve::<F>(frame, proto, flow, hook.direction);
    }
    match (route_for::<F>(frame, flow), hook.direction) {
        // A peer is entered from ingress hooks only.
        (Route::PEER, Direction::Egress) => Route::DEVICE,
        (route, _) => route,
    }
}
