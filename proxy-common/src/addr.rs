//! Addresses, ports and protocol numbers as they stand in a packet, and the two address families.
//!
//! Addresses and ports are kept in network order inside native words: the kernel programs copy and hash
//! them word by word, and nothing here ever computes with them. `V4` and `V6` are named in family files only.

use core::fmt;
use core::hash::Hash;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// An IPv4 address, four bytes in network order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Addr4(u32);

/// An IPv6 address, sixteen bytes in network order.
#[expect(clippy::derived_hash_with_manual_eq, reason = "the comparison by hand compares the same four words")]
#[derive(Clone, Copy, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Addr6([u32; 4]);

impl Addr4 {
    /// From the word as it lies in memory (`iphdr.daddr`, `bpf_sock_addr.user_ip4`).
    #[inline(always)]
    pub const fn from_word(word: u32) -> Self {
        Self(word)
    }

    /// The word as it lies in memory.
    #[inline(always)]
    pub const fn word(self) -> u32 {
        self.0
    }
}

impl Addr6 {
    /// From the words as they lie in memory (`ipv6hdr.daddr`, `bpf_sock_addr.user_ip6`).
    #[inline(always)]
    pub const fn from_words(words: [u32; 4]) -> Self {
        Self(words)
    }

    /// The words as they lie in memory.
    #[inline(always)]
    pub const fn words(self) -> [u32; 4] {
        self.0
    }

    /// The IPv4 address of a v4-mapped one (`::ffff:a.b.c.d`, RFC 4291 section 2.5.5.2).
    #[inline(always)]
    pub const fn mapped(self) -> Option<Addr4> {
        if self.0[0] | self.0[1] == 0 && self.0[2] == 0xffff_u32.to_be() {
            Some(Addr4(self.0[3]))
        } else {
            None
        }
    }
}

// By hand: the derived comparison of an array is a memcmp call in the kernel programs.
impl PartialEq for Addr6 {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let (a, b) = (&self.0, &other.0);
        (a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]) == 0
    }
}

/// What both address types can do.
pub trait Address:
    Copy + Eq + Ord + Hash + Default + fmt::Debug + FromBytes + IntoBytes + Immutable + KnownLayout + 'static
{
    /// Number of 32-bit words.
    const WORDS: usize;
    /// The address if it is of this family; a v4-mapped IPv6 address is IPv6 here.
    fn from_ip(ip: IpAddr) -> Option<Self>;
    /// The same address for people.
    fn to_ip(self) -> IpAddr;
    /// Padded with zero words to the widest family, network order.
    fn to_words(self) -> [u32; 4];
    /// Inverse of [`Address::to_words`].
    fn from_padded(words: [u32; 4]) -> Self;
    /// Bitwise and; for prefixes.
    fn and(self, mask: Self) -> Self;
    /// The mask of a prefix `len` bits long; longer than the address counts as the whole address.
    fn prefix_mask(len: u8) -> Self;
    /// It never leaves its host: 127.0.0.0/8, `::1`.
    fn is_loopback(self) -> bool;
}

const fn word_mask(len: u32) -> u32 {
    let len = if len > 32 { 32 } else { len };
    if len == 0 { 0 } else { (u32::MAX << (32 - len)).to_be() }
}

impl Address for Addr4 {
    const WORDS: usize = 1;

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(v4) => Some(v4.into()),
            IpAddr::V6(_) => None,
        }
    }

    fn to_ip(self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.0.to_ne_bytes()))
    }

    #[inline(always)]
    fn to_words(self) -> [u32; 4] {
        [self.0, 0, 0, 0]
    }

    #[inline(always)]
    fn from_padded(words: [u32; 4]) -> Self {
        Self(words[0])
    }

    #[inline(always)]
    fn and(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }

    fn prefix_mask(len: u8) -> Self {
        Self(word_mask(len as u32))
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self.0 & 0xff00_0000_u32.to_be() == 0x7f00_0000_u32.to_be()
    }
}

impl Address for Addr6 {
    const WORDS: usize = 4;

    fn from_ip(ip: IpAddr) -> Option<Self> {
        match ip {
            IpAddr::V4(_) => None,
            IpAddr::V6(v6) => Some(v6.into()),
        }
    }

    fn to_ip(self) -> IpAddr {
        let [a, b, c, d] = self.0;
        IpAddr::V6(Ipv6Addr::from_bits(
            (u32::from_be(a) as u128) << 96
                | (u32::from_be(b) as u128) << 64
                | (u32::from_be(c) as u128) << 32
                | u32::from_be(d) as u128,
        ))
    }

    #[inline(always)]
    fn to_words(self) -> [u32; 4] {
        self.0
    }

    #[inline(always)]
    fn from_padded(words: [u32; 4]) -> Self {
        Self(words)
    }

