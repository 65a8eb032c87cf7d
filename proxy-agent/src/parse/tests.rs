//! Objects as a watch delivers them, and what is left of them. Names carry the item of the contract.

mod policy;

use std::net::IpAddr;

use k8s_openapi::serde::de::DeserializeOwned;
use proxy_common::{Port, Proto};
use proxy_model::Weights;
use proxy_model::fact::{self, Label, Prefix, ServiceKind, SliceFamily, TrafficPolicy};
use proxy_model::{Change, Event, ObjectKey};
use serde_json::{Value, json};

use super::{Fact, Parsed};
use crate::source::Object;

fn parse<T: DeserializeOwned>(value: Value, wrap: fn(Box<T>) -> Object) -> Parsed {
    let object = wrap(Box::new(serde_json::from_value(value).unwrap()));
    super::object(&object.key().unwrap(), &object)
}

fn problems(parsed: &Parsed) -> Vec<String> {
    parsed.problems.iter().map(ToString::to_string).collect()
}

fn service(spec: Value) -> (fact::Service, Vec<String>) {
    service_with(json!({}), spec, json!({}))
}

fn service_with(labels: Value, spec: Value, status: Value) -> (fact::Service, Vec<String>) {
    let parsed = parse(
        json!({"apiVersion": "v1", "kind": "Service", "spec": spec, "status": status,
               "metadata": {"name": "web", "namespace": "shop", "labels": labels}}),
        Object::Service,
    );
    let problems = problems(&parsed);
    let Fact::Model(Event::Service(Change::Put(service))) = parsed.fact else { panic!("{:?}", parsed.fact) };
    (service, problems)
}

fn slice(value: Value) -> (fact::EndpointSlice, Vec<String>) {
    let mut object = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}}});
    object.as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
    let parsed = parse(object, Object::EndpointSlice);
    let problems = problems(&parsed);
    let Fact::Model(Event::Slice(Change::Put(slice))) = parsed.fact else { panic!("{:?}", parsed.fact) };
    (slice, problems)
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn nothing() -> Vec<String> {
    Vec::new()
}

#[test]
fn a_whole_service_is_reduced_to_what_the_proxy_uses() {
    let (service, problems) = service_with(
        json!({"service.kubernetes.io/service-proxy-name": "other", "app": "web"}),
        json!({
            "type": "LoadBalancer", "clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1", "fd00::1"],
            "selector": {"app": "web"}, "publishNotReadyAddresses": true,
            "ports": [
                {"name": "http", "port": 80, "targetPort": "web", "nodePort": 30080, "appProtocol": "h2c"},
                {"name": "dns", "port": 53, "protocol": "UDP", "nodePort": 0}],
            "externalIPs": ["192.0.2.1"], "loadBalancerSourceRanges": [" 198.51.100.0/24 ", "fd01::/64"],
            "internalTrafficPolicy": "Cluster", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31000,
            "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
        }),
        json!({"loadBalancer": {"ingress": [
            {"ip": "203.0.113.1"}, {"hostname": "lb.example"}, {"ip": "203.0.113.2", "ipMode": "VIP"},
            {"ip": "203.0.113.3", "ipMode": "Proxy"},
        ]}}),
    );
    assert_eq!(problems, nothing());
    assert_eq!(
        service,
        fact::Service {
            key: ObjectKey::new("shop", "web"),
            created: 0,
            kind: ServiceKind::LoadBalancer,
            cluster_ips: ips(&["10.96.0.1", "fd00::1"]),
            ports: vec![
                fact::ServicePort {
                    name: "http".into(),
                    proto: Proto::TCP,
                    port: Port::new(80),
                    node_port: Some(Port::new(30080)),
                },
                fact::ServicePort {
                    name: "dns".into(),
                    proto: Proto::UDP,
                    port: Port::new(53),
                    node_port: None
                },
            ],
            external_ips: ips(&["192.0.2.1"]),
            // Items 78, 79.
            load_balancer: ips(&["203.0.113.1", "203.0.113.2"]),
            // Item 21.
            source_ranges: vec![
                Prefix { addr: "198.51.100.0".parse().unwrap(), len: 24 },
                Prefix { addr: "fd01::".parse().unwrap(), len: 64 },
            ],
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Local,
            affinity: Some(60),
            algorithm: None,
            direct_return: None,
            weights: Weights::default(),
            proxy_name: Some("other".into()),
            headless_label: Label::Absent,
            health_check_node_port: Some(Port::new(31000)),
        }
    );
}

