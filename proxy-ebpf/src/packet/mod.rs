//! Reads a packet: from bytes to the tuple that the lookups take.

pub mod cursor;
pub mod ethernet;
pub mod icmp;
pub mod l4;

use proxy_common::{FlowKey, Proto, Reason, decide, tcp::TcpFlags};

use crate::family::Wired;
use cursor::Frame;

/// What the headers say.
#[derive(Clone, Copy)]
pub struct Packet<A> {
    /// The tuple as it arrived.
    pub key: FlowKey<A>,
    /// Offset of the transport header.
    pub transport: usize,
    /// Empty unless TCP.
    pub tcp: TcpFlags,
}

/// What a network header says.
pub struct Network<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Protocol of what follows.
    pub proto: Proto,
    /// Where it follows.
    pub transport: usize,
}

/// Reads the headers of an IP packet.
///
/// Errors: [`Reason::NoPorts`] for what has none, [`Reason::Malformed`] if the packet ends too early.
#[inline(always)]
pub fn parse<F: Wired>(frame: &mut Frame) -> Result<Packet<F::Addr>, Reason> {
    match read::<F>(frame) {
        // Headers may lie in fragments, on some devices and after some tunnels.
        Err(Reason::Malformed) if frame.linearise() => read::<F>(frame),
        done => done,
    }
}

#[inline(always)]
fn read<F: Wired>(frame: &Frame) -> Result<Packet<F::Addr>, Reason> {
    let network = F::read(frame)?;
    if !decide::has_ports(network.proto) {
        return Err(Reason::NoPorts);
    }
    let (ports, tcp) = l4::read(frame, network.proto, network.transport).ok_or(Reason::Malformed)?;
    let key = FlowKey::new(network.src, ports.source, network.dst, ports.destination, network.proto);
    Ok(Packet { key, transport: network.transport, tcp })
}
