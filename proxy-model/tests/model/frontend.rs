//! Which frontends a Service has: items 1–7, 20–26, 51–53, 64–83, 96–99.

use proxy_common::{Port, Proto};
use proxy_model::fact::TrafficPolicy::{Cluster, Local};
use proxy_model::fact::{Change, Event, Label, Service, ServiceKind, ServicePort, SlicePort};
use proxy_model::plan::Refused;
use proxy_model::settings::{NodePortAddresses, Serving};
use proxy_model::{ObjectKey, Settings};

use crate::fixture::*;
use crate::kernel::Machine;
use crate::reference::{Attempt, Seen, Verdict};

fn with_endpoint(service: Service) -> Vec<Event> {
    let name = service.key.name.to_string();
    vec![put(service), put(slice(&name, &name, vec![endpoint("10.0.1.1", HERE)]))]
}

/// Addresses, ports and protocols in the maps of both families, wildcards as `addr *`.
fn frontends(machine: &Machine) -> Vec<String> {
    let place = |addr: String, port: Port, proto: Proto| match proto {
        Proto::ANY => format!("{addr} *"),
        _ => format!("{addr} {port}/{proto}"),
    };
    let v4 = machine.v4.frontends.keys().map(|key| place(key.addr.to_string(), key.port, key.proto));
    let v6 = machine.v6.frontends.keys().map(|key| place(key.addr.to_string(), key.port, key.proto));
    v4.chain(v6).collect()
}

#[test]
fn items_1_to_4_services_that_are_not_ours_leave_nothing() {
    let base = || exposed("web", 1, Cluster, Cluster);
    for (name, service) in [
        ("proxy name", Service { proxy_name: Some("other".into()), ..base() }),
        ("headless label", Service { headless_label: Label::Present, ..base() }),
        ("no cluster address", Service { cluster_ips: vec![], ..base() }),
        ("unspecified cluster address", Service { cluster_ips: vec![ip("0.0.0.0")], ..base() }),
        ("ExternalName", Service { kind: ServiceKind::ExternalName, ..base() }),
    ] {
        let mut machine = machine(settings(), with_endpoint(service.clone()));
        assert_eq!(frontends(&machine), [""; 0], "{name}");
        // And it comes and goes with the change.
        machine.apply([put(base())]);
        machine.sync();
        assert_eq!(frontends(&machine).len(), 5, "{name}");
        machine.apply([put(service)]);
        machine.sync();
        assert_eq!(frontends(&machine), [""; 0], "{name}");
    }
    let mine = Settings { service_proxy_name: Some("mine".into()), ..settings() };
    let service = Service { proxy_name: Some("mine".into()), ..service("web", "10.96.0.1") };
    assert_eq!(frontends(&machine(mine, with_endpoint(service))), ["10.96.0.1 *", "10.96.0.1 80/TCP"]);
}

#[test]
fn item_6_one_number_with_three_protocols_is_three_frontends() {
    let protos = [Proto::TCP, Proto::UDP, Proto::SCTP];
    let ports =
        protos.map(|proto| ServicePort { name: proto.name().unwrap().into(), proto, ..port() }).to_vec();
    let slice_ports = (8080..).zip(protos).map(|(number, proto)| SlicePort {
        name: Some(proto.name().unwrap().into()),
        proto,
        port: Some(Port::new(number)),
    });
    let slice = proxy_model::fact::EndpointSlice {
        ports: slice_ports.collect(),
        ..slice("web", "web", vec![endpoint("10.0.1.1", HERE)])
    };
    let machine = machine(settings(), [put(Service { ports, ..service("web", "10.96.0.1") }), put(slice)]);
    for (number, proto) in (8080..).zip(protos) {
        let verdict = machine.verdict(Attempt { proto, ..attempt(POD, "10.96.0.1", 80) }, &locals());
        assert_eq!(verdict, Verdict::Backends([((ip("10.0.1.1"), Port::new(number)), Seen::Client)].into()));
    }
}