#[test]
fn items_1_and_2_labels_count_by_their_presence() {
    let labels =
        json!({"service.kubernetes.io/headless": "", "service.kubernetes.io/service-proxy-name": ""});
    let (service, _) = service_with(labels, json!({"clusterIP": "10.96.0.1"}), json!({}));
    assert_eq!((service.headless_label, service.proxy_name.as_deref()), (Label::Present, Some("")));
}

#[test]
fn items_3_and_20_only_readable_cluster_addresses_are_left() {
    for (spec, expected, problem) in [
        (json!({"clusterIP": "None", "clusterIPs": ["None"]}), &[][..], None),
        (json!({"clusterIP": ""}), &[], None),
        (json!({}), &[], None),
        (json!({"clusterIP": "10.96.0.1"}), &["10.96.0.1"], None),
        (json!({"clusterIPs": ["010.096.000.001"]}), &["10.96.0.1"], None),
        (
            json!({"clusterIP": "10.96.0.300", "clusterIPs": ["10.96.0.300", "fd00::1"]}),
            &["fd00::1"],
            Some("Service shop/web spec.clusterIPs[0]: \"10.96.0.300\" is not an IP address; it is left out"),
        ),
        (
            json!({"clusterIP": "ten"}),
            &[],
            Some("Service shop/web spec.clusterIP: \"ten\" is not an IP address; it is left out"),
        ),
    ] {
        let (service, problems) = service(spec.clone());
        assert_eq!(service.cluster_ips, ips(expected), "{spec}");
        assert_eq!(problems, problem.map(str::to_owned).into_iter().collect::<Vec<_>>(), "{spec}");
    }
}

#[test]
fn item_4_an_external_name_keeps_its_kind() {
    let (service, _) =
        service(json!({"type": "ExternalName", "externalName": "x.example", "clusterIP": "10.96.0.1"}));
    assert_eq!(service.kind, ServiceKind::ExternalName);
}

/// A Service could take the node's own loopback, or its cloud's metadata.
#[test]
fn addresses_that_no_service_can_have_are_left_out() {
    let special =
        ["127.0.0.1", "169.254.169.254", "224.0.0.1", "::1", "fe80::1", "ff02::1", "::ffff:127.0.0.1"];
    let mut external = vec!["192.0.2.1"];
    external.extend(special);
    let ingress: Vec<Value> = external.iter().map(|ip| json!({"ip": ip})).collect();
    let status = json!({"loadBalancer": {"ingress": ingress}});
    let (service, problems) = service_with(json!({}), json!({"externalIPs": external}), status);
    let claimed = (service.external_ips, service.load_balancer);
    assert_eq!(claimed, (ips(&["192.0.2.1"]), ips(&["192.0.2.1"])));
    let why = "is a loopback, link-local or multicast address, which no Service can have; it is left out";
    let said = |field: &dyn Fn(usize) -> String| -> Vec<String> {
        let ips = special.map(|ip| ip.trim_start_matches("::ffff:"));
        let lines = ips
            .iter()
            .enumerate()
            .map(|(index, ip)| format!("Service shop/web {}: {ip} {why}", field(index + 1)));
        lines.collect()
    };
    let external = said(&|index| format!("spec.externalIPs[{index}]"));
    let balancer = said(&|index| format!("status.loadBalancer.ingress[{index}].ip"));
    assert_eq!(problems, [external, balancer].concat());
}

