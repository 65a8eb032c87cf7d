//! How a backend is chosen, and what is counted for it: every algorithm, exactly, because none of them but `random` has
//! anything random that these cases do not rule out.

use std::net::SocketAddr;

use proxy_common::{
    Address, Algorithm, Backend, ClientRule, Frontend, LoadKey, Proto, Reason, Segment, ServiceId, Tally, V4,
    V6, Weight,
    algorithm::{LoadKind, client_hash, connection_hash},
    decide,
};
use tests::dataplane::{Dataplane, Named, config};
use tests::object::{self, Cell};
use tests::packet::{Packet, flags};

use crate::family::{FAMILIES, Names, dropped, next, rejected};

/// The n-th client port.
fn client(n: &Names, number: usize) -> String {
    n.client.replace("40000", &(20_000 + number).to_string())
}

fn backends(n: &Names, count: usize) -> Vec<String> {
    (0..count).map(|number| n.backend.replace("8080", &(8_000 + number).to_string())).collect()
}

/// Serves `count` backends by an algorithm; `change` may say more.
fn serve(
    dataplane: &mut Dataplane,
    n: &Names,
    count: usize,
    algorithm: Algorithm,
    change: impl FnOnce(&mut Frontend),
) -> ServiceId {
    let backends = backends(n, count);
    let backends: Vec<&str> = backends.iter().map(String::as_str).collect();
    dataplane.serve(Proto::TCP, n.vip, &backends, |frontend| {
        frontend.algorithm = algorithm;
        change(frontend);
    })
}

/// Opens a connection; which of the backends got it.
fn open(dataplane: &mut Dataplane, n: &Names, from: &str, count: usize) -> usize {
    let syn = Packet::tcp(flags::SYN, from, n.vip);
    let run = dataplane.run("from_pod", &syn.bytes());
    let is_of = |backend: &String| run == next(Reason::ServiceNew, &syn.between(from, backend));
    let chosen = backends(n, count).iter().position(is_of);
    chosen.unwrap_or_else(|| panic!("to none of the backends: {run:?}"))
}

fn words(text: &str) -> ([u32; 4], proxy_common::Port) {
    let at: SocketAddr = text.parse().expect("an address and port");
    let words = proxy_common::Addr4::from_ip(at.ip()).map(Address::to_words);
    let words = words.or_else(|| proxy_common::Addr6::from_ip(at.ip()).map(Address::to_words));
    (words.expect("one of the families"), proxy_common::Port::new(at.port()))
}

#[test]
fn a_round_robin_takes_one_backend_after_the_other() {
    for algorithm in [Algorithm::ROUND_ROBIN, Algorithm::WEIGHTED_ROUND_ROBIN] {
        for n in &FAMILIES {
            let mut dataplane = Dataplane::new(config());
            serve(&mut dataplane, n, 3, algorithm, |_| {});
            let got: Vec<_> = (0..9).map(|number| open(&mut dataplane, n, &client(n, number), 3)).collect();
            assert_eq!(got, [0, 1, 2, 0, 1, 2, 0, 1, 2], "{algorithm}");
        }
    }
}

/// Each Service has turns of its own, and a client that tries again takes none.
#[test]
fn a_turn_is_taken_by_a_new_connection_and_by_nothing_else() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        let other = n.vip.replace(":80", ":90");
        dataplane.serve(Proto::TCP, &other, &[n.other_backend], |f| f.algorithm = Algorithm::ROUND_ROBIN);
        serve(&mut dataplane, n, 3, Algorithm::ROUND_ROBIN, |_| {});
        assert_eq!(open(&mut dataplane, n, &client(n, 0), 3), 0);
        let again = Packet::tcp(flags::SYN, &client(n, 0), n.vip);
        let run = dataplane.run("from_pod", &again.bytes());
        assert_eq!(run, next(Reason::FlowForward, &again.between(&client(n, 0), &backends(n, 3)[0])));
        dataplane.run("from_pod", &Packet::tcp(flags::SYN, &client(n, 1), &other).bytes());
        assert_eq!(open(&mut dataplane, n, &client(n, 2), 3), 1);
    }
}

