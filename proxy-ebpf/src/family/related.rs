//! In what the families differ once a packet is no plain part of a connection: ICMP, and fragments.

use proxy_common::{Addr4, Addr6, Proto, V4, V6, checksum, limits};

use super::{Extension, FRAGMENT_OFFSET, Header4, Header6, Wired};
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::ethernet;
use crate::verified;

/// What the families do about packets that are out of the ordinary.
pub trait Unusual: Wired {
    /// Type of an echo request, and of its answer.
    const ECHO: (u8, u8);
    /// Type and code of "fragmentation needed" (RFC 1191 section 4) or "packet too big" (RFC 4443 section 3.2).
    const TOO_LARGE: [u8; 2];

    /// The message reports that a packet did not arrive, and quotes it.
    fn is_error(kind: u8) -> bool;
    /// Neighbours, routers and groups are found by the message: no policy is about it (policy item 31).
    fn is_vital(kind: u8) -> bool;
    /// Reads the network header of a packet that an ICMP error quotes at `at`, as [`Wired::read`] does. `None`: it tells
    /// too little, or the part of the packet that it quotes has no transport header.
    fn quoted(frame: &Frame, at: usize, packet: &mut Packet<Self::Addr>) -> Option<()>;
    /// What an ICMP message's sum changes by with the addresses in it (`inner`), whose own header is summed, and with
    /// those of its packet (`outer`).
    fn icmp_difference(inner: u32, outer: u32) -> u32;
    /// A router may cut the packet into fragments.
    fn may_be_cut(header: &Self::Header) -> bool;
    /// Reads what makes the packet a fragment. Filled in place, so that every register is written on every path.
    fn piece(frame: &Frame, piece: &mut Piece) -> Option<()>;
}

/// One fragment of a datagram.
#[derive(Clone, Copy, Default)]
pub struct Piece {
    /// Which datagram, among those with the same addresses and protocol.
    pub id: u32,
    /// Where it belongs, in units of 8 bytes.
    pub offset: u16,
    /// Protocol of what was cut.
    pub proto: Proto,
    /// Where the piece begins in the packet.
    pub start: usize,
}

impl Unusual for V4 {
    const ECHO: (u8, u8) = (8, 0);
    const TOO_LARGE: [u8; 2] = [3, 4];

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        const UNREACHABLE: u8 = 3;
        const TIME_EXCEEDED: u8 = 11;
        const PARAMETER_PROBLEM: u8 = 12;
        matches!(kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    #[inline(always)]
    fn is_vital(_kind: u8) -> bool {
        // ARP and IGMP are protocols of their own.
        false
    }

    #[inline(always)]
    fn quoted(frame: &Frame, at: usize, packet: &mut Packet<Addr4>) -> Option<()> {
        let header = frame.read::<Header4>(verified::apart(at))?;
        let length = ((header.version_length & 0xf) as usize) << 2;
        if header.version_length >> 4 != 4
            || length < size_of::<Header4>()
            || header.fragment & 0x1fff_u16.to_be() != 0
        {
            return None;
        }
        packet.key.src = header.src;
        packet.key.dst = header.dst;
        packet.key.proto = header.proto;
        packet.transport = at + length;
        Some(())
    }

    #[inline(always)]
    fn icmp_difference(_inner: u32, _outer: u32) -> u32 {
        // A header's checksum makes up for its addresses, and the message's does not cover those of its packet.
        0
    }

    #[inline(always)]
    fn may_be_cut(header: &Header4) -> bool {
        header.fragment & 0x4000_u16.to_be() == 0
    }

    #[inline(always)]
    fn piece(frame: &Frame, piece: &mut Piece) -> Option<()> {
        let header = frame.read::<Header4>(ethernet::LENGTH)?;
        let length = ((header.version_length & 0xf) as usize) << 2;
        *piece = Piece {
            id: header.id as u32,
            offset: u16::from_be(header.fragment) & 0x1fff,
            proto: header.proto,
            start: ethernet::LENGTH + length,
        };
        Some(())
    }
}

impl Unusual for V6 {
    const ECHO: (u8, u8) = (128, 129);
    const TOO_LARGE: [u8; 2] = [2, 0];

    #[inline(always)]
    fn is_error(kind: u8) -> bool {
        const UNREACHABLE: u8 = 1;
        const PARAMETER_PROBLEM: u8 = 4;
        matches!(kind, UNREACHABLE..=PARAMETER_PROBLEM)
    }

    #[inline(always)]
    fn is_vital(kind: u8) -> bool {
        // RFC 2710, RFC 4861, RFC 3810.
        const LISTENER_QUERY: u8 = 130;
        const LISTENER_DONE: u8 = 132;
        const ROUTER_SOLICITATION: u8 = 133;
        const REDIRECT: u8 = 137;
        const LISTENER_REPORT: u8 = 143;
        matches!(kind, LISTENER_QUERY..=LISTENER_DONE | ROUTER_SOLICITATION..=REDIRECT | LISTENER_REPORT)
    }

    #[inline(always)]
    fn quoted(frame: &Frame, at: usize, packet: &mut Packet<Addr6>) -> Option<()> {
        let header = frame.read::<Header6>(verified::apart(at))?;
        if header.version_flow.to_ne_bytes()[0] >> 4 != 6 {
            return None;
        }
        packet.key.src = header.src;
        packet.key.dst = header.dst;
        packet.key.proto = header.next;
        packet.transport = at + size_of::<Header6>();
        match verified::extensions(frame, packet) {
            None => Some(()),
            Some(_) => None,
        }
    }

    #[inline(always)]
    fn icmp_difference(inner: u32, outer: u32) -> u32 {
        checksum::add(inner, outer)
    }

    #[inline(always)]
    fn may_be_cut(_header: &Header6) -> bool {
        false
    }

    #[inline(always)]
    fn piece(frame: &Frame, piece: &mut Piece) -> Option<()> {
        const FRAGMENT: Proto = Proto(44);
        const HOP_BY_HOP: Proto = Proto(0);
        const ROUTING: Proto = Proto(43);
        const DESTINATION: Proto = Proto(60);
        let mut next = frame.read::<Header6>(ethernet::LENGTH)?.next;
        let mut at = ethernet::LENGTH + size_of::<Header6>();
        for _ in 0..limits::EXTENSION_HEADERS {
            let header = frame.read::<Extension>(at)?;
            match next {
                FRAGMENT => {
                    let id = frame.read::<u32>(at + 4)?;
                    let offset = u16::from_be(header.fragment & FRAGMENT_OFFSET) >> 3;
                    *piece = Piece { id, offset, proto: header.next, start: at + 8 };
                    return Some(());
                }
                HOP_BY_HOP | ROUTING | DESTINATION => at += 8 + header.length as usize * 8,
                _ => return None,
            }
            next = header.next;
        }
        None
    }
}