    #[inline(always)]
    fn and(self, mask: Self) -> Self {
        let (a, m) = (self.0, mask.0);
        Self([a[0] & m[0], a[1] & m[1], a[2] & m[2], a[3] & m[3]])
    }

    fn prefix_mask(len: u8) -> Self {
        let len = len as u32;
        Self([
            word_mask(len),
            word_mask(len.saturating_sub(32)),
            word_mask(len.saturating_sub(64)),
            word_mask(len.saturating_sub(96)),
        ])
    }

    #[inline(always)]
    fn is_loopback(self) -> bool {
        self == Self([0, 0, 0, 1_u32.to_be()])
    }
}

impl From<Ipv4Addr> for Addr4 {
    fn from(ip: Ipv4Addr) -> Self {
        Self(u32::from_ne_bytes(ip.octets()))
    }
}

impl From<Ipv6Addr> for Addr6 {
    fn from(ip: Ipv6Addr) -> Self {
        let bits = ip.to_bits();
        Self([
            ((bits >> 96) as u32).to_be(),
            ((bits >> 64) as u32).to_be(),
            ((bits >> 32) as u32).to_be(),
            (bits as u32).to_be(),
        ])
    }
}

macro_rules! address_order {
    ($($addr:ty),*) => {$(
        /// Numeric order of the address, the order in which people list addresses.
        impl Ord for $addr {
            fn cmp(&self, other: &Self) -> core::cmp::Ordering {
                self.to_ip().cmp(&other.to_ip())
            }
        }
        impl PartialOrd for $addr {
            fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
                Some(self.cmp(other))
            }
        }
        impl fmt::Debug for $addr {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.to_ip(), f)
            }
        }
        impl fmt::Display for $addr {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.to_ip(), f)
            }
        }
    )*};
}
address_order!(Addr4, Addr6);

/// A transport port in network order. There is no `u16` port in a map or in the planner.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Port(u16);

impl Port {
    /// No port: the wildcard of a [`crate::FrontendKey`].
    pub const NONE: Self = Self(0);

    /// From the number people write.
    #[inline(always)]
    pub const fn new(number: u16) -> Self {
        Self(number.to_be())
    }

    /// The number people write.
    #[inline(always)]
    pub const fn number(self) -> u16 {
        u16::from_be(self.0)
    }

    /// From the half word as it lies in a packet.
    #[inline(always)]
    pub const fn from_wire(half: u16) -> Self {
        Self(half)
    }

    /// The half word as it lies in a packet.
    #[inline(always)]
    pub const fn wire(self) -> u16 {
        self.0
    }
}

impl Ord for Port {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        self.number().cmp(&other.number())
    }
}

impl PartialOrd for Port {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.number(), f)
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.number(), f)
    }
}

word! {
    /// An IP protocol number. A newtype and not an enum: a pinned map may hold a byte we never wrote.
    pub struct Proto(pub u8);
}

impl Proto {
    /// Any protocol: the wildcard of a [`crate::FrontendKey`].
    pub const ANY: Self = Self(0);
    /// ICMP for IPv4.
    pub const ICMP: Self = Self(1);
    /// TCP.
    pub const TCP: Self = Self(6);
    /// UDP.
    pub const UDP: Self = Self(17);
    /// ICMP for IPv6.
    pub const ICMP6: Self = Self(58);
    /// SCTP.
    pub const SCTP: Self = Self(132);

    /// The name that Kubernetes uses, or `None` for a number it has no name for.
    pub const fn name(self) -> Option<&'static str> {
        match self {
            Self::ANY => Some("ANY"),
            Self::TCP => Some("TCP"),
            Self::UDP => Some("UDP"),
            Self::SCTP => Some("SCTP"),
            Self::ICMP => Some("ICMP"),
            Self::ICMP6 => Some("ICMPv6"),
            Self(_) => None,
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "{}", self.0),
        }
    }
}

impl fmt::Debug for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address family as a type; everything in which the two differ hangs on this trait, here and in the
/// extension traits of the kernel programs and the map engine.
pub trait Family: Copy + Eq + Ord + fmt::Debug + 'static {
    /// The family's address.
    type Addr: Address;
    /// `"ipv4"` or `"ipv6"`.
    const NAME: &'static str;
    /// The family's ICMP.
    const ICMP: Proto;
}

/// IPv4.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum V4 {}

/// IPv6.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum V6 {}

impl Family for V4 {
    type Addr = Addr4;
    const NAME: &'static str = "ipv4";
    const ICMP: Proto = Proto::ICMP;
}

impl Family for V6 {
    type Addr = Addr6;
    const NAME: &'static str = "ipv6";
    const ICMP: Proto = Proto::ICMP6;
}

#[cfg(test)]
mod tests;
