//! Puts a packet into a tunnel.

use proxy_common::{Flow, Proto, Reason, Route};

use crate::action::{Action, Verdict};
use crate::family::Hop;
use crate::family::tunnel::Wrapped;
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::ethernet::{self, Ethernet, Mac};
use crate::reject;
use crate::related::headers;
use crate::road::Direction;
use crate::route;

/// `[ Ethernet | IP | … ]` becomes `[ Ethernet | IP to the backend | IP | … ]`; of the packet inside only the hop is
/// counted. What is too long for that is told so, whether or not it may be cut: nobody could put a cut tunnel together.
#[inline(always)]
pub fn wrap<F: Wrapped>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    flow: &Flow<F::Addr>,
    reason: Reason,
) -> Verdict {
    if flow.route != Route::DEVICE && flow.route != Route::NEIGHBOUR {
        return Verdict::of(Reason::NoTunnel);
    }
    let mtu = (flow.mtu as usize).saturating_sub(size_of::<F::Header>());
    if mtu != 0 && frame.length() > mtu + ethernet::LENGTH && !is_cut_to::<F>(frame, packet, mtu) {
        // Nothing answers an error.
        let action = if packet.key.proto == F::ICMP {
            Action::DROP
        } else {
            reject::too_large::<F>(frame, packet, mtu as u16, Direction::Ingress)
        };
        return Verdict::new(Reason::TooLarge, action);
    }
    match rewrite::<F>(frame, packet, flow) {
        Ok(()) => Verdict::new(reason, route::leave(flow.route, flow.ifindex)),
        Err(reason) => Verdict::new(reason, Action::DROP),
    }
}

/// The device cuts the frame into packets that fit.
#[inline(always)]
fn is_cut_to<F: Wrapped>(frame: &Frame, packet: &Packet<F::Addr>, mtu: usize) -> bool {
    let segment = frame.segment() as usize;
    packet.key.proto == Proto::TCP && segment != 0 && headers(frame, packet) + segment <= mtu
}

#[inline(always)]
fn rewrite<F: Wrapped>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    flow: &Flow<F::Addr>,
) -> Result<(), Reason> {
    let more = size_of::<F::Header>();
    let inner = frame.edit::<F::Header>(ethernet::LENGTH).ok_or(Reason::Malformed)?;
    if F::hops(inner) <= 1 {
        return Err(Reason::NoTunnel);
    }
    F::readdress(inner, packet.key.src, packet.key.dst, 0, Hop::Counted);
    // A frame that is yet to be cut may be as long as the field can say: then each packet gets its own length.
    let length = (more + F::payload_length(inner)).min(u16::MAX as usize - more) as u16;
    frame.wrap(more as u32, F::WRAP).map_err(|()| Reason::RewriteFailed)?;
    let outer = frame.edit::<F::Header>(ethernet::LENGTH).ok_or(Reason::RewriteFailed)?;
    *outer = F::outer_header(flow.src, flow.dst, length);
    if flow.route == Route::DEVICE {
        let header = frame.edit::<Ethernet>(0).ok_or(Reason::RewriteFailed)?;
        header.destination = Mac::new(flow.eth_dst);
        header.source = Mac::new(flow.eth_src);
    }
    Ok(())
}
