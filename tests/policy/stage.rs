//! The lab of the test: two nodes, pods that connect, and a pair of pods that tells when agents have followed.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{getpriority_process, setpriority_process};
use serde_json::{Value, json};
use sluice_lab::binary::Program;
use sluice_lab::{AgentOptions, Lab, Listen, Op, PodSpec, Probe, Protocol, SocketLb, Stop, Topology};

use crate::state::{self, Begun, KEPT_PORT, PORT, Pod, State, VALUES};

/// Both nodes.
pub(crate) const NODES: [&str; 2] = ["node-1", "node-2"];
/// An agent loads its programs in about a second; two cores may have other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

const LAB: &str = "
nodes:
- {name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
- {name: node-2, addresses: [172.18.0.12, 'fd00:18::12'], podCIDRs: [10.244.2.0/24, 'fd00:244:2::/64']}
";
/// Name, namespace, node, last number of the address.
const PODS: [(&str, &str, usize, u8); 9] = [
    ("a", "x", 0, 11),
    ("b", "y", 0, 12),
    ("c", "x", 1, 13),
    ("d", "y", 1, 14),
    ("e", "x", 1, 15),
    ("k", "x", 0, 21),
    ("l", "y", 1, 22),
    ("m", "y", 0, 23),
    ("n", "y", 1, 24),
];
/// Those whose connections stay open.
const KEPT: [&str; 3] = ["k", "l", "m"];
/// One on each node; between them a connection passes on one port or on the other.
const SENTINELS: [(&str, usize, u8); 2] = [("s", 0, 101), ("t", 1, 102)];
const SIGNS: [u16; 2] = [1001, 1002];

fn ips(node: usize, number: u8) -> [IpAddr; 2] {
    let node = node + 1;
    [format!("10.244.{node}.{number}"), format!("fd00:244:{node}::{number}")].map(|ip| ip.parse().unwrap())
}

/// The state in the beginning.
pub(crate) fn first_state() -> State {
    let pod = |(name, namespace, node, number): (&'static str, &'static str, usize, u8)| Pod {
        namespace,
        name,
        node: NODES[node],
        ips: ips(node, number),
        role: VALUES[usize::from(number) % 2],
        keeps: KEPT.contains(&name),
    };
    State {
        pods: PODS.map(|line| (line.0, pod(line))).into(),
        teams: [("x", VALUES[0]), ("y", VALUES[1])].into(),
        policies: [].into(),
    }
}

/// The lab with its agents. Dropping it takes everything down.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    options: AgentOptions,
    sign: usize,
}

