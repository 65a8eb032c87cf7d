//! A RST for a SYN, made of the SYN itself (RFC 9293 section 3.10.7.1).

use aya_ebpf::bindings::BPF_F_PSEUDO_HDR;
use proxy_common::{Proto, checksum, tcp::TcpFlags};

use crate::family::Wired;
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::ethernet::{self, Ethernet};
use crate::packet::l4::{self, Ports, TcpHeader};

/// Longest TCP options, in words (RFC 9293 section 3.1).
const MAX_OPTIONS: usize = 10;
const HEADER: usize = size_of::<TcpHeader>();

/// A bare SYN without IP options, extension headers or data: what every stack sends. The rest is told by ICMP.
#[inline(always)]
pub fn applies<F: Wired>(frame: &Frame, packet: &Packet<F::Addr>) -> bool {
    let (Some(ip), Some(tcp)) =
        (frame.read::<F::Header>(ethernet::LENGTH), frame.read::<TcpHeader>(packet.transport))
    else {
        return false;
    };
    packet.transport == ethernet::LENGTH + size_of::<F::Header>()
        && F::payload_length(&ip) == tcp.length()
        && tcp.length() >= HEADER
        && F::is_one_host(packet.key.src)
}

/// `[ Ethernet | IP | TCP | options ]` becomes `[ Ethernet | IP | TCP ]`, addresses and ports swapped.
#[inline(always)]
pub fn rewrite<F: Wired>(frame: &mut Frame, packet: &Packet<F::Addr>) -> Option<()> {
    let outer = frame.read::<Ethernet>(0)?;
    if outer.destination.is_group() {
        return None;
    }
    let at = ethernet::LENGTH + size_of::<F::Header>();
    let syn = frame.read::<TcpHeader>(at)?;
    let rst = TcpHeader {
        ports: Ports { source: syn.ports.destination, destination: syn.ports.source },
        sequence: 0,
        acknowledgement: u32::from_be(syn.sequence).wrapping_add(1).to_be(),
        offset: ((HEADER / 4) << 4) as u8,
        flags: TcpFlags::RST | TcpFlags::ACK,
        window: 0,
        checksum: syn.checksum,
        urgent: 0,
    };
    let content = checksum::add(options_gone(frame, at, syn.length())?, syn.difference(&rst));
    let length = checksum::add(!(syn.length() as u16).to_be() as u32, (HEADER as u16).to_be() as u32);

    frame.cut((at + HEADER) as u32).ok()?;
    *frame.edit::<Ethernet>(0)? =
        Ethernet { destination: outer.source, source: outer.destination, protocol: F::ETHERTYPE };
    *frame.edit::<F::Header>(ethernet::LENGTH)? =
        F::own_header(packet.key.dst, packet.key.src, Proto::TCP, HEADER as u16);
    *frame.edit::<TcpHeader>(at)? = rst;
    // Swapped addresses and ports leave the sum as it is. If the kernel still owes the sum over the segment, the
    // field holds the pseudo header's alone, of which only the length has changed; the helper knows.
    let sum = at + l4::checksum_offset(Proto::TCP)?;
    frame.replace_checksum(sum, length, BPF_F_PSEUDO_HDR as u64).ok()?;
    frame.replace_checksum(sum, content, 0).ok()
}

/// What the sum loses with the options.
#[inline(always)]
fn options_gone(frame: &Frame, at: usize, length: usize) -> Option<u32> {
    let mut difference = 0;
    for word in 0..MAX_OPTIONS {
        let offset = HEADER + word * 4;
        if offset >= length {
            break;
        }
        difference = checksum::add(difference, checksum::word_difference(frame.read::<u32>(at + offset)?, 0));
    }
    Some(difference)
}
