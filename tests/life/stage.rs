//! What every test stands on: a lab of two nodes, three servers and a client, a dual-stack Service, agents, and
//! `proxyctl`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_lab::binary::Program;
use sluice_lab::{AgentOptions, Family, Lab, Listen, Op, Place, Probe, Protocol, SocketLb, Stop, Topology};

use crate::objects;

/// Both nodes.
pub(crate) const NODES: [&str; 2] = ["node-1", "node-2"];
/// The pods behind `demo/web`.
pub(crate) const SERVERS: [&str; 3] = ["web-1", "web-2", "web-3"];
/// Addresses of `demo/web`.
pub(crate) const WEB: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
/// Frontends of a dual-stack Service with two ports: each address and port, and each address by itself, so that other
/// ports are refused.
pub(crate) const FRONTENDS: u64 = 2 * 3;
/// An agent loads its programs in some seconds; two cores may have other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Of one request.
const TIMEOUT: Duration = Duration::from_secs(1);
/// Enough requests that each of three backends is missed once in 10^10 batches.
const SPREAD: u32 = 60;

const LAB: &str = "
nodes:
- {name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
- {name: node-2, addresses: [172.18.0.12, 'fd00:18::12'], podCIDRs: [10.244.2.0/24, 'fd00:244:2::/64']}
pods:
- {name: web-1, node: node-1, ips: [10.244.1.11, 'fd00:244:1::11']}
- {name: web-2, node: node-2, ips: [10.244.2.12, 'fd00:244:2::12']}
- {name: web-3, node: node-2, ips: [10.244.2.13, 'fd00:244:2::13']}
- {name: client, node: node-1, ips: [10.244.1.100, 'fd00:244:1::100']}
outside:
- {name: outside, ips: [172.18.0.100, 'fd00:18::100']}
";

/// The lab with `demo/web` in its manifests. Dropping it takes everything down.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) options: AgentOptions,
}

impl Stage {
    /// Brings the lab up, without agents.
    pub(crate) fn set(road: SocketLb) -> Self {
        let lab = Lab::up(&Topology::parse(LAB).unwrap()).unwrap();
        let mut options = AgentOptions::new(road);
        options.cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/32".parse().unwrap()];
        let stage = Self { lab, options };
        for server in SERVERS {
            let place = stage.lab.pod(server).unwrap();
            let sockets: Vec<Listen> = place.ips.iter().flat_map(|ip| objects::listeners(*ip)).collect();
            place.listen(&sockets).unwrap();
        }
        for node in stage.lab.topology().nodes {
            stage.lab.manifests().put(&objects::node(&node)).unwrap();
        }
        stage.put(&objects::service("web", &WEB));
        stage.point_web_at(&SERVERS);
        stage
    }

    /// As [`Stage::set`], with an agent on each node.
    pub(crate) fn begin(road: SocketLb) -> Self {
        let stage = Self::set(road);
        stage.lab.start_agents(&stage.options, PATIENCE).unwrap();
        stage
    }

    /// Creates or replaces an object.
    pub(crate) fn put(&self, object: &Value) {
        self.lab.manifests().put(object).unwrap();
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, object: &Value) {
        self.lab.manifests().apply(Op::Delete, object).unwrap();
    }

    /// Lets both slices of `demo/web` have these pods as endpoints.
    pub(crate) fn point_web_at(&self, pods: &[&str]) {
        self.point_at("web", pods);
    }

    /// Lets both slices of a Service have these pods as endpoints.
    pub(crate) fn point_at(&self, service: &str, pods: &[&str]) {
        for (index, family) in [Family::Ipv4, Family::Ipv6].into_iter().enumerate() {
            let ips: Vec<IpAddr> = pods.iter().map(|pod| self.lab.pod(pod).unwrap().ips[index]).collect();
            self.put(&objects::slice(service, family, &ips));
        }
    }

    /// Where clients are: a pod and its node.
    pub(crate) fn clients(&self) -> [Place; 2] {
        [self.lab.pod("client").unwrap(), self.lab.node("node-1").unwrap()]
    }

