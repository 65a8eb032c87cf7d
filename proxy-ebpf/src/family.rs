//! Everything in which packets of the two address families differ. Only this file and `maps.rs` name them; all
//! else is written once, over [`Wired`]. It knows headers, nothing of flows or decisions.

pub mod related;
pub mod tunnel;

use core::mem::offset_of;

use aya_ebpf::bindings::{
    bpf_fib_lookup, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 as Tuple4,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 as Tuple6,
};
use proxy_common::{Addr4, Addr6, Port, Proto, Reason, V4, V6, checksum, limits};

use crate::lookup::backend::Considered;
use crate::maps::{Tables, ferry::Ferried, policy::PolicyTables};
use crate::packet::Packet;
use crate::packet::cursor::{Access, Frame, Wire};
use crate::packet::ethernet::{self, Ethernet};
use crate::verified::Verified;

/// An address family on the wire.
pub trait Wired: Tables + PolicyTables + Ferried + Considered {
    /// The fixed network header.
    type Header: Wire;
    /// What `bpf_skc_lookup_tcp` takes.
    type SocketTuple;
    /// The family's number in the Ethernet header, network order.
    const ETHERTYPE: u16;
    /// Type and code of "port unreachable" (RFC 792, RFC 4443 section 3.1).
    const PORT_UNREACHABLE: [u8; 2];
    /// Flag of `bpf_l4_csum_replace` for this family.
    const CHECKSUM_FLAG: u64;

    /// Reads the network header and what may stand between it and the transport header: the addresses, the
    /// transport protocol and where it begins. `Some` says why there is none: [`Reason::Fragment`] for part of a
    /// packet, [`Reason::Malformed`] for a packet that ends before its headers do.
    fn read(frame: &impl Access, packet: &mut Packet<Self::Addr>) -> Option<Reason>;
    /// Routers that the packet may still pass.
    fn hops(header: &Self::Header) -> u8;
    /// Writes addresses; `difference` is what that changes in the sum over them.
    fn readdress(header: &mut Self::Header, src: Self::Addr, dst: Self::Addr, difference: u32, hop: Hop);
    /// Writes family and addresses into the question for a route.
    fn ask_route(params: &mut bpf_fib_lookup, src: Self::Addr, dst: Self::Addr);
    /// What decides which address of the leaving device is the source: IPv4 looks at the next hop
    /// (`inet_select_addr`), IPv6 at the destination (RFC 6724).
    fn source_hint(params: &bpf_fib_lookup, dst: Self::Addr) -> Self::Addr;
    /// The question for a socket that sends from `local` to `remote`.
    fn ask_socket(remote: (Self::Addr, Port), local: (Self::Addr, Port)) -> Self::SocketTuple;
    /// The version field names this family.
    fn is_of_version(header: &Self::Header) -> bool;
    /// Bytes behind the fixed header, as it says itself.
    fn payload_length(header: &Self::Header) -> usize;
    /// The header of a packet of ours, `length` bytes behind the header.
    fn own_header(src: Self::Addr, dst: Self::Addr, proto: Proto, length: u16) -> Self::Header;
    /// What the checksum of an ICMP message covers beside its own bytes, as a sum.
    fn icmp_sum(src: Self::Addr, dst: Self::Addr, length: u16) -> u32;
    /// One host, which may be sent an ICMP error (RFC 1122 section 3.2.2, RFC 4443 section 2.4).
    fn is_one_host(addr: Self::Addr) -> bool;
}

/// Whether a rewrite stands in for a router.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hop {
    /// The stack will route the packet and count it.
    Uncounted,
    /// The packet leaves without the stack.
    Counted,
}

/// What to do with a packet, once for each family.
pub trait Road {
    /// A packet at the kind of hook.
    type Frame: Access;
    /// What becomes of it.
    type Verdict;
    /// The verdict on what is of no family that is served.
    fn foreign(frame: &Self::Frame) -> Self::Verdict;
    /// Handles a packet of family `F`.
    fn travel<F: Verified>(frame: &mut Self::Frame) -> Self::Verdict;
}