#[test]
fn item_20_bad_entries_are_left_out_one_by_one() {
    let (service, problems) = service_with(
        json!({}),
        json!({
            "externalIPs": ["192.0.2.1", "bad", "192.0.2.2"],
            "loadBalancerSourceRanges": ["10.0.0.0/8", "10.0.0.0"],
            "ports": [{"port": 0}, {"port": 80, "protocol": "ICMP"}, {"port": 80, "nodePort": 70000}],
        }),
        json!({"loadBalancer": {"ingress": [{"ip": "lb"}]}}),
    );
    assert_eq!(service.external_ips, ips(&["192.0.2.1", "192.0.2.2"]));
    assert_eq!(service.source_ranges, [Prefix { addr: "10.0.0.0".parse().unwrap(), len: 8 }]);
    assert_eq!(service.ports.len(), 1);
    assert_eq!(
        problems,
        [
            "Service shop/web spec.ports[0].port: 0 is not a port number; the port is left out",
            "Service shop/web spec.ports[1].protocol: \"ICMP\" is not TCP, UDP or SCTP; the port is left out",
            "Service shop/web spec.ports[2].nodePort: 70000 is not a port number; the port is left out",
            "Service shop/web spec.externalIPs[1]: \"bad\" is not an IP address; it is left out",
            "Service shop/web status.loadBalancer.ingress[0].ip: \"lb\" is not an IP address; it is left out",
            "Service shop/web spec.loadBalancerSourceRanges[1]: \"10.0.0.0\" is not an address range; it is left out",
        ]
    );
}

#[test]
fn item_97_affinity_has_a_default_and_bounds() {
    for (config, expected, problem_count) in [
        (json!({"sessionAffinity": "None"}), None, 0),
        (json!({}), None, 0),
        (json!({"sessionAffinity": "ClientIP"}), Some(10_800), 0),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 86_400}}}),
            Some(86_400),
            0,
        ),
        (
            json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}}),
            Some(10_800),
            1,
        ),
        (json!({"sessionAffinity": "Cookie"}), None, 1),
    ] {
        let (service, problems) = service(config.clone());
        assert_eq!((service.affinity, problems.len()), (expected, problem_count), "{config}");
    }
}

#[test]
fn a_whole_slice_is_reduced_to_what_the_proxy_uses() {
    let (slice, problems) = slice(json!({
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP", "appProtocol": "h2c"}, {"name": "", "port": 53, "protocol": "UDP"}],
        "endpoints": [
            {"addresses": ["10.244.1.1", "10.244.1.2"], "nodeName": "n1", "zone": "a",
             "conditions": {"ready": false, "serving": true, "terminating": true},
             "hints": {"forZones": [{"name": "a"}, {"name": "b"}], "forNodes": [{"name": "n1"}]},
             "targetRef": {"kind": "Pod", "name": "web-0"}},
            {"addresses": ["010.244.001.003"]},
        ],
    }));
    assert_eq!(problems, nothing());
    assert_eq!(
        slice,
        fact::EndpointSlice {
            key: ObjectKey::new("shop", "web-1"),
            service: Some("web".into()),
            family: SliceFamily::Ipv4,
            headless_label: Label::Absent,
            ports: vec![
                fact::SlicePort { name: Some("http".into()), proto: Proto::TCP, port: Some(Port::new(8080)) },
                fact::SlicePort { name: Some("".into()), proto: Proto::UDP, port: Some(Port::new(53)) },
            ],
            endpoints: vec![
                fact::Endpoint {
                    // Item 12: the first address only.
                    address: Some("10.244.1.1".parse().unwrap()),
                    ready: Some(false),
                    serving: Some(true),
                    terminating: Some(true),
                    node: Some("n1".into()),
                    zone: Some("a".into()),
                    hint_zones: vec!["a".into(), "b".into()],
                    hint_nodes: vec!["n1".into()],
                },
                // Item 13: unset stays unset.
                fact::Endpoint { address: Some("10.244.1.3".parse().unwrap()), ..fact::Endpoint::default() },
            ],
        }
    );
}

#[test]
fn item_9_ports_without_name_or_number_say_so() {
    let (slice, problems) = slice(
        json!({"ports": [{"port": 80}, {"name": "a"}, {"name": "b", "port": 0}, {"name": "c", "port": -1}]}),
    );
    let ports: Vec<_> = slice.ports.iter().map(|port| (port.name.as_deref(), port.port)).collect();
    assert_eq!(ports, [(None, Some(Port::new(80))), (Some("a"), None), (Some("b"), None), (Some("c"), None)]);
    assert_eq!(
        problems,
        [
            "EndpointSlice shop/web-1 ports[0].name: missing (not empty): the port is ignored",
            "EndpointSlice shop/web-1 ports[3].port: -1 is not a port number; the port is left out",
        ]
    );
}

