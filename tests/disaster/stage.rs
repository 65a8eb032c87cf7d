//! What every disaster strikes: a node with three servers, a client and an agent that watches an API server which is told to
//! misbehave, and an outside client.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::binary::Program;
use sluice_lab::{
    AgentOptions, Family, Lab, Listen, Place, Probe, Protocol, SocketLb, Source, Stop, Tally, Topology,
};
use tests::apiserver::{ApiServer, Door, Resource, Streaming};
use tests::occupancy;

use crate::gate::Gate;
use crate::objects::{self, HTTP_TARGET};

/// The node.
pub(crate) const NODE: &str = "node-1";
/// The pods behind `demo/web`.
pub(crate) const SERVERS: [&str; 3] = ["web-1", "web-2", "web-3"];
/// Addresses of `demo/web`, which is never touched unless a test is about it.
pub(crate) const WEB: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
/// An agent loads its programs in some seconds; two cores may have other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);
/// Of one request.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);
/// Of one that nobody is to answer.
pub(crate) const GLANCE: Duration = Duration::from_millis(500);
/// Enough requests that each of three backends is missed once in 10^10 batches.
const SPREAD: u32 = 60;
const LAB: &str = "
nodes:
- {name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
pods:
- {name: web-1, node: node-1, ips: [10.244.1.11, 'fd00:244:1::11']}
- {name: web-2, node: node-1, ips: [10.244.1.12, 'fd00:244:1::12']}
- {name: web-3, node: node-1, ips: [10.244.1.13, 'fd00:244:1::13']}
- {name: client, node: node-1, ips: [10.244.1.100, 'fd00:244:1::100']}
outside:
- {name: outside, ips: [172.18.0.100, 'fd00:18::100'], via: node-1}
";

/// The lab, its API server and a gate before the agent. Dropping it takes everything down.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) api: ApiServer,
    pub(crate) options: AgentOptions,
    pub(crate) gate: Gate,
}

impl Stage {
    /// Brings the lab up, without an agent. Pods' connections take the packet road, the node's the socket road.
    pub(crate) fn set(flags: &[&str]) -> Self {
        let lab = Lab::up(&Topology::parse(LAB).unwrap()).unwrap();
        let door = Door::Inside(lab.node(NODE).unwrap().netns);
        let api = ApiServer::start(&[door], Streaming::Offered).unwrap();
        let kubeconfig = lab.log_path("kubeconfig");
        api.write_kubeconfig(&kubeconfig).unwrap();
        let mut options = AgentOptions::new(SocketLb::Host);
        options.source = Source::Kubeconfig(kubeconfig);
        options.cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/32".parse().unwrap()];
        options.extra = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let stage = Self { lab, api, options, gate: Gate::new() };
        for server in SERVERS {
            stage.serve(server);
        }
        for node in stage.lab.topology().nodes {
            stage.put(&objects::node(&node));
        }
        stage.put(&objects::service("web", &WEB));
        stage.point_at("web", &SERVERS);
        stage
    }

    /// As [`Stage::set`], with an agent that serves.
    pub(crate) fn begin(flags: &[&str]) -> Self {
        let stage = Self::set(flags);
        stage.start();
        stage.reaches(&WEB, &SERVERS);
        stage
    }

    /// Lets a pod answer on all its addresses.
    pub(crate) fn serve(&self, pod: &str) {
        let place = self.lab.pod(pod).unwrap();
        let sockets: Vec<Listen> = place.ips.iter().flat_map(|ip| objects::listeners(*ip)).collect();
        place.listen(&sockets).unwrap();
    }

    /// Starts the agent behind the gate; does not wait.
    pub(crate) fn launch(&self) {
        self.lab.start_agent_with(NODE, &self.options, |command| self.gate.before(command)).unwrap();
    }

    /// Starts the agent behind the gate and waits until it is ready.
    pub(crate) fn start(&self) {
        self.launch();
        self.lab.agent_ready(NODE, PATIENCE).unwrap();
    }

    /// Whether the agent says that its first full plan is in the kernel.
    pub(crate) fn is_ready(&self) -> bool {
        let node = self.lab.node(NODE).unwrap();
        let answer = node.get("http://127.0.0.1:10256/readyz", TIMEOUT).unwrap();
        answer.is_ok_and(|answer| answer.status == 200)
    }

    /// Waits until the agent has died, and takes note of it.
    pub(crate) fn dies(&self) {
        self.until("the agent dies", || self.lab.agent_process(NODE).unwrap().is_none());
        self.lab.stop_agent(NODE, Stop::Kill).unwrap();
    }

