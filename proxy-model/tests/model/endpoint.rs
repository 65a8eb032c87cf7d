//! Which endpoints a Service port gets: items 8–18, 27–34, 38–45 and the cases of `TestCategorizeEndpoints`
//! (section 2.4).

use proxy_common::{Port, Proto};
use proxy_model::fact::TrafficPolicy::{self, Cluster, Local};
use proxy_model::fact::{Change, Endpoint, Event, Label, ServicePort, SliceFamily, SlicePort};

use crate::fixture::*;
use crate::kernel::Machine;
use crate::reference::{Seen, Verdict};

fn zones(endpoint: Endpoint, zones: &[&str]) -> Endpoint {
    Endpoint { hint_zones: zones.iter().map(|&zone| zone.into()).collect(), ..endpoint }
}

fn nodes(endpoint: Endpoint, nodes: &[&str]) -> Endpoint {
    Endpoint { hint_nodes: nodes.iter().map(|&node| node.into()).collect(), ..endpoint }
}

/// A case of `CategorizeEndpoints`: policies, endpoints, and the last octets of the cluster and the local set.
struct Case {
    name: &'static str,
    policies: (TrafficPolicy, TrafficPolicy),
    zone: Option<&'static str>,
    endpoints: Vec<Endpoint>,
    cluster: &'static [u8],
    local: &'static [u8],
}

fn at(last: u8, node: &str) -> Endpoint {
    endpoint(&format!("10.0.1.{last}"), node)
}

fn expected(set: &[u8], seen: Seen, otherwise: Verdict) -> Verdict {
    let addrs: Vec<_> = set.iter().map(|last| format!("10.0.1.{last}")).collect();
    let addrs: Vec<_> = addrs.iter().map(String::as_str).collect();
    if addrs.is_empty() { otherwise } else { backends(seen, &addrs) }
}

// tidy: long because it is a table, one case after the other.
fn hint_cases() -> Vec<Case> {
    let hinted = || {
        vec![
            zones(at(1, HERE), &["za"]),
            zones(at(2, THERE), &["zb"]),
            zones(at(3, "n3"), &["zc"]),
            zones(at(4, "n4"), &["za"]),
        ]
    };
    let case = |name, policies, zone, endpoints, cluster, local| Case {
        name,
        policies,
        zone,
        endpoints,
        cluster,
        local,
    };
    let both = (Cluster, Cluster);
    vec![
        case("hints of my zone", both, Some("za"), hinted(), &[1, 4], &[]),
        case(
            "hints do not concern an external Local policy",
            (Cluster, Local),
            Some("zb"),
            hinted(),
            &[2],
            &[1],
        ),
        case(
            "hints do not concern an internal Local policy",
            (Local, Cluster),
            Some("zb"),
            hinted(),
            &[2],
            &[1],
        ),
        case("no zone on the node", both, None, hinted(), &[1, 2, 3, 4], &[]),
        case("no endpoint for my zone", both, Some("zd"), hinted(), &[1, 2, 3, 4], &[]),
        case(
            "an unready endpoint is left out",
            both,
            Some("za"),
            hinted().into_iter().chain([zones(not_ready(at(5, "n5")), &["za"])]).collect(),
            &[1, 4],
            &[],
        ),
        case(
            "only an unready endpoint in my zone",
            both,
            Some("za"),
            vec![zones(not_ready(at(1, HERE)), &["za"]), zones(at(2, THERE), &["zb"])],
            &[2],
            &[],
        ),
        case(
            "one ready endpoint without hints",
            both,
            Some("za"),
            hinted().into_iter().chain([at(5, "n5")]).collect(),
            &[1, 2, 3, 4, 5],
            &[],
        ),
        case(
            "an unready endpoint without hints",
            both,
            Some("za"),
            hinted().into_iter().chain([not_ready(at(5, "n5"))]).collect(),
            &[1, 4],
            &[],
        ),
        case(
            "several zones per endpoint",
            both,
            Some("za"),
            vec![zones(at(1, HERE), &["zb", "za"]), zones(at(2, THERE), &["zb", "zc"])],
            &[1],
            &[],
        ),
        case(
            "topology and localness differ",
            (Local, Local),
            Some("za"),
            vec![
                zones(at(1, HERE), &["zb"]),
                zones(at(2, THERE), &["za"]),
                zones(at(3, "n3"), &["zb"]),
                zones(at(4, HERE), &["za"]),
            ],
            &[2, 4],
            &[1, 4],
        ),
    ]
}

