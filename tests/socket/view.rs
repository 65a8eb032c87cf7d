//! The three ways in which an application names an address: IPv4, IPv6, and IPv4 by an IPv6 socket.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// One of the three.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum View {
    V4,
    V6,
    Mapped,
}

impl View {
    pub(crate) const ALL: [Self; 3] = [Self::V4, Self::V6, Self::Mapped];

    /// The n-th frontend address, as it lies in the maps.
    pub(crate) fn frontend(self, n: u8, port: u16) -> SocketAddr {
        let ip = match self {
            Self::V4 | Self::Mapped => IpAddr::V4(Ipv4Addr::new(10, 96, 0, n)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0x96, 0, 0, 0, 0, 0, n.into())),
        };
        SocketAddr::new(ip, port)
    }

    /// The n-th address of this namespace, with a port that the kernel chooses.
    pub(crate) fn backend(self, n: u8) -> SocketAddr {
        let ip = match self {
            Self::V4 | Self::Mapped => IpAddr::V4(Ipv4Addr::new(127, 0, 0, n)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, n.into())),
        };
        SocketAddr::new(ip, 0)
    }

    /// As the application names it.
    pub(crate) fn named(self, addr: SocketAddr) -> SocketAddr {
        match (self, addr.ip()) {
            (Self::Mapped, IpAddr::V4(ip)) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
            (Self::V4 | Self::V6 | Self::Mapped, _) => addr,
        }
    }

    /// Where a client's socket is bound.
    pub(crate) fn any(self) -> SocketAddr {
        let ip = match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 | Self::Mapped => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        SocketAddr::new(ip, 0)
    }
}
