//! The engine with maps in memory: from objects to what a packet would find.

mod audit;
mod kept;
mod memory;
mod moved;
mod node;
mod notes;
mod policy;
mod range;
mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proxy_common::{Addr4, Addr6, Address, Family, FrontendKey, Port, Proto};
use proxy_model::policy::PolicyCapacity;
use proxy_model::settings::Settings;
use proxy_model::{Capacity, IpFamily};
use serde_json::{Value, json};

use self::memory::{Fake, Memory};
use super::engine::{Engine, Next};
use super::policy::Enforcing;
use crate::cli::{PolicyArgs, PolicyChangeArg, Switch};
use crate::kernel::Topology;
use crate::observe::maps::PinnedMaps;
use crate::observe::status::Eligibility;
use crate::observe::{Events, Metrics, Status};
use crate::parse;
use crate::source::{Extent, Key, Kind, Object, Update};

const ENFORCED: PolicyArgs =
    PolicyArgs { network_policy: Switch::On, policy_on_change: PolicyChangeArg::All };

struct Bench {
    engine: Engine<Fake>,
    status: Arc<Status>,
    now: Instant,
}

fn settings() -> Settings {
    Settings::of_node("n1")
}

impl Bench {
    fn over(fake: Fake) -> Self {
        Self::with(fake, settings())
    }

    fn with(fake: Fake, settings: Settings) -> Self {
        Self::asked(fake, settings, ENFORCED)
    }

    fn asked(fake: Fake, settings: Settings, args: PolicyArgs) -> Self {
        let enforcing = Enforcing { args, capacity: PolicyCapacity::default(), events: Events::nowhere() };
        Self::enforcing(fake, settings, enforcing)
    }

    fn enforcing(fake: Fake, settings: Settings, enforcing: Enforcing) -> Self {
        let status = Arc::new(Status::default());
        let metrics = Arc::new(Metrics::new(PinnedMaps::below("/nonexistent".into())));
        let capacity = Capacity { frontends: 1_000, backends: 1_000, ranges: 1_000 };
        let engine = Engine::adopt(fake, settings, capacity, enforcing, status.clone(), metrics).unwrap();
        Self { engine, status, now: Instant::now() }
    }

    fn synced() -> Self {
        let mut bench = Self::over(Fake::default());
        bench.take(Kind::ALL.map(Update::Synced));
        bench
    }

    /// Takes updates in and writes what follows.
    fn take(&mut self, updates: impl IntoIterator<Item = Update>) -> Next {
        self.engine.take(updates.into_iter());
        self.now += Duration::from_millis(1);
        self.engine.sync(self.now)
    }

    /// Families of which a change waits to be written.
    fn waiting(&self) -> Vec<IpFamily> {
        let families = self.status.snapshot().families;
        families.iter().filter(|(_, is)| is.pending_since.is_some()).map(|(family, _)| *family).collect()
    }

    /// What a client of `frontend` would find: nothing known, or backends.
    fn lookup(&mut self, frontend: &str) -> Option<BTreeSet<SocketAddr>> {
        let frontend: SocketAddr = frontend.parse().unwrap();
        let fake = self.engine.dataplane();
        match frontend.ip() {
            IpAddr::V4(ip) => find(&fake.v4, ip.into(), frontend.port()),
            IpAddr::V6(ip) => find(&fake.v6, ip.into(), frontend.port()),
        }
    }
}

fn find<F: Family>(maps: &Memory<F>, addr: F::Addr, port: u16) -> Option<BTreeSet<SocketAddr>> {
    let frontend = maps.frontends.get(&FrontendKey::new(addr, Port::new(port), Proto::TCP))?;
    let slots = frontend.cluster.start..frontend.cluster.start + frontend.cluster.len;
    Some(
        slots
            .map(|i| maps.slots[&i])
            .map(|slot| SocketAddr::new(slot.addr.to_ip(), slot.port.number()))
            .collect(),
    )
}

