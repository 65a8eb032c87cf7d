//! ICMP errors, made of the sender's own packet (items 91, 110).

use proxy_common::checksum;

use crate::family::Wired;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::ethernet::{self, Ethernet};
use crate::packet::icmp::IcmpError;
use crate::packet::{Packet, l4};

/// Bytes quoted at most; a packet whose headers are longer is dropped without an answer. Room for the longest
/// IPv4 header, or for IPv6 with short extension headers.
const MAX_QUOTED: usize = 128;

/// Answers with an error of this type and code. `size` is the header's last word.
///
/// `[ Ethernet | IP | transport … ]` becomes `[ Ethernet | IP | ICMP | IP | start of transport ]`.
#[inline(always)]
pub fn rewrite<F: Wired>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    kind: [u8; 2],
    size: u32,
) -> Option<()> {
    let outer = frame.read::<Ethernet>(0)?;
    let (asked, client) = (packet.key.dst, packet.key.src);
    let quoted = packet.transport - ethernet::LENGTH + l4::quoted_length(packet.key.proto);
    if quoted > MAX_QUOTED || outer.destination.is_group() || !F::is_one_host(client) {
        return None;
    }
    let room = size_of::<F::Header>() + size_of::<IcmpError>();
    frame.cut((ethernet::LENGTH + quoted) as u32).ok()?;
    frame.make_room(room as u32).ok()?;

    let length = (size_of::<IcmpError>() + quoted) as u16;
    let mut error = IcmpError { kind, checksum: 0, size };
    let [kind, code] = error.kind;
    let own = checksum::add(F::icmp_sum(asked, client, length), u16::from_ne_bytes([kind, code]) as u32);
    let own = checksum::add(own, size);
    error.checksum = !checksum::fold(checksum::add(own, sum(frame, ethernet::LENGTH + room, quoted)?));

    *frame.edit::<Ethernet>(0)? =
        Ethernet { destination: outer.source, source: outer.destination, protocol: F::ETHERTYPE };
    *frame.edit::<F::Header>(ethernet::LENGTH)? = F::own_header(asked, client, F::ICMP, length);
    *frame.edit::<IcmpError>(ethernet::LENGTH + size_of::<F::Header>())? = error;
    Some(())
}

/// Sum over the quoted bytes, which are whole words: headers are.
#[inline(always)]
fn sum(frame: &Frame, start: usize, length: usize) -> Option<u32> {
    let mut sum = 0;
    for word in 0..MAX_QUOTED / 4 {
        if word * 4 >= length {
            break;
        }
        sum = checksum::add(sum, frame.read::<u32>(start + word * 4)?);
    }
    Some(sum)
}
