//! Section 2.2: 27 flows in 4 configurations, as data.

use proxy_model::fact::TrafficPolicy::{Cluster, Local};
use proxy_model::settings::Masquerade;

use crate::fixture::*;
use crate::reference::{Seen, Verdict};

const ALL: &[&str] = &["10.0.1.1", "10.0.2.1"];
const HERE_ONLY: &[&str] = &["10.0.1.1"];

/// One row: client, frontend, then per Service the endpoints and the source that they see.
type Row = (&'static str, &'static str, [(&'static [&'static str], Seen); 3]);

fn rows(to_cluster_ip: [Seen; 3], pod_to_local: (&'static [&'static str], Seen)) -> Vec<Row> {
    use Seen::{Client, Node};
    let [pod, node, outside] = to_cluster_ip;
    let mut rows = Vec::new();
    for (client, seen) in [(POD, pod), (NODE_IP, node), (OUTSIDE, outside)] {
        rows.push((client, "cluster-ip", [(ALL, seen), (ALL, seen), (HERE_ONLY, seen)]));
    }
    for frontend in ["node-port", "load-balancer"] {
        rows.push((POD, frontend, [(ALL, Node), pod_to_local, (ALL, Node)]));
        rows.push((NODE_IP, frontend, [(ALL, Node), (ALL, Node), (ALL, Node)]));
        rows.push((OUTSIDE, frontend, [(ALL, Node), (HERE_ONLY, Client), (ALL, Node)]));
    }
    rows
}

#[test]
fn each_client_reaches_the_endpoints_of_the_matrix_and_is_seen_as_it_says() {
    use Seen::{Client, Node};
    let configurations = [
        ("detector", Some(()), Masquerade::Needed, rows([Client, Node, Node], (ALL, Client))),
        ("no detector", None, Masquerade::Needed, rows([Client, Client, Client], (HERE_ONLY, Client))),
        ("masquerade all", Some(()), Masquerade::All, rows([Node, Node, Node], (ALL, Client))),
        ("masquerade all, no detector", None, Masquerade::All, rows([Node, Node, Node], (HERE_ONLY, Client))),
    ];
    let mut flows = 0;
    for (name, detector, masquerade, rows) in configurations {
        let mut settings = settings();
        settings.masquerade = masquerade;
        if detector.is_none() {
            settings.cluster_cidrs.clear();
        }
        let policies = [(Cluster, Cluster), (Cluster, Local), (Local, Cluster)];
        let mut events = Vec::new();
        for (n, (internal, external)) in (1..).zip(policies) {
            let service = format!("svc{n}");
            events.push(put(exposed(&service, n, internal, external)));
            let endpoints = vec![endpoint("10.0.1.1", HERE), endpoint("10.0.2.1", THERE)];
            events.push(put(slice(&service, &service, endpoints)));
        }
        let machine = machine(settings, events);
        for (client, frontend, expected) in rows {
            for (n, (addrs, seen)) in (1u16..).zip(expected) {
                let verdict = match frontend {
                    "cluster-ip" => machine.tcp(client, &format!("10.96.0.{n}"), 80),
                    "node-port" => machine.tcp(client, NODE_IP, 30_000 + n),
                    _ => machine.tcp(client, &format!("192.0.2.{n}"), 80),
                };
                assert_eq!(verdict, backends(seen, addrs), "{name}: {client} to {frontend} of svc{n}");
                // External IPs are treated as the load balancer's addresses (item 83).
                if frontend == "load-balancer" {
                    let external = machine.tcp(client, &format!("198.51.100.{n}"), 80);
                    assert_eq!(
                        external,
                        backends(seen, addrs),
                        "{name}: {client} to the external IP of svc{n}"
                    );
                }
                flows += 1;
            }
        }
    }
    assert_eq!(flows, 27 * 4);
}

#[test]
fn item_50_a_local_policy_without_local_endpoints_drops_and_without_any_refuses() {
    let service = |endpoints| {
        machine(settings(), [put(exposed("web", 1, Local, Local)), put(slice("web", "web", endpoints))])
    };
    let elsewhere = service(vec![endpoint("10.0.2.1", THERE)]);
    let nowhere = service(vec![not_ready(endpoint("10.0.2.1", THERE))]);
    for (client, addr, port, expected) in [
        (POD, "10.96.0.1", 80, Verdict::Drop),
        (OUTSIDE, "10.96.0.1", 80, Verdict::Drop),
        (OUTSIDE, NODE_IP, 30_001, Verdict::Drop),
        (OUTSIDE, "192.0.2.1", 80, Verdict::Drop),
        (OUTSIDE, "198.51.100.1", 80, Verdict::Drop),
        // Items 85–87: pods and the node take the short circuit to the whole cluster.
        (POD, "192.0.2.1", 80, backends(Seen::Client, &["10.0.2.1"])),
        (NODE_IP, NODE_IP, 30_001, backends(Seen::Node, &["10.0.2.1"])),
    ] {
        assert_eq!(elsewhere.tcp(client, addr, port), expected, "{client} to {addr}:{port}");
        // Item 90.
        assert_eq!(nowhere.tcp(client, addr, port), Verdict::Reject, "{client} to {addr}:{port}");
    }
}

#[test]
fn item_56_a_hairpin_is_masqueraded_whatever_the_frontend_and_the_policy() {
    for (internal, external) in [(Cluster, Cluster), (Local, Local)] {
        let events = [
            put(exposed("web", 1, internal, external)),
            put(slice("web", "web", vec![endpoint("10.0.1.1", HERE)])),
        ];
        let mut settings = settings();
        settings.cluster_cidrs.clear();
        let machine = machine(settings, events);
        for (addr, port) in [("10.96.0.1", 80), (NODE_IP, 30_001), ("192.0.2.1", 80), ("198.51.100.1", 80)] {
            assert_eq!(machine.tcp("10.0.1.1", addr, port), backends(Seen::Node, &["10.0.1.1"]), "{addr}");
        }
    }
}
