//! Connections whose packets leave in tunnels. An LRU: nobody sees their answers, so nobody could say that one is over;
//! one that is evicted while its client is silent chooses again, and with Maglev alike.
//!
//! Costs, where packets are sent in tunnels: a lookup for each TCP packet at an uplink that is of no answered connection,
//! and another one if it is of no tunnel either.

use proxy_common::{Algorithm, Flow, FlowFlags, FlowKey, ForwardingMode, FrontendKey, Proto, ServiceId};

use crate::family::Wired;
use crate::flow::Plan;
use crate::lookup::{backend, frontend};
use crate::packet::Packet;
use crate::road::{is_stale, jiffies};
use crate::scratch::{self, Area};
use crate::verified::Verified;

const ANY: u64 = 0;

/// The entry of the packets with this tuple.
#[inline(always)]
pub fn entry<F: Wired>(key: &FlowKey<F::Addr>) -> Option<&'static mut Flow<F::Addr>> {
    // SAFETY: an element of an LRU stays memory of the map; one that is recycled meanwhile is another such entry, and the
    // packet strays to its backend, where nobody takes it. The fields are plain words.
    F::tunnels().get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
}

/// There is an entry.
#[inline(always)]
pub fn is_known<F: Wired>(key: &FlowKey<F::Addr>) -> bool {
    F::tunnels().get_ptr(key).is_some()
}

/// The entry by which the packet goes on. None for one that begins a connection anew, nor for a datagram whose backend is
/// gone; a datagram asks for that once a second.
#[inline(always)]
pub fn going<F: Verified>(packet: &Packet<F::Addr>) -> Option<&'static mut Flow<F::Addr>> {
    let flow = entry::<F>(&packet.key)?;
    let asks = match packet.key.proto {
        Proto::TCP => packet.tcp.opens(),
        _ => is_stale(jiffies(), flow.seen),
    };
    if asks && !F::still_leads_there(packet, flow) {
        let _ = F::tunnels().remove(&packet.key);
        return None;
    }
    Some(flow)
}

/// The frontend would still send the packet there: a client that tries again gets the same backend, unless the backends
/// have changed since, and a datagram as long as its backend is one of them.
#[inline(always)]
pub fn still_leads_there<F: Wired>(packet: &Packet<F::Addr>, flow: &mut Flow<F::Addr>) -> bool {
    if flow.flags.has(FlowFlags::FIN) || flow.flags.has(FlowFlags::RST) {
        return false;
    }
    let key = FrontendKey::new(packet.key.dst, packet.key.dport, packet.key.proto);
    let Some(frontend) = frontend::at::<F>(key) else { return false };
    if frontend.service != flow.service || frontend.mode != ForwardingMode::TUNNEL {
        return false;
    }
    if frontend.generation == flow.generation {
        return true;
    }
    if packet.key.proto == Proto::TCP
        || backend::find::<F>(frontend.cluster, flow.dst, flow.dport, 0).is_none()
    {
        return false;
    }
    flow.generation = frontend.generation;
    true
}

/// How the noting of a connection went. A number, because it crosses from one frame to another.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Entered(u32);

impl Entered {
    /// It is noted.
    pub const DONE: Self = Self(0);
    /// This node has no address to send its packets from.
    pub const NO_ADDRESS: Self = Self(1);
    /// The LRU found nothing to evict.
    pub const NO_ROOM: Self = Self(2);
}

/// Notes where the connection's packets go.
#[inline(never)]
pub fn enter<F: Wired>(key: &FlowKey<F::Addr>, plan: &Plan<F::Addr>) -> Entered {
    let Some(node) = F::node().get(0) else { return Entered::NO_ADDRESS };
    if node.address == F::Addr::default() {
        return Entered::NO_ADDRESS;
    }
    let Some(flow) = scratch::take::<Flow<F::Addr>>(Area::Entry) else { return Entered::NO_ROOM };
    *flow = Flow {
        src: node.address,
        dst: plan.backend.addr,
        sport: key.sport,
        dport: plan.backend.port,
        service: plan.service,
        generation: plan.generation,
        seen: jiffies(),
        flags: FlowFlags::TUNNEL,
        ..Flow::default()
    };
    if F::tunnels().insert(key, &*flow, ANY).is_ok() { Entered::DONE } else { Entered::NO_ROOM }
}

/// Every node chooses the same backend for this connection.
#[inline(always)]
pub fn is_agreed_on<F: Wired>(key: &FlowKey<F::Addr>) -> bool {
    match frontend::at::<F>(FrontendKey::new(key.dst, key.dport, key.proto)) {
        Some(frontend) => {
            frontend.mode == ForwardingMode::TUNNEL
                && frontend.algorithm == Algorithm::MAGLEV
                && frontend.affinity == 0
                && frontend.service != ServiceId::NONE
        }
        None => false,
    }
}
