//! Sockets that are bound to a source address before they call: it is theirs, and stays.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
};

use proxy_common::{Proto, Reason};
use socket2::{Domain, Socket, Type};

use crate::{
    room::{self, Place, Room},
    server::{self, PATIENCE},
    view::View,
};

const PORT: u16 = 80;
/// Addresses of the room that are no loopback addresses.
const HOSTS: [&str; 2] = ["192.0.2.7", "fd00::1"];

fn host(view: View) -> IpAddr {
    let [v4, v6] = HOSTS;
    if view == View::V6 { v6 } else { v4 }.parse().expect("an address")
}

fn loopback(view: View) -> SocketAddr {
    let ip: IpAddr = if view == View::V6 { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    view.named(SocketAddr::new(ip, 0))
}

/// A stream socket bound to an address.
fn stream(at: SocketAddr) -> Socket {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM, None).expect("a socket");
    socket.bind(&at.into()).expect("the address is the room's");
    socket
}

fn datagram(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(at).expect("the address is the room's");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    socket
}

/// A stream server that tells each client the client's address.
fn mirror(at: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(at).expect("the address is free");
    let addr = listener.local_addr().expect("a listener has an address");
    thread::spawn(move || {
        while let Ok((mut client, peer)) = listener.accept() {
            let _ = std::io::Write::write_all(&mut client, peer.to_string().as_bytes());
        }
    });
    addr
}

#[test]
fn a_backend_sees_the_address_that_the_socket_was_bound_to_and_so_does_the_socket() {
    room::run(|room| {
        for view in View::ALL {
            let bound = view.named(view.backend(2));
            let backend = mirror(view.backend(1));
            room.serve(view.frontend(1, PORT), Proto::TCP, &[backend]);
            let socket = stream(bound);
            socket.connect_timeout(&view.named(view.frontend(1, PORT)).into(), PATIENCE).expect("it listens");
            let mut connected: TcpStream = socket.into();
            let own = connected.local_addr().expect("it is bound");
            assert_eq!(own.ip(), bound.ip(), "{view:?}: getsockname is nobody's business");
            assert_eq!(view.named(server::reached(&mut connected)), own, "{view:?}");

            let backend = server::datagram(view, 3);
            room.serve(view.frontend(1, PORT), Proto::UDP, &[backend]);
            let socket = datagram(bound);
            let own = socket.local_addr().expect("it is bound");
            socket.send_to(b"?", view.named(view.frontend(1, PORT))).expect("a Service with backends");
            assert_eq!(server::answer(&socket), (backend, view.named(view.frontend(1, PORT))), "{view:?}");
            socket.connect(view.named(view.frontend(1, PORT))).expect("a Service with backends");
            assert_eq!(socket.local_addr().expect("it is bound"), own, "{view:?}");
        }
    });
}

/// The error of a stream's `connect`, a datagram socket's `connect`, and its `sendto`, from a loopback address.
fn errors_from_loopback(view: View, to: SocketAddr) -> [Option<i32>; 3] {
    let (from, to) = (loopback(view), view.named(to));
    let error = |result: std::io::Result<()>| result.err().and_then(|error| error.raw_os_error());
    [
        error(stream(from).connect_timeout(&to.into(), PATIENCE)),
        error(datagram(from).connect(to)),
        error(datagram(from).send_to(b"?", to).map(drop)),
    ]
}

fn serve_at_host(room: &mut Room, view: View) {
    let at = SocketAddr::new(host(view), 0);
    let tcp = mirror(at);
    let udp = UdpSocket::bind(SocketAddr::new(host(view), tcp.port())).expect("the port is free");
    room.serve(view.frontend(1, PORT), Proto::TCP, &[tcp]);
    room.serve(view.frontend(1, PORT), Proto::UDP, &[udp.local_addr().expect("it is bound")]);
    // Lives as long as the room.
    std::mem::forget(udp);
}

#[test]
fn item_55_a_socket_of_a_loopback_address_fails_at_once_where_the_backend_could_not_answer() {
    room::run(|room| {
        // As a proxy that was here before may have left it: the kernel itself would let the packet go.
        std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").expect("the room is ours");
        room.host_address(HOSTS[0]);
        for view in View::ALL {
            serve_at_host(room, view);
            let errors = errors_from_loopback(view, view.frontend(1, PORT));
            assert_eq!(errors, [Some(libc::EHOSTUNREACH); 3], "{view:?}");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::LoopbackSource, 9)]));
    });
}

#[test]
fn item_55_a_socket_of_a_loopback_address_reaches_a_backend_of_its_own_host() {
    room::run_with(
        Place::Node,
        |_| {},
        |room| {
            room.host_address(HOSTS[0]);
            for (view, address) in [(View::V4, HOSTS[0]), (View::V6, HOSTS[1]), (View::Mapped, HOSTS[0])] {
                room.node_has(address.parse().expect("an address"));
                serve_at_host(room, view);
                assert_eq!(errors_from_loopback(view, view.frontend(1, PORT)), [None; 3], "{view:?}");
            }
            let expected = [(Reason::SocketConnect, 6), (Reason::SocketSend, 3)];
            assert_eq!(room.counters(), BTreeMap::from(expected));
        },
    );
}
