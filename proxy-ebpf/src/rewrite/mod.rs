//! Writes a flow's translation into a packet. It knows headers and the flow's entry, not how it came about.

pub mod checksum;

use proxy_common::{Flow, Reason, Route};

use crate::family::{Hop, Wired};
use crate::packet::Packet;
use crate::packet::cursor::Access;
use crate::packet::ethernet::{self, Ethernet, Mac};
use crate::packet::l4::Ports;

/// Translates the packet, and addresses its Ethernet header if it leaves by `route` without the stack.
///
/// Direct writes for addresses, ports and the IPv4 header checksum, which cost next to nothing; the
/// transport checksum through the kernel, which knows whether one is owed.
#[inline(always)]
pub fn translate<F: Wired>(
    frame: &mut impl Access,
    packet: &Packet<F::Addr>,
    flow: &Flow<F::Addr>,
    route: Route,
) -> Result<(), Reason> {
    let ports = frame.edit::<Ports>(packet.transport).ok_or(Reason::RewriteFailed)?;
    *ports = Ports { source: flow.sport, destination: flow.dport };
    let hop = if route == Route::STACK { Hop::Uncounted } else { Hop::Counted };
    let header = frame.edit::<F::Header>(ethernet::LENGTH).ok_or(Reason::RewriteFailed)?;
    F::readdress(header, flow.src, flow.dst, flow.addr_delta, hop);
    if route == Route::PEER || route == Route::DEVICE {
        let header = frame.edit::<Ethernet>(0).ok_or(Reason::RewriteFailed)?;
        header.destination = Mac::new(flow.eth_dst);
        header.source = Mac::new(flow.eth_src);
    }
    checksum::transport::<F>(frame, packet, flow)
}
