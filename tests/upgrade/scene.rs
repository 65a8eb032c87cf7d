//! What an upgrade must not touch: a Service with affinity, a pod that a policy isolates, and what lies on the bpffs.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_lab::binary::Program;
use sluice_lab::{Load, Place, Probe, Protocol, SocketLb, Stop};
use tests::{occupancy, ports};

use crate::loads::Loads;
use crate::objects::{self, DNS_TARGET, HTTP, HTTP_TARGET};
use crate::stage::{NODES, PATIENCE, SERVERS, Stage, WEB};

/// Addresses of `demo/sticky`.
const STICKY: [&str; 2] = ["10.96.0.20", "fd00:96::20"];
/// Fewer than are used while links change hands; more than wait for a second after they were closed.
const FEW_PORTS: &str = "40000 40399";
/// Between two connections of a client with few ports.
const GAP: Duration = Duration::from_millis(4);
/// No SYN is sent again in that time, so none is lost.
const TIMEOUT: Duration = Duration::from_secs(1);
/// How long a blocked attempt waits.
const GLANCE: Duration = Duration::from_millis(200);

/// The lab of the life of an agent, with a Service that has affinity and policies on the servers.
pub(crate) fn begin() -> Stage {
    let stage = Stage::set(SocketLb::Host);
    stage.put(&json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "demo", "labels": {"kubernetes.io/metadata.name": "demo"}}}));
    for (name, node) in [("web-1", "node-1"), ("web-2", "node-2"), ("web-3", "node-2"), ("client", "node-1")]
    {
        stage.put(&pod(name, node, &stage.lab.pod(name).unwrap().ips));
    }
    let ports = json!([{"port": HTTP_TARGET}, {"port": DNS_TARGET, "protocol": "UDP"}]);
    // The other node's own connections come from its address.
    let from = json!([
        {"podSelector": {"matchLabels": {"app": "client"}}},
        {"ipBlock": {"cidr": "172.18.0.0/16"}},
        {"ipBlock": {"cidr": "fd00:18::/64"}},
    ]);
    stage.put(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "guard", "namespace": "demo"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": from, "ports": ports}]}}));
    let mut sticky = objects::service("sticky", &STICKY);
    sticky["spec"]["sessionAffinity"] = json!("ClientIP");
    stage.put(&sticky);
    stage.point_at("sticky", &SERVERS);
    stage.start_agents();
    stage
}

fn pod(name: &str, node: &str, ips: &[IpAddr]) -> Value {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    let app = name.split('-').next();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "demo", "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": [{"name": "main"}]},
        "status": {"phase": "Running", "podIPs": ips},
    })
}

/// The server that each address of the sticky Service leads a client to.
pub(crate) fn favourites(client: &Place) -> Vec<BTreeSet<String>> {
    let probe = |ip: &&str| Probe::new(Protocol::Tcp, SocketAddr::new(ip.parse().unwrap(), HTTP)).times(20);
    let tallies = client.probe(&STICKY.iter().map(probe).collect::<Vec<_>>()).unwrap();
    let names = |tally: &sluice_lab::Tally| {
        assert_eq!(tally.failures(), 0, "{tally}");
        tally.answered.values().map(|server| server.name.clone()).collect()
    };
    tallies.iter().map(names).collect()
}

/// Attempts that policies deny, from one server to another, again and again.
pub(crate) struct Denied(Vec<Load>);

impl Denied {
    pub(crate) fn begin(stage: &Stage) -> Self {
        let from = stage.lab.pod("web-1").unwrap();
        let to = stage.lab.pod("web-2").unwrap().ips;
        let load = |ip: &IpAddr| {
            let to = SocketAddr::new(*ip, HTTP_TARGET);
            let probe =
                Probe { tries: 1, timeout: GLANCE, pause: Duration::ZERO, ..Probe::new(Protocol::Tcp, to) };
            from.load(&format!("denied {to}"), &probe).unwrap()
        };
        Self(to.iter().map(load).collect())
    }

    /// None was answered.
    pub(crate) fn end(self) {
        for load in self.0 {
            let tally = load.stop().unwrap().tally;
            assert_eq!(tally.answers(), 0, "a pod that a policy isolates was reached: {tally}");
            assert!(tally.failures() > 0, "nobody has tried");
        }
    }
}

/// Ends both agents and starts those of the program.
pub(crate) fn change(stage: &mut Stage, program: Program, stop: Stop) {
    stage.stop_agents(stop);
    stage.options.program = program;
    stage.start_agents();
}

/// Runs `proxyctl` of the agents that run.
pub(crate) fn proxyctl(stage: &Stage, node: &str, arguments: &[&str]) -> Output {
    let name = match stage.options.program {
        Program::NextAgent => "proxyctl-next",
        Program::Agent | Program::Probe => "proxyctl",
    };
    let program = Program::Agent.find().unwrap().with_file_name(name);
    let mut command = stage.lab.node(node).unwrap().command(&program.to_string_lossy()).unwrap();
    command.args(arguments).arg("--bpf-root").arg(stage.lab.node_bpf_root(node)).output().unwrap()
}

/// What `proxyctl … -o json` says.
pub(crate) fn asked(stage: &Stage, node: &str, arguments: &[&str]) -> Value {
    let output = proxyctl(stage, node, &[arguments, &["-o", "json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The layout versions with pins, and what else than `abi`, `links` and `maps` lies beside these.
pub(crate) fn pinned(stage: &Stage, node: &str) -> (Vec<String>, Vec<String>) {
    let list = |dir: &Path| -> Vec<PathBuf> {
        let mut all: Vec<_> = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    let name = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().into_owned();
    let versions = list(&stage.lab.node_bpf_root(node));
    let beside = versions.iter().flat_map(|dir| list(dir)).map(|path| name(&path));
    let known = |name: &String| ["abi", "links", "maps"].contains(&name.as_str());
    (versions.iter().map(name).collect(), beside.filter(|name| !known(name)).collect())
}

/// Waits until no connection of TCP is left but so many.
pub(crate) fn comes_to_rest(stage: &Stage, open: usize) {
    let on = |node| occupancy::translated(&asked(stage, node, &["flow", "list"]));
    occupancy::comes_to_rest(PATIENCE, open, || NODES.into_iter().flat_map(on).collect());
}

/// Leaves a client so few ports that each is soon used again, for another Service of the same servers, too.
pub(crate) fn few_ports(client: &Place) {
    ports::give(client, FEW_PORTS).unwrap();
}

/// Connections of a client to two Services with the same servers, a port of its own each hundredth of a second or so.
pub(crate) fn crowd(client: &Place) -> Loads {
    let probe = |ip: &&str| Probe {
        pause: GAP,
        timeout: TIMEOUT,
        ..Probe::new(Protocol::Tcp, SocketAddr::new(ip.parse().unwrap(), HTTP))
    };
    Loads::exactly(&[(client.clone(), WEB.iter().chain(&STICKY).map(probe).collect())])
}