/// Hands the packet to its family, if that is served.
#[inline(always)]
pub fn dispatch<R: Road>(frame: &mut R::Frame) -> R::Verdict {
    let Some(header) = frame.read::<Ethernet>(0) else { return R::foreign(frame) };
    if header.protocol == V4::ETHERTYPE && V4::served() {
        return R::travel::<V4>(frame);
    }
    if header.protocol == V6::ETHERTYPE && V6::served() {
        return R::travel::<V6>(frame);
    }
    R::foreign(frame)
}

/// The IPv4 header (RFC 791).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Header4 {
    version_length: u8,
    service: u8,
    length: u16,
    id: u16,
    fragment: u16,
    hops: u8,
    proto: Proto,
    checksum: u16,
    src: Addr4,
    dst: Addr4,
}

/// The IPv6 header (RFC 8200).
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Header6 {
    version_flow: u32,
    length: u16,
    next: Proto,
    hops: u8,
    src: Addr6,
    dst: Addr6,
}

/// The part that extension headers have in common, and the fragment header's offset.
#[derive(Clone, Copy)]
#[repr(C)]
struct Extension {
    next: Proto,
    length: u8,
    fragment: u16,
}

// SAFETY: plain numbers at their natural offsets, 20 bytes without padding.
unsafe impl Wire for Header4 {}
// SAFETY: as above, 40 bytes.
unsafe impl Wire for Header6 {}
// SAFETY: as above, 4 bytes.
unsafe impl Wire for Extension {}

const _: () =
    assert!(size_of::<Header4>() == 20 && size_of::<Header6>() == 40 && size_of::<Extension>() == 4);

/// Offset and "more fragments" in the fragment header.
const FRAGMENT_OFFSET: u16 = 0xfff8_u16.to_be();
const FRAGMENT_MORE: u16 = 1_u16.to_be();
/// Hop limit of packets that we make.
const OWN_HOPS: u8 = 64;
/// Precedence of ICMP errors (RFC 1812 section 4.3.2.5).
const INTERNETWORK_CONTROL: u8 = 0xc0;
/// `AF_INET` and `AF_INET6` in the kernel's headers.
const AF: (u8, u8) = (2, 10);

impl Wired for V4 {
    type Header = Header4;
    type SocketTuple = Tuple4;
    const ETHERTYPE: u16 = 0x0800_u16.to_be();
    const PORT_UNREACHABLE: [u8; 2] = [3, 3];
    const CHECKSUM_FLAG: u64 = 0;

    #[inline(always)]
    fn read(frame: &impl Access, packet: &mut Packet<Addr4>) -> Option<Reason> {
        let Some(header) = frame.read::<Header4>(ethernet::LENGTH) else { return Some(Reason::Malformed) };
        let length = ((header.version_length & 0xf) as usize) << 2;
        if length < size_of::<Header4>() {
            return Some(Reason::Malformed);
        }
        packet.key.src = header.src;
        packet.key.dst = header.dst;
        packet.key.proto = header.proto;
        packet.transport = ethernet::LENGTH + length;
        // An offset, or more to come.
        if header.fragment & 0x3fff_u16.to_be() != 0 {
            return Some(Reason::Fragment);
        }
        None
    }

    #[inline(always)]
    fn hops(header: &Header4) -> u8 {
        header.hops
    }

    #[inline(always)]
    fn readdress(header: &mut Header4, src: Addr4, dst: Addr4, difference: u32, hop: Hop) {
        header.src = src;
        header.dst = dst;
        let difference = match hop {
            Hop::Uncounted => difference,
            Hop::Counted => {
                header.hops = header.hops.wrapping_sub(1);
                // The count is the first byte of its half word: one less there is this much in the sum.
                checksum::add(difference, !u16::from_ne_bytes([1, 0]) as u32)
            }
        };
        header.checksum = checksum::apply(header.checksum, difference);
    }