fn put(object: Object) -> Update {
    let key = object.key().unwrap();
    let parsed = parse::object(&key, &object);
    Update::Put(key, Box::new(parsed))
}

fn service(name: &str, ips: &[&str]) -> Update {
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"clusterIPs": ips, "ports": [{"name": "http", "port": 80}]}});
    put(Object::Service(serde_json::from_value(value).unwrap()))
}

fn slice(name: &str, service: &str, addresses: &[&str]) -> Update {
    let endpoints: Vec<Value> = addresses.iter().map(|ip| json!({"addresses": [ip]})).collect();
    let value = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": service}},
        "ports": [{"name": "http", "port": 8080}], "endpoints": endpoints});
    put(Object::EndpointSlice(serde_json::from_value(value).unwrap()))
}

fn node(value: Value) -> Update {
    let mut object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}});
    object.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
    put(Object::Node(serde_json::from_value(object).unwrap()))
}

fn gone(kind: Kind, name: &str) -> Update {
    Update::Delete(Key { kind, namespace: "default".into(), name: name.into() })
}

fn backends(texts: &[&str]) -> Option<BTreeSet<SocketAddr>> {
    Some(texts.iter().map(|text| text.parse().unwrap()).collect())
}

#[test]
fn item_112_nothing_is_written_and_nobody_is_ready_before_everything_is_known() {
    let mut bench = Bench::over(Fake::default());
    bench.take([service("web", &["10.96.0.1"]), Update::Synced(Kind::Service), Update::Synced(Kind::Node)]);
    assert_eq!((bench.engine.dataplane().plans, bench.status.snapshot().is_ready()), (0, false));
    assert_eq!(bench.waiting(), []);
    bench.take([slice("s", "web", &["10.244.1.1"]), Update::Synced(Kind::EndpointSlice)]);
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]));
    assert!(!bench.status.snapshot().is_ready(), "nobody knows which policies there are");
    bench.take([Update::Synced(Kind::NetworkPolicy), Update::Synced(Kind::ClusterNetworkPolicy)]);
    assert!(bench.status.snapshot().is_ready());
}

#[test]
fn an_empty_cluster_is_ready_too() {
    let bench = Bench::synced();
    assert!(bench.status.snapshot().is_ready());
}

#[test]
fn objects_come_change_and_go() {
    let mut bench = Bench::synced();
    bench.take([service("web", &["10.96.0.1"])]);
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&[]));
    bench.take([slice("a", "web", &["10.244.1.1"]), slice("b", "web", &["10.244.2.1"])]);
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080", "10.244.2.1:8080"]));
    bench.take([gone(Kind::EndpointSlice, "a")]);
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.2.1:8080"]));
    bench.take([gone(Kind::Service, "web")]);
    assert_eq!(bench.lookup("10.96.0.1:80"), None);
}

#[test]
fn the_order_of_updates_does_not_matter() {
    let updates = || {
        vec![
            service("web", &["10.96.0.1"]),
            service("other", &["10.96.0.2", "fd00::2"]),
            slice("a", "web", &["10.244.1.1", "10.244.1.2"]),
            slice("b", "other", &["10.244.1.3"]),
        ]
    };
    // Every rotation, one update a plan, and all at once.
    for turn in 0..updates().len() {
        let mut one_by_one = Bench::synced();
        let mut turned = updates();
        turned.rotate_left(turn);
        for update in turned {
            one_by_one.take([update]);
        }
        let mut together = Bench::synced();
        together.take(updates());
        for frontend in ["10.96.0.1:80", "10.96.0.2:80", "[fd00::2]:80"] {
            assert!(together.lookup(frontend).is_some(), "{frontend}");
            assert_eq!(
                one_by_one.lookup(frontend),
                together.lookup(frontend),
                "{frontend}, turned by {turn}"
            );
        }
    }
}