#[test]
fn items_52_and_53_unknown_ports_reject_unowned_addresses_drop_and_the_rest_passes() {
    let machine = machine(settings(), with_endpoint(exposed("web", 1, Cluster, Cluster)));
    assert_eq!(machine.tcp(POD, "10.96.0.1", 81), Verdict::Reject);
    assert_eq!(machine.tcp(OUTSIDE, "10.96.0.1", 30_001), Verdict::Reject);
    let udp = Attempt { proto: Proto::UDP, ..attempt(POD, "10.96.0.1", 80) };
    assert_eq!(machine.verdict(udp, &locals()), Verdict::Reject);
    assert_eq!(machine.tcp(POD, "10.96.0.2", 80), Verdict::Drop);
    // Only cluster addresses reject: load balancers, external IPs and nodes have a life of their own (item 75).
    for addr in ["192.0.2.1", "198.51.100.1", NODE_IP, "8.8.8.8"] {
        assert_eq!(machine.tcp(POD, addr, 81), Verdict::Pass, "{addr}");
    }
}

#[test]
fn items_1_and_53_where_another_proxy_serves_everybody_passes_and_beside_it_they_drop() {
    let others = ["10.96.0.7", "fd00:96::7"];
    let foreign = Service {
        cluster_ips: others.map(ip).to_vec(),
        proxy_name: Some("other".into()),
        ..exposed("web", 1, Cluster, Cluster)
    };
    let reduced = Service {
        cluster_ips: foreign.cluster_ips.clone(),
        proxy_name: foreign.proxy_name.clone(),
        created: foreign.created,
        kind: foreign.kind,
        ..Service::without_ports(foreign.key.clone())
    };
    let verdicts = |machine: &Machine| {
        let to = |client: &str, addr: &str| machine.tcp(client, addr, 80);
        [
            to(POD, "10.96.0.6"),
            to(POD, "10.96.0.7"),
            to("fd00:10::1", "fd00:96::7"),
            to("fd00:10::1", "fd00:96::8"),
        ]
    };
    let mut machine = machine(settings(), with_endpoint(foreign.clone()));
    assert_eq!(machine.world.service_at(&foreign.key), Some(&reduced), "no more is kept than where it is");
    assert_eq!(verdicts(&machine), [Verdict::Drop, Verdict::Pass, Verdict::Pass, Verdict::Drop]);
    let all_drop = [(); 4].map(|()| Verdict::Drop);
    for nobody in [
        Service { headless_label: Label::Present, ..foreign.clone() },
        Service { cluster_ips: vec![], ..foreign.clone() },
    ] {
        machine.apply([put(nobody)]);
        machine.sync();
        assert_eq!(verdicts(&machine), all_drop);
        machine.apply([put(foreign.clone())]);
        machine.sync();
        assert_eq!(verdicts(&machine), [Verdict::Drop, Verdict::Pass, Verdict::Pass, Verdict::Drop]);
    }
    machine.apply([Event::Service(Change::Delete(foreign.key))]);
    machine.sync();
    assert_eq!(verdicts(&machine), all_drop);
}

#[test]
fn items_53_and_145_a_proxy_of_a_name_drops_nothing_for_being_nobodys() {
    let mine = Settings { service_proxy_name: Some("mine".into()), ..settings() };
    let service = Service { proxy_name: Some("mine".into()), ..service("web", "10.96.0.1") };
    let machine = machine(mine, with_endpoint(service));
    assert_eq!(
        [machine.tcp(POD, "10.96.0.1", 81), machine.tcp(POD, "10.96.0.2", 80)],
        [Verdict::Reject, Verdict::Pass]
    );
}