    #[inline(always)]
    fn ask_route(params: &mut bpf_fib_lookup, src: Addr4, dst: Addr4) {
        params.family = AF.0;
        params.__bindgen_anon_3.ipv4_src = src.word();
        params.__bindgen_anon_4.ipv4_dst = dst.word();
    }

    #[inline(always)]
    fn source_hint(params: &bpf_fib_lookup, dst: Addr4) -> Addr4 {
        // The helper has put the gateway in the destination's place; its family is another where an IPv4 route leads
        // to an IPv6 router (RFC 8950).
        if params.family != AF.0 {
            return dst;
        }
        // SAFETY: both fields of the union are plain words, and the family says which one was written.
        Addr4::from_word(unsafe { params.__bindgen_anon_4.ipv4_dst })
    }

    #[inline(always)]
    fn ask_socket(remote: (Addr4, Port), local: (Addr4, Port)) -> Tuple4 {
        let (saddr, sport) = (remote.0.word(), remote.1.wire());
        Tuple4 { saddr, daddr: local.0.word(), sport, dport: local.1.wire() }
    }

    #[inline(always)]
    fn is_of_version(header: &Header4) -> bool {
        header.version_length >> 4 == 4
    }

    #[inline(always)]
    fn payload_length(header: &Header4) -> usize {
        (u16::from_be(header.length) as usize).saturating_sub(size_of::<Header4>())
    }

    #[inline(always)]
    fn own_header(src: Addr4, dst: Addr4, proto: Proto, length: u16) -> Header4 {
        let mut header = Header4 {
            version_length: 0x45,
            service: if proto == Proto::ICMP { INTERNETWORK_CONTROL } else { 0 },
            length: (size_of::<Header4>() as u16 + length).to_be(),
            id: 0,
            fragment: 0,
            hops: OWN_HOPS,
            proto,
            checksum: 0,
            src,
            dst,
        };
        let words = [
            u32::from_ne_bytes([header.version_length, header.service, 0, 0]),
            header.length as u32,
            u32::from_ne_bytes([header.hops, header.proto.0, 0, 0]),
            src.word(),
            dst.word(),
        ];
        header.checksum = !checksum::fold(sum(&words));
        header
    }

    #[inline(always)]
    fn icmp_sum(_src: Addr4, _dst: Addr4, _length: u16) -> u32 {
        0
    }

    #[inline(always)]
    fn is_one_host(addr: Addr4) -> bool {
        let first = addr.word().to_ne_bytes()[0];
        first != 0 && first != 127 && first < 224
    }
}

impl Wired for V6 {
    type Header = Header6;
    type SocketTuple = Tuple6;
    const ETHERTYPE: u16 = 0x86dd_u16.to_be();
    const PORT_UNREACHABLE: [u8; 2] = [1, 4];
    /// `BPF_F_IPV6`: no header checksum makes up for the addresses' change.
    const CHECKSUM_FLAG: u64 = 1 << 7;

    #[inline(always)]
    fn read(frame: &impl Access, packet: &mut Packet<Addr6>) -> Option<Reason> {
        let Some(header) = frame.read::<Header6>(ethernet::LENGTH) else { return Some(Reason::Malformed) };
        let [src, dst] = [offset_of!(Header6, src), offset_of!(Header6, dst)].map(|at| ethernet::LENGTH + at);
        let (Some(src), Some(dst)) = (frame.read_words(src), frame.read_words(dst)) else {
            return Some(Reason::Malformed);
        };
        packet.key.src = Addr6::from_words(src);
        packet.key.dst = Addr6::from_words(dst);
        packet.key.proto = header.next;
        packet.transport = ethernet::LENGTH + size_of::<Header6>();
        // The common packet pays these comparisons, and no more.
        if header.next == Proto::TCP || header.next == Proto::UDP {
            return None;
        }
        frame.skip_extensions(packet)
    }