fn node_hint_cases() -> Vec<Case> {
    let case = |name, endpoints, cluster| Case {
        name,
        policies: (Cluster, Cluster),
        zone: Some("za"),
        endpoints,
        cluster,
        local: &[],
    };
    let one = |last, node: &str, zone| zones(nodes(at(last, node), &[node]), &[zone]);
    vec![
        case("hints of my node", vec![one(1, HERE, "za"), one(2, THERE, "za"), one(3, "n3", "zb")], &[1]),
        case("none for my node: my zone", vec![one(2, THERE, "za"), one(3, "n3", "zb")], &[2]),
        case(
            "one without a node hint: my zone",
            vec![one(1, HERE, "za"), one(2, THERE, "za"), zones(at(3, "n3"), &["zb"])],
            &[1, 2],
        ),
        case(
            "node hints only, none for my node: all",
            vec![nodes(at(2, THERE), &[THERE]), nodes(at(3, "n3"), &["n3"])],
            &[2, 3],
        ),
    ]
}

// tidy: long because it is a table, one case after the other.
fn policy_cases() -> Vec<Case> {
    let case = |name, policies, endpoints, cluster, local| Case {
        name,
        policies,
        zone: None,
        endpoints,
        cluster,
        local,
    };
    let (cc, lc, cl, ll) = ((Cluster, Cluster), (Local, Cluster), (Cluster, Local), (Local, Local));
    vec![
        case("Local: no endpoints", lc, vec![], &[], &[]),
        case("Local: all remote", lc, vec![at(1, THERE), at(2, "n3")], &[1, 2], &[]),
        case("Local: all local", lc, vec![at(1, HERE), at(2, HERE)], &[1, 2], &[1, 2]),
        case("Local: some local", lc, vec![at(1, HERE), at(2, THERE)], &[1, 2], &[1]),
        case("Cluster: all ready", cc, vec![at(1, HERE), at(2, THERE)], &[1, 2], &[]),
        case("Cluster: none ready", cc, vec![not_ready(at(1, HERE)), not_ready(at(2, THERE))], &[], &[]),
        case("Cluster: some ready", cc, vec![at(1, HERE), not_ready(at(2, THERE))], &[1], &[]),
        case("Cluster: all draining", cc, vec![draining(at(1, HERE)), draining(at(2, THERE))], &[1, 2], &[]),
        case(
            "Cluster: some draining, some stopped",
            cc,
            vec![draining(at(1, HERE)), stopped(at(2, THERE)), not_ready(at(3, THERE))],
            &[1],
            &[],
        ),
        case("both Local: some local", ll, vec![at(1, HERE), at(2, THERE)], &[1, 2], &[1]),
        case("both Local: none local", ll, vec![at(1, THERE), at(2, "n3")], &[1, 2], &[]),
        case(
            "both Local: remote ones drain",
            ll,
            vec![draining(at(1, THERE)), draining(at(2, "n3"))],
            &[1, 2],
            &[],
        ),
        case(
            "item 30: the ClusterIP uses remote ready ones, the Local frontends local draining ones",
            cl,
            vec![draining(at(1, HERE)), at(2, THERE)],
            &[2],
            &[1],
        ),
        case(
            "the fallback ignores topology",
            cc,
            vec![zones(draining(at(1, HERE)), &["zb"]), zones(draining(at(2, THERE)), &["za"])],
            &[1, 2],
            &[],
        ),
        case(
            "item 33: ready wins over not serving and over terminating",
            cl,
            vec![
                Endpoint { serving: Some(false), ..at(1, HERE) },
                Endpoint { terminating: Some(true), ..at(2, HERE) },
            ],
            &[1, 2],
            &[1, 2],
        ),
    ]
}

