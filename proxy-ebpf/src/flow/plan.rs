//! What a packet that opens a connection should become: to a frontend it gets a backend; to anything else it goes
//! on, unless the answers would be taken for those of a translated connection. Makes no entry.

use proxy_common::{
    Address, Backend, BackendFlags, ClientClass, DeviceKind, FlowFlags, FlowKey, Frontend, FrontendFlags,
    FrontendKey, NodeConfig, NodeFlags, Proto, Reason, ServiceId,
    affinity::ClientKind,
    algorithm::connection_hash,
    decide::{self, Choice, Ownership, Place, Source},
};

use super::table;
use crate::family::Wired;
use crate::lookup::{backend, frontend, net, owner, range};
use crate::road::{Direction, Hook, Service};
use crate::scratch::Plain;
use crate::tunnel;
use crate::verified::device;

/// What a new connection is to become. Written by one function and read by another, each verified on its own,
/// so it holds plain numbers only.
#[derive(Clone, Copy, Default)]
pub struct Plan<A> {
    /// Where it goes.
    pub backend: Backend<A>,
    /// Whose it is.
    pub service: ServiceId,
    /// Generation of the frontend that chose the backend.
    pub generation: u32,
    /// [`KEPT`], [`MASQUERADED`], [`TOLD_APART`], [`TUNNELLED`] or [`UNWRAPPED`].
    pub source: u32,
    /// [`proxy_common::PolicyState::epoch`] at which it is judged.
    pub epoch: u32,
    /// Index of the pod's device that its first packet comes by; zero: not by a pod's.
    pub origin: u32,
}

/// The backend sees the client's own address, and its port unless that is taken.
pub const KEPT: u32 = 0;
/// The backend sees an address of this node.
pub const MASQUERADED: u32 = 1;
/// The server sees another port of the same address.
pub const TOLD_APART: u32 = 2;
/// The backend's node gets the packet in a tunnel, and its own say.
pub const TUNNELLED: u32 = 3;
/// As [`KEPT`]; the packet came in a tunnel, and the entry of the answers gets the flag.
pub const UNWRAPPED: u32 = FlowFlags::TUNNEL.0 as u32;

// SAFETY: addresses, ports and numbers.
unsafe impl<A: Address> Plain for Plan<A> {}

/// Fills in the plan; gives the reason to count.
#[inline(always)]
pub fn plan<F: Wired>(
    key: &FlowKey<F::Addr>,
    hook: Hook,
    device: u32,
    plan: &mut Plan<F::Addr>,
) -> Result<Reason, Reason> {
    if hook.service == Service::Unwrapped {
        return tunnel::plan::<F>(key, plan);
    }
    if hook.service == Service::FlowsOnly {
        return match hook.direction {
            // Nobody here opens translated connections but by a range; entries may be left from a time when the road
            // was another. TCP pays for that question once per connection; each datagram would, unless it gets an
            // entry of its own because policies are in use.
            Direction::Ingress => match plan_by_range::<F>(key, hook, device, plan) {
                Err(Reason::NotAService) if key.proto == Proto::TCP || plan.epoch != 0 => {
                    direct::<F>(key, plan)
                }
                planned => planned,
            },
            // The node's own ports are shared with masqueraded connections.
            Direction::Egress => direct::<F>(key, plan),
        };
    }
    let asked = FrontendKey::new(key.dst, key.dport, key.proto);
    match frontend::at::<F>(asked) {
        Some(frontend) => serve::<F>(key, frontend, hook, device, plan),
        None => match owner::unserved::<F>(key.dst) {
            Reason::NotAService => direct::<F>(key, plan),
            reason => Err(reason),
        },
    }
}

/// Where sockets are translated, two kinds of connections wait for a packet: those to a frontend with source ranges, because
/// no socket has its source before, and those of SCTP, because the kernel asks no hook when such a socket connects. One array
/// lookup for everybody else, and a hash lookup once there is such a frontend.
#[inline(always)]
fn plan_by_range<F: Wired>(
    key: &FlowKey<F::Addr>,
    hook: Hook,
    device: u32,
    plan: &mut Plan<F::Addr>,
) -> Result<Reason, Reason> {
    let hookless = key.proto == Proto::SCTP;
    match F::node().get(0) {
        Some(node) if node.ranges != 0 || hookless => {}
        Some(_) | None => return Err(Reason::NotAService),
    }
    let asked = FrontendKey::new(key.dst, key.dport, key.proto);
    match frontend::at::<F>(asked) {
        Some(frontend) if hookless || frontend.flags.has(FrontendFlags::RANGES) => {
            serve::<F>(key, frontend, hook, device, plan)
        }
        Some(_) | None => Err(Reason::NotAService),
    }
}