#[test]
fn item_10_a_slice_that_names_no_service_says_so_once() {
    let (slice, problems) = slice(json!({"metadata": {"name": "lost", "namespace": "shop"}}));
    assert_eq!(slice.service, None);
    assert_eq!(
        problems,
        [
            "EndpointSlice shop/lost metadata.labels[kubernetes.io/service-name]: missing: the slice names no Service \
          and is ignored"
        ]
    );
}

#[test]
fn item_11_host_names_are_no_endpoints() {
    let endpoints = json!([{"addresses": ["a.example"]}]);
    let (fqdn, problems) = slice(json!({"addressType": "FQDN", "endpoints": endpoints}));
    assert_eq!((fqdn.family, fqdn.endpoints, problems), (SliceFamily::Fqdn, vec![], nothing()));
    let (_, problems) = slice(json!({"addressType": "IPv5"}));
    assert_eq!(
        problems,
        ["EndpointSlice shop/web-1 addressType: \"IPv5\" is not IPv4, IPv6 or FQDN; the slice is ignored"]
    );
}

#[test]
fn items_12_and_20_an_endpoint_without_a_readable_address_has_none() {
    let (slice, problems) = slice(
        json!({"endpoints": [{"addresses": []}, {"addresses": ["bad"]}, {"addresses": ["10.244.1.1"]}]}),
    );
    let addresses: Vec<_> = slice.endpoints.iter().map(|endpoint| endpoint.address.is_some()).collect();
    assert_eq!(addresses, [false, false, true]);
    assert_eq!(
        problems,
        ["EndpointSlice shop/web-1 endpoints[1].addresses[0]: \"bad\" is not an IP address; it is left out"]
    );
}

#[test]
fn item_135_the_moment_of_the_change_is_taken_from_the_annotation() {
    let annotated = |text: &str| {
        parse(
            json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4", "metadata":
                {"name": "s", "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": text}}}),
            Object::EndpointSlice,
        )
        .triggered
    };
    let expected = std::time::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_500);
    assert_eq!(annotated("2023-11-14T22:13:20.5Z"), Some(expected));
    assert_eq!(annotated("yesterday"), None);
}

#[test]
fn item_123_a_node_tells_where_it_is_and_whether_it_is_going() {
    let parsed = parse(
        json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "a"}, "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:1::/64"],
                     "taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]},
            "status": {"addresses": [{"type": "Hostname", "address": "n1"}, {"type": "ExternalIP", "address": "203.0.113.9"},
                                     {"type": "InternalIP", "address": "192.0.2.1"}, {"type": "InternalIP", "address": "fd00::2"}]}}),
        Object::Node,
    );
    assert_eq!(problems(&parsed), nothing());
    assert_eq!(
        parsed.fact,
        Fact::Model(Event::Node(Change::Put(fact::Node {
            name: "n1".into(),
            zone: Some("a".into()),
            addresses: ips(&["192.0.2.1", "fd00::2", "203.0.113.9"]),
            pod_cidrs: vec![
                Prefix { addr: "10.244.1.0".parse().unwrap(), len: 24 },
                Prefix { addr: "fd00:1::".parse().unwrap(), len: 64 },
            ],
            deleting: true,
            tainted_for_deletion: true,
            labels: [("topology.kubernetes.io/zone".into(), "a".into())].into(),
        })))
    );
}

#[test]
fn item_53_service_ranges_are_read_one_by_one() {
    let parsed = parse(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
               "spec": {"cidrs": ["10.96.0.0/16", "fd00::/108", "x"]}}),
        Object::ServiceCidr,
    );
    let ranges = vec!["10.96.0.0/16".parse().unwrap(), "fd00::/108".parse().unwrap()];
    assert_eq!(parsed.fact, Fact::ServiceRanges(ranges));
    assert_eq!(
        problems(&parsed),
        ["ServiceCIDR kubernetes spec.cidrs[2]: \"x\" is not an address range; it is left out"]
    );
}