#[test]
fn endpoints_are_categorised_as_upstream_does_it() {
    for case in hint_cases().into_iter().chain(node_hint_cases()).chain(policy_cases()) {
        let Case { name, policies: (internal, external), zone, endpoints, cluster, local } = case;
        let anything = !cluster.is_empty() || !local.is_empty();
        let events = [
            put(node(HERE, zone, &[NODE_IP])),
            put(exposed("web", 1, internal, external)),
            put(slice("web", "web", endpoints)),
        ];
        let machine = machine(settings(), events);
        let under_local = if anything { Verdict::Drop } else { Verdict::Reject };
        let (for_pods, for_pods_else) = match internal {
            Cluster => (cluster, Verdict::Reject),
            Local => (local, under_local.clone()),
        };
        let to_cluster_ip = expected(for_pods, Seen::Client, for_pods_else);
        assert_eq!(machine.tcp(POD, "10.96.0.1", 80), to_cluster_ip, "{name}: pod to ClusterIP");
        let to_balancer = match external {
            Cluster => expected(cluster, Seen::Node, Verdict::Reject),
            Local => expected(local, Seen::Client, under_local),
        };
        assert_eq!(machine.tcp(OUTSIDE, "192.0.2.1", 80), to_balancer, "{name}: outside to load balancer");
        // Item 85: the short circuit shows the cluster set whatever the policies are.
        let seen = if external == Local { Seen::Client } else { Seen::Node };
        let short = expected(cluster, seen, Verdict::Reject);
        assert_eq!(machine.tcp(POD, "192.0.2.1", 80), short, "{name}: pod to load balancer");
    }
}

#[test]
fn an_internal_service_with_a_local_policy_has_no_cluster_set() {
    let local = proxy_model::fact::Service { internal_policy: Local, ..service("web", "10.96.0.1") };
    let endpoints = vec![endpoint("10.0.1.1", HERE), endpoint("10.0.2.1", THERE)];
    let machine = machine(settings(), [put(local), put(slice("web", "web", endpoints))]);
    let entry = machine.planner.entries::<proxy_common::V4>().next_back_by_port();
    assert_eq!((entry.0, entry.1), (0, 1));
}

trait Lengths {
    /// Lengths of the cluster and local list of the last entry.
    fn next_back_by_port(self) -> (usize, usize);
}

impl<'a, I: Iterator<Item = proxy_model::plan::Entry<'a, proxy_common::V4>>> Lengths for I {
    fn next_back_by_port(self) -> (usize, usize) {
        self.last().map(|entry| (entry.cluster.len(), entry.local.len())).unwrap()
    }
}

fn web(slices: Vec<proxy_model::fact::EndpointSlice>) -> Machine {
    machine(settings(), [put(service("web", "10.96.0.1"))].into_iter().chain(slices.into_iter().map(put)))
}

fn reached(machine: &Machine) -> Verdict {
    machine.tcp(POD, "10.96.0.1", 80)
}

#[test]
fn items_16_and_17_an_endpoint_in_two_slices_is_one_and_the_living_entry_wins() {
    let (old, new) = (draining(at(1, HERE)), at(1, HERE));
    for (first, second) in [(&old, &new), (&new, &old)] {
        let machine = web(vec![
            slice("a", "web", vec![first.clone(), first.clone()]),
            slice("b", "web", vec![second.clone()]),
        ]);
        let lists: Vec<_> =
            machine.planner.entries::<proxy_common::V4>().map(|entry| entry.cluster.len()).collect();
        assert_eq!(lists, [0, 1], "the wildcard and the port");
        assert_eq!(reached(&machine), backends(Seen::Client, &["10.0.1.1"]));
    }
    // Not terminating wins even where it is not usable.
    let machine = web(vec![
        slice("a", "web", vec![draining(at(1, HERE))]),
        slice("b", "web", vec![not_ready(at(1, HERE))]),
    ]);
    assert_eq!(reached(&machine), Verdict::Reject);
}

#[test]
fn items_8_and_9_ports_are_matched_by_name_and_protocol_and_may_differ_between_slices() {
    let named = |name: &str, proto, number| SlicePort { name: Some(name.into()), proto, port: number };
    let with_ports = |name, last, ports| proxy_model::fact::EndpointSlice {
        ports,
        ..slice(name, "web", vec![at(last, HERE)])
    };
    let machine = web(vec![
        with_ports("a", 1, vec![named("", Proto::TCP, Some(Port::new(8080)))]),
        with_ports("b", 2, vec![named("", Proto::TCP, Some(Port::new(9090)))]),
        with_ports("c", 3, vec![SlicePort { name: None, proto: Proto::TCP, port: Some(Port::new(8080)) }]),
        with_ports("d", 4, vec![named("", Proto::TCP, None)]),
        with_ports("e", 5, vec![named("http", Proto::TCP, Some(Port::new(8080)))]),
        with_ports("f", 6, vec![named("", Proto::UDP, Some(Port::new(8080)))]),
    ]);
    let expected = [("10.0.1.1", 8080), ("10.0.1.2", 9090)];
    let expected =
        expected.into_iter().map(|(addr, port)| ((ip(addr), Port::new(port)), Seen::Client)).collect();
    assert_eq!(reached(&machine), Verdict::Backends(expected));
}

