//! `connect(2)` of stream sockets.

use std::collections::{BTreeMap, BTreeSet};

use proxy_common::{Proto, Reason};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    room,
    server::{self, PATIENCE},
    view::View,
};

const PORT: u16 = 80;

#[test]
fn a_connection_reaches_a_backend_and_its_peer_is_shown_as_the_frontend() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::stream(view, 1);
            room.serve(view.frontend(1, PORT), Proto::TCP, &[backend]);
            let frontend = view.named(view.frontend(1, PORT));
            let mut stream = server::connect(frontend).expect("the backend listens");
            assert_eq!(stream.peer_addr().expect("it is connected"), frontend, "{view:?}");
            assert_eq!(server::reached(&mut stream), backend, "{view:?}");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::SocketConnect, 3)]));
    });
}

#[test]
fn connections_spread_evenly_over_all_backends() {
    room::run(|room| {
        for view in View::ALL {
            let backends: Vec<_> = (1..=3).map(|n| server::stream(view, n)).collect();
            room.serve(view.frontend(1, PORT), Proto::TCP, &backends);
            let mut seen = BTreeMap::new();
            for _ in 0..300 {
                let mut stream = server::connect(view.named(view.frontend(1, PORT))).expect("it listens");
                *seen.entry(server::reached(&mut stream)).or_insert(0) += 1;
            }
            assert_eq!(seen.keys().copied().collect::<BTreeSet<_>>(), backends.into_iter().collect());
            // Seven standard deviations (8.2) around a hundred.
            assert!(seen.values().all(|count| (43..=157).contains(count)), "{view:?}: {seen:?}");
        }
    });
}

#[test]
fn a_connection_to_nobodys_address_is_left_alone() {
    room::run(|room| {
        for view in View::ALL {
            let server = server::stream(view, 1);
            // Same address, same port, other protocol.
            room.serve(server, Proto::UDP, &[]);
            let mut stream = server::connect(view.named(server)).expect("it listens");
            assert_eq!(stream.peer_addr().expect("it is connected"), view.named(server));
            assert_eq!(server::reached(&mut stream), server);
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::NotAService, 3)]));
    });
}

#[test]
fn a_socket_that_was_refused_by_a_backend_forgets_the_frontend() {
    room::run(|room| {
        for view in View::ALL {
            let (server, mut nobody) = (server::stream(view, 1), view.backend(2));
            nobody.set_port(1);
            room.serve(view.frontend(1, PORT), Proto::TCP, &[nobody]);
            let socket = Socket::new(Domain::for_address(view.any()), Type::STREAM, None).expect("a socket");
            // A blocking call waits as long as for a write.
            socket.set_write_timeout(Some(PATIENCE)).expect("a time-out can be set");
            let refused =
                socket.connect(&view.named(view.frontend(1, PORT)).into()).expect_err("nobody listens");
            assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
            socket.connect(&view.named(server).into()).expect("it listens");
            let peer = socket.peer_addr().expect("it is connected").as_socket();
            assert_eq!(peer, Some(view.named(server)), "{view:?}");
        }
        assert_eq!(room.counters(), BTreeMap::from([(Reason::NotAService, 3), (Reason::SocketConnect, 3)]));
    });
}

#[test]
fn multipath_tcp_is_tcp_to_a_service() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::stream(view, 1);
            room.serve(view.frontend(1, PORT), Proto::TCP, &[backend]);
            let domain = Domain::for_address(view.any());
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::MPTCP)).expect("CONFIG_MPTCP");
            socket
                .connect_timeout(&view.named(view.frontend(1, PORT)).into(), PATIENCE)
                .expect("the backend listens");
            assert_eq!(server::reached(&mut socket.into()), backend, "{view:?}");
        }
    });
}