/// Which backends of a frontend a connection may use, or why none.
#[inline(always)]
pub fn admit<F: Wired>(
    key: &FlowKey<F::Addr>,
    frontend: &Frontend,
    hook: Hook,
    device: u32,
) -> Result<Choice, Reason> {
    range::admit::<F>(frontend, key.src)?;
    let node = F::node().get(0).ok_or(Reason::NoNodeAddress)?;
    let class = match hook.direction {
        Direction::Ingress => {
            decide::classify(owner::ownership::<F>(key.src), pods::<F>(node, key.src, device))
        }
        // The packet has a socket of this node.
        Direction::Egress => ClientClass::Node,
    };
    decide::choose(frontend, class)
}

/// Gives a connection to a frontend its backend.
#[inline(always)]
fn serve<F: Wired>(
    key: &FlowKey<F::Addr>,
    frontend: &Frontend,
    hook: Hook,
    device: u32,
    plan: &mut Plan<F::Addr>,
) -> Result<Reason, Reason> {
    if frontend.flags.has(FrontendFlags::NODE_ONLY) {
        // A loopback address in a packet that has come by a wire: the stack drops it.
        return Err(Reason::NotAService);
    }
    // First of all: whatever becomes of the packet, it is this Service's.
    plan.service = frontend.service;
    let choice = admit::<F>(key, frontend, hook, device)?;
    let client = key.src.to_words();
    let connection = || connection_hash(client, key.dst.to_words(), (key.sport, key.dport), key.proto);
    let backend = backend::choose::<F>(frontend, choice.segment, ClientKind::ADDRESS, client, connection)?;
    let source = match decide::with_hairpin(choice.source, key.src, &backend) {
        // A process of this node would answer a node address without leaving the node: no hook would see it.
        // Its endpoint need not name the node, as those that somebody has written by hand do not.
        Source::Masqueraded if owner::ownership::<F>(backend.addr) == Ownership::Node => Source::Kept,
        source => source,
    };
    *plan = Plan {
        epoch: plan.epoch,
        origin: plan.origin,
        backend,
        service: frontend.service,
        generation: frontend.generation,
        source: match source {
            Source::Kept | Source::KeptIfLocal => KEPT,
            Source::Tunnelled if tunnel::begins(hook) => TUNNELLED,
            Source::Tunnelled | Source::Masqueraded => MASQUERADED,
        },
    };
    Ok(Reason::ServiceNew)
}

/// The detector (item 62): by the client's address, or by the device that it sends through.
#[inline(always)]
fn pods<F: Wired>(node: &NodeConfig<F::Addr>, src: F::Addr, device: u32) -> Place {
    if !node.flags.has(NodeFlags::PODS_BY_DEVICE) {
        return net::pods::<F>(node, src);
    }
    match device::kind(device) {
        Some(kind) if kind.has(DeviceKind::PODS_ONLY) => Place::Inside,
        Some(_) | None => Place::Outside,
    }
}

/// Straight to its destination. If the answers have the tuple of a translated connection's answers, that one is
/// forgotten when it is over; else the new one is told apart by another port.
///
/// The second lookup is for TCP alone, which pays once per connection; each datagram would.
#[inline(always)]
fn direct<F: Wired>(key: &FlowKey<F::Addr>, plan: &mut Plan<F::Addr>) -> Result<Reason, Reason> {
    let answers = key.reversed();
    if let Some(old) = table::answered::<F>(&answers) {
        if !is_translated(old.flags) || table::forget_if_over::<F>(&answers, old) {
            return Err(Reason::NotAService);
        }
        return tell_apart(key, plan);
    }
    if key.proto == Proto::TCP
        && let Some(old) = table::unanswered::<F>(&answers)
    {
        if !is_translated(old.flags) || table::forget_if_refused::<F>(&answers, old) {
            return Err(Reason::NotAService);
        }
        return tell_apart(key, plan);
    }
    Err(Reason::NotAService)
}

/// The entry is of the answers of a translated connection.
#[inline(always)]
fn is_translated(flags: FlowFlags) -> bool {
    flags.has(FlowFlags::REPLY) && !flags.has(FlowFlags::PLAIN)
}

#[inline(always)]
fn tell_apart<A: Address>(key: &FlowKey<A>, plan: &mut Plan<A>) -> Result<Reason, Reason> {
    plan.backend = Backend::new(key.dst, key.dport, BackendFlags::REMOTE);
    plan.service = ServiceId::NONE;
    plan.generation = 0;
    plan.source = TOLD_APART;
    Ok(Reason::PortClash)
}
