//! How backends are chosen: what the planner lays out for each algorithm, by weight and by policy.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proxy_common::{Address, Algorithm, Backend, FrontendKey, Port, Proto, Segment, V4, Weight};
use proxy_model::fact::TrafficPolicy::{Cluster, Local};
use proxy_model::fact::{Change, Endpoint, Event, Service};
use proxy_model::plan::GRACE_MILLIS;
use proxy_model::settings::LocalSource;
use proxy_model::{Capacity, ObjectKey, Settings, TableSize, Weights};

use crate::fixture::*;
use crate::kernel::{Machine, Names};
use crate::reference::{Seen, Verdict};

const SIZE: u32 = 251;

fn tables() -> Settings {
    Settings { table_size: TableSize::Fixed(SIZE), ..settings() }
}

fn with(algorithm: Algorithm, service: Service) -> Service {
    Service { algorithm: Some(algorithm), ..service }
}

fn endpoints(lasts: impl IntoIterator<Item = u8>) -> Vec<Endpoint> {
    lasts.into_iter().map(|last| endpoint(&format!("10.0.1.{last}"), HERE)).collect()
}

fn weights(rules: &[(&str, u8)]) -> Weights {
    let addresses = rules.iter().map(|(addr, weight)| (ip(addr), Weight(*weight)));
    Weights { addresses: addresses.collect(), ..Weights::default() }
}

fn segments(machine: &Machine, addr: &str, port: u16) -> [Segment; 2] {
    let key = FrontendKey::new(Address::from_ip(ip(addr)).unwrap(), Port::new(port), Proto::TCP);
    let value = machine.v4.frontends[&key];
    [value.cluster, value.local]
}

fn slots(machine: &Machine, segment: Segment) -> Vec<Backend<proxy_common::Addr4>> {
    machine.v4.list(segment).into_iter().map(|slot| slot.unwrap()).collect()
}

/// How many slots each backend of a frontend has.
fn shares(machine: &Machine, addr: &str) -> BTreeMap<IpAddr, usize> {
    let mut shares = BTreeMap::new();
    for slot in slots(machine, segments(machine, addr, 80)[0]) {
        *shares.entry(slot.addr.to_ip()).or_insert(0) += 1;
    }
    shares
}

#[test]
fn a_service_says_its_algorithm_and_another_one_has_that_of_the_settings() {
    let settings = Settings { algorithm: Algorithm::ROUND_ROBIN, ..settings() };
    let own = with(Algorithm::SOURCE_HASH, service("own", "10.96.0.1"));
    let machine = machine(settings, [put(own), put(service("other", "10.96.0.2"))]);
    let algorithms: Vec<_> = machine
        .v4
        .frontends
        .iter()
        .filter(|(key, _)| key.port.number() == 80)
        .map(|(_, value)| value.algorithm)
        .collect();
    assert_eq!(algorithms, [Algorithm::SOURCE_HASH, Algorithm::ROUND_ROBIN]);
}

#[test]
fn an_algorithm_changes_live_and_the_table_of_before_is_free_after_the_grace_period() {
    let web = || service("web", "10.96.0.1");
    let slice = || put(slice("web", "web", endpoints(1..=3)));
    let mut machine = machine(tables(), [put(web()), slice()]);
    assert_eq!(shares(&machine, "10.96.0.1").len(), 3);
    machine.apply([put(with(Algorithm::MAGLEV, web()))]);
    machine.sync();
    assert_eq!(segments(&machine, "10.96.0.1", 80)[0].len, SIZE);
    machine.apply([put(with(Algorithm::ROUND_ROBIN, web()))]);
    machine.sync();
    assert_eq!(segments(&machine, "10.96.0.1", 80)[0].len, 3);
    machine.sync();
    machine.now = machine.now.after(GRACE_MILLIS);
    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "web")))]);
    machine.sync();
    assert_eq!(machine.planner.usage::<V4>().backends, 3, "the table is free, the list rests");
}

#[test]
fn frontends_and_services_with_equal_sets_share_one_table() {
    let hashing = |name: &str, n, algorithm| with(algorithm, exposed(name, n, Cluster, Cluster));
    let events = [
        put(hashing("one", 1, Algorithm::MAGLEV)),
        put(hashing("two", 2, Algorithm::SOURCE_HASH)),
        put(slice("one", "one", endpoints(1..=3))),
        put(slice("two", "two", endpoints(1..=3))),
    ];
    let machine = machine(tables(), events);
    assert_eq!(machine.planner.usage::<V4>().backends, SIZE);
    let used: BTreeSet<u32> = machine
        .v4
        .frontends
        .values()
        .map(|value| value.cluster)
        .filter(|s| !s.is_empty())
        .map(|s| s.start)
        .collect();
    assert_eq!(used.len(), 1);
}