impl Stage {
    /// Brings everything up and waits until the first state is in force.
    pub(crate) fn begin(state: &State, extra: &[&str]) -> Self {
        let lab = Lab::up(&Topology::parse(LAB).unwrap()).unwrap();
        let mut options = AgentOptions::new(SocketLb::Host);
        options.cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/32".parse().unwrap()];
        options.extra = extra.iter().map(|flag| (*flag).to_owned()).collect();
        let mut stage = Self { lab, options, sign: 0 };
        for node in stage.lab.topology().nodes {
            stage.put(&json!({
                "apiVersion": "v1", "kind": "Node",
                "metadata": {"name": node.name},
                "spec": {"podCIDRs": node.pod_cidrs},
                "status": {"addresses": node.addresses.iter().map(|ip| json!({"type": "InternalIP", "address": ip})).collect::<Vec<_>>()},
            }));
        }
        for namespace in state.teams.keys() {
            stage.put(&state.namespace(namespace));
            stage.put(&state::keep(namespace));
        }
        stage.put(
            &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "signs", "labels": {}}}),
        );
        let spec = |name: &str, node: &str, ips: [IpAddr; 2]| PodSpec {
            name: name.to_owned(),
            node: node.to_owned(),
            ips: ips.to_vec(),
        };
        let mut pods: Vec<PodSpec> =
            state.pods.values().map(|pod| spec(pod.name, pod.node, pod.ips)).collect();
        pods.extend(SENTINELS.map(|(name, node, number)| spec(name, NODES[node], ips(node, number))));
        polite(|| stage.lab.pods_add(&pods).unwrap());
        for pod in state.pods.values() {
            stage.serve(pod);
            stage.put(&state.pod(pod.name, Begun::Yes));
        }
        for (name, node, number) in SENTINELS {
            let place = stage.lab.pod(name).unwrap();
            let all = place.ips.iter().flat_map(|ip| SIGNS.map(|port| listen(*ip, port)));
            place.listen(&all.collect::<Vec<_>>()).unwrap();
            let ips = ips(node, number);
            let listed: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
            stage.put(&json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "signs", "labels": {}},
                "spec": {"nodeName": NODES[node], "containers": []},
                "status": {"phase": "Running", "podIP": ips[0], "podIPs": listed},
            }));
        }
        stage.give_sign();
        stage.lab.start_agents(&stage.options, PATIENCE).unwrap();
        stage.settle();
        stage
    }

    /// Lets a pod answer on both ports.
    pub(crate) fn serve(&self, pod: &Pod) {
        let sockets = pod.ips.iter().flat_map(|ip| [PORT, KEPT_PORT].map(|port| listen(*ip, port)));
        self.lab.pod(pod.name).unwrap().listen(&sockets.collect::<Vec<_>>()).unwrap();
    }

    /// Creates or replaces an object.
    pub(crate) fn put(&self, object: &Value) {
        self.lab.manifests().put(object).unwrap();
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, object: &Value) {
        self.lab.manifests().apply(Op::Delete, object).unwrap();
    }

    /// Waits until everything that was put is in force on both nodes, and says when it was for certain. What is put after a
    /// change is known after it; of two signs the second is planned when the plan with the change has been written.
    pub(crate) fn settle(&mut self) -> SystemTime {
        for _ in 0..2 {
            self.give_sign();
            self.await_sign();
        }
        SystemTime::now()
    }

    fn give_sign(&mut self) {
        self.sign = (self.sign + 1) % SIGNS.len();
        let ports = json!([{"protocol": "TCP", "port": SIGNS[self.sign]}]);
        let spec = json!({"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": ports}]});
        self.put(&state::network_policy("signs", "sign", &spec));
    }

    /// An answer on the port proves the sign: until it was known, nothing passed there. Where processors are busy even what
    /// passes takes a while.
    fn await_sign(&self) {
        let deadline = Instant::now() + PATIENCE;
        for (from, to) in [("s", "t"), ("t", "s")] {
            let to = SocketAddr::new(self.lab.pod(to).unwrap().ips[0], SIGNS[self.sign]);
            let mut probe = Probe { timeout: Duration::from_millis(30), ..Probe::new(Protocol::Tcp, to) };
            let place = self.lab.pod(from).unwrap();
            while place.probe(std::slice::from_ref(&probe)).unwrap()[0].answers() == 0 {
                probe.timeout = (probe.timeout * 2).min(Duration::from_secs(2));
                assert!(Instant::now() < deadline, "agents do not follow:\n{}", self.logs());
            }
        }
    }

    /// Waits until a pod's node has both of its addresses under policies.
    pub(crate) fn await_isolation(&self, pod: &Pod) {
        let deadline = Instant::now() + PATIENCE;
        for (ip, map) in pod.ips.iter().zip(["policed4", "policed6"]) {
            while !self.dump(pod.node, map).contains(&format!("\"{ip}\"")) {
                assert!(Instant::now() < deadline, "{}: {ip} is not isolated:\n{}", pod.name, self.logs());
            }
        }
    }

    fn dump(&self, node: &str, map: &str) -> String {
        let program = Program::Agent.find().unwrap().with_file_name("proxyctl");
        let mut command = self.lab.node(node).unwrap().command(&program.to_string_lossy()).unwrap();
        command.args(["map", "dump", map, "-o", "json", "--bpf-root"]).arg(self.lab.node_bpf_root(node));
        String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
    }

    /// Kills the agent of a node, does something, and starts it again.
    pub(crate) fn without_agent(&self, node: &str, act: impl FnOnce()) {
        self.lab.stop_agent(node, Stop::Kill).unwrap();
        act();
        self.lab.start_agent(node, &self.options).unwrap();
        self.lab.agent_ready(node, PATIENCE).unwrap();
    }

    /// The ends of the agents' logs.
    pub(crate) fn logs(&self) -> String {
        NODES.map(|node| format!("--- {node}\n{}", self.lab.agent_log(node, 15))).join("\n")
    }
}

/// Starts processes of which others go first: loads take every processor that they get, and the agents must follow beside them.
fn polite<T>(start: impl FnOnce() -> T) -> T {
    const NICE: i32 = 10;
    let own = getpriority_process(None).unwrap();
    setpriority_process(None, NICE).unwrap();
    let started = start();
    setpriority_process(None, own).unwrap();
    started
}

fn listen(ip: IpAddr, port: u16) -> Listen {
    Listen { protocol: Protocol::Tcp, at: SocketAddr::new(ip, port) }
}
