//! Fragments: what later ones must know of the first, which alone has the ports.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Addr4, Addr6, Port, Proto};

/// Key of the `fragments` maps: a datagram as its fragments name it at a hook (RFC 791, RFC 8200 section 4.5).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FragmentKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Identification; 16 bits in IPv4.
    pub id: u32,
    /// Protocol.
    pub proto: Proto,
    /// Zero; in the `held` maps the number of the fragment in the order in which they came.
    pub number: u8,
    /// Always zero.
    pub pad: [u8; 2],
}

/// Value of the `fragments` maps: the ports of the datagram, for as long as its name is not used for another.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct FragmentPorts {
    /// Source port.
    pub sport: Port,
    /// Destination port.
    pub dport: Port,
    /// Low 32 bits of the kernel's jiffies when the first fragment came.
    pub seen: u32,
}

impl FragmentPorts {
    /// It is so old that its name may be another datagram's by now: 2048 ticks are 8 s at 250 ticks a second, 2 s at
    /// 1000. Senders count in 16 bits, and fragments follow each other at once.
    #[inline(always)]
    pub const fn is_stale(&self, now: u32) -> bool {
        now.wrapping_sub(self.seen) >> 11 != 0
    }
}

/// Bytes of a frame that can be held.
pub const HELD: usize = 2044;

/// Value of the `held` maps: a frame that came before its datagram's first fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct HeldFrame {
    /// Bytes in use.
    pub length: u32,
    /// The frame from its Ethernet header on.
    pub bytes: [u8; HELD],
}

const _: () = assert!(size_of::<FragmentKey<Addr4>>() == 16);
const _: () = assert!(size_of::<FragmentKey<Addr6>>() == 40);
const _: () = assert!(size_of::<HeldFrame>() == 2048);
