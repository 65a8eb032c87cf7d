//! Transport headers: ports, TCP's flags and where the checksum is.

use proxy_common::{Port, Proto, checksum, tcp::TcpFlags};

use super::Packet;
use super::cursor::{Access, Wire};

/// The ports, at the start of every header that has them.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Ports {
    /// Source.
    pub source: Port,
    /// Destination.
    pub destination: Port,
}

impl Ports {
    /// Both as they lie in a packet.
    #[inline(always)]
    pub fn word(self) -> u32 {
        let ([a, b], [c, d]) = (self.source.wire().to_ne_bytes(), self.destination.wire().to_ne_bytes());
        u32::from_ne_bytes([a, b, c, d])
    }
}

/// Where the checksum is in SCTP's header (RFC 9260 section 3.1).
pub const SCTP_CHECKSUM: usize = 8;

/// TCP's header without options (RFC 9293 section 3.1); numbers in network order.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct TcpHeader {
    /// Ports.
    pub ports: Ports,
    /// Number of the first byte.
    pub sequence: u32,
    /// Number of the byte that is expected next.
    pub acknowledgement: u32,
    /// Length of the header in words, in the upper four bits.
    pub offset: u8,
    /// See [`TcpFlags`].
    pub flags: u8,
    /// Bytes that may be sent.
    pub window: u16,
    /// Over pseudo header, header and data.
    pub checksum: u16,
    /// Where urgent data ends.
    pub urgent: u16,
}

impl TcpHeader {
    /// Bytes of the header with its options, as it says itself.
    #[inline(always)]
    pub fn length(&self) -> usize {
        ((self.offset >> 4) as usize) << 2
    }

    /// What the sum over the header changes by if `new` takes its place; the checksum itself does not count, nor
    /// do ports that change places.
    #[inline(always)]
    pub fn difference(&self, new: &Self) -> u32 {
        let words = [
            (self.sequence, new.sequence),
            (self.acknowledgement, new.acknowledgement),
            (self.shape(), new.shape()),
            (self.urgent as u32, new.urgent as u32),
        ];
        let mut sum = 0;
        for (old, new) in words {
            sum = checksum::add(sum, checksum::word_difference(old, new));
        }
        sum
    }

    #[inline(always)]
    fn shape(&self) -> u32 {
        let [w0, w1] = self.window.to_ne_bytes();
        u32::from_ne_bytes([self.offset, self.flags, w0, w1])
    }
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

/// Length of the shortest header.
#[inline(always)]
pub const fn shortest(proto: Proto) -> usize {
    match proto {
        Proto::TCP => size_of::<TcpHeader>(),
        Proto::SCTP => 12,
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
pub fn read<A>(frame: &impl Access, packet: &mut Packet<A>) -> bool {
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
