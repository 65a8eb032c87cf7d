//! The transport checksum after a rewrite.
//!
//! At a tc hook the kernel must do it: the packet of a local sender carries only the sum over the pseudo header, and the
//! device adds the rest (`CHECKSUM_PARTIAL`). There the addresses count and the ports do not, so each has a
//! call of its own, with the difference that the flow remembers.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use proxy_common::{Flow, Proto, Reason};

use crate::family::Wired;
use crate::packet::cursor::Access;
use crate::packet::ethernet;
use crate::packet::l4::Ports;
use crate::packet::{Packet, l4};
use crate::verified;

/// Brings the checksum in line with the rewritten addresses and ports.
#[inline(always)]
pub fn transport<F: Wired>(
    frame: &mut impl Access,
    packet: &Packet<F::Addr>,
    flow: &Flow<F::Addr>,
) -> Result<(), Reason> {
    let proto = packet.key.proto;
    let Some(offset) = l4::checksum_offset(proto) else { return sctp::<F>(frame, packet, flow) };
    let offset = packet.transport + offset;
    // A UDP checksum of zero says that there is none (RFC 768); it stays so.
    let zero = if proto == Proto::UDP { BPF_F_MARK_MANGLED_0 as u64 } else { 0 };
    let pseudo = zero | BPF_F_PSEUDO_HDR as u64;
    if let Err(error) = frame.replace_checksum(offset, flow.addr_delta, pseudo | F::CHECKSUM_FLAG) {
        // Kernels before 6.16 do not know the family's flag. They need none unless the device sums whole
        // packets, and then they are wrong about IPv6 with everybody.
        if F::CHECKSUM_FLAG == 0 || error != EINVAL {
            return Err(Reason::RewriteFailed);
        }
        frame.replace_checksum(offset, flow.addr_delta, pseudo).map_err(|_| Reason::RewriteFailed)?;
    }
    if flow.port_delta != 0 {
        frame.replace_checksum(offset, flow.port_delta, zero).map_err(|_| Reason::RewriteFailed)?;
    }
    Ok(())
}

/// SCTP's checksum is a CRC over the packet without addresses (RFC 9260 appendix A). A sender on this machine that leaves
/// it to the device has written zero, and so it stays.
#[inline(always)]
fn sctp<F: Wired>(
    frame: &mut impl Access,
    packet: &Packet<F::Addr>,
    flow: &Flow<F::Addr>,
) -> Result<(), Reason> {
    let proto = packet.key.proto;
    if flow.port_delta == 0 {
        return Ok(());
    }
    let header = frame.read::<F::Header>(ethernet::LENGTH).ok_or(Reason::RewriteFailed)?;
    let end = ethernet::LENGTH + size_of::<F::Header>() + F::payload_length(&header);
    let length = end.wrapping_sub(packet.transport);
    if length < l4::shortest(proto) || length > u16::MAX as usize {
        return Err(Reason::RewriteFailed);
    }
    let field = frame.edit::<u32>(packet.transport + l4::SCTP_CHECKSUM).ok_or(Reason::RewriteFailed)?;
    if *field != 0 {
        let old = Ports { source: packet.key.sport, destination: packet.key.dport };
        let new = Ports { source: flow.sport, destination: flow.dport };
        *field ^= verified::crc_difference(old.word(), new.word(), length as u16);
    }
    Ok(())
}

const EINVAL: i64 = -22;
