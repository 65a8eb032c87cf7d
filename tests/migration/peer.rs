//! kube-proxy on the node of the stage, with the objects that it wants beside ours.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;
use sluice_lab::{Family, Listen, Place, Probe, Tally};
use tests::cluster::binary::ClusterBinary;
use tests::cluster::kube_proxy::{self, Files, KubeProxy, Mode, Settings};

use crate::objects::{self, HTTP};
use crate::stage::{NODE, SERVERS, Stage, WEB, frontends};

/// Addresses of `demo/door`, behind which the servers are.
const DOOR: [&str; 2] = ["10.96.0.80", "fd00:96::80"];
/// The node port of its first port; the second has the next one.
const NODE_PORT: u16 = 30_080;
/// Addresses of `demo/host`, behind which a process of the node is: what is translated to it goes on through the node's stack.
const HOST: [&str; 2] = ["10.96.0.90", "fd00:96::90"];
/// As above.
const HOST_NODE_PORT: u16 = 30_090;

/// The real kube-proxy.
pub(crate) struct Peer {
    binary: ClusterBinary,
    settings: Settings,
    kubeconfig: PathBuf,
}

impl Peer {
    /// Everything it needs; it does not run yet.
    pub(crate) fn of(stage: &Stage, mode: Mode) -> Self {
        let kubeconfig = stage.lab.log_path("kube-proxy.kubeconfig");
        stage.api.write_kubeconfig(&kubeconfig).unwrap();
        stage.put(&json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "kubernetes"},
            "spec": {"cidrs": ["10.96.0.0/16", "fd00:96::/112"]},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }));
        for (name, ips, node_port) in
            [("web", WEB, None), ("door", DOOR, Some(NODE_PORT)), ("host", HOST, Some(HOST_NODE_PORT))]
        {
            let mut service = objects::service(name, &ips);
            service["spec"]["ipFamilies"] = json!(["IPv4", "IPv6"]);
            if let Some(port) = node_port {
                service["spec"]["type"] = json!("NodePort");
                service["spec"]["ports"][0]["nodePort"] = json!(port);
                service["spec"]["ports"][1]["nodePort"] = json!(port + 1);
            }
            stage.put(&service);
        }
        stage.point_at("web", &SERVERS);
        stage.point_at("door", &SERVERS);
        let node = stage.lab.node(NODE).unwrap();
        let sockets: Vec<Listen> = node.ips.iter().flat_map(|ip| objects::listeners(*ip)).collect();
        node.listen(&sockets).unwrap();
        for (family, ip) in [Family::Ipv4, Family::Ipv6].into_iter().zip(&node.ips) {
            stage.put(&objects::slice("host", family, &[*ip]));
        }
        let cluster_cidrs = stage.options.cluster_cidrs.iter().map(ToString::to_string).collect();
        let settings = Settings { cluster_cidrs, ..Settings::new(mode) };
        Self { binary: ClusterBinary::build().unwrap(), settings, kubeconfig }
    }

    /// Starts it and waits until it says that it is healthy.
    pub(crate) fn start(&self, stage: &Stage) -> KubeProxy {
        let folder = stage.lab.id().state_dir();
        let files = Files { kubeconfig: &self.kubeconfig, folder: &folder, tools: None };
        let mut proxy = KubeProxy::start(&stage.lab, NODE, &self.settings, &self.binary, &files).unwrap();
        proxy.ready(&stage.lab).unwrap();
        proxy
    }

    /// Removes its rules.
    pub(crate) fn clean(&self, stage: &Stage) {
        kube_proxy::cleanup(&stage.lab, NODE, &self.binary).unwrap();
    }
}

/// Every client, with what it asks: a pod and the node the ClusterIPs, a host outside the node ports.
pub(crate) fn clients(stage: &Stage) -> Vec<(Place, Vec<Probe>)> {
    asking(stage, &WEB, NODE_PORT)
}

/// The same, of the Service whose backend is a process of the node.
pub(crate) fn clients_of_the_host(stage: &Stage) -> Vec<(Place, Vec<Probe>)> {
    asking(stage, &HOST, HOST_NODE_PORT)
}

fn asking(stage: &Stage, ips: &[&str], node_port: u16) -> Vec<(Place, Vec<Probe>)> {
    let node: Vec<String> = stage.lab.node(NODE).unwrap().ips.iter().map(ToString::to_string).collect();
    let mut doors = frontends(&node.iter().map(String::as_str).collect::<Vec<_>>());
    for door in &mut doors {
        door.to.set_port(if door.to.port() == HTTP { node_port } else { node_port + 1 });
    }
    let [pod, node] = stage.clients();
    let outside = stage.lab.place("outside").unwrap();
    vec![(pod, frontends(ips)), (node, frontends(ips)), (outside, doors)]
}

/// Waits until everybody is answered everywhere.
pub(crate) fn serves(stage: &Stage) {
    for (client, probes) in [clients(stage), clients_of_the_host(stage)].concat() {
        let impatient = |probe: Probe| Probe { timeout: Duration::from_millis(500), ..probe };
        let probes: Vec<Probe> = probes.into_iter().map(impatient).collect();
        stage.until(&format!("{} is served", client.name), || {
            client.probe(&probes).unwrap().iter().map(Tally::failures).sum::<u32>() == 0
        });
    }
}
