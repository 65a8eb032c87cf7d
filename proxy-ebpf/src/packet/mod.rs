//! Reads a packet: from bytes to the tuple that the lookups take.

pub mod cursor;
pub mod driver;
pub mod ethernet;
pub mod icmp;
pub mod l4;

use proxy_common::{Address, FlowKey, Reason, decide, tcp::TcpFlags};

use crate::family::Wired;
use crate::scratch::Plain;
use cursor::{Access, Frame};

/// What the headers say. Filled in place: a copy of an IPv6 tuple costs as much as a lookup's hash.
#[derive(Clone, Copy, Default)]
pub struct Packet<A> {
    /// The tuple as it arrived.
    pub key: FlowKey<A>,
    /// Offset of the transport header.
    pub transport: usize,
    /// Empty unless TCP.
    pub tcp: TcpFlags,
}

// SAFETY: addresses and numbers.
unsafe impl<A: Address> Plain for Packet<A> {}

/// Reads the headers of an IP packet into `packet`; `Some` says why it cannot be ours: [`Reason::NoPorts`] for
/// what has none, [`Reason::Malformed`] if the packet ends too early.
#[inline(always)]
pub fn parse<F: Wired>(frame: &mut impl Access, packet: &mut Packet<F::Addr>) -> Option<Reason> {
    match read::<F>(frame, packet) {
        // Headers may lie in fragments, on some devices and after some tunnels.
        Some(Reason::Malformed) if frame.linearise() => read::<F>(frame, packet),
        done => done,
    }
}

/// As [`parse`], of a packet whose headers lie side by side.
#[inline(always)]
pub fn read<F: Wired>(frame: &impl Access, packet: &mut Packet<F::Addr>) -> Option<Reason> {
    if let Some(reason) = F::read(frame, packet) {
        return Some(reason);
    }
    if !decide::has_ports(packet.key.proto) {
        return Some(Reason::NoPorts);
    }
    if l4::read(frame, packet) { None } else { Some(Reason::Malformed) }
}

/// All of the packet is there that its network header announces, and its transport header lies within that. Asked
/// before anything is remembered of a packet, or said about it; hosts drop what is cut short (RFC 1122 section
/// 3.2.1), and nobody asks about the packets of an answered connection.
#[inline(always)]
pub fn is_whole<F: Wired>(frame: &Frame, packet: &Packet<F::Addr>) -> bool {
    let Some(header) = frame.read::<F::Header>(ethernet::LENGTH) else { return false };
    let end = ethernet::LENGTH + size_of::<F::Header>() + F::payload_length(&header);
    F::is_of_version(&header)
        && end <= frame.length()
        && packet.transport + l4::shortest(packet.key.proto) <= end
}
