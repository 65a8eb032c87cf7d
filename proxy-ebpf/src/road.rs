//! The packet road: what every packet at a tc hook goes through.
//!
//! ```text
//! parse ─► flows ──hit──────────────────────────────► rewrite ─► leave
//!             └─miss─► half open ─► frontends ─► open ──┘ └─► reject, drop, pass
//! ```
//!
//! Cost of the packet of an answered connection: one hash lookup. Of a TCP packet that is not ours: one, and one more if it
//! is a mere acknowledgement. Only packets that may open a connection pay for more.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use proxy_common::{
    Flow, FlowFlags, Proto, Reason, Route,
    reason::Outcome,
    tcp::{self, TcpFlags},
};

use crate::action::{Action, Verdict};
use crate::family::{Road, Wired};
use crate::flow::{self, Entry};
use crate::maps::constant;
use crate::packet::cursor::{Access, Frame};
use crate::packet::{self, Packet};
use crate::police;
use crate::related::{self, Outcome as Unported, Size};
use crate::verified::{self, Verified};
use crate::{rewrite, route, tunnel};

/// Which way packets pass the hook's device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Out of the device, into the node.
    Ingress,
    /// Out of the node, into the device.
    Egress,
}

/// Who looks frontends up at a hook.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// New connections to frontends are translated here.
    Served,
    /// The same, and some connections leave in tunnels, and come by them: an uplink's ingress hook.
    Gateway,
    /// Another node has chosen: the packet came in a tunnel.
    Unwrapped,
    /// Only packets of known flows are.
    FlowsOnly,
}

/// What is behind a hook's device.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// A pod.
    Pod,
    /// Other hosts.
    Wire,
}

/// What is special about a hook.
#[derive(Clone, Copy)]
pub struct Hook {
    /// What is behind the device.
    pub side: Side,
    /// Which way packets pass.
    pub direction: Direction,
    /// Whether frontends are looked up.
    pub service: Service,
}

impl Hook {
    /// Packets here were just sent by a pod.
    #[inline(always)]
    pub fn is_from_pod(self) -> bool {
        self.side == Side::Pod && self.direction == Direction::Ingress
    }

    /// What a flow's entry notes of the device that its packets come in by: nothing, if it is no pod's.
    #[inline(always)]
    pub fn origin(self, device: u32) -> u32 {
        if self.is_from_pod() { device } else { 0 }
    }
}

/// One of the hooks: what may happen there.
pub trait Place {
    /// What is behind the device.
    const SIDE: Side;
    /// Which way packets pass.
    const DIRECTION: Direction;
    /// Whether frontends are looked up; constant after loading.
    fn service() -> Service;
    /// Whether tunnels end here.
    const TUNNELS: bool = false;
    /// Whether the frame is for this node at all.
    #[inline(always)]
    fn concerns(_frame: &Frame) -> bool {
        true
    }
}

/// Handles a packet at place `P`.
pub struct Packets<P>(core::marker::PhantomData<P>);

impl<P: Place> Road for Packets<P> {
    type Frame = Frame;
    type Verdict = Verdict;

    #[inline(always)]
    fn foreign(frame: &Frame) -> Verdict {
        Verdict::of(if P::SIDE == Side::Pod { verified::foreign::judge(frame) } else { Reason::NotIp })
    }

    #[inline(always)]
    fn travel<F: Verified>(frame: &mut Frame) -> Verdict {
        if frame.is_tagged() || !P::concerns(frame) {
            return Verdict::of(Reason::NotIp);
        }
        let mut packet = Packet::default();
        let mut hook = Hook { side: P::SIDE, direction: P::DIRECTION, service: P::service() };
        let mut along = false;
        let mut unusual = packet::parse::<F>(frame, &mut packet);
        if P::TUNNELS && unusual == Some(Reason::NoPorts) && tunnel::is_one::<F>(&packet) {
            match F::unwrap(frame, &mut packet) {
                Ok(inner) => unusual = inner,
                Err(reason) => return told::<F>(frame, &packet, Verdict::of(reason)),
            }
            hook.service = Service::Unwrapped;
        }
        if let Some(reason) = unusual {
            match F::judge_unusual(frame, &mut packet, reason, hook) {
                Unported::Ends(verdict) => {
                    if !police::concerns_portless(hook, verdict.reason) {
                        return told::<F>(frame, &packet, verdict);
                    }
                    return Verdict::of(F::judge_portless(frame, &mut packet, hook, verdict.reason));
                }
                // A datagram in fragments is translated: its later ones would not be known for it behind a tunnel.
                Unported::HasPorts if P::TUNNELS => hook.service = Service::Served,
                Unported::HasPorts => {}
                Unported::ByTunnel => along = P::TUNNELS,
            }
        }
        let entry = if along {
            related::quoted::<F>().ok_or(Reason::NoPorts)
        } else {
            flow::find::<F>(frame, &packet, hook)
        };
        match entry {
            Ok(entry) => carry::<F>(frame, &packet, entry, hook),
            Err(reason) => match told::<F>(frame, &packet, Verdict::of(reason)).reason.outcome() {
                Outcome::Reject => Verdict::new(reason, F::reject(frame, &packet, P::DIRECTION)),
                Outcome::Pass | Outcome::Translate | Outcome::Drop => Verdict::of(reason),
            },
        }
    }
}

