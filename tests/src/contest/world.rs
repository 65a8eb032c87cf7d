//! The cluster of a contest as objects: so many Services of which each leads to the same two pods, and three that are asked in
//! other ways. The same for everybody who takes part.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde_json::{Value, json};
use sluice_lab::{NodeSpec, Topology};

/// Where every Service is.
pub const NAMESPACE: &str = "bench";
/// The range of cluster addresses.
pub const SERVICE_CIDR: &str = "10.96.0.0/12";
/// The range of all pods.
pub const CLUSTER_CIDR: &str = "10.244.0.0/16";
/// Where pods listen.
pub const TARGET: u16 = 8080;
/// The port of every Service.
pub const PORT: u16 = 80;
/// Node port of the Service whose backends are on the node that is asked.
pub const NEAR: u16 = 30_080;
/// Node port of the Service whose backend is on the other node.
pub const FAR: u16 = 30_081;
/// Pods behind every Service.
pub const WEBS: [&str; 2] = ["web-1", "web-2"];
/// The pod on the other node.
pub const FAR_WEB: &str = "far-1";
/// The pod that asks.
pub const CLIENT: &str = "client";
/// The node where all of it happens.
pub const NODE: &str = "node-1";
/// The host outside that asks.
pub const OUTSIDER: &str = "outsider";

const TOPOLOGY: &str = "
families: [ipv4]
nodes:
- {name: node-1, addresses: [172.18.0.11], podCIDRs: [10.244.1.0/24]}
- {name: node-2, addresses: [172.18.0.12], podCIDRs: [10.244.2.0/24]}
pods:
- {name: client, node: node-1, ips: [10.244.1.10]}
- {name: web-1, node: node-1, ips: [10.244.1.11]}
- {name: web-2, node: node-1, ips: [10.244.1.12]}
- {name: far-1, node: node-2, ips: [10.244.2.13]}
outside:
- {name: outsider, ips: [172.18.0.200]}
";

/// Two nodes, three servers, a client in a pod and one outside.
///
/// # Errors
/// None: it is written here.
pub fn topology() -> anyhow::Result<Topology> {
    Topology::parse(TOPOLOGY)
}

/// Cluster address of the Service with this number, from 0.
#[must_use]
pub fn cluster_ip(number: usize) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(10, 97, 0, 0));
    Ipv4Addr::from(first + u32::try_from(number).unwrap_or(u32::MAX - first))
}

/// The Service with datagrams.
#[must_use]
pub fn udp_frontend() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(10, 96, 1, 1).into(), PORT)
}

/// What [`Service::object`] needs to know.
struct Service {
    name: String,
    ip: Ipv4Addr,
    protocol: &'static str,
    node_port: Option<u16>,
    endpoints: &'static [&'static str],
}

impl Service {
    fn numbered(number: usize) -> Self {
        Self {
            name: format!("web-{number}"),
            ip: cluster_ip(number),
            protocol: "TCP",
            node_port: None,
            endpoints: &WEBS,
        }
    }

    fn special() -> [Self; 3] {
        let of = |name: &str, last, protocol, node_port, endpoints| Self {
            name: name.to_owned(),
            ip: Ipv4Addr::new(10, 96, 1, last),
            protocol,
            node_port,
            endpoints,
        };
        [
            of("datagrams", 1, "UDP", None, &WEBS),
            of("near", 2, "TCP", Some(NEAR), &WEBS),
            of("far", 3, "TCP", Some(FAR), &[FAR_WEB]),
        ]
    }

    fn objects(&self, topology: &Topology) -> [Value; 2] {
        let mut port = json!({"name": "main", "protocol": self.protocol, "port": PORT, "targetPort": TARGET});
        if let Some(node_port) = self.node_port {
            port["nodePort"] = json!(node_port);
        }
        let service = json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {
                "type": if self.node_port.is_some() { "NodePort" } else { "ClusterIP" },
                "clusterIP": self.ip,
                "clusterIPs": [self.ip],
                "ipFamilies": ["IPv4"],
                "ports": [port],
            },
        });
        [service, slice(&self.name, self.protocol, topology, self.endpoints)]
    }
}

