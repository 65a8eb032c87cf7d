//! Socket road: what a translated socket must remember to show the address it asked for.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Addr4, Addr6, Port};
use crate::frontend::ServiceId;

/// Key of the `socketpeers` maps: a socket and one of the addresses it talks to. The same map serves both
/// directions of unconnected UDP: frontend → backend when sending, backend → frontend when receiving.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct SocketPeerKey<A> {
    /// `bpf_get_socket_cookie`, split so that the key has no padding in either family.
    pub cookie: [u32; 2],
    /// The address looked up.
    pub addr: A,
    /// Its port.
    pub port: Port,
    /// See [`PeerDirection`].
    pub direction: PeerDirection,
}

word! {
    /// Which way a [`SocketPeerKey`] is read.
    #[derive(Debug)]
    pub struct PeerDirection(pub u16);
}

impl PeerDirection {
    /// Key holds the frontend, value the backend.
    pub const SEND: Self = Self(0);
    /// Key holds the backend, value the frontend.
    pub const RECEIVE: Self = Self(1);
    /// The socket is connected: key holds the backend, value the frontend. Read by the agent alone, which has to find
    /// the sockets of a backend that is gone and cannot look into a socket's own storage.
    pub const CONNECTED: Self = Self(2);
}

impl<A> SocketPeerKey<A> {
    /// A key.
    #[inline(always)]
    pub const fn new(cookie: u64, addr: A, port: Port, direction: PeerDirection) -> Self {
        Self { cookie: [cookie as u32, (cookie >> 32) as u32], addr, port, direction }
    }
}

/// Value of the `socketpeers` maps, and of the storage that a connected socket carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SocketPeer<A> {
    /// The address that replaces the one looked up.
    pub addr: A,
    /// Its port.
    pub port: Port,
    /// Always zero.
    pub pad: [u8; 2],
    /// Whose translation it is.
    pub service: ServiceId,
    /// Generation of the frontend that chose the backend.
    pub generation: u32,
}

/// Storage of a connected socket: the frontend it asked for and the backend it got. Both families, because
/// one socket option can turn an IPv6 socket into one that talks IPv4; padded with zero words.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ConnectedPeer {
    /// The address that the application asked for.
    pub frontend: [u32; 4],
    /// The address that the kernel connected to.
    pub backend: [u32; 4],
    /// Port asked for.
    pub frontend_port: Port,
    /// Port connected to.
    pub backend_port: Port,
    /// Whose connection it is; [`ServiceId::NONE`] once the socket has moved on to an address of nobody.
    pub service: ServiceId,
    /// Nonzero: the connection counts in the `loads` map, of this Service and backend, until it is over.
    pub counted: u32,
}

/// Value of the `streams` map: the same of a TCP socket. A cache line of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stream {
    /// `bpf_get_socket_cookie` of the socket whose place this is; zero: nobody's.
    pub cookie: u64,
    /// What it is connected to.
    pub peer: ConnectedPeer,
    /// Always zero.
    pub pad: [u32; 3],
}

const _: () = assert!(size_of::<Stream>() == 64);
const _: () = assert!(size_of::<SocketPeerKey<Addr4>>() == 16);
const _: () = assert!(size_of::<SocketPeerKey<Addr6>>() == 28);
const _: () = assert!(size_of::<SocketPeer<Addr4>>() == 16);
const _: () = assert!(size_of::<SocketPeer<Addr6>>() == 28);
const _: () = assert!(size_of::<ConnectedPeer>() == 44);
