//! Tells a client at once that there is nobody (items 50, 52, 90, 91). It does not know why.
//!
//! A TCP client gets a RST, everybody else an ICMP port unreachable. An ICMP error would refuse a TCP client, too,
//! but a client on the same machine is still inside `connect` when the answer arrives: the kernel queues a segment
//! for the busy socket and forgets an ICMP error, so the client would wait a second for its next try.

mod icmp;
mod reset;

use proxy_common::Proto;

use crate::action::Action;
use crate::family::Wired;
use crate::family::related::Unusual;
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::road::Direction;

/// Turns a packet that is refused into the answer and sends it back to where it came from. Only packets that open a
/// connection get here, so nothing that answers an error or a RST is ever sent.
#[inline(always)]
pub fn answer<F: Wired>(frame: &mut Frame, packet: &Packet<F::Addr>, direction: Direction) -> Action {
    let answered = if packet.key.proto == Proto::TCP && reset::applies::<F>(frame, packet) {
        reset::rewrite::<F>(frame, packet)
    } else {
        icmp::rewrite::<F>(frame, packet, F::PORT_UNREACHABLE, 0)
    };
    back(frame, answered, direction)
}

/// Tells the sender of a packet that may not be cut how large it may be (RFC 1191, RFC 8201).
#[inline(always)]
pub fn too_large<F: Unusual>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    mtu: u16,
    direction: Direction,
) -> Action {
    let answered = icmp::rewrite::<F>(frame, packet, F::TOO_LARGE, (mtu as u32).to_be());
    back(frame, answered, direction)
}

/// Tells the sender that nobody is there, whatever it sent.
#[inline(always)]
pub fn unreachable<F: Wired>(frame: &mut Frame, packet: &Packet<F::Addr>, direction: Direction) -> Action {
    let answered = icmp::rewrite::<F>(frame, packet, F::PORT_UNREACHABLE, 0);
    back(frame, answered, direction)
}

/// Sends the answer to where the packet came from.
#[inline(always)]
pub fn back(frame: &Frame, answered: Option<()>, direction: Direction) -> Action {
    match (answered, direction) {
        (Some(()), Direction::Ingress) => Action::out_of(frame.device()),
        (Some(()), Direction::Egress) => Action::into_device(frame.device()),
        (None, _) => Action::DROP,
    }
}
