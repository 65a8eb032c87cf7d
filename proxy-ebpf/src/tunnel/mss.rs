//! Asks a client for segments that fit into a tunnel: the backend's node lowers the largest size that a SYN-ACK offers
//! (RFC 9293 section 3.7.1). A client that sends longer packets all the same is told by ICMP.

use proxy_common::checksum;

use crate::family::Wired;
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::l4::{TcpHeader, checksum_offset};

/// Kind and length of the option.
const SIZE: [u8; 2] = [2, 4];

/// Lowers the offer of a SYN by the length of the outer header. Only the first option is looked at, which it is in every
/// stack in use: another place is left to ICMP.
#[inline(always)]
pub fn shorten<F: Wired>(frame: &mut Frame, packet: &Packet<F::Addr>) {
    let at = packet.transport + size_of::<TcpHeader>();
    let (Some(tcp), Some(option)) = (frame.read::<TcpHeader>(packet.transport), frame.read::<[u8; 2]>(at))
    else {
        return;
    };
    let Some(sum) = checksum_offset(packet.key.proto) else { return };
    if option != SIZE || tcp.length() < size_of::<TcpHeader>() + 4 {
        return;
    }
    let Some(offer) = frame.edit::<u16>(at + 2) else { return };
    let old = *offer;
    let new = u16::from_be(old).saturating_sub(size_of::<F::Header>() as u16).to_be();
    *offer = new;
    let difference = checksum::add((!old) as u32, new as u32);
    // Refused only for what is no packet.
    let _ = frame.replace_checksum(packet.transport + sum, difference, 0);
}
