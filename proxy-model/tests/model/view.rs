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
        lines.extend(port.unused.iter().map(|unused| format!("{} {}", unused.endpoint, unused.why)));
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
            "10.0.1.2:8080 hints select zone za",
            "10.0.1.3:8080 not ready",
            "10.0.1.4:8080 terminating, others are ready",
            "10.0.1.5:8080 terminating and not serving",
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
        [
            "cluster [] local [10.0.1.1:8080]",
            "10.0.1.2:8080 not on this node, and only local endpoints serve"
        ]
    );
    assert_eq!(
        lines(&machine, "all")[2..],
        ["cluster [10.0.1.1:8080] local []", "10.0.1.2:8080 hints select this node"]
    );
}
