//! In what tunnels of the two families differ. Each family is carried in itself: IPv4 in IPv4 (RFC 2003), IPv6 in IPv6
//! (RFC 2473).

use proxy_common::{Addr4, Addr6, Proto, V4, V6, checksum};

use super::{Header4, Header6, Wired, related::Unusual};

/// A family whose packets are sent in tunnels.
pub trait Wrapped: Unusual {
    /// Protocol of a packet of this family inside of another.
    const INSIDE: Proto;
    /// Flag of `bpf_skb_adjust_room` for an outer header of this family.
    const WRAP: u64;

    /// The outer header in front of `length` bytes, which no router may cut.
    fn outer_header(src: Self::Addr, dst: Self::Addr, length: u16) -> Self::Header;
}

impl Wrapped for V4 {
    const INSIDE: Proto = Proto(4);
    /// `BPF_F_ADJ_ROOM_ENCAP_L3_IPV4`.
    const WRAP: u64 = 1 << 1;

    #[inline(always)]
    fn outer_header(src: Addr4, dst: Addr4, length: u16) -> Header4 {
        const DO_NOT_FRAGMENT: u16 = 0x4000_u16.to_be();
        let mut header = Self::own_header(src, dst, Self::INSIDE, length);
        header.fragment = DO_NOT_FRAGMENT;
        header.checksum = checksum::apply(header.checksum, DO_NOT_FRAGMENT as u32);
        header
    }
}

impl Wrapped for V6 {
    const INSIDE: Proto = Proto(41);
    /// `BPF_F_ADJ_ROOM_ENCAP_L3_IPV6`.
    const WRAP: u64 = 1 << 2;

    #[inline(always)]
    fn outer_header(src: Addr6, dst: Addr6, length: u16) -> Header6 {
        Self::own_header(src, dst, Self::INSIDE, length)
    }
}