#[test]
fn an_object_with_an_unreadable_address_stops_nobody_else() {
    let mut bench = Bench::synced();
    bench.take([
        service("bad", &["10.96.0.300"]),
        service("half", &["10.96.0.2", "fd00::zz"]),
        service("good", &["10.96.0.1"]),
        slice("lost", "", &["10.244.9.9"]),
        slice("a", "good", &["10.244.1.1", "nowhere"]),
    ]);
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]));
    assert_eq!(bench.lookup("10.96.0.2:80"), backends(&[]));
    let problems = bench.status.snapshot().problems;
    assert_eq!(problems, BTreeMap::from([(Kind::Service, 2), (Kind::EndpointSlice, 2)]));
    bench.take([service("bad", &["10.96.0.3"]), gone(Kind::Service, "half")]);
    assert_eq!(bench.status.snapshot().problems, BTreeMap::from([(Kind::EndpointSlice, 2)]));
}

#[test]
fn a_failed_write_is_tried_again_until_it_is_made() {
    let mut bench = Bench::synced();
    bench.engine.dataplane().v4.failures = 3;
    let Next::At(first) = bench.take([service("web", &["10.96.0.1"])]) else { panic!("no retry") };
    assert_eq!(bench.waiting(), [IpFamily::Ipv4]);
    let mut next = Next::At(first);
    let mut tries = 0;
    while let Next::At(at) = next {
        tries += 1;
        assert!(tries < 10, "never written");
        next = bench.engine.sync(at);
    }
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&[]));
    assert_eq!(bench.waiting(), []);
}

#[test]
fn an_update_that_changes_nothing_writes_nothing() {
    let mut bench = Bench::synced();
    bench.take([service("web", &["10.96.0.1"]), slice("a", "web", &["10.244.1.1"])]);
    let plans = bench.engine.dataplane().plans;
    bench.take([
        service("web", &["10.96.0.1"]),
        slice("a", "web", &["10.244.1.1"]),
        gone(Kind::Service, "unknown"),
    ]);
    assert_eq!(bench.engine.dataplane().plans, plans);
}

#[test]
fn item_118_a_restart_keeps_what_is_right_and_writes_the_rest() {
    let mut before = Bench::synced();
    before.take([
        service("web", &["10.96.0.1"]),
        slice("a", "web", &["10.244.1.1"]),
        service("old", &["10.96.0.9"]),
    ]);
    let maps = std::mem::take(before.engine.dataplane());
    let mut after = Bench::over(Fake { v4: maps.v4, v6: maps.v6, ..Fake::default() });
    after.take([service("web", &["10.96.0.1"]), slice("a", "web", &["10.244.1.1"])]);
    assert_eq!(
        after.lookup("10.96.0.9:80"),
        Some(BTreeSet::new()),
        "nothing goes before everything is known"
    );
    after.take(Kind::ALL.map(Update::Synced));
    assert_eq!(after.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]));
    assert_eq!(after.lookup("10.96.0.9:80"), None);
    // The frontend of `old` and its wildcard.
    assert_eq!((after.engine.dataplane().plans, after.engine.dataplane().writes), (1, 2));
}

#[test]
fn item_53_ranges_of_cluster_addresses_reach_the_programs() {
    let mut bench = Bench::synced();
    let value = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/16", "fd00::/108"]}});
    bench.take([put(Object::ServiceCidr(serde_json::from_value(value).unwrap()))]);
    let (v4, v6) = bench.engine.dataplane().node.unwrap();
    let four = Addr4::from_ip("10.96.200.1".parse().unwrap()).unwrap();
    assert!(v4.service_cidrs[0].contains(four));
    assert!(v6.service_cidrs[0].contains(Addr6::from_ip("fd00::5".parse().unwrap()).unwrap()));
    let key = Key { kind: Kind::ServiceCidr, namespace: "".into(), name: "kubernetes".into() };
    bench.take([Update::Delete(key)]);
    let (v4, _) = bench.engine.dataplane().node.unwrap();
    assert!(!v4.service_cidrs[0].contains(four));
}