    #[inline(always)]
    fn hops(header: &Header6) -> u8 {
        header.hops
    }

    #[inline(always)]
    fn readdress(header: &mut Header6, src: Addr6, dst: Addr6, _difference: u32, hop: Hop) {
        header.src = src;
        header.dst = dst;
        if hop == Hop::Counted {
            header.hops = header.hops.wrapping_sub(1);
        }
    }

    #[inline(always)]
    fn ask_route(params: &mut bpf_fib_lookup, src: Addr6, dst: Addr6) {
        params.family = AF.1;
        params.__bindgen_anon_3.ipv6_src = src.words();
        params.__bindgen_anon_4.ipv6_dst = dst.words();
    }

    #[inline(always)]
    fn source_hint(_params: &bpf_fib_lookup, dst: Addr6) -> Addr6 {
        dst
    }

    #[inline(always)]
    fn ask_socket(remote: (Addr6, Port), local: (Addr6, Port)) -> Tuple6 {
        let (saddr, sport) = (remote.0.words(), remote.1.wire());
        Tuple6 { saddr, daddr: local.0.words(), sport, dport: local.1.wire() }
    }

    #[inline(always)]
    fn is_of_version(header: &Header6) -> bool {
        u32::from_be(header.version_flow) >> 28 == 6
    }

    #[inline(always)]
    fn payload_length(header: &Header6) -> usize {
        u16::from_be(header.length) as usize
    }

    #[inline(always)]
    fn own_header(src: Addr6, dst: Addr6, proto: Proto, length: u16) -> Header6 {
        let version_flow = u32::from_ne_bytes([0x60, 0, 0, 0]);
        Header6 { version_flow, length: length.to_be(), next: proto, hops: OWN_HOPS, src, dst }
    }

    #[inline(always)]
    fn icmp_sum(src: Addr6, dst: Addr6, length: u16) -> u32 {
        let trailer = [(length as u32).to_be(), (Proto::ICMP6.0 as u32).to_be()];
        checksum::add(checksum::add(sum(&src.words()), sum(&dst.words())), sum(&trailer))
    }

    #[inline(always)]
    fn is_one_host(addr: Addr6) -> bool {
        let first = addr.words()[0].to_ne_bytes()[0];
        first != 0xff && addr != Addr6::default()
    }
}

#[inline(always)]
fn sum<const N: usize>(words: &[u32; N]) -> u32 {
    let mut sum = 0;
    for word in words {
        sum = checksum::add(sum, *word);
    }
    sum
}

/// Walks to the transport header (RFC 8200 section 4): its protocol and offset.
#[inline(always)]
pub fn skip_extensions(frame: &Frame, first: Proto, start: usize) -> Result<(Proto, usize), Reason> {
    const HOP_BY_HOP: Proto = Proto(0);
    const ROUTING: Proto = Proto(43);
    const FRAGMENT: Proto = Proto(44);
    const AUTHENTICATION: Proto = Proto(51);
    const DESTINATION: Proto = Proto(60);
    let (mut proto, mut at) = (first, start);
    for _ in 0..limits::EXTENSION_HEADERS {
        let unit = match proto {
            HOP_BY_HOP | ROUTING | DESTINATION => 8,
            FRAGMENT => 0,
            AUTHENTICATION => 4,
            _ => return Ok((proto, at)),
        };
        let header = frame.read::<Extension>(at).ok_or(Reason::Malformed)?;
        // A fragment header may also stand before a whole packet (RFC 6946).
        if unit == 0 && header.fragment & (FRAGMENT_OFFSET | FRAGMENT_MORE) != 0 {
            return Err(Reason::Fragment);
        }
        at += 8 + header.length as usize * if unit == 0 { 0 } else { unit };
        proto = header.next;
    }
    match proto {
        HOP_BY_HOP | ROUTING | DESTINATION | FRAGMENT | AUTHENTICATION => Err(Reason::Malformed),
        _ => Ok((proto, at)),
    }
}
