//! The hooks of the packet road: tcx programs on pods' veths and on uplinks, and two programs for measuring.

use aya_ebpf::{
    bindings::tcx_action_base::{TCX_DROP, TCX_NEXT},
    helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns},
    macros::classifier,
    programs::TcContext,
};
use proxy_common::Reason;

use crate::count::count_packet;
use crate::family::dispatch;
use crate::ferry::Crossing;
use crate::lookup::seen::was_seen;
use crate::maps::{constant, onward::ONWARD};
use crate::packet::cursor::{Access as _, Frame};
use crate::party::{self, Strangers};
use crate::police;
use crate::road::{Direction, Packets, Place, Service, Side};
use crate::verified::party::stranger;

/// Packets that a pod sends. Where sockets are translated and there are no policies, most are of no connection in the tables, and
/// need no lookup (`docs/decisions/0043-*`).
#[classifier]
pub fn from_pod(ctx: TcContext) -> i32 {
    let mut frame = Frame::new(ctx);
    if party::is_first()
        && party::may_be_strangers()
        && let Some(reason) = stranger(&frame)
    {
        count_packet(reason);
        return TCX_NEXT;
    }
    run::<FromPod>(&mut frame)
}

/// Ahead of [`from_pod`] where the agent says so: all that most packets need there, without its frame of 512 bytes
/// (`docs/decisions/0046-*`). The others go on to it.
#[classifier]
pub fn strangers(ctx: TcContext) -> i32 {
    let mut frame = Frame::new(ctx);
    if party::may_be_strangers()
        && let Some(reason) = dispatch::<Strangers>(&mut frame)
    {
        count_packet(reason);
        return TCX_NEXT;
    }
    frame.hand_on(&ONWARD, 0);
    // Nobody translates it, and nobody judges it: it must not pass.
    count_packet(Reason::NotHandedOn);
    TCX_DROP
}

/// Packets that a pod gets. Answers to it are translated where they come in to the node, so there is nothing to do for most
/// packets while there are no policies (`docs/decisions/0035-*`).
#[classifier]
pub fn to_pod(ctx: TcContext) -> i32 {
    let mut frame = Frame::new(ctx);
    if police::epoch() == 0 && was_seen(&frame) {
        count_packet(Reason::Seen);
        return TCX_NEXT;
    }
    run::<ToPod>(&mut frame)
}

/// Packets that arrive at the node.
#[classifier]
pub fn from_wire(ctx: TcContext) -> i32 {
    run::<FromWire>(&mut Frame::new(ctx))
}

/// Packets that leave the node.
#[classifier]
pub fn to_wire(ctx: TcContext) -> i32 {
    run::<ToWire>(&mut Frame::new(ctx))
}

/// Does nothing: what a test run of the others costs beside their work.
#[classifier]
pub fn empty(_ctx: TcContext) -> i32 {
    TCX_NEXT
}

/// Writes the kernel's tick and the time since boot in nanoseconds over the first sixteen bytes of a packet of a
/// test run, so that userspace can read [`proxy_common::Flow::seen`].
#[classifier]
pub fn clock(ctx: TcContext) -> i32 {
    // SAFETY: helpers without arguments.
    let now = unsafe { [bpf_jiffies64(), bpf_ktime_get_boot_ns()] };
    let mut frame = Frame::new(ctx);
    for (index, value) in now.into_iter().enumerate() {
        if let Some(slot) = frame.edit::<u64>(index * 8) {
            *slot = value;
        }
    }
    TCX_NEXT
}

/// Ahead of the others while connections move from the maps of one layout to those of another.
#[classifier]
pub fn ferry(ctx: TcContext) -> i32 {
    dispatch::<Crossing>(&mut Frame::new(ctx));
    TCX_NEXT
}

#[inline(always)]
fn run<P: Place>(frame: &mut Frame) -> i32 {
    let verdict = dispatch::<Packets<P>>(frame);
    count_packet(verdict.reason);
    verdict.action.code()
}

struct FromPod;
struct ToPod;
struct FromWire;
struct ToWire;

impl Place for FromPod {
    const SIDE: Side = Side::Pod;
    const DIRECTION: Direction = Direction::Ingress;
    #[inline(always)]
    fn service() -> Service {
        if constant!(pod_packets) != 0 { Service::Served } else { Service::FlowsOnly }
    }
}

impl Place for ToPod {
    const SIDE: Side = Side::Pod;
    const DIRECTION: Direction = Direction::Egress;
    #[inline(always)]
    fn service() -> Service {
        Service::FlowsOnly
    }
}

impl Place for FromWire {
    const SIDE: Side = Side::Wire;
    const DIRECTION: Direction = Direction::Ingress;
    const TUNNELS: bool = true;
    #[inline(always)]
    fn service() -> Service {
        if constant!(tunnels) != 0 { Service::Gateway } else { Service::Served }
    }
    #[inline(always)]
    fn concerns(frame: &Frame) -> bool {
        frame.is_ours()
    }
}

impl Place for ToWire {
    const SIDE: Side = Side::Wire;
    const DIRECTION: Direction = Direction::Egress;
    #[inline(always)]
    fn service() -> Service {
        if constant!(node_packets) != 0 { Service::Served } else { Service::FlowsOnly }
    }
}