#[test]
fn item_123_a_node_that_is_going_is_not_eligible() {
    let mut bench = Bench::synced();
    bench.take([node(json!({}))]);
    assert_eq!(bench.status.snapshot().eligibility, Eligibility::Eligible);
    bench.take([node(
        json!({"spec": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]}}),
    )]);
    assert_eq!(bench.status.snapshot().eligibility, Eligibility::Leaving);
    bench.take([node(json!({}))]);
    assert_eq!(bench.status.snapshot().eligibility, Eligibility::Eligible);
    bench.take([node(json!({"metadata": {"name": "n1", "deletionTimestamp": "2026-01-01T00:00:00Z"}}))]);
    assert_eq!(bench.status.snapshot().eligibility, Eligibility::Leaving);
}

#[test]
fn items_121_and_123_a_node_that_was_deleted_is_not_eligible_and_one_that_never_was_is() {
    let mut bench = Bench::synced();
    assert!(bench.status.snapshot().is_eligible());
    bench.take([node(json!({}))]);
    let key = Key { kind: Kind::Node, namespace: "".into(), name: "n1".into() };
    bench.take([Update::Delete(key)]);
    assert!(!bench.status.snapshot().is_eligible());
    bench.take([node(json!({}))]);
    assert!(bench.status.snapshot().is_eligible());
}

#[test]
fn items_125_to_128_and_138_health_checks_and_counts_follow_the_objects() {
    let mut bench = Bench::synced();
    bench.take([node(json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}))]);
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 32_000, "ports": [{"name": "http", "port": 80, "nodePort": 30_000}]}});
    bench.take([put(Object::Service(serde_json::from_value(value).unwrap()))]);
    let ready = |bench: &Bench| {
        let checks = bench.status.health_checks().borrow().clone();
        checks.iter().map(|(at, health)| (at.to_string(), health.ready)).collect::<Vec<_>>()
    };
    assert_eq!(ready(&bench), [("192.0.2.1:32000".to_owned(), 0)]);
    bench.take([slice("a", "web", &["10.244.1.1"])]);
    let text = bench.engine.metrics().text(&bench.status.snapshot(), SystemTime::now());
    for (policy, count) in [("internal", 0), ("external", 1)] {
        let line = format!(
            "kubeproxy_sync_proxy_rules_no_local_endpoints_total{{traffic_policy=\"{policy}\",ip_family=\"IPv4\"}} {count}"
        );
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    bench.take([gone(Kind::Service, "web")]);
    assert_eq!(ready(&bench), []);
}

#[test]
fn devices_are_followed_with_the_last_known_addresses_until_the_node_is_known() {
    let mut bench = Bench::over(Fake::default());
    bench.engine.take_topology(Topology::default());
    bench.engine.sync(bench.now);
    let status = json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}});
    bench.take([node(status.clone())]);
    bench.take([node(status)]);
    let expected: Vec<Vec<IpAddr>> =
        vec![vec!["192.0.2.99".parse().unwrap()], vec!["192.0.2.1".parse().unwrap()]];
    assert_eq!(bench.engine.dataplane().followed, expected);
}

#[test]
fn item_135_changes_of_pods_are_measured_until_they_are_in_the_kernel() {
    let mut bench = Bench::synced();
    let Update::Put(key, mut parsed) = slice("a", "web", &["10.244.1.1"]) else { panic!("a put") };
    parsed.triggered = Some(SystemTime::now() + Duration::from_secs(1));
    bench.take([service("web", &["10.96.0.1"]), Update::Put(key, parsed)]);
    let text = bench.engine.metrics().text(&bench.status.snapshot(), SystemTime::now());
    let line = "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"} 1";
    assert!(text.lines().any(|found| found == line), "{text}");
}
