//! How the backend of a socket is chosen, and how its connection is counted until it is over.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpStream};

use proxy_common::{Algorithm, DatapathConfig, Frontend, LoadKey, Proto, ServiceId, algorithm::LoadKind};

use crate::{
    room::{self, Room},
    server,
    view::View,
};

const PORT: u16 = 80;

fn serve(room: &mut Room, view: View, count: u8, algorithm: Algorithm) -> (Frontend, Vec<SocketAddr>) {
    let backends: Vec<_> = (1..=count).map(|n| server::stream(view, n)).collect();
    let frontend = Frontend { algorithm, ..room.service(&backends) };
    room.put(view.frontend(1, PORT), Proto::TCP, frontend);
    (frontend, backends)
}

fn connect(view: View) -> (TcpStream, SocketAddr) {
    let mut stream = server::connect(view.named(view.frontend(1, PORT))).expect("backends listen");
    let reached = server::reached(&mut stream);
    (stream, reached)
}

fn loads(room: &mut Room, service: ServiceId) -> BTreeMap<u16, u64> {
    let entries = room.entries::<LoadKey, u64>("loads");
    let mine = entries.into_iter().filter(|(key, _)| key.service == service);
    mine.map(|(key, count)| {
        assert_eq!(key.kind, LoadKind::SOCKETS);
        (key.port.number(), count)
    })
    .collect()
}

#[test]
fn a_round_robin_takes_one_backend_after_the_other() {
    room::run(|room| {
        for view in View::ALL {
            let (_, backends) = serve(room, view, 3, Algorithm::ROUND_ROBIN);
            let got: Vec<_> = (0..6).map(|_| connect(view).1).collect();
            assert_eq!(got, [&backends[..], &backends[..]].concat(), "{view:?}");
        }
    });
}

#[test]
fn a_source_hash_sends_all_sockets_of_a_namespace_to_one_backend() {
    room::run(|room| {
        for view in View::ALL {
            serve(room, view, 4, Algorithm::SOURCE_HASH);
            let first = connect(view).1;
            assert_eq!([0; 10].map(|_| connect(view).1), [first; 10], "{view:?}");
        }
    });
}

/// A socket has no port before it is connected, so its own number stands for it.
#[test]
fn maglev_spreads_the_sockets_of_a_namespace() {
    room::run(|room| {
        for view in View::ALL {
            let (_, backends) = serve(room, view, 4, Algorithm::MAGLEV);
            let seen: BTreeSet<_> = (0..100).map(|_| connect(view).1).collect();
            assert_eq!(seen, backends.into_iter().collect(), "{view:?}");
        }
    });
}

#[test]
fn a_connection_counts_until_its_socket_is_closed_and_the_next_one_goes_where_fewer_are() {
    room::run(|room| {
        for view in View::ALL {
            let (frontend, backends) = serve(room, view, 2, Algorithm::LEAST_CONNECTIONS);
            let mut open: Vec<_> = (0..6).map(|_| connect(view)).collect();
            let both =
                |first, second| BTreeMap::from([(backends[0].port(), first), (backends[1].port(), second)]);
            let same_port = backends[0].port() == backends[1].port();
            assert!(!same_port, "the counts are told apart by their ports");
            assert_eq!(loads(room, frontend.service), both(3, 3), "{view:?}");
            open.retain(|(_, reached)| *reached != backends[1]);
            assert_eq!(loads(room, frontend.service), both(3, 0), "{view:?}");
            let next: Vec<_> = (0..3).map(|_| connect(view)).collect();
            assert!(next.iter().all(|(_, reached)| *reached == backends[1]), "{view:?}");
            drop((open, next));
            assert_eq!(loads(room, frontend.service), both(0, 0), "{view:?}");
        }
    });
}

#[test]
fn new_connections_and_refusals_are_counted_by_service() {
    fn counting(config: &mut DatapathConfig) {
        config.tallies = 1;
    }
    room::run_with(room::Place::Pod, counting, |room| {
        for view in View::ALL {
            let (frontend, _) = serve(room, view, 1, Algorithm::RANDOM);
            (0..3).for_each(|_| drop(connect(view)));
            let tally = room.tally(frontend.service);
            assert_eq!((tally.opened, tally.refused, tally.dropped), (3, 0, 0), "{view:?}");

            let nobody = room.serve(view.frontend(2, PORT), Proto::TCP, &[]);
            server::connect(view.named(view.frontend(2, PORT))).expect_err("nobody serves");
            let tally = room.tally(nobody.service);
            assert_eq!((tally.opened, tally.refused, tally.dropped), (0, 1, 0), "{view:?}");

            let elsewhere = Frontend { rules: room::LOCAL_OR_DROP, ..room.service(&[view.frontend(9, 9)]) };
            room.put(view.frontend(3, PORT), Proto::TCP, elsewhere);
            server::connect(view.named(view.frontend(3, PORT))).expect_err("nobody serves here");
            let tally = room.tally(elsewhere.service);
            assert_eq!((tally.opened, tally.refused, tally.dropped), (0, 0, 1), "{view:?}");
        }
    });
}