#[test]
fn items_22_to_24_each_family_has_its_own_addresses_endpoints_and_node_port() {
    let dual = Service {
        cluster_ips: vec![ip("fd00:96::1"), ip("10.96.0.1")],
        external_ips: vec![ip("fd00:5::1"), ip("198.51.100.1")],
        ..exposed("web", 1, Cluster, Cluster)
    };
    let endpoints = [
        put(slice("web-4", "web", vec![endpoint("10.0.1.1", HERE)])),
        put(slice("web-6", "web", vec![endpoint("fd00:10::1", HERE)])),
    ];
    let mut machine = machine(settings(), [put(dual.clone())].into_iter().chain(endpoints));
    let v4 = [
        "10.96.0.1 *",
        "10.96.0.1 80/TCP",
        "192.0.2.1 80/TCP",
        "192.168.0.1 30001/TCP",
        "198.51.100.1 80/TCP",
    ];
    let v6 = ["fd00:5::1 80/TCP", "fd00:96::1 *", "fd00:96::1 80/TCP", "fd00:192::1 30001/TCP"];
    assert_eq!(frontends(&machine), [&v4[..], &v6[..]].concat());
    assert_eq!(machine.tcp("fd00:10::9", "fd00:96::1", 80), backends(Seen::Client, &["fd00:10::1"]));
    assert_eq!(machine.tcp(OUTSIDE, NODE_IP, 30_001), backends(Seen::Node, &["10.0.1.1"]));
    machine.apply([put(Service { cluster_ips: vec![ip("10.96.0.1")], ..dual })]);
    machine.sync();
    assert_eq!(frontends(&machine), v4);
}

#[test]
fn a_family_that_is_not_served_has_no_entries() {
    let only_v6 = Settings { ipv4: Serving::Off, ..settings() };
    let dual =
        Service { cluster_ips: vec![ip("10.96.0.1"), ip("fd00:96::1")], ..service("web", "10.96.0.1") };
    assert_eq!(frontends(&machine(only_v6, with_endpoint(dual))), ["fd00:96::1 *", "fd00:96::1 80/TCP"]);
}

/// Whoever may write a Service could take any address with them.
#[test]
fn external_ips_are_left_aside_where_the_operator_says_so() {
    let own = Settings { external_ips: Serving::Off, ..settings() };
    let mut machine = machine(own, with_endpoint(exposed("web", 1, Cluster, Local)));
    let all = ["10.96.0.1 *", "10.96.0.1 80/TCP", "192.0.2.1 80/TCP", "192.168.0.1 30001/TCP"];
    assert_eq!(frontends(&machine), all);
    assert_eq!(machine.tcp(OUTSIDE, "198.51.100.1", 80), Verdict::Pass);
    // Nothing else exposes it: what is only for them has no frontend but the cluster address.
    let external = Service { external_ips: vec![ip("198.51.100.9")], ..service("web", "10.96.0.1") };
    machine.apply([put(external)]);
    machine.sync();
    assert_eq!(frontends(&machine), ["10.96.0.1 *", "10.96.0.1 80/TCP"]);
}

#[test]
fn items_25_and_89_a_service_that_changes_keeps_only_what_it_still_has() {
    let mut machine = machine(settings(), with_endpoint(exposed("web", 1, Cluster, Cluster)));
    let untouched = machine.v4.frontends.first_key_value().map(|(key, value)| (*key, *value));
    let as_cluster_ip =
        Service { ports: vec![port()], load_balancer: vec![], ..exposed("web", 1, Cluster, Cluster) };
    machine.apply([put(as_cluster_ip)]);
    assert_eq!(machine.sync().v4.len(), 2, "two deletions");
    assert_eq!(frontends(&machine), ["10.96.0.1 *", "10.96.0.1 80/TCP", "198.51.100.1 80/TCP"]);
    assert_eq!(machine.v4.frontends.first_key_value().map(|(key, value)| (*key, *value)), untouched);
    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "web")))]);
    machine.sync();
    assert_eq!(frontends(&machine), [""; 0]);
}

