//! Datagram sockets, connected and not.

use std::{collections::BTreeMap, net::SocketAddr};

use proxy_common::{Frontend, Proto, Reason};

use crate::{
    room::{self, Room},
    server::{self, answer, client},
    view::View,
};

const PORT: u16 = 53;

fn serve(room: &mut Room, view: View, n: u8, backends: &[SocketAddr]) -> SocketAddr {
    room.serve(view.frontend(n, PORT), Proto::UDP, backends);
    view.named(view.frontend(n, PORT))
}

#[test]
fn a_connected_socket_talks_to_a_backend_and_sees_the_frontend() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::datagram(view, 1);
            let frontend = serve(room, view, 1, &[backend]);
            let socket = client(view);
            socket.connect(frontend).expect("a Service with backends");
            assert_eq!(socket.peer_addr().expect("it is connected"), frontend);
            socket.send(b"?").expect("it is connected");
            assert_eq!(answer(&socket), (backend, frontend), "{view:?}");
        }
        // The servers' answers are calls to nobody's address; so is each datagram of a connected IPv6 socket to an
        // IPv4 peer, which the kernel hands to the hook as if it were not connected.
        let expected = [(Reason::NotAService, 3 + 1), (Reason::SocketConnect, 3), (Reason::SocketReceive, 3)];
        assert_eq!(room.counters(), BTreeMap::from(expected));
    });
}

#[test]
fn an_unconnected_socket_talks_to_a_backend_and_sees_the_frontend() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::datagram(view, 1);
            let frontend = serve(room, view, 1, &[backend]);
            let socket = client(view);
            socket.send_to(b"?", frontend).expect("a Service with backends");
            assert_eq!(answer(&socket), (backend, frontend), "{view:?}");
        }
        let expected = [(Reason::NotAService, 3), (Reason::SocketSend, 3), (Reason::SocketReceive, 3)];
        assert_eq!(room.counters(), BTreeMap::from(expected));
    });
}

#[test]
fn one_socket_talks_to_two_services_and_to_a_server_of_nobody() {
    room::run(|room| {
        for view in View::ALL {
            let servers = [1, 2, 3].map(|n| server::datagram(view, n));
            let one = serve(room, view, 1, &[servers[0]]);
            let two = serve(room, view, 2, &[servers[1]]);
            let socket = client(view);
            for (to, server) in [(one, servers[0]), (two, servers[1]), (view.named(servers[2]), servers[2])] {
                socket.send_to(b"?", to).expect("somebody is there");
                assert_eq!(answer(&socket), (server, to), "{view:?}");
            }
        }
    });
}

#[test]
fn of_two_frontends_with_one_backend_the_one_sent_to_last_is_shown() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::datagram(view, 1);
            let (one, two) = (serve(room, view, 1, &[backend]), serve(room, view, 2, &[backend]));
            let socket = client(view);
            for frontend in [one, two, one, one, two] {
                socket.send_to(b"?", frontend).expect("a Service with backends");
                assert_eq!(answer(&socket), (backend, frontend), "{view:?}");
            }
        }
    });
}

#[test]
fn an_unconnected_socket_keeps_its_backend_while_that_is_eligible() {
    room::run(|room| {
        for view in View::ALL {
            let backends: Vec<_> = (1..=4).map(|n| server::datagram(view, n)).collect();
            let at = view.frontend(1, PORT);
            let first = room.serve(at, Proto::UDP, &backends);
            let socket = client(view);
            let ask = || {
                socket.send_to(b"?", view.named(at)).expect("a Service with backends");
                let (backend, sender) = answer(&socket);
                assert_eq!(sender, view.named(at));
                backend
            };
            let kept = ask();
            assert_eq!([0; 20].map(|_| ask()), [kept; 20], "{view:?}: nothing changed");

            let reversed: Vec<_> = backends.iter().rev().copied().collect();
            let cluster = room.segment(&reversed);
            room.put(at, Proto::UDP, Frontend { cluster, generation: 2, ..first });
            assert_eq!([0; 20].map(|_| ask()), [kept; 20], "{view:?}: it is in another slot");

            let others: Vec<_> = backends.iter().filter(|backend| **backend != kept).copied().collect();
            let cluster = room.segment(&others);
            room.put(at, Proto::UDP, Frontend { cluster, generation: 3, ..first });
            let moved = ask();
            assert!(others.contains(&moved), "{view:?}: {moved} of {others:?}");
            assert_eq!([0; 20].map(|_| ask()), [moved; 20], "{view:?}: it moved once");
        }
    });
}

#[test]
fn a_connected_socket_that_also_names_its_frontend_stays_with_its_backend() {
    room::run(|room| {
        for view in View::ALL {
            let backends: Vec<_> = (1..=4).map(|n| server::datagram(view, n)).collect();
            let frontend = serve(room, view, 1, &backends);
            let socket = client(view);
            socket.connect(frontend).expect("a Service with backends");
            socket.send(b"?").expect("it is connected");
            let (backend, _) = answer(&socket);
            for _ in 0..10 {
                socket.send_to(b"?", frontend).expect("a Service with backends");
                assert_eq!(answer(&socket), (backend, frontend), "{view:?}");
            }
        }
    });
}

#[test]
fn a_socket_that_connects_elsewhere_forgets_the_frontend() {
    room::run(|room| {
        for view in View::ALL {
            let (backend, server) = (server::datagram(view, 1), server::datagram(view, 2));
            let frontend = serve(room, view, 1, &[backend]);
            let socket = client(view);
            socket.connect(frontend).expect("a Service with backends");
            for peer in [server, backend] {
                socket.connect(view.named(peer)).expect("anybody");
                assert_eq!(socket.peer_addr().expect("it is connected"), view.named(peer), "{view:?}");
                socket.send(b"?").expect("it is connected");
                assert_eq!(answer(&socket), (peer, view.named(peer)), "{view:?}");
            }
        }
    });
}

#[test]
fn a_socket_that_was_disconnected_sees_who_it_names() {
    room::run(|room| {
        for view in View::ALL {
            let backend = server::datagram(view, 1);
            let frontend = serve(room, view, 1, &[backend]);
            let socket = client(view);
            socket.connect(frontend).expect("a Service with backends");
            rustix::net::connect_unspec(&socket).expect("it is connected");
            socket.send_to(b"?", view.named(backend)).expect("anybody");
            assert_eq!(answer(&socket), (backend, view.named(backend)), "{view:?}");
            socket.send_to(b"?", frontend).expect("a Service with backends");
            assert_eq!(answer(&socket), (backend, frontend), "{view:?}");
        }
    });
}
