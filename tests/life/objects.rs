//! The objects of the tests as JSON, and what is asked of and answered by the Services that they make. Knows no lab.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde_json::{Value, json};
use sluice_lab::{Family, Listen, NodeSpec, Probe, Protocol};

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

/// A request to each address on each port, with so much patience. A lost datagram is a failure: nobody sends it again.
pub(crate) fn requests(addresses: &[&str], timeout: Duration) -> Vec<Probe> {
    let both = |address: &&str| {
        let ip: IpAddr = address.parse().unwrap();
        [(Protocol::Tcp, HTTP), (Protocol::Udp, DNS)].map(|(protocol, port)| Probe {
            tries: 1,
            timeout,
            ..Probe::new(protocol, SocketAddr::new(ip, port))
        })
    };
    addresses.iter().flat_map(both).collect()
}

/// What a pod serves on one address.
pub(crate) fn listeners(ip: IpAddr) -> [Listen; 2] {
    [(Protocol::Tcp, HTTP_TARGET), (Protocol::Udp, DNS_TARGET)]
        .map(|(protocol, port)| Listen { protocol, at: SocketAddr::new(ip, port) })
}