/// Translates the packet and sends it on.
#[inline(always)]
fn carry<F: Verified>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    Entry { flow, reason }: Entry<F::Addr>,
    hook: Hook,
) -> Verdict {
    if constant!(tunnels) != 0
        && packet.tcp.any(TcpFlags::SYN)
        && flow.flags.has(FlowFlags::TUNNEL.with(FlowFlags::REPLY))
    {
        F::shorten(frame, packet);
    }
    let leaves = note::<F>(frame, packet, flow, hook);
    if tunnel::begins(hook) && flow.flags.has(FlowFlags::TUNNEL) && !flow.flags.has(FlowFlags::REPLY) {
        let verdict = F::wrap(frame, packet, flow, reason);
        return told::<F>(frame, packet, verdict);
    }
    if flow.flags.has(FlowFlags::PLAIN) {
        return Verdict::of(reason);
    }
    let mut route = if leaves { route_for::<F>(frame, flow) } else { Route::STACK };
    if leaves && flow.mtu != 0 && frame.length() > flow.mtu as usize + packet::ethernet::LENGTH {
        match F::judge_size(frame, packet, flow, hook.direction) {
            (Size::Fits, _) => {}
            (Size::InFragments, _) => route = Route::STACK,
            (Size::Refused, verdict) => return told::<F>(frame, packet, verdict),
        }
    }
    match rewrite::translate::<F>(frame, packet, flow, route) {
        Ok(()) => Verdict::new(reason, route::leave(route, flow.ifindex)),
        Err(reason) => told::<F>(frame, packet, Verdict::new(reason, Action::DROP)),
    }
}

/// The verdict, of which whoever listens is told if the packet ends by it.
#[inline(always)]
fn told<F: Verified>(frame: &mut Frame, packet: &Packet<F::Addr>, verdict: Verdict) -> Verdict {
    police::tell_end::<F>(frame, packet, verdict.reason);
    verdict
}

/// Notes in the flow's entry that the packet came by, and where it leaves if nobody has asked lately. True: it leaves
/// without the stack.
#[inline(always)]
pub fn note<F: Wired>(
    frame: &impl Access,
    packet: &Packet<F::Addr>,
    flow: &mut Flow<F::Addr>,
    hook: Hook,
) -> bool {
    if packet.key.proto == Proto::TCP {
        let flags = tcp::advance(flow.flags, packet.tcp);
        if flags != flow.flags {
            flow.flags = flags;
        }
    }
    let leaves = leaves_directly(hook, flow.flags);
    let now = jiffies();
    if is_stale(now, flow.seen) || leaves && !flow.flags.has(FlowFlags::ROUTED) {
        flow.seen = now;
        if leaves {
            route::resolve::<F>(frame, packet.key.proto, flow, hook.direction);
        }
    }
    leaves
}

/// At an egress hook the packet is on its way already: only a request of the node itself needs another one.
#[inline(always)]
fn leaves_directly(hook: Hook, flags: FlowFlags) -> bool {
    if flags.has(FlowFlags::PLAIN) {
        return false;
    }
    match hook.direction {
        Direction::Ingress => true,
        Direction::Egress => hook.service == Service::Served && !flags.has(FlowFlags::REPLY),
    }
}

/// The flow's route; the stack's, if the packet has no hop left and its sender must be told.
#[inline(always)]
pub fn route_for<F: Wired>(frame: &impl Access, flow: &Flow<F::Addr>) -> Route {
    match frame.read::<F::Header>(packet::ethernet::LENGTH) {
        Some(header) if F::hops(&header) > 1 => flow.route,
        _ => Route::STACK,
    }
}

/// The kernel's tick: read without a call.
#[inline(always)]
pub fn jiffies() -> u32 {
    // SAFETY: the helper has no arguments; the verifier replaces it by a load.
    (unsafe { bpf_jiffies64() }) as u32
}

/// A second or so has passed: 256 ticks are 1.0 s at 250 ticks a second, 0.26 s at 1000, 2.6 s at 100.
#[inline(always)]
pub fn is_stale(now: u32, seen: u32) -> bool {
    now.wrapping_sub(seen) >> 8 != 0
}
