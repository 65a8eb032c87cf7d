//! What a node tells of its own endpoints: health checks (items 125–128) and the count of what finds nothing (item 138).

use std::collections::BTreeMap;

use proxy_common::{Port, Proto, V4, V6};
use proxy_model::fact::TrafficPolicy::{Cluster, Local};
use proxy_model::fact::{Endpoint, Label, Service, ServiceKind, ServicePort, SlicePort, TrafficPolicy};
use proxy_model::local::{self, NothingHere};
use proxy_model::settings::{NodePortAddresses, Settings};
use proxy_model::{Change, Event, ObjectKey};

use crate::fixture::*;
use crate::kernel::Machine;

/// A load balancer with a health check on port 32000.
fn checked(name: &str, n: u8) -> Service {
    Service { health_check_node_port: Some(Port::new(32_000)), ..exposed(name, n, Cluster, Local) }
}

/// Address → Service and count.
fn checks(machine: &Machine) -> BTreeMap<String, String> {
    let checks = local::health_checks(&machine.world, &machine.planner);
    checks
        .into_iter()
        .map(|(at, health)| (at.to_string(), format!("{} {}", health.service, health.ready)))
        .collect()
}

fn told(lines: &[(&str, &str)]) -> BTreeMap<String, String> {
    lines.iter().map(|(at, health)| ((*at).to_owned(), (*health).to_owned())).collect()
}

/// Upstream: `TestHealthCheckNodePortWhenTerminating`, and its neighbours.
#[test]
fn items_126_and_128_only_ready_endpoints_of_this_node_count() {
    let here = |last: u8| endpoint(&format!("10.0.1.{last}"), HERE);
    let there = endpoint("10.0.2.1", THERE);
    for (endpoints, ready) in [
        (vec![], 0),
        (vec![here(1), here(2), there.clone()], 2),
        (vec![there.clone()], 0),
        (vec![here(1), not_ready(here(2)), draining(here(3)), stopped(here(4))], 1),
        // Traffic still goes to the draining one; load balancers must look elsewhere.
        (vec![draining(here(1)), there], 0),
        (vec![Endpoint { ready: None, ..here(1) }], 1),
        (vec![Endpoint { node: None, ..here(1) }], 0),
    ] {
        let facts = format!("{endpoints:?}");
        let machine = machine(settings(), [put(checked("web", 1)), put(slice("web-1", "web", endpoints))]);
        assert_eq!(
            checks(&machine),
            told(&[("192.168.0.1:32000", &format!("default/web {ready}"))]),
            "{facts}"
        );
    }
}

#[test]
fn an_endpoint_counts_once_however_many_ports_it_has() {
    let second = ServicePort { name: "tls".into(), port: Port::new(443), ..port() };
    let web = Service { ports: vec![port(), second], ..checked("web", 1) };
    let both = ["", "tls"].map(|name| SlicePort {
        name: Some(name.into()),
        proto: Proto::TCP,
        port: Some(Port::new(8080)),
    });
    let mut slice = slice("web-1", "web", vec![endpoint("10.0.1.1", HERE), endpoint("10.0.1.2", HERE)]);
    slice.ports = both.to_vec();
    let machine = machine(settings(), [put(web), put(slice)]);
    assert_eq!(checks(&machine), told(&[("192.168.0.1:32000", "default/web 2")]));
}

#[test]
fn item_125_only_load_balancers_with_local_policy_and_a_port_are_checked() {
    let all = checked("web", 1);
    for service in [
        Service { kind: ServiceKind::NodePort, ..all.clone() },
        Service { external_policy: Cluster, ..all.clone() },
        Service { health_check_node_port: None, ..all.clone() },
        Service { cluster_ips: vec![], ..all.clone() },
        Service { proxy_name: Some("other".into()), ..all.clone() },
        Service { headless_label: Label::Present, ..all.clone() },
    ] {
        let facts = format!("{service:?}");
        assert_eq!(checks(&machine(settings(), [put(service)])), told(&[]), "{facts}");
    }
}

