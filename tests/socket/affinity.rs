//! Session affinity of sockets: the client is the network namespace.

use std::{collections::BTreeSet, net::SocketAddr};

use proxy_common::{AffinityKey, AffinityValue, Frontend, Proto, affinity::ClientKind};

use crate::{
    room::{self, Room},
    server,
    view::View,
};

const PORT: u16 = 80;
const TIMEOUT: u32 = 600;

/// A Service with affinity and four backends.
fn sticky(room: &mut Room, view: View) -> (Frontend, Vec<SocketAddr>) {
    let backends: Vec<_> = (1..=4).map(|n| server::stream(view, n)).collect();
    let frontend = Frontend { affinity: TIMEOUT, ..room.service(&backends) };
    room.put(view.frontend(1, PORT), Proto::TCP, frontend);
    (frontend, backends)
}

fn connect(view: View) -> SocketAddr {
    let mut stream = server::connect(view.named(view.frontend(1, PORT))).expect("backends listen");
    server::reached(&mut stream)
}

fn entry(room: &mut Room, frontend: &Frontend) -> (AffinityKey, AffinityValue) {
    let entries = room.entries::<AffinityKey, AffinityValue>("affinity");
    let mine: Vec<_> = entries.into_iter().filter(|(key, _)| key.service == frontend.service).collect();
    assert_eq!(mine.len(), 1, "one client, one Service: {mine:?}");
    mine[0]
}

#[test]
fn every_connection_of_a_client_goes_to_one_backend() {
    room::run(|room| {
        for view in View::ALL {
            let (frontend, backends) = sticky(room, view);
            let first = connect(view);
            assert!(backends.contains(&first));
            assert_eq!([0; 20].map(|_| connect(view)), [first; 20], "item 96, {view:?}");
            let (key, value) = entry(room, &frontend);
            assert_eq!(key.kind, ClientKind::NETNS);
            assert_eq!(value.port.number(), first.port());
        }
    });
}

#[test]
fn a_backend_is_kept_when_the_segment_moves_and_left_when_it_goes() {
    room::run(|room| {
        for view in View::ALL {
            let (frontend, backends) = sticky(room, view);
            let first = connect(view);
            let reversed: Vec<_> = backends.iter().rev().copied().collect();
            let cluster = room.segment(&reversed);
            room.put(view.frontend(1, PORT), Proto::TCP, Frontend { cluster, ..frontend });
            assert_eq!([0; 20].map(|_| connect(view)), [first; 20], "item 98: still eligible, {view:?}");

            let others: Vec<_> = backends.into_iter().filter(|backend| *backend != first).collect();
            let cluster = room.segment(&others);
            room.put(view.frontend(1, PORT), Proto::TCP, Frontend { cluster, ..frontend });
            let second = connect(view);
            assert!(others.contains(&second), "item 98: not eligible any more, {view:?}");
            assert_eq!([0; 20].map(|_| connect(view)), [second; 20], "item 98: the new choice is stored");
        }
    });
}

#[test]
fn affinity_ends_after_its_time_and_begins_anew_with_each_connection() {
    room::run(|room| {
        for view in View::ALL {
            let (frontend, backends) = sticky(room, view);
            connect(view);
            // The clock is not ours to turn: the entry is made older instead.
            let age = |seconds: u32, room: &mut Room| {
                let (key, value) = entry(room, &frontend);
                room.insert("affinity", key, AffinityValue { seen: value.seen - seconds, ..value });
                let backend = connect(view);
                let (_, renewed) = entry(room, &frontend);
                assert!(renewed.seen >= value.seen, "item 97: refreshed by each new connection");
                backend
            };
            let kept = age(1, room);
            assert_eq!([0; 20].map(|_| age(TIMEOUT / 2, room)), [kept; 20], "item 97, {view:?}");
            let seen: BTreeSet<_> = (0..100).map(|_| age(TIMEOUT + 1, room)).collect();
            assert_eq!(seen, backends.into_iter().collect(), "a free choice each time, {view:?}");
        }
    });
}

#[test]
fn affinity_that_is_switched_off_is_off_for_the_next_connection() {
    room::run(|room| {
        for view in View::ALL {
            let (frontend, backends) = sticky(room, view);
            connect(view);
            room.put(view.frontend(1, PORT), Proto::TCP, Frontend { affinity: 0, ..frontend });
            let seen: BTreeSet<_> = (0..100).map(|_| connect(view)).collect();
            assert_eq!(seen, backends.into_iter().collect(), "item 99, {view:?}");
        }
    });
}

#[test]
fn a_client_that_comes_back_from_another_port_finds_its_backend_again() {
    room::run(|room| {
        for view in View::ALL {
            let backends: Vec<_> = (1..=4).map(|n| server::datagram(view, n)).collect();
            let at = view.frontend(1, PORT);
            let service = room.service(&backends);
            room.put(at, Proto::UDP, Frontend { affinity: TIMEOUT, ..service });
            // As a client of QUIC does that changes its port, or its socket, in the middle of a connection.
            let asked = |connected: bool| {
                let socket = server::client(view);
                if connected {
                    socket.connect(view.named(at)).expect("a Service with backends");
                    socket.send(b"?").expect("it is connected");
                } else {
                    socket.send_to(b"?", view.named(at)).expect("a Service with backends");
                }
                server::answer(&socket).0
            };
            let first = asked(false);
            assert_eq!([false, true, false, true, true, false].map(asked), [first; 6], "item 96, {view:?}");
        }
    });
}