#[test]
fn items_2_10_11_and_12_slices_that_do_not_count_are_left_out() {
    let endpoints = |last| vec![at(last, HERE)];
    let base = |name, last| slice(name, "web", endpoints(last));
    let machine = web(vec![
        base("a", 1),
        proxy_model::fact::EndpointSlice { service: None, ..base("b", 2) },
        proxy_model::fact::EndpointSlice { family: SliceFamily::Fqdn, ..base("c", 3) },
        proxy_model::fact::EndpointSlice { family: SliceFamily::Ipv6, ..base("d", 4) },
        proxy_model::fact::EndpointSlice { headless_label: Label::Present, ..base("e", 5) },
        slice("f", "web", vec![Endpoint { address: None, ..at(6, HERE) }]),
        slice("g", "other", endpoints(7)),
    ]);
    assert_eq!(reached(&machine), backends(Seen::Client, &["10.0.1.1"]));
}

#[test]
fn item_19_an_endpoint_that_moves_between_slices_is_never_lost() {
    let mut machine = web(vec![slice("a", "web", vec![at(1, HERE)]), slice("b", "web", vec![])]);
    let moved = [put(slice("b", "web", vec![at(1, HERE)])), put(slice("a", "web", vec![]))];
    for event in moved {
        machine.apply([event]);
        assert!(machine.sync().is_empty());
        assert_eq!(reached(&machine), backends(Seen::Client, &["10.0.1.1"]));
    }
    machine.apply([Event::Slice(Change::Delete(proxy_model::ObjectKey::new("default", "never-there")))]);
    assert!(machine.sync().is_empty());
}

#[test]
fn item_26_a_renamed_port_finds_its_endpoints_by_the_new_name_and_leaves_the_others_alone() {
    let port = |name: &str, number| ServicePort { name: name.into(), port: Port::new(number), ..port() };
    let two = |first: &str| proxy_model::fact::Service {
        ports: vec![port(first, 80), port("admin", 81)],
        ..service("web", "10.96.0.1")
    };
    let named = |name: &str, number| SlicePort {
        name: Some(name.into()),
        proto: Proto::TCP,
        port: Some(Port::new(number)),
    };
    let slice = proxy_model::fact::EndpointSlice {
        ports: vec![named("http", 8080), named("admin", 8080)],
        ..slice("web", "web", vec![at(1, HERE)])
    };
    let mut machine = machine(settings(), [put(two("http")), put(slice)]);
    let admin = |machine: &Machine| {
        machine.v4.frontends.iter().find(|(key, _)| key.port == Port::new(81)).map(|(_, value)| *value)
    };
    let before = admin(&machine);
    machine.apply([put(two("web"))]);
    let plan = machine.sync();
    assert_eq!((plan.v4.len(), admin(&machine)), (1, before));
    assert_eq!(reached(&machine), Verdict::Reject);
    assert_eq!(machine.tcp(POD, "10.96.0.1", 81), backends(Seen::Client, &["10.0.1.1"]));
}

#[test]
fn item_44_a_new_zone_label_is_followed_without_a_restart() {
    let endpoints = vec![zones(at(1, HERE), &["za"]), zones(at(2, THERE), &["zb"])];
    let mut machine = web(vec![slice("web", "web", endpoints)]);
    assert_eq!(reached(&machine), backends(Seen::Client, &["10.0.1.1"]));
    machine.apply([put(node(HERE, Some("zb"), &[NODE_IP]))]);
    machine.sync();
    assert_eq!(reached(&machine), backends(Seen::Client, &["10.0.1.2"]));
    machine.apply([Event::Node(Change::Delete(proxy_model::ObjectKey::cluster_wide(HERE)))]);
    machine.sync();
    assert_eq!(reached(&machine), backends(Seen::Client, &["10.0.1.1", "10.0.1.2"]));
}