#[test]
fn each_policy_has_a_table_of_its_own_set() {
    let web = with(Algorithm::MAGLEV, exposed("web", 1, Cluster, Local));
    let all = vec![endpoint("10.0.1.1", HERE), endpoint("10.0.1.2", HERE), endpoint("10.0.2.1", THERE)];
    let machine = machine(tables(), [put(web), put(slice("web", "web", all))]);
    let [cluster, local] = segments(&machine, "192.0.2.1", 80);
    let members = |segment| -> BTreeSet<String> {
        slots(&machine, segment).iter().map(|slot| slot.addr.to_ip().to_string()).collect()
    };
    assert_eq!((cluster.len, local.len), (SIZE, SIZE));
    assert_eq!(members(cluster), ["10.0.1.1", "10.0.1.2", "10.0.2.1"].map(String::from).into());
    assert_eq!(members(local), ["10.0.1.1", "10.0.1.2"].map(String::from).into());
}

#[test]
fn two_agents_with_different_histories_and_ids_have_the_same_table() {
    let web = || put(with(Algorithm::MAGLEV, service("web", "10.96.0.1")));
    let straight = machine(tables(), [web(), put(slice("web", "web", endpoints([3, 1, 2])))]);
    let mut other =
        machine(tables(), [put(service("first", "10.96.0.9")), put(slice("f", "first", endpoints(7..=9)))]);
    other.apply([put(slice("b", "web", endpoints([2])))]);
    other.sync();
    other.apply([web(), put(slice("web", "web", endpoints([1, 3])))]);
    other.sync();
    let table = |machine: &Machine| slots(machine, segments(machine, "10.96.0.1", 80)[0]);
    assert_eq!(table(&straight), table(&other));
    assert_ne!(segments(&straight, "10.96.0.1", 80), segments(&other, "10.96.0.1", 80));
}

#[test]
fn weights_are_shares_of_slots_and_zero_is_drained() {
    let rules = [("10.0.1.1", 3), ("10.0.1.2", 0)];
    let web = Service {
        algorithm: Some(Algorithm::WEIGHTED_ROUND_ROBIN),
        weights: weights(&rules),
        ..service("web", "10.96.0.1")
    };
    let slice = put(slice("web", "web", endpoints(1..=3)));
    let mut machine = machine(settings(), [put(web.clone()), slice]);
    assert_eq!(shares(&machine, "10.96.0.1"), [(ip("10.0.1.1"), 3), (ip("10.0.1.3"), 1)].into());
    // All drained: then the weight counts for nothing, rather than nobody is served.
    machine
        .apply([put(Service { weights: Weights { others: Some(Weight(0)), ..Weights::default() }, ..web })]);
    machine.sync();
    let all = [ip("10.0.1.1"), ip("10.0.1.2"), ip("10.0.1.3")].map(|ip| (ip, 1));
    assert_eq!(shares(&machine, "10.96.0.1"), all.into());
}

#[test]
fn weights_go_by_node_and_zone_of_the_endpoint() {
    let rules = Weights {
        nodes: [(HERE.into(), Weight(2))].into(),
        zones: [("zb".into(), Weight(3))].into(),
        ..Weights::default()
    };
    let zoned = Endpoint { zone: Some("zb".into()), ..endpoint("10.0.2.1", THERE) };
    let all = vec![endpoint("10.0.1.1", HERE), zoned, endpoint("10.0.3.1", "n3")];
    let web = Service { weights: rules, ..service("web", "10.96.0.1") };
    let machine = machine(settings(), [put(web), put(slice("web", "web", all))]);
    let expected = [(ip("10.0.1.1"), 2), (ip("10.0.2.1"), 3), (ip("10.0.3.1"), 1)];
    assert_eq!(shares(&machine, "10.96.0.1"), expected.into());
}

