//! The Node objects of a lab: the same names, addresses, zones and pod ranges as its namespaces have.

use serde_json::{Value, json};
use sluice_lab::Topology;

/// One Node per node of the lab, as a List.
#[must_use]
pub fn objects(topology: &Topology) -> Value {
    let items: Vec<Value> = topology.nodes.iter().map(object).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn object(node: &sluice_lab::NodeSpec) -> Value {
    let join = |list: Vec<String>| list.join(",");
    let ranges: Vec<String> = node.pod_cidrs.iter().map(ToString::to_string).collect();
    let mut labels = json!({"kubernetes.io/hostname": node.name});
    if let Some(zone) = &node.zone {
        labels["topology.kubernetes.io/zone"] = json!(zone);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": node.name,
            "labels": labels,
            "annotations": {
                "lab.sluice.dev/node-ips": join(node.addresses.iter().map(ToString::to_string).collect()),
            },
        },
        "spec": {"podCIDR": ranges.first(), "podCIDRs": ranges},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_the_lab_becomes_a_node_object() {
        let topology = Topology::parse(
            "nodes: [{name: a, zone: z, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}]",
        );
        assert_eq!(
            objects(&topology.unwrap())["items"],
            json!([{
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": "a",
                    "labels": {"kubernetes.io/hostname": "a", "topology.kubernetes.io/zone": "z"},
                    "annotations": {"lab.sluice.dev/node-ips": "172.18.0.11,fd00:18::11"},
                },
                "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]},
            }])
        );
    }
}
