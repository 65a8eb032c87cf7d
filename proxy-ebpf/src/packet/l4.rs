//! Transport headers: ports, TCP's flags and where the checksum is.

use proxy_common::{Port, Proto, tcp::TcpFlags};

use super::Packet;
use super::cursor::{Frame, Wire};

/// The ports, at the start of every header that has them.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ports {
    /// Source.
    pub source: Port,
    /// Destination.
    pub destination: Port,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct TcpHeader {
    ports: Ports,
    sequence: u32,
    acknowledgement: u32,
    offset: u8,
    flags: u8,
    window: u16,
    checksum: u16,
    urgent: u16,
}

/// UDP's header, and as much of SCTP's as is needed.
#[derive(Clone, Copy)]
#[repr(C)]
struct ShortHeader {
    ports: Ports,
    rest: u32,
}

// SAFETY: half words only.
unsafe impl Wire for Ports {}
// SAFETY: every field is a plain number at its natural offset, 20 bytes in all.
unsafe impl Wire for TcpHeader {}
// SAFETY: as above, 8 bytes.
unsafe impl Wire for ShortHeader {}

const _: () = assert!(size_of::<TcpHeader>() == 20 && size_of::<ShortHeader>() == 8);

/// Length of the header's fixed part, which an ICMP error quotes.
#[inline(always)]
pub const fn quoted_length(proto: Proto) -> usize {
    match proto {
        // The kernel may still owe the checksum, which then must stay inside of the packet.
        Proto::TCP => size_of::<TcpHeader>(),
        _ => size_of::<ShortHeader>(),
    }
}

/// Where the Internet checksum lies in the header; SCTP has another kind.
#[inline(always)]
pub const fn checksum_offset(proto: Proto) -> Option<usize> {
    match proto {
        Proto::TCP => Some(16),
        Proto::UDP => Some(6),
        _ => None,
    }
}

/// Reads the ports, and the flags of TCP. False: the packet ends before its header.
#[inline(always)]
pub fn read<A>(frame: &Frame, packet: &mut Packet<A>) -> bool {
    let ports = if packet.key.proto == Proto::TCP {
        let Some(tcp) = frame.read::<TcpHeader>(packet.transport) else { return false };
        packet.tcp = TcpFlags(tcp.flags);
        tcp.ports
    } else {
        let Some(header) = frame.read::<ShortHeader>(packet.transport) else { return false };
        header.ports
    };
    packet.key.sport = ports.source;
    packet.key.dport = ports.destination;
    true
}
