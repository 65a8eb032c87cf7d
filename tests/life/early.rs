//! Outside clients of backends on another node, served in the driver of the first node's uplink: counted there, over both
//! families, TCP and UDP, through node ports, load balancers' addresses and ClusterIPs; and nobody notices the death of
//! the agent.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use aya::programs::{Xdp, xdp::XdpMode};
use proxy_common::DatapathConfig;
use serde_json::{Value, json};
use sluice_lab::wire::Outcome;
use sluice_lab::{
    AgentOptions, Family, Lab, Listen, Load, Place, Probe, Protocol, SocketLb, Stop, Topology, netns,
};
use tests::object;

use crate::capture::Capture;
use crate::objects::{self, DNS, DNS_TARGET, HTTP, HTTP_TARGET, listeners};
use crate::stage::{PATIENCE, proxyctl};

const LAB: &str = "
nodes:
- {name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
- {name: node-2, addresses: [172.18.0.12, 'fd00:18::12'], podCIDRs: [10.244.2.0/24, 'fd00:244:2::/64']}
pods:
- {name: web, node: node-2, ips: [10.244.2.12, 'fd00:244:2::12']}
outside:
- {name: laptop, ips: [172.18.0.200, 'fd00:18::200'], via: node-1}
";
const ENTRY: &str = "node-1";
const CLUSTER_IPS: [&str; 2] = ["10.96.0.10", "fd00:96::10"];
const VIPS: [&str; 2] = ["203.0.113.10", "2001:db8:113::10"];
const NODE_PORTS: [u16; 2] = [30_080, 30_053];
/// Messages on each open flow.
const MESSAGES: u32 = 50;

struct Stage {
    lab: Lab,
    /// Held: a program in the other end of the uplink. A veth wakes its peer for a packet that a driver sends only if the
    /// peer runs a program itself (`veth_xdp_flush` in the kernel). It passes everything.
    #[expect(dead_code, reason = "held until the lab goes down")]
    peer: aya::Ebpf,
    options: AgentOptions,
}

impl Stage {
    /// Brings the lab up with cables, its agents not started.
    fn set(xdp: &str) -> Self {
        let lab = Lab::up(&Topology::parse(LAB).unwrap()).unwrap();
        lab.lay_cables().unwrap();
        let peer = run_in_driver(&lab.id().segment_netns(), "p1");
        let mut options = AgentOptions::new(SocketLb::On);
        options.cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/32".parse().unwrap()];
        options.extra = vec![format!("--xdp={xdp}")];
        let web = lab.pod("web").unwrap();
        let sockets: Vec<Listen> = web.ips.iter().flat_map(|ip| listeners(*ip)).collect();
        web.listen(&sockets).unwrap();
        for node in lab.topology().nodes {
            lab.manifests().put(&objects::node(&node)).unwrap();
        }
        lab.manifests().put(&service()).unwrap();
        for (family, ip) in [Family::Ipv4, Family::Ipv6].into_iter().zip(&web.ips) {
            lab.manifests().put(&objects::slice("web", family, &[*ip])).unwrap();
        }
        Self { lab, peer, options }
    }

    fn start_agents(&self) {
        self.start_agent(&self.options);
    }

    fn start_agent(&self, options: &AgentOptions) {
        self.lab.start_agent(ENTRY, options).unwrap();
        self.lab.agent_ready(ENTRY, PATIENCE).unwrap();
    }

    fn client(&self) -> Place {
        self.lab.place("laptop").unwrap()
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        let output = proxyctl(&self.lab, ENTRY, arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What the agent says of the uplink's driver.
    fn modes(&self) -> Value {
        self.ask(&["status", "-o", "json"])["start"]["xdp"].clone()
    }

    /// Packets of known flows: those that ended in the driver, and the others.
    fn carried(&self) -> [u64; 2] {
        let counters = self.ask(&["counter", "list", "-o", "json"]);
        let rows: Vec<&Value> = counters.as_array().unwrap().iter().collect();
        let of_flows = rows
            .iter()
            .filter(|row| ["flow-forward", "flow-reply"].contains(&row["reason"].as_str().unwrap()));
        of_flows.fold([0, 0], |[early, late], row| {
            let (count, driver) = (row["count"].as_u64().unwrap(), row["inDriver"].as_u64().unwrap());
            [early + driver, late + count - driver]
        })
    }

    /// The same, of one moment: the two tables are read one after the other, and a late acknowledgement between them would be
    /// in one of them only.
    fn carried_by_now(&self) -> [u64; 2] {
        let deadline = Instant::now() + PATIENCE;
        let mut last = self.carried();
        loop {
            let now = self.carried();
            if now == last {
                return now;
            }
            assert!(Instant::now() < deadline, "the flows do not come to rest: {last:?}, {now:?}");
            last = now;
        }
    }
}

fn service() -> Value {
    let mut service = objects::service("web", &CLUSTER_IPS);
    service["spec"]["type"] = json!("LoadBalancer");
    for (index, port) in NODE_PORTS.into_iter().enumerate() {
        service["spec"]["ports"][index]["nodePort"] = json!(port);
    }
    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": VIPS[0]}, {"ip": VIPS[1]}]}});
    service
}

/// Every way in: both families, both protocols.
fn ways_in() -> Vec<Probe> {
    let nodes = ["172.18.0.11", "fd00:18::11"];
    let places = nodes
        .map(|ip| (ip, NODE_PORTS))
        .into_iter()
        .chain(CLUSTER_IPS.into_iter().chain(VIPS).map(|ip| (ip, [HTTP, DNS])));
    let both = |(ip, ports): (&str, [u16; 2])| {
        let ip: IpAddr = ip.parse().unwrap();
        [Protocol::Tcp, Protocol::Udp].into_iter().zip(ports).map(move |(protocol, port)| Probe {
            tries: 1,
            timeout: Duration::from_secs(2),
            ..Probe::new(protocol, SocketAddr::new(ip, port))
        })
    };
    places.flat_map(both).collect()
}

/// Runs a program of somebody else's in a device's driver, with maps of its own, so that it passes everything.
fn run_in_driver(space: &str, device: &str) -> aya::Ebpf {
    netns::inside(space, || {
        let mut object = object::load(DatapathConfig::default(), 64);
        let program: &mut Xdp = object.program_mut("early_wire").unwrap().try_into().unwrap();
        program.load()?;
        program.attach(device, XdpMode::Driver)?;
        Ok(object)
    })
    .unwrap()
}

/// The server that answered.
fn server(outcome: Outcome) -> SocketAddr {
    match outcome {
        Outcome::Answered(answer) => answer.at.parse().unwrap(),
        Outcome::Failed(failure) => panic!("the flow broke: {failure}"),
    }
}

/// Waits until the node serves every way in.
fn wait_for_service(client: &Place) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let tallies = client.probe(&ways_in()).unwrap();
        if tallies.iter().all(|tally| tally.failures() == 0) {
            return;
        }
        assert!(Instant::now() < deadline, "{tallies:?}");
    }
}

#[test]
fn open_flows_to_a_remote_backend_are_carried_in_the_driver_alone() {
    let stage = Stage::set("native");
    stage.start_agents();
    let client = stage.client();
    wait_for_service(&client);
    assert_eq!(stage.modes(), json!({"eth0": "native"}));
    let flows: Vec<(String, Probe)> =
        ways_in().into_iter().map(|probe| (format!("{} {}", probe.protocol, probe.to), probe)).collect();
    for (id, probe) in &flows {
        let target = if probe.protocol == Protocol::Tcp { HTTP_TARGET } else { DNS_TARGET };
        assert_eq!(server(client.open(id, probe).unwrap()).port(), target);
        // The first packet behind the answer asks for its way at the tc hook.
        server(client.use_flow(id, Duration::from_secs(2), 1).unwrap());
    }
    let [early, late] = stage.carried_by_now();
    for _ in 0..MESSAGES {
        for (id, _) in &flows {
            server(client.use_flow(id, Duration::from_secs(2), 1).unwrap());
        }
    }
    let [early_now, late_now] = stage.carried_by_now();
    let exchanged = u64::try_from(flows.len()).unwrap() * u64::from(MESSAGES) * 2;
    assert!(early_now - early >= exchanged, "{} of {exchanged}", early_now - early);
    assert_eq!(late_now - late, 0, "none came as far as the tc hook");
    if !crate::capture::is_to_be_had() {
        tests::leave_out("the capture in the driver: this kernel takes no tracing programs");
        return;
    }
    // What the driver sends back never reaches a socket of tcpdump.
    let capture = Capture::start(&stage.lab, ENTRY, &["--hook", "early_wire", "--count", "2", "-o", "json"]);
    let (id, probe) = &flows[0];
    server(client.use_flow(id, Duration::from_secs(2), 1).unwrap());
    let lines = capture.lines();
    let told = |line: &Value| json!([line["hook"], line["device"], line["reason"], line["action"]]);
    assert_eq!(told(&lines[0]), json!(["early_wire", "eth0", "flow-forward", "tx"]));
    assert_eq!(lines[0]["before"]["destination"], json!(probe.to.to_string()));
}

#[test]
fn nobody_notices_that_the_agent_dies_while_the_driver_serves() {
    let stage = Stage::set("native");
    stage.start_agents();
    let client = stage.client();
    wait_for_service(&client);
    let links = |stage: &Stage| -> Vec<Value> {
        let status = stage.ask(&["status", "-o", "json"]);
        let hooks = status["hooks"].as_array().unwrap().iter();
        hooks.map(|hook| json!([hook["hook"], hook["target"], hook["linkId"], hook["state"]])).collect()
    };
    let before = links(&stage);
    assert!(before.iter().any(|link| link[0] == json!("early_wire") && link[3] == json!("attached")));
    let loads: Vec<Load> = ways_in()
        .into_iter()
        .enumerate()
        .map(|(number, mut probe)| {
            probe.pause = Duration::from_millis(5);
            client.load(&format!("load {number}"), &probe).unwrap()
        })
        .collect();
    go_on(&loads);
    for _ in 0..2 {
        stage.lab.stop_agent(ENTRY, Stop::Kill).unwrap();
        go_on(&loads);
        stage.start_agents();
        go_on(&loads);
        assert_eq!(links(&stage), before, "the links are the same, with other programs");
        assert_eq!(stage.modes(), json!({"eth0": "native"}));
    }
    for load in loads {
        let report = load.stop().unwrap();
        assert_eq!(report.tally.failures(), 0, "{:?}", report.first_failures);
    }
}

/// Waits until each load has had some more answers.
fn go_on(loads: &[Load]) {
    let so_far = |load: &Load| load.read().unwrap().tally.answers();
    let goals: Vec<u32> = loads.iter().map(|load| so_far(load) + 20).collect();
    let deadline = Instant::now() + PATIENCE;
    for (load, goal) in loads.iter().zip(goals) {
        while so_far(load) < goal {
            assert!(Instant::now() < deadline, "a load stands still");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

#[test]
fn where_the_driver_is_not_to_be_had_the_tc_hook_serves_and_the_status_says_why() {
    let stage = Stage::set("auto");
    stage.start_agents();
    let client = stage.client();
    wait_for_service(&client);
    let why = "none: packets of a veth may lack their checksums; ask for native if they do not";
    assert_eq!(stage.modes(), json!({"eth0": why}));
    stage.lab.stop_agent(ENTRY, Stop::Terminate).unwrap();

    let node = stage.lab.node(ENTRY).unwrap();
    let strangers = run_in_driver(&node.netns, "eth0");
    let native = AgentOptions { extra: vec!["--xdp=native".to_owned()], ..stage.options.clone() };
    stage.start_agent(&native);
    wait_for_service(&client);
    assert_eq!(stage.modes(), json!({"eth0": "none: somebody else's program is there"}));
    assert_eq!(stage.carried()[0], 0);
    drop(strangers);
}