#[test]
fn items_64_to_67_node_ports_answer_on_the_accepted_addresses_only() {
    let with = |addresses| Settings { node_port_addresses: addresses, ..settings() };
    let within =
        |ranges: &[&str]| with(NodePortAddresses::Within(ranges.iter().map(|r| prefix(r)).collect()));
    let (first, second) = ("192.168.0.1 30001/TCP", "192.168.1.1 30001/TCP");
    for (settings, expected) in [
        (with(NodePortAddresses::Primary), vec![first]),
        (within(&["192.168.1.0/24"]), vec![second]),
        (within(&["192.168.1.0/24", "0.0.0.0/0"]), vec![first, second]),
        (within(&["fd00::/8"]), vec![first, second]),
        (within(&["127.0.0.0/8"]), vec![]),
    ] {
        let machine = machine(settings.clone(), with_endpoint(exposed("web", 1, Cluster, Cluster)));
        let mut frontends = frontends(&machine);
        frontends.retain(|frontend| frontend.contains(" 30001/"));
        assert_eq!(frontends, expected, "{:?}", settings.node_port_addresses);
    }
}

#[test]
fn node_ports_follow_the_nodes_addresses_and_fall_back_to_local_ones() {
    let mut machine = machine(settings(), with_endpoint(exposed("web", 1, Cluster, Cluster)));
    machine.apply([put(node(HERE, None, &["192.168.0.77"]))]);
    machine.sync();
    assert!(frontends(&machine).contains(&"192.168.0.77 30001/TCP".to_owned()));
    machine.apply([
        Event::Node(Change::Delete(ObjectKey::cluster_wide(HERE))),
        Event::LocalAddresses(["127.0.0.1", "fe80::1", "169.254.0.1", "192.168.0.78"].map(ip).into()),
    ]);
    machine.sync();
    let node_ports: Vec<_> = frontends(&machine).into_iter().filter(|f| f.contains("30001")).collect();
    assert_eq!(node_ports, ["192.168.0.78 30001/TCP"]);
    assert_eq!(
        machine.world.node_facts::<proxy_common::V6>(&[]).0.config.address,
        proxy_common::Addr6::default()
    );
}

#[test]
fn a_change_of_another_node_of_conditions_or_of_a_pod_plans_nothing() {
    let mut machine = machine(settings(), with_endpoint(exposed("web", 1, Cluster, Cluster)));
    let other = node(THERE, Some("zb"), &["192.168.0.2"]);
    let deleting =
        proxy_model::fact::Node { deleting: true, ..node(HERE, Some("za"), &[NODE_IP, "fd00:192::1"]) };
    let pod = proxy_model::fact::Pod {
        key: ObjectKey::new("default", "web-1"),
        ips: vec![ip("10.0.1.1")],
        node: Some(HERE.into()),
        host_network: false,
        phase: proxy_model::fact::PodPhase::Running,
        labels: [("app".into(), "web".into())].into(),
        ports: vec![],
    };
    let namespace = proxy_model::fact::Namespace { name: "default".into(), labels: [].into() };
    let others = [Event::Pod(Change::Put(pod)), Event::Namespace(Change::Put(namespace))];
    for event in [put(other), put(deleting)].into_iter().chain(others) {
        assert_eq!(machine.world.apply(event), proxy_model::Changed::No);
    }
}

