//! What the matrix is played on: two nodes with one endpoint each, a pod and an outside host that use the first node, three
//! Services. Every cell becomes a probe and a judgement of the fixture runner.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::fixture::bench::{Bench, Shot};
use sluice_lab::fixture::expectation::{ClientKind, Rigour, Road, Viewpoint, judge};
use sluice_lab::fixture::service::{Expect, Masquerade as Seen, OneOrMany, ResultKind};
use sluice_lab::{AgentOptions, Family, Listen, Masquerade, Op, Probe, Protocol, SocketLb, Topology};

use tests::programs::{self, Package};

use crate::contract::{Backends, Cell, Client, Configuration, Frontend, Source};

const LAB: &str = "
nodes:
- {name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
- {name: node-2, addresses: [172.18.0.12, 'fd00:18::12'], podCIDRs: [10.244.2.0/24, 'fd00:244:2::/64']}
outside:
- {name: outsider, ips: [172.18.0.200, 'fd00:18::200']}
";
const CLUSTER: [&str; 2] = ["10.244.0.0/16", "fd00:244::/32"];
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];
const PROTOCOLS: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
/// By family.
const CLIENT: [&str; 2] = ["10.244.1.100", "fd00:244:1::100"];
const OUTSIDER: [&str; 2] = ["172.18.0.200", "fd00:18::200"];
const HANDLER: [&str; 2] = ["172.18.0.11", "fd00:18::11"];
const LOCAL: [&str; 2] = ["10.244.1.10", "fd00:244:1::10"];
const REMOTE: [&str; 2] = ["10.244.2.10", "fd00:244:2::10"];
const PORT: u16 = 80;
const TARGET: u16 = 8080;
/// Enough that each of two backends is missed once in 10^17.
const COUNT: u32 = 60;
/// Every cell is answered, so a busy machine may take its time.
const ANSWER: Duration = Duration::from_secs(3);
/// A change has to be in force after this time; usually it is within milliseconds.
const PATIENCE: Duration = Duration::from_secs(20);

/// A lab with servers, agents not yet started.
pub(crate) struct Stage {
    bench: Bench,
}

/// A cell in one family over one protocol.
struct Question {
    what: String,
    shot: Shot,
    expect: Expect,
    view: Viewpoint,
}

impl Stage {
    /// Brings the lab up.
    pub(crate) fn set() -> Self {
        programs::build(Package::Lab).unwrap();
        programs::build(Package::Agent).unwrap();
        let bench = Bench::new(&Topology::parse(LAB).unwrap()).unwrap();
        let ips = |list: [&str; 2]| list.map(ip).to_vec();
        let on = |node: &str, ips| (node.to_owned(), ips);
        bench
            .ensure_pods(&[on("node-1", ips(CLIENT)), on("node-1", ips(LOCAL)), on("node-2", ips(REMOTE))])
            .unwrap();
        let servers = [LOCAL, REMOTE].map(|list| {
            let place = bench.place_of(ip(list[0])).unwrap().name;
            let sockets = ips(list).into_iter().flat_map(|ip| {
                PROTOCOLS.map(|protocol| Listen { protocol, at: SocketAddr::new(ip, TARGET) })
            });
            (place, sockets.collect())
        });
        bench.serve(&BTreeMap::from(servers)).unwrap();
        // What an operator has to do who lets outsiders use cluster addresses without masquerading: the answers have to pass
        // the node that translated the question.
        for family in 0..2 {
            let mut route = bench.place("node-2").unwrap().command("ip").unwrap();
            route.args(["route", "add", OUTSIDER[family], "via", HANDLER[family]]);
            assert!(route.status().unwrap().success());
        }
        Self { bench }
    }

    /// Starts the agents that way, and says which cells are not as the contract has them.
    pub(crate) fn differences(&mut self, configuration: Configuration, road: Road) -> Vec<String> {
        self.bench.configure(&options(configuration, road)).unwrap();
        for object in objects() {
            self.bench.apply(Op::Create, &object).unwrap();
        }
        assert_eq!(self.bench.catch_up().unwrap(), Vec::<String>::new(), "nodes that have not caught up");
        let cells = configuration.cells();
        let deadline = Instant::now() + PATIENCE;
        let pairs = FAMILIES.iter().flat_map(|family| PROTOCOLS.map(|protocol| (*family, protocol)));
        let differences = pairs.flat_map(|(family, protocol)| {
            let question = |cell| self.question(cell, family, protocol, road);
            let questions: Vec<Question> = cells.iter().map(question).collect();
            loop {
                let wrong = self.ask(&questions);
                if wrong.is_empty() || Instant::now() > deadline {
                    return wrong;
                }
            }
        });
        differences.collect()
    }

    /// Takes the lab down.
    pub(crate) fn down(self) {
        self.bench.down().unwrap();
    }

    fn ask(&self, questions: &[Question]) -> Vec<String> {
        let shots: Vec<Shot> = questions.iter().map(|question| question.shot.clone()).collect();
        let tallies = self.bench.fire(&shots).unwrap();
        let judged = questions.iter().zip(&tallies);
        let wrong = judged.filter_map(|(question, seen)| {
            let verdict = judge(&question.expect, seen, &question.view, Rigour::Full);
            verdict.err().map(|complaint| format!("{}: {complaint}", question.what))
        });
        wrong.collect()
    }

