//! Takes a packet out of a tunnel, and plans its connection.

use proxy_common::{
    Address, FlowFlags, FlowKey, ForwardingMode, FrontendKey, Proto, Reason, reason::Outcome,
};

use crate::family::Wired;
use crate::family::related::Unusual;
use crate::family::tunnel::Wrapped;
use crate::flow::{self, Plan, UNWRAPPED};
use crate::lookup::{backend, frontend};
use crate::maps::constant;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::icmp::IcmpError;
use crate::packet::l4::Ports;
use crate::packet::{self, Packet, ethernet};
use crate::scratch::{self, Area, Plain};

/// What is looked at, outside of the stack.
#[repr(C)]
struct Work<A> {
    /// Where the tunnel led.
    end: A,
    /// The packet inside, or the one that an error inside quotes.
    inner: Packet<A>,
    /// The tuple of the client's packets.
    key: FlowKey<A>,
}

// SAFETY: addresses, ports and numbers; each part is written before it is read.
unsafe impl<A: Address> Plain for Work<A> {}

/// The packet may be a tunnel's. Without tunnels the question is no code.
#[inline(always)]
pub fn is_one<F: Wrapped>(packet: &Packet<F::Addr>) -> bool {
    constant!(tunnels) != 0 && packet.key.proto == F::INSIDE
}

/// Unwraps a packet if it is of a connection that may come by a tunnel: to such a frontend, or of a flow that goes to where
/// the tunnel leads. `packet` is the inner one then; gives what [`packet::parse`] says of it.
///
/// Errors: [`Reason::NoPorts`] for somebody else's tunnel, [`Reason::ForeignTunnel`] for one that no node sent.
#[inline(always)]
pub fn unwrap<F: Wrapped>(frame: &mut Frame, packet: &mut Packet<F::Addr>) -> Result<Option<Reason>, Reason> {
    let more = size_of::<F::Header>();
    // Options and extensions are none of ours.
    if packet.transport != ethernet::LENGTH + more {
        return Err(Reason::NoPorts);
    }
    frame.linearise();
    let work = scratch::take::<Work<F::Addr>>(Area::Tunnel).ok_or(Reason::NoPorts)?;
    work.end = packet.key.dst;
    work.inner = Packet::default();
    tuple::<F>(frame, packet.transport, work).ok_or(Reason::NoPorts)?;
    if !leads_to::<F>(&work.key, work.end) {
        return Err(Reason::NoPorts);
    }
    if F::nodes().get_ptr(packet.key.src).is_none() {
        return Err(Reason::ForeignTunnel);
    }
    frame.unwrap(more as u32).map_err(|()| Reason::RewriteFailed)?;
    *packet = Packet::default();
    match packet::parse::<F>(frame, packet) {
        None => Ok(None),
        Some(Reason::NoPorts) => Ok(Some(Reason::NoPorts)),
        // Nothing of ours is sent in fragments.
        Some(_) => Err(Reason::StrayTunnel),
    }
}

/// Reads the tuple of the client's packets: that of the packet at `at`, or the reverse of what an error there quotes.
#[inline(always)]
fn tuple<F: Unusual>(frame: &Frame, at: usize, work: &mut Work<F::Addr>) -> Option<()> {
    F::quoted(frame, at, &mut work.inner)?;
    let is_error = work.inner.key.proto == F::ICMP;
    if is_error {
        let header = frame.read::<IcmpError>(work.inner.transport)?;
        if !F::is_error(header.kind[0]) {
            return None;
        }
        let at = work.inner.transport + size_of::<IcmpError>();
        F::quoted(frame, at, &mut work.inner)?;
    }
    if work.inner.key.proto != Proto::TCP && work.inner.key.proto != Proto::UDP {
        return None;
    }
    let ports = frame.read::<Ports>(work.inner.transport)?;
    (work.inner.key.sport, work.inner.key.dport) = (ports.source, ports.destination);
    work.key = if is_error { work.inner.key.reversed() } else { work.inner.key };
    Some(())
}

#[inline(always)]
fn leads_to<F: Wired>(key: &FlowKey<F::Addr>, end: F::Addr) -> bool {
    if let Some(flow) = flow::known::<F>(key)
        && !flow.flags.has(FlowFlags::REPLY)
        && flow.dst == end
    {
        return true;
    }
    let asked = FrontendKey::new(key.dst, key.dport, key.proto);
    frontend::at::<F>(asked).is_some_and(|frontend| frontend.mode == ForwardingMode::TUNNEL)
}

/// Plans a new connection that came in a tunnel: the other node has chosen, and the tunnel led to the backend.
///
/// Errors: [`Reason::StrayTunnel`] if that is no backend on this node.
#[inline(always)]
pub fn plan<F: Wired>(key: &FlowKey<F::Addr>, plan: &mut Plan<F::Addr>) -> Result<Reason, Reason> {
    const { assert!(matches!(Reason::StrayTunnel.outcome(), Outcome::Drop)) };
    let stray = Reason::StrayTunnel;
    let asked = FrontendKey::new(key.dst, key.dport, key.proto);
    let frontend = frontend::at::<F>(asked).filter(|frontend| frontend.mode == ForwardingMode::TUNNEL);
    let frontend = frontend.ok_or(stray)?;
    plan.service = frontend.service;
    plan.generation = frontend.generation;
    let work = scratch::take::<Work<F::Addr>>(Area::Tunnel).ok_or(stray)?;
    let slot = backend::at::<F>(frontend.local, work.end).ok_or(stray)?;
    plan.backend = *F::backends().get(slot).ok_or(stray)?;
    plan.source = UNWRAPPED;
    Ok(Reason::ServiceNew)
}
