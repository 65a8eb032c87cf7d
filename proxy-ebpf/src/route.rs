//! Where a translated packet goes on: into a local pod, out of an uplink, or through the stack. Asks the
//! kernel's routing table once a second per direction of a flow; knows nothing of Services.

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup},
    helpers::generated::bpf_fib_lookup as lookup_route,
};
use proxy_common::{DeviceKind, Flow, FlowFlags, Proto, Route, decide::Ownership};

use crate::action::Action;
use crate::family::Wired;
use crate::lookup::owner;
use crate::maps::DEVICES;
use crate::packet::cursor::Access;
use crate::road::Direction;

/// Finds the way for the tuple that `flow` translates to and notes it there.
///
/// Only devices that the agent knows are used directly; for everything else (tunnels, addresses of this node, no route
/// at all) the stack decides, which is always right and only slower, with one exception: it takes no packet that comes
/// in with an address of its own as the source, so such packets leave directly by whatever device. A neighbour that is
/// not known yet is not noted: the next packet asks again.
#[inline(never)]
pub fn resolve<F: Wired>(frame: &impl Access, proto: Proto, flow: &mut Flow<F::Addr>, direction: Direction) {
    // SAFETY: a plain struct of numbers; all zero is valid.
    let mut params: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    F::ask_route(&mut params, flow.src, flow.dst);
    params.l4_protocol = proto.0;
    params.sport = flow.sport.wire();
    params.dport = flow.dport.wire();
    params.ifindex = frame.device();
    // Any length that fits: then the kernel writes the way's own into its place, which is the least of the route's, the
    // device's and what ICMP has told.
    params.__bindgen_anon_1.tot_len = 1;
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the context is live, and the size is that of the struct on our stack.
    let answer = unsafe { lookup_route(frame.context(), &raw mut params, size, 0) } as u32;
    flow.mtu = 0;
    let known = match answer {
        BPF_FIB_LKUP_RET_SUCCESS => Neighbour::Known,
        BPF_FIB_LKUP_RET_NO_NEIGH => Neighbour::Unknown,
        _ => return note(flow, Route::STACK),
    };
    // SAFETY: both names of the field are numbers of the same size.
    let mtu = unsafe { params.__bindgen_anon_1.mtu_result };
    // What we asked stands there still, if the kernel looked no further than to the neighbour.
    flow.mtu = if mtu == 1 { 0 } else { mtu };
    // SAFETY: an element without preallocation is freed only after the program is done.
    let kind = match unsafe { DEVICES.get(params.ifindex) } {
        Some(kind) => kind.role(),
        None if owner::ownership::<F>(flow.src) == Ownership::Node => DeviceKind::UPLINK,
        None => return note(flow, Route::STACK),
    };
    flow.ifindex = params.ifindex;
    flow.eth_dst = params.dmac;
    flow.eth_src = params.smac;
    match (known, kind, direction) {
        (Neighbour::Known, DeviceKind::POD, Direction::Ingress) => note(flow, Route::PEER),
        (Neighbour::Known, DeviceKind::POD | DeviceKind::UPLINK | DeviceKind::BRIDGE, _) => {
            note(flow, Route::DEVICE)
        }
        (Neighbour::Unknown, DeviceKind::POD | DeviceKind::UPLINK | DeviceKind::BRIDGE, _) => {
            flow.route = Route::NEIGHBOUR;
            flow.flags = FlowFlags(flow.flags.0 & !FlowFlags::ROUTED.0);
        }
        _ => note(flow, Route::STACK),
    }
}

/// Whether the kernel knows the next hop's Ethernet address.
#[derive(Clone, Copy)]
enum Neighbour {
    Known,
    Unknown,
}

#[inline(always)]
fn note<A>(flow: &mut Flow<A>, route: Route) {
    flow.route = route;
    flow.flags = flow.flags.with(FlowFlags::ROUTED);
}

/// Sends the rewritten packet on its way.
#[inline(always)]
pub fn leave(route: Route, device: u32) -> Action {
    match route {
        Route::PEER => Action::into_peer(device),
        Route::DEVICE => Action::out_of(device),
        Route::NEIGHBOUR => Action::to_neighbour(device),
        _ => Action::CONTINUE,
    }
}
