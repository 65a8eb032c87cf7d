//! What the status view says about a Service.

use proxy_model::fact::TrafficPolicy::{Cluster, Local};
use proxy_model::fact::{Endpoint, Service};
use proxy_model::view;

use crate::fixture::*;
use crate::kernel::Machine;

fn lines(machine: &Machine, name: &str) -> Vec<String> {
    let service = machine.world.service_at(&proxy_model::ObjectKey::new("default", name)).unwrap();
    let mut lines = Vec::new();
    for port in view::ports(&machine.world, &machine.planner, service) {
        lines.push(format!("{} id {:?}", port.name, port.id.map(|id| id.0)));
        for frontend in port.frontends {
            let refused = frontend.refused.map(|reason| format!(" refused: {reason}")).unwrap_or_default();
            lines.push(format!("{:?} {}{refused}", frontend.exposure, frontend.place));
        }
        lines.push(format!("cluster {:?} local {:?}", port.cluster, port.local));
        lines.extend(
            port.endpoints.iter().filter_map(|is| Some(format!("{} {}", is.endpoint, is.why.as_ref()?))),
        );
    }
    lines
}

#[test]
fn each_endpoint_is_used_or_has_a_reason() {
    let hinted = |last: u8, node, zone: &str| Endpoint {
        hint_zones: vec![zone.into()],
        ..endpoint(&format!("10.0.1.{last}"), node)
    };
    let endpoints = vec![
        hinted(1, HERE, "za"),
        hinted(2, THERE, "zb"),
        not_ready(endpoint("10.0.1.3", HERE)),
        draining(endpoint("10.0.1.4", HERE)),
        stopped(endpoint("10.0.1.5", HERE)),
    ];
    let squatter =
        Service { external_ips: vec![ip("198.51.100.1")], created: 5, ..service("squatter", "10.96.0.9") };
    let machine = machine(
        settings(),
        [put(exposed("web", 1, Cluster, Local)), put(slice("web", "web", endpoints)), put(squatter)],
    );
    assert_eq!(
        lines(&machine, "web"),
        [
            "default/web:/TCP/ipv4 id Some(2)",
            "ClusterIp 10.96.0.1:80/TCP",
            "LoadBalancer 192.0.2.1:80/TCP",
            "NodePort 192.168.0.1:30001/TCP",
            "ExternalIp 198.51.100.1:80/TCP",
            "cluster [10.0.1.1:8080] local [10.0.1.1:8080]",
            "10.0.1.2:8080 zone zb; hints select zone za",
            "10.0.1.3:8080 not ready",
            "10.0.1.4:8080 terminating; ready ones exist",
            "10.0.1.5:8080 terminating, not serving",
        ]
    );
    assert_eq!(
        lines(&machine, "squatter"),
        [
            "default/squatter:/TCP/ipv4 id Some(1)",
            "ClusterIp 10.96.0.9:80/TCP",
            "ExternalIp 198.51.100.1:80/TCP refused: it belongs to Service default/web",
            "cluster [] local []",
        ]
    );
}

#[test]
fn endpoints_elsewhere_are_unused_where_only_local_ones_serve() {
    let local = Service { internal_policy: Local, ..service("web", "10.96.0.1") };
    let here_only = Endpoint { hint_nodes: vec![HERE.into()], ..endpoint("10.0.1.1", HERE) };
    let there_only = Endpoint { hint_nodes: vec![THERE.into()], ..endpoint("10.0.1.2", THERE) };
    let slice = |service| put(slice(service, service, vec![here_only.clone(), there_only.clone()]));
    let machine =
        machine(settings(), [put(local), slice("web"), put(service("all", "10.96.0.2")), slice("all")]);
    assert_eq!(
        lines(&machine, "web")[2..],
        ["cluster [] local [10.0.1.1:8080]", "10.0.1.2:8080 remote; internalTrafficPolicy Local"]
    );
    assert_eq!(
        lines(&machine, "all")[2..],
        ["cluster [10.0.1.1:8080] local []", "10.0.1.2:8080 node n2; hints select this node"]
    );
}

#[test]
fn items_16_and_17_an_endpoint_that_is_listed_twice_is_explained_twice_and_counts_once() {
    let (first, again) = (endpoint("10.0.1.1", HERE), not_ready(endpoint("10.0.1.1", HERE)));
    let machine = machine(
        settings(),
        [
            put(service("web", "10.96.0.1")),
            put(slice("web-1", "web", vec![again])),
            put(slice("web-2", "web", vec![first.clone()])),
            put(slice("web-3", "web", vec![first.clone(), first])),
        ],
    );
    assert_eq!(
        lines(&machine, "web")[2..],
        [
            "cluster [10.0.1.1:8080] local []",
            "10.0.1.1:8080 duplicate of an entry in slice web-2",
            "10.0.1.1:8080 duplicate of an entry in slice web-2",
            "10.0.1.1:8080 duplicate of an entry in slice web-2",
        ]
    );
}