#[test]
fn maglev_asks_the_table_with_the_hash_of_addresses_and_ports() {
    for n in &FAMILIES {
        for _ in 0..2 {
            // Another kernel: the same answers.
            let mut dataplane = Dataplane::new(config());
            serve(&mut dataplane, n, 7, Algorithm::MAGLEV, |_| {});
            for number in 0..40 {
                let from = client(n, number);
                let ((source, sport), (vip, dport)) = (words(&from), words(n.vip));
                let hash = connection_hash(source, vip, (sport, dport), Proto::TCP);
                let expected = decide::slot(Segment { start: 0, len: 7 }, hash);
                assert_eq!(open(&mut dataplane, n, &from, 7), expected as usize, "{from}");
            }
        }
    }
}

#[test]
fn a_source_hash_sends_all_connections_of_a_client_to_one_backend() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        serve(&mut dataplane, n, 7, Algorithm::SOURCE_HASH, |_| {});
        for of_client in [n.client, n.outside] {
            let expected =
                decide::slot(Segment { start: 0, len: 7 }, client_hash(words(of_client).0)) as usize;
            for number in 0..10 {
                let from = of_client.replace("40000", &(20_000 + number).to_string());
                assert_eq!(open(&mut dataplane, n, &from, 7), expected, "{from}");
            }
        }
    }
}

fn set_weights<F: Named>(dataplane: &mut Dataplane, weights: &[u8])
where
    Backend<F::Addr>: proxy_common::maps::MapType,
{
    let mut slots = object::array::<Backend<F::Addr>>(dataplane.object(), F::BACKENDS);
    for (slot, weight) in (1..).zip(weights) {
        let Cell(backend) = slots.get(&slot, 0).expect("the slot exists");
        slots.set(slot, Cell(Backend { weight: Weight(*weight), ..backend }), 0).expect("it can be written");
    }
}

fn loads(dataplane: &mut Dataplane, service: ServiceId, kind: LoadKind) -> Vec<(u16, u64)> {
    let map = object::hash::<LoadKey, u64>(dataplane.object(), "loads");
    let all = map.iter().map(|entry| entry.expect("loads can be listed"));
    let mut loads: Vec<_> = all
        .filter(|(key, _)| key.0.service == service && key.0.kind == kind)
        .map(|(key, count)| (key.0.port.number(), count.0))
        .collect();
    loads.sort_unstable();
    loads
}

#[test]
fn the_backend_with_fewer_connections_is_taken_and_its_connections_are_counted() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        let service = serve(&mut dataplane, n, 2, Algorithm::LEAST_CONNECTIONS, |_| {});
        for number in 0..10 {
            open(&mut dataplane, n, &client(n, number), 2);
        }
        assert_eq!(loads(&mut dataplane, service, LoadKind::FLOWS), [(8_000, 5), (8_001, 5)]);
        // Sockets of the node count, too: three of them make up for three flows.
        let (addr, port) = words(&backends(n, 2)[0]);
        let sockets = LoadKey { service, addr, port, kind: LoadKind::SOCKETS };
        let mut map = object::hash::<LoadKey, u64>(dataplane.object(), "loads");
        map.insert(Cell(sockets), Cell(3), 0).expect("it fits");
        let got: Vec<_> = (10..13).map(|number| open(&mut dataplane, n, &client(n, number), 2)).collect();
        assert_eq!(got, [1, 1, 1]);
        // A count that went below zero is none.
        let mut map = object::hash::<LoadKey, u64>(dataplane.object(), "loads");
        map.insert(Cell(sockets), Cell(u64::MAX), 0).expect("it fits");
        assert_eq!(open(&mut dataplane, n, &client(n, 13), 2), 0);
    }
}

#[test]
fn a_heavier_backend_gets_as_many_more_connections() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        let service = serve(&mut dataplane, n, 2, Algorithm::WEIGHTED_LEAST_CONNECTIONS, |_| {});
        set_weights::<V4>(&mut dataplane, &[3, 1]);
        set_weights::<V6>(&mut dataplane, &[3, 1]);
        for number in 0..20 {
            open(&mut dataplane, n, &client(n, number), 2);
        }
        assert_eq!(loads(&mut dataplane, service, LoadKind::FLOWS), [(8_000, 15), (8_001, 5)]);
    }
}

