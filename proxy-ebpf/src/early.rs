//! The packet road's short cut: what becomes of a packet in the driver of an uplink.
//!
//! ```text
//! parse ─► flows ──hit, leaves by this device──► rewrite ─► back out
//!             └─miss─► frontends ─► drop
//! ```
//!
//! Here an answered connection is translated whose next hop is behind the same device, and what would be dropped is
//! dropped. Everything else goes on to the tc hook as it came: it chooses backends, makes entries, refuses, and delivers
//! to pods, so each of these decisions is made in one place.

use proxy_common::{Flow, FlowFlags, FrontendFlags, FrontendKey, Proto, Reason, Route, reason::Outcome};

use crate::family::{Road, Wired};
use crate::flow::{self, answered};
use crate::lookup::{frontend, owner};
use crate::packet::cursor::Access as _;
use crate::packet::driver::DriverFrame;
use crate::packet::ethernet::{self, Ethernet, Mac};
use crate::packet::{self, Packet};
use crate::police;
use crate::rewrite;
use crate::road::{self, Direction, Hook, Service, Side};
use crate::tally::tally;
use crate::verified::Verified;

/// What becomes of a packet.
pub enum Fate {
    /// On to the kernel, as it came.
    Passed,
    /// Gone.
    Dropped(Reason),
    /// Out of the device that it came in by, translated.
    Returned(Reason),
}

/// Handles a packet in the driver of an uplink.
pub struct Early;

const HOOK: Hook = Hook { side: Side::Wire, direction: Direction::Ingress, service: Service::Served };

impl Road for Early {
    type Frame = DriverFrame;
    type Verdict = Fate;

    #[inline(always)]
    fn foreign(_frame: &DriverFrame) -> Fate {
        Fate::Passed
    }

    #[inline(always)]
    fn travel<F: Verified>(frame: &mut DriverFrame) -> Fate {
        let mut packet = Packet::default();
        if packet::parse::<F>(frame, &mut packet).is_some() || packet.key.proto == Proto::SCTP {
            return Fate::Passed;
        }
        if let Some(flow) = answered::<F>(&packet.key) {
            return carry::<F>(frame, &packet, flow);
        }
        if packet.key.proto == Proto::TCP && !packet.tcp.opens() {
            return Fate::Passed;
        }
        // Whoever listens is told of drops by the tc hook.
        if police::is_watched() {
            return Fate::Passed;
        }
        match refusal::<F>(frame, &packet) {
            Some(reason) if reason.outcome() == Outcome::Drop => Fate::Dropped(reason),
            Some(_) | None => Fate::Passed,
        }
    }
}

/// Translates a packet of an answered connection and sends it back, if it leaves by the device that it came in by. The
/// entry was routed by the tc hook, which its first packets pass.
#[inline(always)]
fn carry<F: Wired>(frame: &mut DriverFrame, packet: &Packet<F::Addr>, flow: &mut Flow<F::Addr>) -> Fate {
    let Some(link) = frame.read::<Ethernet>(0) else { return Fate::Passed };
    // A SYN may begin the connection anew. A frame for somebody else, overheard, must not touch the entry.
    // What the rules of now have not judged is left to those who can, and so is what is not translated.
    if police::is_due(flow, police::epoch(), frame, HOOK) || flow.flags.has(FlowFlags::PLAIN) {
        return Fate::Passed;
    }
    if packet.tcp.opens() || !returns(frame, flow) || link.destination != Mac::new(flow.eth_src) {
        return Fate::Passed;
    }
    road::note::<F>(frame, packet, flow, HOOK);
    if !returns(frame, flow) || road::route_for::<F>(frame, flow) != Route::DEVICE {
        return Fate::Passed;
    }
    if flow.mtu != 0 && length::<F>(frame) > flow.mtu as usize {
        return Fate::Passed;
    }
    let reason = flow::reason_of(flow.flags);
    match rewrite::translate::<F>(frame, packet, flow, Route::DEVICE) {
        Ok(()) => Fate::Returned(reason),
        Err(reason) => Fate::Dropped(reason),
    }
}

/// Bytes from the network header on, as it says itself.
#[inline(always)]
fn length<F: Wired>(frame: &DriverFrame) -> usize {
    match frame.read::<F::Header>(ethernet::LENGTH) {
        Some(header) => size_of::<F::Header>() + F::payload_length(&header),
        None => usize::MAX,
    }
}

#[inline(always)]
fn returns<A>(frame: &DriverFrame, flow: &Flow<A>) -> bool {
    flow.flags.has(FlowFlags::ROUTED) && flow.route == Route::DEVICE && flow.ifindex == frame.device()
}

/// Why a new connection gets no backend, if it gets none.
#[inline(always)]
fn refusal<F: Wired>(frame: &DriverFrame, packet: &Packet<F::Addr>) -> Option<Reason> {
    let key = &packet.key;
    match frontend::at::<F>(FrontendKey::new(key.dst, key.dport, key.proto)) {
        // A loopback address in a packet that has come by a wire: the stack drops it.
        Some(frontend) if frontend.flags.has(FrontendFlags::NODE_ONLY) => None,
        Some(frontend) => {
            let reason = flow::admit::<F>(key, frontend, HOOK, frame.device()).err()?;
            if reason.outcome() == Outcome::Drop {
                tally(frontend.service, reason);
            }
            Some(reason)
        }
        None => Some(owner::unserved::<F>(key.dst)),
    }
}
