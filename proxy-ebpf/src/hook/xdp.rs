//! The hook of uplinks whose driver can send a packet back before the kernel makes anything of it (XDP).

use aya_ebpf::{
    bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_TX},
    macros::xdp,
    programs::XdpContext,
};

use crate::count::{count, count_early};
use crate::early::{Early, Fate};
use crate::family::dispatch;
use crate::packet::driver::DriverFrame;

/// Packets that arrive at the node, in the driver.
#[xdp(frags)]
pub fn early_wire(ctx: XdpContext) -> u32 {
    let (code, reason) = match dispatch::<Early>(&mut DriverFrame::new(ctx)) {
        // Whoever handles it counts it.
        Fate::Passed => return XDP_PASS,
        Fate::Dropped(reason) => (XDP_DROP, reason),
        Fate::Returned(reason) => (XDP_TX, reason),
    };
    count(reason);
    count_early(reason);
    code
}