    fn question(&self, cell: &Cell, family: Family, protocol: Protocol, road: Road) -> Question {
        let at = index(family);
        let to = match cell.frontend {
            Frontend::ClusterIp => SocketAddr::new(cluster_ip(cell.service, family), PORT),
            Frontend::NodePort => SocketAddr::new(ip(HANDLER[at]), node_port(cell.service)),
            Frontend::LoadBalancerIp => SocketAddr::new(load_balancer_ip(cell.service, family), PORT),
        };
        let mut probe =
            Probe { count: COUNT, concurrency: 8, timeout: ANSWER, tries: 4, ..Probe::new(protocol, to) };
        let handler = self.bench.topology().node("node-1").unwrap().own_addresses();
        let own = |list: [&str; 2]| [ip(list[at])].into();
        let (place, own, road, client) = match cell.client {
            Client::Pod => {
                let place = self.bench.place_of(ip(CLIENT[at])).unwrap().name;
                (place, own(CLIENT), road, ClientKind::Other)
            }
            // A node's own processes choose their source before a packet exists.
            Client::Node => ("node-1".to_owned(), handler.clone(), Road::Socket, ClientKind::Node),
            Client::External => {
                probe.mark = self.bench.topology().mark("node-1");
                ("outsider".to_owned(), own(OUTSIDER), Road::Packet, ClientKind::Other)
            }
        };
        let local = SocketAddr::new(ip(LOCAL[at]), TARGET);
        let remote = SocketAddr::new(ip(REMOTE[at]), TARGET);
        let backends = match cell.backends {
            Backends::All => vec![local, remote],
            Backends::Local => vec![local],
        };
        let masquerade = Seen::All(cell.source == Source::Masqueraded);
        let expect =
            Expect { result: OneOrMany::One(ResultKind::Backends), backends, masquerade, sticky: false };
        let what = format!("{cell:?} {protocol} {family:?}");
        Question { what, shot: Shot { place, probe }, expect, view: Viewpoint { road, own, handler, client } }
    }
}

fn options(configuration: Configuration, road: Road) -> AgentOptions {
    let mut options = AgentOptions::new(match road {
        Road::Packet => SocketLb::Host,
        Road::Socket => SocketLb::On,
    });
    let (detector, masquerade) = match configuration {
        Configuration::Detector => (true, Masquerade::AsNeeded),
        Configuration::NoDetector => (false, Masquerade::AsNeeded),
        Configuration::MasqueradeAll => (true, Masquerade::All),
        Configuration::MasqueradeAllNoDetector => (false, Masquerade::All),
    };
    options.masquerade = masquerade;
    if detector {
        options.cluster_cidrs = CLUSTER.iter().map(|cidr| cidr.parse().unwrap()).collect();
    }
    options
}

fn index(family: Family) -> usize {
    match family {
        Family::Ipv4 => 0,
        Family::Ipv6 => 1,
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn cluster_ip(service: usize, family: Family) -> IpAddr {
    ip(&[format!("10.96.0.1{service}"), format!("fd00:96::1{service}")][index(family)])
}

fn load_balancer_ip(service: usize, family: Family) -> IpAddr {
    ip(&[format!("192.0.2.1{service}"), format!("2001:db8::1{service}")][index(family)])
}

fn node_port(service: usize) -> u16 {
    [30080, 30081, 30082][service]
}

/// The nodes, and three Services with one endpoint on each node in each family.
fn objects() -> Vec<Value> {
    let node = |name: &str, at: usize| {
        let addresses = [format!("172.18.0.1{at}"), format!("fd00:18::1{at}")]
            .map(|a| json!({"type": "InternalIP", "address": a}));
        let ranges = [format!("10.244.{at}.0/24"), format!("fd00:244:{at}::/64")];
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "spec": {"podCIDRs": ranges}, "status": {"addresses": addresses}})
    };
    let services = (0..3).flat_map(|service| {
        FAMILIES.map(|family| slice(service, family)).into_iter().chain([service_object(service)])
    });
    [node("node-1", 1), node("node-2", 2)].into_iter().chain(services).collect()
}

fn service_object(service: usize) -> Value {
    let both = |of: fn(usize, Family) -> IpAddr| FAMILIES.map(|family| of(service, family).to_string());
    let ingress = both(load_balancer_ip).map(|ip| json!({"ip": ip, "ipMode": "VIP"}));
    let port = |protocol: &str| {
        json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": PORT,
            "targetPort": TARGET, "nodePort": node_port(service)})
    };
    let (external, internal) = [("Cluster", "Cluster"), ("Local", "Cluster"), ("Cluster", "Local")][service];
    let ips = both(cluster_ip);
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": format!("svc{}", service + 1), "namespace": "demo"},
        "spec": {
            "type": "LoadBalancer", "clusterIP": ips[0], "clusterIPs": ips,
            "ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack",
            "externalTrafficPolicy": external, "internalTrafficPolicy": internal,
            "ports": [port("TCP"), port("UDP")],
        },
        "status": {"loadBalancer": {"ingress": ingress}},
    })
}

fn slice(service: usize, family: Family) -> Value {
    let kind = ["IPv4", "IPv6"][index(family)];
    let endpoint = |list: [&str; 2], node: &str| json!({"addresses": [list[index(family)]], "conditions": {"ready": true}, "nodeName": node});
    let port =
        |protocol: &str| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": TARGET});
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("svc{}-{}", service + 1, kind.to_lowercase()),
            "namespace": "demo",
            "labels": {"kubernetes.io/service-name": format!("svc{}", service + 1)},
        },
        "addressType": kind,
        "ports": [port("TCP"), port("UDP")],
        "endpoints": [endpoint(LOCAL, "node-1"), endpoint(REMOTE, "node-2")],
    })
}