    /// Waits for something that comes by itself.
    pub(crate) fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "not in time: {what}\n{}", self.lab.agent_log(NODE, 25));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Creates or replaces an object.
    pub(crate) fn put(&self, object: &Value) {
        self.api.put(object).unwrap();
    }

    /// Deletes an object.
    pub(crate) fn delete(&self, object: &Value) {
        self.api.delete(object).unwrap();
    }

    /// A Service `demo/NAME` with these pods.
    pub(crate) fn put_service(&self, name: &str, addresses: &[&str], pods: &[&str]) {
        self.put(&objects::service(name, addresses));
        self.point_at(name, pods);
    }

    /// Takes a Service and its slices away.
    pub(crate) fn delete_service(&self, name: &str) {
        self.delete(&objects::service(name, &WEB));
        for family in [Family::Ipv4, Family::Ipv6] {
            self.delete(&objects::slice(name, family, &[]));
        }
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
        [self.lab.pod("client").unwrap(), self.lab.node(NODE).unwrap()]
    }

    /// Waits until these pods and no others answer on all frontends, for the clients of both kinds.
    pub(crate) fn reaches(&self, addresses: &[&str], pods: &[&str]) {
        let wanted: BTreeSet<String> = pods.iter().map(|pod| (*pod).to_owned()).collect();
        let probes: Vec<Probe> = frontends(addresses).into_iter().map(|probe| probe.times(SPREAD)).collect();
        for client in self.clients() {
            self.until(&format!("{} reaches {pods:?} at {addresses:?}", client.name), || {
                let tallies = client.probe(&probes).unwrap();
                let names = |tally: &Tally| -> BTreeSet<String> {
                    tally.answered.values().map(|server| server.name.clone()).collect()
                };
                tallies.iter().all(|tally| tally.failures() == 0 && names(tally) == wanted)
            });
        }
    }

    /// Connections from the client's pod to a pod's own addresses that are answered in time, one of each family.
    pub(crate) fn answers_of(&self, pod: &str, timeout: Duration) -> Vec<u32> {
        let probe =
            |ip: &IpAddr| Probe { timeout, ..Probe::new(Protocol::Tcp, SocketAddr::new(*ip, HTTP_TARGET)) };
        let probes: Vec<Probe> = self.lab.pod(pod).unwrap().ips.iter().map(probe).collect();
        let tallies = self.lab.pod("client").unwrap().probe(&probes).unwrap();
        tallies.iter().map(Tally::answers).collect()
    }

    /// What `proxyctl … -o json` says.
    pub(crate) fn ask(&self, arguments: &[&str]) -> Value {
        let program = Program::Agent.find().unwrap().with_file_name("proxyctl");
        let mut command = self.lab.node(NODE).unwrap().command(&program.to_string_lossy()).unwrap();
        command.args(arguments).args(["-o", "json", "--bpf-root"]).arg(self.lab.node_bpf_root(NODE));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Entries of the maps whose content follows from the objects.
    pub(crate) fn occupancy(&self) -> BTreeMap<String, u64> {
        occupancy::desired(&self.ask(&["map", "list"]))
    }

    /// Waits until the maps hold as much as then, and not an entry more: nothing has leaked.
    pub(crate) fn holds(&self, wanted: &BTreeMap<String, u64>) {
        let mut found = BTreeMap::new();
        let deadline = Instant::now() + PATIENCE;
        while found != *wanted {
            assert!(Instant::now() < deadline, "left: {found:?}, wanted: {wanted:?}");
            found = self.occupancy();
        }
    }

    /// All of `/metrics`; empty while nobody answers.
    pub(crate) fn page(&self) -> String {
        let node = self.lab.node(NODE).unwrap();
        let answer = node.get("http://127.0.0.1:10249/metrics", Duration::from_secs(2)).unwrap();
        answer.map(|answer| answer.body).unwrap_or_default()
    }

    /// A line of `/metrics`, by its beginning.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let page = self.page();
        let line = page.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// The agents' log so far, of all that ran.
    pub(crate) fn log(&self) -> String {
        let path = self.lab.log_path(&format!("agent-{NODE}.log"));
        std::fs::read_to_string(path).unwrap_or_default()
    }

    /// Waits for a line with all of these words that was not there before `from`.
    pub(crate) fn says(&self, from: usize, words: &[&str]) {
        self.until(&format!("the agent says {words:?}"), || {
            let log = self.log();
            log[from..].lines().any(|line| words.iter().all(|word| line.contains(word)))
        });
    }

    /// Waits until each of these kinds is watched and told to the end.
    pub(crate) fn told(&self, resources: &[Resource]) {
        for resource in resources {
            self.api.settled(*resource, PATIENCE).unwrap();
        }
    }
}

/// A namespace, and a policy that lets nobody in to a pod of that name.
pub(crate) fn closing(pod: &str) -> [Value; 2] {
    [
        json!({"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "demo", "labels": {"kubernetes.io/metadata.name": "demo"}}}),
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "closed", "namespace": "demo"},
            "spec": {"podSelector": {"matchLabels": {"name": pod}}, "policyTypes": ["Ingress"]}}),
    ]
}

/// A pod's object.
pub(crate) fn pod(name: &str, ips: &[IpAddr]) -> Value {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "demo", "labels": {"name": name}},
        "spec": {"nodeName": NODE, "containers": []},
        "status": {"phase": "Running", "podIPs": ips}})
}

/// A request to each address on each port.
pub(crate) fn frontends(addresses: &[&str]) -> Vec<Probe> {
    objects::requests(addresses, TIMEOUT)
}