#[test]
fn item_69_two_services_on_one_key_are_settled_by_kind_then_age_then_name() {
    let older = Service { created: 1, ..service("z-older", "10.96.0.1") };
    let younger = Service { created: 2, ..service("a-younger", "10.96.0.1") };
    let external = Service { external_ips: vec![ip("10.96.0.1")], ..service("a-external", "10.96.0.3") };
    let port_there = ServicePort { node_port: Some(Port::new(80)), ..port() };
    let on_node = Service { ports: vec![port_there], ..service("a-node-port", "10.96.0.4") };
    let on_node_address = Service { external_ips: vec![ip(NODE_IP)], ..service("z-external", "10.96.0.5") };
    let endpoints =
        |name: &str, last: u8| put(slice(name, name, vec![endpoint(&format!("10.0.1.{last}"), HERE)]));
    let mut machine = machine(
        settings(),
        [older.clone(), younger, external, on_node, on_node_address].map(put).into_iter().chain([
            endpoints("z-older", 1),
            endpoints("a-younger", 2),
            endpoints("a-external", 3),
            endpoints("a-node-port", 4),
            endpoints("z-external", 5),
        ]),
    );
    assert_eq!(machine.tcp(POD, "10.96.0.1", 80), backends(Seen::Client, &["10.0.1.1"]));
    assert_eq!(machine.tcp(POD, NODE_IP, 80), backends(Seen::Node, &["10.0.1.5"]));
    let refused: Vec<_> = machine.planner.refusals().map(ToString::to_string).collect();
    assert_eq!(
        refused,
        [
            "Service default/a-younger: 10.96.0.1:80/TCP (default/a-younger:/TCP/ipv4): it belongs to Service default/z-older",
            "Service default/a-external: 10.96.0.1:80/TCP (default/a-external:/TCP/ipv4): it belongs to Service default/z-older",
            "Service default/a-node-port: 192.168.0.1:80/TCP (default/a-node-port:/TCP/ipv4): it belongs to Service default/z-external",
        ]
    );
    machine.apply([Event::Service(Change::Delete(older.key))]);
    let plan = machine.sync();
    assert_eq!(machine.tcp(POD, "10.96.0.1", 80), backends(Seen::Client, &["10.0.1.2"]));
    let by = Refused::Taken { by: ObjectKey::new("default", "a-younger") };
    assert_eq!(plan.refused.iter().map(|refusal| &refusal.reason).collect::<Vec<_>>(), [&by]);
}

#[test]
fn items_96_to_99_affinity_is_per_port_and_follows_its_setting() {
    let mut machine =
        machine(settings(), with_endpoint(Service { affinity: Some(10_800), ..service("web", "10.96.0.1") }));
    let of_port = |machine: &Machine| *machine.v4.frontends.last_key_value().unwrap().1;
    let before = of_port(&machine);
    assert_eq!(before.affinity, 10_800);
    machine.apply([put(service("web", "10.96.0.1"))]);
    machine.sync();
    let after = of_port(&machine);
    assert_eq!((after.affinity, after.service, after.generation), (0, before.service, before.generation));
}

#[test]
fn item_51_an_internal_policy_concerns_the_cluster_address_only() {
    let events = [
        put(exposed("web", 1, Local, Cluster)),
        put(slice("web", "web", vec![endpoint("10.0.1.1", HERE), endpoint("10.0.2.1", THERE)])),
    ];
    let machine = machine(settings(), events);
    assert_eq!(machine.tcp(POD, "10.96.0.1", 80), backends(Seen::Client, &["10.0.1.1"]));
    for (addr, port) in [(NODE_IP, 30_001), ("192.0.2.1", 80), ("198.51.100.1", 80)] {
        assert_eq!(
            machine.tcp(OUTSIDE, addr, port),
            backends(Seen::Node, &["10.0.1.1", "10.0.2.1"]),
            "{addr}"
        );
    }
}

#[test]
fn item_95_the_first_endpoint_ends_the_refusal_and_the_last_one_brings_it_back() {
    let mut machine = machine(settings(), [put(service("web", "10.96.0.1"))]);
    for _ in 0..2 {
        assert_eq!(machine.tcp(POD, "10.96.0.1", 80), Verdict::Reject);
        machine.apply([put(slice("web", "web", vec![endpoint("10.0.1.1", HERE)]))]);
        machine.sync();
        assert_eq!(machine.tcp(POD, "10.96.0.1", 80), backends(Seen::Client, &["10.0.1.1"]));
        machine.apply([Event::Slice(Change::Delete(ObjectKey::new("default", "web")))]);
        machine.sync();
    }
}
