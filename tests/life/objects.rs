//! The objects of the tests as JSON. Knows no lab.

use std::net::IpAddr;

use serde_json::{Value, json};
use sluice_lab::{Family, NodeSpec};

/// Number of the TCP port `http` of every Service.
pub(crate) const HTTP: u16 = 80;
/// Number of the UDP port `dns` of every Service.
pub(crate) const DNS: u16 = 53;
/// Where the pods serve `http`.
pub(crate) const HTTP_TARGET: u16 = 8080;
/// Where the pods serve `dns`.
pub(crate) const DNS_TARGET: u16 = 5353;

/// A Node.
pub(crate) fn node(spec: &NodeSpec) -> Value {
    let addresses: Vec<Value> =
        spec.addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": spec.name},
        "spec": {"podCIDRs": spec.pod_cidrs},
        "status": {"addresses": addresses},
    })
}

/// A Service `demo/NAME` of type ClusterIP with the two ports.
pub(crate) fn service(name: &str, cluster_ips: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": cluster_ips[0],
            "clusterIPs": cluster_ips,
            "ports": [
                {"name": "http", "protocol": "TCP", "port": HTTP, "targetPort": HTTP_TARGET},
                {"name": "dns", "protocol": "UDP", "port": DNS, "targetPort": DNS_TARGET},
            ],
        },
    })
}

/// The EndpointSlice of a Service and family, all endpoints ready.
pub(crate) fn slice(service: &str, family: Family, ips: &[IpAddr]) -> Value {
    let kind = match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    };
    let endpoints: Vec<Value> =
        ips.iter().map(|ip| json!({"addresses": [ip], "conditions": {"ready": true}})).collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{}", kind.to_lowercase()),
            "namespace": "demo",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": kind,
        "ports": [
            {"name": "http", "protocol": "TCP", "port": HTTP_TARGET},
            {"name": "dns", "protocol": "UDP", "port": DNS_TARGET},
        ],
        "endpoints": endpoints,
    })
}