#[test]
fn item_125_checks_are_asked_on_the_addresses_of_node_ports() {
    let dual = Service { cluster_ips: vec![ip("10.96.0.1"), ip("fd00:96::1")], ..checked("web", 1) };
    let within = |ranges: &[&str]| NodePortAddresses::Within(ranges.iter().map(|r| prefix(r)).collect());
    for (accepted, addresses) in [
        (NodePortAddresses::Primary, &["192.168.0.1:32000", "[fd00:192::1]:32000"][..]),
        (within(&["192.168.1.0/24", "fd00::/16"]), &["192.168.1.1:32000", "[fd00:192::1]:32000"]),
        // A family that no range is of matches all its addresses.
        (within(&["192.168.1.0/24"]), &["192.168.1.1:32000", "[::]:32000"]),
        (within(&["192.168.1.0/24", "0.0.0.0/0", "fd01::/16"]), &["0.0.0.0:32000"]),
        (within(&[]), &["0.0.0.0:32000", "[::]:32000"]),
    ] {
        let machine = machine(Settings { node_port_addresses: accepted, ..settings() }, [put(dual.clone())]);
        let expected: Vec<_> = addresses.iter().map(|at| (*at, "default/web 0")).collect();
        assert_eq!(checks(&machine), told(&expected));
    }
}

#[test]
fn each_family_counts_its_own_endpoints_and_follows_changes() {
    let dual = Service { cluster_ips: vec![ip("10.96.0.1"), ip("fd00:96::1")], ..checked("web", 1) };
    let v4 = |endpoints| put(slice("web-4", "web", endpoints));
    let v6 = put(slice("web-6", "web", vec![endpoint("fd00:10::1", HERE), endpoint("fd00:10::2", HERE)]));
    let mut machine = machine(settings(), [put(dual), v4(vec![endpoint("10.0.1.1", HERE)]), v6]);
    let (at4, at6) = ("192.168.0.1:32000", "[fd00:192::1]:32000");
    assert_eq!(checks(&machine), told(&[(at4, "default/web 1"), (at6, "default/web 2")]));

    machine.apply([v4(vec![draining(endpoint("10.0.1.1", HERE))])]);
    machine.sync();
    assert_eq!(checks(&machine), told(&[(at4, "default/web 0"), (at6, "default/web 2")]));

    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "web")))]);
    machine.sync();
    assert_eq!(checks(&machine), told(&[]));
}

#[test]
fn a_port_that_two_services_claim_is_the_older_ones() {
    let younger = Service { created: 7, ..checked("a", 1) };
    let older = Service { created: 3, ..checked("b", 2) };
    let machine = machine(settings(), [put(younger), put(older)]);
    assert_eq!(checks(&machine), told(&[("192.168.0.1:32000", "default/b 0")]));
}

/// Upstream: `TestNoEndpointsMetric`, every combination.
#[test]
fn item_138_service_ports_with_endpoints_elsewhere_only_are_counted() {
    let (here, there) = (endpoint("10.0.1.1", HERE), endpoint("10.0.2.1", THERE));
    let nothing = NothingHere::default();
    let both = |internal, external| NothingHere { internal, external };
    let counted = |internal: TrafficPolicy, external: TrafficPolicy, endpoints: &[Endpoint]| {
        let web = exposed("web", 1, internal, external);
        let machine = machine(settings(), [put(web), put(slice("web-1", "web", endpoints.to_vec()))]);
        local::nothing_here::<V4>(&machine.planner)
    };
    for (internal, external, elsewhere) in [
        (Local, Cluster, both(1, 0)),
        (Cluster, Local, both(0, 1)),
        (Local, Local, both(1, 1)),
        (Cluster, Cluster, nothing),
    ] {
        let policies = format!("internal {internal:?}, external {external:?}");
        assert_eq!(counted(internal, external, &[here.clone(), there.clone()]), nothing, "{policies}, here");
        assert_eq!(counted(internal, external, std::slice::from_ref(&there)), elsewhere, "{policies}");
        assert_eq!(counted(internal, external, &[]), nothing, "{policies}, nowhere");
        let last = [draining(here.clone()), there.clone()];
        assert_eq!(counted(internal, external, &last), nothing, "{policies}, the last one here drains");
    }
}

#[test]
fn item_138_a_port_counts_once_in_each_family_and_only_for_clients_that_can_come() {
    let inside = Service { external_policy: Local, ..service("inside", "10.96.0.9") };
    let dual = Service {
        cluster_ips: vec![ip("10.96.0.1"), ip("fd00:96::1")],
        internal_policy: Local,
        ..service("dual", "10.96.0.1")
    };
    let machine = machine(
        settings(),
        [
            put(inside),
            put(slice("inside-4", "inside", vec![endpoint("10.0.2.9", THERE)])),
            put(dual),
            put(slice("dual-4", "dual", vec![endpoint("10.0.2.1", THERE)])),
            put(slice("dual-6", "dual", vec![endpoint("fd00:10::1", THERE)])),
        ],
    );
    let one = NothingHere { internal: 1, external: 0 };
    assert_eq!(local::nothing_here::<V4>(&machine.planner), one);
    assert_eq!(local::nothing_here::<V6>(&machine.planner), one);
}