#[test]
fn a_change_of_a_backend_moves_at_most_two_percent_of_the_other_connections() {
    let web = || put(with(Algorithm::MAGLEV, service("web", "10.96.0.1")));
    let capacity = Capacity { backends: 100_000, ..crate::kernel::ROOMY };
    let mut machine = Machine::new(settings(), capacity);
    machine.apply([web(), put(slice("web", "web", endpoints(1..=20)))].into_iter().chain(synced()));
    machine.sync();
    let before = slots(&machine, segments(&machine, "10.96.0.1", 80)[0]);
    machine.apply([put(slice("web", "web", endpoints((1..=20).filter(|last| *last != 7))))]);
    machine.sync();
    let after = slots(&machine, segments(&machine, "10.96.0.1", 80)[0]);
    let others = before.iter().zip(&after).filter(|(old, _)| old.addr.to_ip() != ip("10.0.1.7"));
    let (all, moved) =
        others.fold((0, 0), |(all, moved), (old, new)| (all + 1, moved + usize::from(old != new)));
    assert!(moved * 100 <= all * 2, "{moved} of {all}");
    assert!(after.iter().all(|slot| slot.addr.to_ip() != ip("10.0.1.7")));
}

#[test]
fn after_a_restart_the_tables_are_adopted_and_nothing_is_written() {
    let events = || {
        [
            put(with(Algorithm::MAGLEV, exposed("web", 1, Cluster, Local))),
            put(Service { weights: weights(&[("10.0.1.1", 9)]), ..service("heavy", "10.96.0.7") }),
            put(slice("web", "web", vec![endpoint("10.0.1.1", HERE), endpoint("10.0.2.1", THERE)])),
            put(slice("heavy", "heavy", endpoints(1..=2))),
            put(node(HERE, Some("za"), &[NODE_IP, "fd00:192::1"])),
            Event::LocalAddresses(locals()),
        ]
    };
    for names in [Names::Kept, Names::Lost] {
        let mut machine = machine(tables(), events());
        let adoption = machine.restart(names);
        assert_eq!((adoption.segments, adoption.broken), (3, 0));
        machine.apply(events().into_iter().chain(synced()));
        assert_eq!(machine.sync(), proxy_model::Plan::default(), "{names:?}");
    }
}

#[test]
fn a_table_without_room_is_refused_by_name_and_the_service_keeps_its_old_backends() {
    let web = || service("web", "10.96.0.1");
    let mut machine = Machine::new(tables(), Capacity { frontends: 10, backends: 200, ranges: 1 });
    machine.apply([put(web()), put(slice("web", "web", endpoints(1..=2)))].into_iter().chain(synced()));
    machine.sync();
    machine.apply([put(with(Algorithm::MAGLEV, web()))]);
    let refused: Vec<_> = machine.sync().refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        refused,
        [
            "Service default/web: 10.96.0.1:80/TCP (default/web:/TCP/ipv4): no room for 251 more backends among 200 \
          (--backend-table-size)"
        ]
    );
    assert_eq!(machine.tcp(POD, "10.96.0.1", 80), backends(Seen::Client, &["10.0.1.1", "10.0.1.2"]));
}

#[test]
fn item_57_a_local_backend_sees_an_external_client_only_if_that_is_asked_for() {
    let settings = Settings { local_source: LocalSource::Preserved, ..settings() };
    let all = vec![endpoint("10.0.1.1", HERE), endpoint("10.0.2.1", THERE)];
    let machine =
        machine(settings, [put(exposed("web", 1, Cluster, Cluster)), put(slice("web", "web", all))]);
    let seen = |local, remote| {
        let port = Port::new(8080);
        Verdict::Backends([((ip("10.0.1.1"), port), local), ((ip("10.0.2.1"), port), remote)].into())
    };
    for (addr, port) in [("192.0.2.1", 80), ("198.51.100.1", 80), (NODE_IP, 30_001)] {
        assert_eq!(machine.tcp(OUTSIDE, addr, port), seen(Seen::Client, Seen::Node), "{addr}");
        assert_eq!(machine.tcp(POD, addr, port), seen(Seen::Client, Seen::Node), "{addr}");
        assert_eq!(machine.tcp(NODE_IP, addr, port), seen(Seen::Node, Seen::Node), "{addr}");
        // Item 56 holds all the same.
        assert_eq!(machine.tcp("10.0.1.1", addr, port), seen(Seen::Node, Seen::Node), "{addr}");
    }
    assert_eq!(machine.tcp(OUTSIDE, "10.96.0.1", 80), seen(Seen::Node, Seen::Node), "a cluster address");
}
