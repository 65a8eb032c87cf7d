//! Where a TCP socket keeps what it is connected to (decision 0042).

use std::net::SocketAddr;

use proxy_common::{
    Addr4, Addr6, Address, Algorithm, Frontend, LoadKey, Port, Proto, ServiceId,
    limits::STREAMS,
    socket::{ConnectedPeer, Stream},
};
use socket2::{Protocol, Socket};
use tests::object::Cell;

use crate::{
    room::{self, Room},
    server,
    stream::{peer, unconnected},
    view::View,
};

const PORT: u16 = 80;

fn cookie(socket: &Socket) -> u64 {
    rustix::net::sockopt::socket_cookie(socket).expect("every socket has a cookie")
}

fn place(cookie: u64) -> u32 {
    u32::try_from(cookie % u64::from(STREAMS)).expect("a place")
}

/// What is in the place of a socket with this cookie.
fn kept(room: &mut Room, cookie: u64) -> Stream {
    room.array::<Stream>("streams").get(&place(cookie), 0).expect("every cookie has a place").0
}

/// How many places are taken.
fn taken(room: &mut Room) -> usize {
    let streams = room.array::<Stream>("streams");
    streams.iter().filter(|place| place.as_ref().expect("it can be read").0 != Stream::default()).count()
}

fn words(addr: SocketAddr) -> [u32; 4] {
    Addr4::from_ip(addr.ip())
        .map_or_else(|| Addr6::from_ip(addr.ip()).expect("an address").to_words(), |addr| addr.to_words())
}

fn connected(frontend: SocketAddr, backend: SocketAddr, service: ServiceId) -> ConnectedPeer {
    let (frontend_port, backend_port) = (Port::new(frontend.port()), Port::new(backend.port()));
    let (frontend, backend) = (words(frontend), words(backend));
    ConnectedPeer { frontend, backend, frontend_port, backend_port, service, counted: 0 }
}

#[test]
fn a_stream_has_one_place_for_what_it_is_connected_to_until_it_is_closed() {
    room::run(|room| {
        for view in View::ALL {
            let socket = unconnected(view, None);
            let cookie = cookie(&socket);
            for n in [1, 2] {
                let (frontend, backend) = (view.frontend(n, PORT), server::stream(view, n));
                let service = room.serve(frontend, Proto::TCP, &[backend]).service;
                socket.connect(&view.named(frontend).into()).expect("the backend listens");
                let wanted = Stream { cookie, peer: connected(frontend, backend, service), pad: [0; 3] };
                assert_eq!(kept(room, cookie), wanted, "{view:?}");
                assert_eq!(peer(&socket), Some(view.named(frontend)), "{view:?}");
                rustix::net::connect_unspec(&socket).expect("a stream can be disconnected");
            }
            assert_eq!(taken(room), 1, "{view:?}");
            drop(socket);
            assert_eq!(taken(room), 0, "{view:?}");
        }
    });
}

#[test]
fn a_stream_whose_place_is_taken_is_named_and_counted_all_the_same() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::stream(view, 1);
            let frontend = Frontend { algorithm: Algorithm::LEAST_CONNECTIONS, ..room.service(&[backend]) };
            room.put(view.frontend(1, PORT), Proto::TCP, frontend);
            let socket = unconnected(view, None);
            let cookie = cookie(&socket);
            let other = Stream { cookie: cookie + u64::from(STREAMS), ..Stream::default() };
            room.array::<Stream>("streams")
                .set(place(cookie), Cell(other), 0)
                .expect("every index has a place");
            socket.connect(&view.named(view.frontend(1, PORT)).into()).expect("the backend listens");
            assert_eq!(peer(&socket), Some(view.named(view.frontend(1, PORT))), "{view:?}");
            assert_eq!(loads(room, frontend.service), [1], "{view:?}");
            drop(socket);
            assert_eq!(loads(room, frontend.service), [0], "{view:?}");
            assert_eq!(kept(room, cookie), other, "{view:?}");
        }
    });
}

fn loads(room: &mut Room, service: ServiceId) -> Vec<u64> {
    let loads = room.entries::<LoadKey, u64>("loads");
    loads.into_iter().filter(|(key, _)| key.service == service).map(|(_, count)| count).collect()
}

/// Its first connection is closed without a word.
#[test]
fn multipath_tcp_takes_no_place() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::stream(view, 1);
            room.serve(view.frontend(1, PORT), Proto::TCP, &[backend]);
            let socket = unconnected(view, Some(Protocol::MPTCP));
            socket.connect(&view.named(view.frontend(1, PORT)).into()).expect("the backend listens");
            assert_eq!(taken(room), 0, "{view:?}");
        }
    });
}
