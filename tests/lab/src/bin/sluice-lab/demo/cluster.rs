//! The demo's cluster: Node objects made from the topology, the manifests of the example, and servers in the web pods.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use sluice_lab::{Lab, Listen, Protocol, Topology};

/// Ports that the slices of the example name.
const TCP: u16 = 8080;
const UDP: u16 = 5353;

/// What the agents read: one Node per node of the lab, then the documents of `file`.
pub(super) fn objects(topology: &Topology, file: &Path) -> Result<Vec<Value>> {
    let mut objects: Vec<Value> = topology
        .nodes
        .iter()
        .map(|node| {
            let addresses: Vec<Value> =
                node.addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect();
            let cidrs: Vec<String> = node.pod_cidrs.iter().map(ToString::to_string).collect();
            json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": node.name,
                    "labels": {"topology.kubernetes.io/zone": node.zone, "kubernetes.io/hostname": node.name},
                },
                "spec": {"podCIDRs": cidrs},
                "status": {"addresses": addresses},
            })
        })
        .collect();
    let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
    for (number, document) in serde_norway::Deserializer::from_str(&text).enumerate() {
        let object = Value::deserialize(document)
            .with_context(|| format!("{}, document {}", file.display(), number + 1))?;
        objects.push(object);
    }
    Ok(objects)
}

/// Opens the servers of the web pods, which answer with their own address.
pub(super) fn serve(lab: &Lab) -> Result<()> {
    for pod in ["web-1", "web-2", "web-3"] {
        let place = lab.pod(pod)?;
        let sockets: Vec<Listen> = place
            .ips
            .iter()
            .flat_map(|ip| {
                [
                    Listen { protocol: Protocol::Tcp, at: SocketAddr::new(*ip, TCP) },
                    Listen { protocol: Protocol::Udp, at: SocketAddr::new(*ip, UDP) },
                ]
            })
            .collect();
        place.listen(&sockets)?;
    }
    Ok(())
}