    /// Waits until these pods and no others answer on all frontends, for the clients of both kinds. No connection may
    /// fail on the way; a datagram to an endpoint that is just being taken away may (item 101).
    pub(crate) fn reaches(&self, addresses: &[&str], pods: &[&str]) {
        let wanted: BTreeSet<String> = pods.iter().map(|pod| (*pod).to_owned()).collect();
        let probes: Vec<Probe> = frontends(addresses).into_iter().map(|probe| probe.times(SPREAD)).collect();
        for client in self.clients() {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let tallies = client.probe(&probes).unwrap();
                let said: Vec<String> = tallies.iter().map(ToString::to_string).collect();
                let failed = |protocol: Protocol| {
                    let pairs = probes.iter().zip(&tallies);
                    pairs
                        .filter(|(probe, _)| probe.protocol == protocol)
                        .any(|(_, tally)| tally.failures() > 0)
                };
                assert!(!failed(Protocol::Tcp), "{} failed: {said:#?}", client.name);
                let names = |tally: &sluice_lab::Tally| -> BTreeSet<String> {
                    tally.answered.values().map(|server| server.name.clone()).collect()
                };
                if !failed(Protocol::Udp) && tallies.iter().all(|tally| names(tally) == wanted) {
                    break;
                }
                assert!(Instant::now() < deadline, "{} does not reach {pods:?}: {said:#?}", client.name);
            }
        }
    }

    /// Ends both agents and waits until they are gone.
    pub(crate) fn stop_agents(&self, stop: Stop) {
        NODES.into_iter().for_each(|node| self.lab.stop_agent(node, stop).unwrap());
    }

    /// Starts both agents and waits until they are ready.
    pub(crate) fn start_agents(&self) {
        self.lab.start_agents(&self.options, PATIENCE).unwrap();
    }

    /// Runs `proxyctl` on a node.
    pub(crate) fn proxyctl(&self, node: &str, arguments: &[&str]) -> Output {
        proxyctl(&self.lab, node, arguments)
    }

    /// What `proxyctl status -o json` says on a node.
    pub(crate) fn status(&self, node: &str) -> Value {
        let output = self.proxyctl(node, &["status", "-o", "json"]);
        assert!(output.status.success(), "proxyctl status: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// `proxy-agent` in the namespace and the cgroup of a node.
    pub(crate) fn agent(&self, node: &str) -> Command {
        let program = Program::Agent.find().unwrap();
        self.lab.node(node).unwrap().command(&program.to_string_lossy()).unwrap()
    }
}

/// Runs `proxyctl` on a node of a lab.
pub(crate) fn proxyctl(lab: &Lab, node: &str, arguments: &[&str]) -> Output {
    let program = Program::Agent.find().unwrap().with_file_name("proxyctl");
    let mut command = lab.node(node).unwrap().command(&program.to_string_lossy()).unwrap();
    command.args(arguments).arg("--bpf-root").arg(lab.node_bpf_root(node)).output().unwrap()
}

/// A request to each address on each port.
pub(crate) fn frontends(addresses: &[&str]) -> Vec<Probe> {
    objects::requests(addresses, TIMEOUT)
}

/// The end of a node's log that was not there yet when the value was made.
pub(crate) struct Log<'a> {
    stage: &'a Stage,
    node: &'a str,
    skip: usize,
}

impl<'a> Log<'a> {
    /// From now on.
    pub(crate) fn follow(stage: &'a Stage, node: &'a str) -> Self {
        let mut log = Self { stage, node, skip: 0 };
        log.skip = log.text().len();
        log
    }

    /// Warnings and errors since then, without their time.
    pub(crate) fn complaints(&self) -> Vec<String> {
        complaints(&self.text()[self.skip..])
    }

    fn text(&self) -> String {
        let path = self.stage.lab.log_path(&format!("agent-{}.log", self.node));
        std::fs::read_to_string(path).unwrap_or_default()
    }
}

/// The lines that are no news but a complaint: `ERROR …` and `WARN …` without their time, and all that is no log line.
pub(crate) fn complaints(text: &str) -> Vec<String> {
    let line = |line: &str| match line.split_once("Z ") {
        Some((_, rest)) if rest.trim_start().starts_with("INFO") => None,
        Some((time, rest)) if time.starts_with("20") => Some(rest.trim().to_owned()),
        _ => Some(line.to_owned()),
    };
    text.lines().filter(|line| !line.is_empty()).filter_map(line).collect()
}