/// The EndpointSlice of a Service, all endpoints ready.
#[must_use]
pub fn slice(service: &str, protocol: &str, topology: &Topology, endpoints: &[&str]) -> Value {
    let pods = endpoints.iter().filter_map(|name| topology.pods.iter().find(|pod| pod.name == **name));
    let endpoints: Vec<Value> = pods
        .map(|pod| json!({"addresses": pod.ips, "nodeName": pod.node, "conditions": {"ready": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-ipv4"),
            "namespace": NAMESPACE,
            "labels": {
                "kubernetes.io/service-name": service,
                "endpointslice.kubernetes.io/managed-by": "bench",
            },
        },
        "addressType": "IPv4",
        "ports": [{"name": "main", "protocol": protocol, "port": TARGET}],
        "endpoints": endpoints,
    })
}

/// The Services of special kinds and the first `count` numbered ones, each followed by its slice.
#[must_use]
pub fn services(topology: &Topology, count: usize) -> Vec<Value> {
    let special = Service::special().into_iter();
    special.chain((0..count).map(Service::numbered)).flat_map(|service| service.objects(topology)).collect()
}

/// The same as a list in text, with what comes before them. A hundred thousand are written by changing names and addresses in the
/// text of one: making each anew takes longer than serving them.
#[must_use]
pub fn list(before: &[Value], topology: &Topology, count: usize) -> Vec<u8> {
    let first = Service::numbered(0);
    let (name, ip) = (first.name.clone(), first.ip.to_string());
    let pattern = first.objects(topology).map(|object| object.to_string()).join(",");
    let named: Vec<Value> = before.iter().cloned().chain(services(topology, 0)).collect();
    let mut text = json!({"apiVersion": "v1", "kind": "List", "items": named}).to_string();
    let end = text.rfind(']').unwrap_or(text.len());
    let tail = text.split_off(end);
    for number in 0..count {
        let Service { name: own, ip: at, .. } = Service::numbered(number);
        text.push(',');
        text.push_str(&pattern.replace(&name, &own).replace(&ip, &at.to_string()));
    }
    (text + &tail).into_bytes()
}

/// Nodes, namespaces and pods, as an API server would have them.
#[must_use]
pub fn surroundings(topology: &Topology) -> Vec<Value> {
    let ips = |ips: &[IpAddr]| -> Vec<Value> { ips.iter().map(|ip| json!({"ip": ip})).collect() };
    let node = |node: &NodeSpec| {
        let address = |ip: &IpAddr| json!({"type": "InternalIP", "address": ip});
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node.name, "labels": {"kubernetes.io/hostname": node.name}},
            "spec": {"podCIDRs": node.pod_cidrs},
            "status": {"addresses": node.addresses.iter().map(address).collect::<Vec<_>>()},
        })
    };
    let pods = topology.pods.iter().map(|pod| {
        let role = if pod.name == CLIENT { "client" } else { "web" };
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": pod.name, "namespace": NAMESPACE, "labels": {"role": role}},
            "spec": {"nodeName": pod.node, "containers": []},
            "status": {"phase": "Running", "podIP": pod.ips.first(), "podIPs": ips(&pod.ips)},
        })
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    topology.nodes.iter().map(node).chain([namespace]).chain(pods).collect()
}

/// Policies for both ends: whom the client may ask, and by whom the servers may be asked. Besides what is used, `others` rules
/// let in addresses that nobody has: a hundred blocks in each policy, and two rules for each block, of TCP and of UDP.
#[must_use]
pub fn policies(others: usize) -> Vec<Value> {
    let policy = |name: &str, spec: Value| {
        json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": spec,
        })
    };
    let role = |role: &str| json!({"matchLabels": {"role": role}});
    let ports = json!([{"protocol": "TCP", "port": TARGET}, {"protocol": "UDP", "port": TARGET}]);
    let client = json!({
        "podSelector": role("client"), "policyTypes": ["Egress"],
        "egress": [{"to": [{"podSelector": role("web")}], "ports": ports}],
    });
    let web = json!({
        "podSelector": role("web"), "policyTypes": ["Ingress"],
        "ingress": [{"from": [{"podSelector": role("client")}], "ports": ports}],
    });
    // Only every other address: neighbours could be one block.
    let block = |number: usize| {
        let first = u32::from(Ipv4Addr::new(100, 64, 0, 0));
        let address = Ipv4Addr::from(first + 2 * u32::try_from(number).unwrap_or(0));
        json!({"ipBlock": {"cidr": format!("{address}/32")}})
    };
    let count = others / 2;
    let crowd = (0..count).step_by(100).map(|first| {
        let blocks: Vec<Value> = (first..count.min(first + 100)).map(block).collect();
        let spec = json!({
            "podSelector": role("web"), "policyTypes": ["Ingress"],
            "ingress": [{"from": blocks, "ports": ports}],
        });
        policy(&format!("crowd-{first}"), spec)
    });
    [policy("client", client), policy("web", web)].into_iter().chain(crowd).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_service_has_an_address_of_its_own_and_the_two_pods_of_the_node() {
        let topology = topology().unwrap();
        let objects = services(&topology, 300);
        assert_eq!(objects.len(), 2 * (300 + 3));
        assert_eq!(objects[6]["spec"]["clusterIP"], "10.97.0.0");
        assert_eq!(objects[6 + 2 * 299]["spec"]["clusterIP"], "10.97.1.43");
        let addresses = |slice: &Value| -> Vec<Value> {
            slice["endpoints"].as_array().unwrap().iter().map(|one| one["addresses"][0].clone()).collect()
        };
        assert_eq!(addresses(&objects[7]), ["10.244.1.11", "10.244.1.12"]);
        assert_eq!(addresses(&objects[5]), ["10.244.2.13"]);
        assert_eq!(objects[4]["spec"]["ports"][0]["nodePort"], FAR);
    }

    #[test]
    fn a_list_in_text_has_the_same_objects() {
        let topology = topology().unwrap();
        let before = surroundings(&topology);
        let list: Value = serde_json::from_slice(&list(&before, &topology, 130)).unwrap();
        let expected: Vec<Value> = before.into_iter().chain(services(&topology, 130)).collect();
        assert_eq!(list["items"], Value::from(expected));
        assert_eq!(list["kind"], "List");
    }

    #[test]
    fn a_crowd_of_policies_names_every_block_once() {
        let policies = policies(500);
        assert_eq!(policies.len(), 2 + 3);
        let blocks: std::collections::BTreeSet<String> = policies[2..]
            .iter()
            .flat_map(|policy| policy["spec"]["ingress"][0]["from"].as_array().unwrap().clone())
            .map(|peer| peer["ipBlock"]["cidr"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(blocks.len(), 250);
    }
}
