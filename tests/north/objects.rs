//! The objects of the tests as JSON. Knows no lab.

use std::net::IpAddr;

use serde_json::{Value, json};
use sluice_lab::{Family, NodeSpec};

/// Where every server listens, TCP and UDP.
pub(crate) const TARGET: u16 = 8080;
/// Port of every Service, TCP and UDP.
pub(crate) const PORT: u16 = 80;

/// A Service `demo/NAME` of type NodePort, TCP and UDP.
pub(crate) fn service(name: &str, cluster_ips: &[IpAddr], node_port: u16, policy: &str) -> Value {
    let port = |name: &str, protocol: &str| json!({"name": name, "protocol": protocol, "port": PORT, "targetPort": TARGET, "nodePort": node_port});
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "type": "NodePort",
            "clusterIP": cluster_ips[0],
            "clusterIPs": cluster_ips,
            "externalTrafficPolicy": policy,
            "ports": [port("tcp", "TCP"), port("udp", "UDP")],
        },
    })
}

/// The EndpointSlice of a Service and family; each endpoint with its node.
pub(crate) fn slice(service: &str, family: Family, endpoints: &[(IpAddr, &str)]) -> Value {
    let kind = match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    };
    let endpoint = |(ip, node): &(IpAddr, &str)| json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true}});
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-{}", kind.to_lowercase()),
            "namespace": "demo",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": kind,
        "ports": [{"name": "tcp", "protocol": "TCP", "port": TARGET}, {"name": "udp", "protocol": "UDP", "port": TARGET}],
        "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// A Node with these ranges of pods.
pub(crate) fn node(spec: &NodeSpec, pod_cidrs: &[String]) -> Value {
    let addresses: Vec<Value> =
        spec.addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": spec.name},
        "spec": {"podCIDRs": pod_cidrs},
        "status": {"addresses": addresses},
    })
}