#[test]
fn a_single_backend_is_taken_by_every_algorithm() {
    for n in &FAMILIES {
        for (algorithm, _) in Algorithm::ALL {
            let mut dataplane = Dataplane::new(config());
            serve(&mut dataplane, n, 1, algorithm, |_| {});
            assert_eq!(open(&mut dataplane, n, n.client, 1), 0, "{algorithm}");
        }
    }
}

/// Item 98: a client's remembered backend precedes what the algorithm would say.
#[test]
fn item_98_affinity_wins_over_the_algorithm_while_its_backend_is_in_the_segment() {
    for n in &FAMILIES {
        for (algorithm, _) in Algorithm::ALL {
            let mut dataplane = Dataplane::new(config());
            serve(&mut dataplane, n, 5, algorithm, |frontend| frontend.affinity = 600);
            let first = open(&mut dataplane, n, &client(n, 0), 5);
            let later: Vec<_> = (1..8).map(|number| open(&mut dataplane, n, &client(n, number), 5)).collect();
            assert_eq!(later, [first; 7], "{algorithm}");
        }
    }
}

fn tally(dataplane: &mut Dataplane, service: ServiceId) -> Option<Tally> {
    object::tally(dataplane.object(), service)
}

#[test]
fn new_connections_are_counted_by_service_and_what_became_of_them() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config_that_counts());
        let service = serve(&mut dataplane, n, 2, Algorithm::RANDOM, |_| {});
        for number in 0..3 {
            open(&mut dataplane, n, &client(n, number), 2);
        }
        // Not a new one.
        dataplane.run("from_pod", &Packet::tcp(flags::SYN, &client(n, 0), n.vip).bytes());
        assert_eq!(tally(&mut dataplane, service), Some(Tally { opened: 3, refused: 0, dropped: 0 }));

        let empty = n.vip.replace(":80", ":90");
        let refusing = dataplane.serve(Proto::TCP, &empty, &[], |_| {});
        let syn = Packet::tcp(flags::SYN, n.client, &empty);
        assert_eq!(dataplane.run("from_pod", &syn.bytes()), rejected(Reason::NoEndpoints, &syn));
        assert_eq!(tally(&mut dataplane, refusing), Some(Tally { opened: 0, refused: 1, dropped: 0 }));

        let elsewhere = n.vip.replace(":80", ":91");
        let dropping = dataplane.serve(Proto::TCP, &elsewhere, &[n.backend], |frontend| {
            frontend.rules = [ClientRule::LOCAL.with(ClientRule::DROP_IF_EMPTY); 3];
        });
        let syn = Packet::tcp(flags::SYN, n.client, &elsewhere);
        assert_eq!(dataplane.run("from_pod", &syn.bytes()), dropped(Reason::NoLocalEndpoints, &syn));
        assert_eq!(tally(&mut dataplane, dropping), Some(Tally { opened: 0, refused: 0, dropped: 1 }));
    }
}

fn config_that_counts() -> proxy_common::DatapathConfig {
    proxy_common::DatapathConfig { tallies: 1, ..config() }
}

#[test]
fn nothing_is_counted_by_service_where_that_is_switched_off() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        let service = serve(&mut dataplane, n, 1, Algorithm::RANDOM, |_| {});
        open(&mut dataplane, n, n.client, 1);
        assert_eq!(tally(&mut dataplane, service), None);
    }
}

/// The choice that item 57 does not leave, made by the operator.
#[test]
fn an_external_client_is_kept_for_a_local_backend_and_masqueraded_for_another() {
    let rule = ClientRule::MASQUERADE.with(ClientRule::KEEP_IF_LOCAL);
    for n in &FAMILIES {
        let syn = Packet::tcp(flags::SYN, n.outside, n.vip);
        let cases = [(format!("{}*", n.backend), n.outside), (n.backend.to_owned(), n.node)];
        for (backend, source) in cases {
            let mut dataplane = Dataplane::new(config());
            dataplane.serve(Proto::TCP, n.vip, &[&backend], |frontend| frontend.rules = [rule; 3]);
            assert_eq!(
                dataplane.run("from_wire", &syn.bytes()),
                next(Reason::ServiceNew, &syn.between(source, n.backend)),
                "{backend}"
            );
        }
    }
}
