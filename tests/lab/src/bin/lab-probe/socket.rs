//! Opens the sockets of clients and servers. Knows the socket options that the lab relies on, and no protocol.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU32, Ordering};

use sluice_lab::wire::{Listen, Probe, Protocol, UdpStyle};
use socket2::{Domain, SockAddr, Socket, Type};

const SCTP: i32 = 132;
/// Local ports of UDP probes: above the node ports (30000-32767), below the kernel's last.
const UDP_PORTS: std::ops::Range<u32> = 33_000..61_000;

/// A client socket, not yet connected, that never blocks.
pub(crate) fn client(probe: &Probe) -> io::Result<Socket> {
    let domain = Domain::for_address(probe.to);
    let socket = match probe.protocol {
        Protocol::Tcp => Socket::new(domain, Type::STREAM, None)?,
        Protocol::Sctp => Socket::new(domain, Type::STREAM, Some(SCTP.into()))?,
        Protocol::Udp => Socket::new(domain, Type::DGRAM, None)?,
        Protocol::Icmp if probe.to.is_ipv4() => {
            Socket::new(domain, Type::DGRAM, Some(socket2::Protocol::ICMPV4))?
        }
        Protocol::Icmp => Socket::new(domain, Type::DGRAM, Some(socket2::Protocol::ICMPV6))?,
    };
    socket.set_nonblocking(true)?;
    if let Some(mark) = probe.mark {
        socket.set_mark(mark)?;
    }
    match probe.protocol {
        Protocol::Udp => bind_fresh_port(&socket, probe)?,
        Protocol::Tcp | Protocol::Sctp | Protocol::Icmp => {
            if let Some(from) = probe.from {
                socket.bind(&SocketAddr::new(from, 0).into())?;
            }
        }
    }
    if probe.protocol == Protocol::Udp && probe.udp == UdpStyle::Unconnected {
        report_icmp_errors(&socket, domain)?;
    }
    Ok(socket)
}

/// A listening stream socket or a bound datagram socket, that never blocks.
pub(crate) fn server(listen: &Listen) -> io::Result<Socket> {
    let domain = Domain::for_address(listen.at);
    let socket = match listen.protocol {
        Protocol::Tcp => Socket::new(domain, Type::STREAM, None)?,
        Protocol::Sctp => Socket::new(domain, Type::STREAM, Some(SCTP.into()))?,
        Protocol::Udp => Socket::new(domain, Type::DGRAM, None)?,
        Protocol::Icmp => return Err(io::Error::other("the kernel answers ICMP by itself")),
    };
    socket.set_nonblocking(true)?;
    if listen.at.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if listen.protocol != Protocol::Udp {
        socket.set_reuse_address(true)?;
    }
    socket.bind(&SockAddr::from(listen.at))?;
    if listen.protocol != Protocol::Udp {
        socket.listen(1024)?;
    }
    Ok(socket)
}

/// Takes the next local port that this process has not used yet. The kernel picks UDP ports at random, and among a few
/// hundred probes one port would now and then be used twice, so that a probe would land in the flow of an earlier one.
fn bind_fresh_port(socket: &Socket, probe: &Probe) -> io::Result<()> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let any: IpAddr = match probe.to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let span = UDP_PORTS.end - UDP_PORTS.start;
    // Processes that share a namespace (a node's probe, a command run in it) start at different places.
    let start = std::process::id().wrapping_mul(7919);
    for _ in 0..span {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % span;
        let port = u16::try_from(UDP_PORTS.start + offset).map_err(io::Error::other)?;
        match socket.bind(&SocketAddr::new(probe.from.unwrap_or(any), port).into()) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            other => return other,
        }
    }
    Err(io::ErrorKind::AddrInUse.into())
}

/// Makes an unconnected UDP socket report ICMP errors (ip(7), `IP_RECVERR`); a connected one does so by itself.
fn report_icmp_errors(socket: &Socket, domain: Domain) -> io::Result<()> {
    let (level, option) = if domain == Domain::IPV4 {
        (libc::SOL_IP, libc::IP_RECVERR)
    } else {
        (libc::SOL_IPV6, libc::IPV6_RECVERR)
    };
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(size_of_val(&on)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open for the life of `socket`, and the kernel reads `length` bytes of `on`, which
    // outlives the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
