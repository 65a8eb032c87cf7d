//! What every test stands on: a lab of two nodes, a server on each, a client that is its own server, a host outside;
//! three Services of both families; and questions whose whole answers are compared.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use sluice_lab::{
    AgentOptions, Family, Lab, Listen, NodeSpec, Place, Probe, Protocol, SocketLb, Tally, Topology, UdpStyle,
    netns,
};

use crate::objects::{self, PORT, TARGET};

/// Two cores may have other things to do.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Enough requests that one of two backends is missed once in 10^9 batches.
const SPREAD: u32 = 30;

/// `demo/web`: a server on each node, Cluster policy.
pub(crate) const WEB: u16 = 30080;
/// `demo/own`: the client itself.
pub(crate) const OWN: u16 = 30081;
/// `demo/far`: the server on the other node, externalTrafficPolicy Local.
pub(crate) const FAR: u16 = 30082;
/// `demo/host`: a process of the first node.
pub(crate) const HOST: u16 = 30083;

/// Addresses of the Services with these node ports.
pub(crate) fn cluster_ips(node_port: u16) -> [IpAddr; 2] {
    let last = node_port - 30_000;
    [format!("10.96.0.{last}").parse().unwrap(), format!("fd00:96::{last}").parse().unwrap()]
}

/// The lab without agents.
pub(crate) struct Stage {
    pub(crate) lab: Lab,
    pub(crate) options: AgentOptions,
}

/// What the servers may see.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// Whatever: nothing is translated per packet.
    Anything,
    /// An address of this node.
    Node(&'static str),
}

impl Stage {
    /// Brings the lab up; `link` as in a topology.
    pub(crate) fn set(link: &str, road: SocketLb) -> Self {
        let topology = format!(
            "
link: {link}
nodes:
- {{name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}}
- {{name: node-2, addresses: [172.18.0.12, 'fd00:18::12'], podCIDRs: [10.244.2.0/24, 'fd00:244:2::/64']}}
pods:
- {{name: near, node: node-1, ips: [10.244.1.10, 'fd00:244:1::10']}}
- {{name: far, node: node-2, ips: [10.244.2.10, 'fd00:244:2::10']}}
- {{name: client, node: node-1, ips: [10.244.1.20, 'fd00:244:1::20']}}
outside:
- {{name: laptop, ips: [172.18.0.200, 'fd00:18::200'], via: node-1}}
"
        );
        let lab = Lab::up(&Topology::parse(&topology).unwrap()).unwrap();
        let mut options = AgentOptions::new(road);
        options.cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/32".parse().unwrap()];
        options.service_cidrs = vec!["10.96.0.0/16".parse().unwrap(), "fd00:96::/112".parse().unwrap()];
        let stage = Self { lab, options };
        for name in ["near", "far", "client", "node-1"] {
            let place = stage.lab.place(name).unwrap();
            let sockets = |ip: &IpAddr| {
                [Protocol::Tcp, Protocol::Udp]
                    .map(|protocol| Listen { protocol, at: SocketAddr::new(*ip, TARGET) })
            };
            place.listen(&place.ips.iter().flat_map(sockets).collect::<Vec<_>>()).unwrap();
        }
        for node in stage.lab.topology().nodes {
            stage.put_node(&node, &node.pod_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>());
        }
        for (name, node_port, policy, servers) in [
            ("web", WEB, "Cluster", &[("near", "node-1"), ("far", "node-2")][..]),
            ("own", OWN, "Cluster", &[("client", "node-1")]),
            ("far", FAR, "Local", &[("far", "node-2")]),
            ("host", HOST, "Cluster", &[("node-1", "node-1")]),
        ] {
            let manifests = stage.lab.manifests();
            manifests.put(&objects::service(name, &cluster_ips(node_port), node_port, policy)).unwrap();
            for (index, family) in [Family::Ipv4, Family::Ipv6].into_iter().enumerate() {
                let endpoints: Vec<_> = servers
                    .iter()
                    .map(|(server, node)| (stage.lab.place(server).unwrap().ips[index], *node))
                    .collect();
                manifests.put(&objects::slice(name, family, &endpoints)).unwrap();
            }
        }
        stage
    }

    /// Starts the agents and waits until they serve.
    pub(crate) fn begin(self) -> Self {
        self.lab.start_agents(&self.options, PATIENCE).unwrap();
        self
    }

    /// Writes a Node with these ranges of pods.
    pub(crate) fn put_node(&self, spec: &NodeSpec, pod_cidrs: &[String]) {
        self.lab.manifests().put(&objects::node(spec, pod_cidrs)).unwrap();
    }

    /// A place by name.
    pub(crate) fn place(&self, name: &str) -> Place {
        self.lab.place(name).unwrap()
    }

    /// Runs lines of `ip` where a node or a host is.
    pub(crate) fn ip(&self, place: &str, lines: &[&str]) {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        netns::ip(&self.place(place).netns, &lines).unwrap();
    }

    /// Writes a switch below `/proc/sys/net` of a node or a host.
    pub(crate) fn sysctl(&self, place: &str, key: &str, value: &str) {
        netns::inside(&self.place(place).netns, || {
            Ok(std::fs::write(format!("/proc/sys/net/{key}"), value)?)
        })
        .unwrap();
    }

    /// Every request from a place to these addresses is answered, by all of these servers and no others, and they see
    /// what they should.
    pub(crate) fn reaches(&self, from: &str, to: &[SocketAddr], servers: &[&str], seen: Seen) {
        self.asks(from, &everything_to(to), servers, seen);
    }

    /// The same with other probes.
    pub(crate) fn asks(&self, from: &str, probes: &[Probe], servers: &[&str], seen: Seen) {
        let wanted: BTreeSet<&str> = servers.iter().copied().collect();
        let probes: Vec<Probe> = probes.iter().map(|probe| probe.clone().times(SPREAD)).collect();
        for (probe, tally) in probes.iter().zip(self.place(from).probe(&probes).unwrap()) {
            let what = format!("{from} -> {} {} {:?}: {tally}", probe.protocol, probe.to, probe.udp);
            assert_eq!((tally.answers(), tally.failures()), (SPREAD, 0), "{what}");
            assert_eq!(names(&tally), wanted, "{what}");
            if let Seen::Node(node) = seen {
                let own = self.lab.topology().node(node).unwrap().own_addresses();
                let sources: BTreeSet<IpAddr> =
                    tally.answered.values().flat_map(|server| server.sources.iter().copied()).collect();
                assert!(sources.is_subset(&own), "{what}: not an address of {node}");
            }
        }
    }

    /// Nobody answers any of these.
    pub(crate) fn reaches_nobody(&self, from: &str, to: &[SocketAddr]) {
        let mut probes = everything_to(to);
        for probe in &mut probes {
            (probe.timeout, probe.tries) = (Duration::from_millis(300), 1);
        }
        for (probe, tally) in probes.iter().zip(self.place(from).probe(&probes).unwrap()) {
            assert_eq!(tally.answers(), 0, "{from} -> {} {}: {tally}", probe.protocol, probe.to);
        }
    }

    /// Waits until every request is answered, or none is.
    pub(crate) fn waits(&self, from: &str, to: &[SocketAddr], until: Until) {
        let mut probes = everything_to(to);
        for probe in &mut probes {
            (probe.timeout, probe.tries) = (Duration::from_millis(300), 1);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let tallies = self.place(from).probe(&probes).unwrap();
            let answers = tallies.iter().filter(|tally| tally.answers() > 0).count();
            let wanted = match until {
                Until::Answered => probes.len(),
                Until::Silent => 0,
            };
            if answers == wanted {
                return;
            }
            let said: Vec<String> = tallies.iter().map(ToString::to_string).collect();
            assert!(Instant::now() < deadline, "{from} -> {to:?} not {until:?}: {said:?}");
        }
    }
}

/// What to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Until {
    /// Every request is answered.
    Answered,
    /// None is.
    Silent,
}

/// TCP and UDP, connected and not, to each of these.
fn everything_to(to: &[SocketAddr]) -> Vec<Probe> {
    let each = |to: &SocketAddr| {
        [
            Probe::new(Protocol::Tcp, *to),
            Probe::new(Protocol::Udp, *to),
            Probe { udp: UdpStyle::Unconnected, ..Probe::new(Protocol::Udp, *to) },
        ]
        .map(|probe| Probe { timeout: Duration::from_secs(3), ..probe })
    };
    to.iter().flat_map(each).collect()
}

/// The same from a chosen address of the client.
pub(crate) fn everything_from(from: IpAddr, to: SocketAddr) -> Vec<Probe> {
    everything_to(&[to]).into_iter().map(|probe| Probe { from: Some(from), ..probe }).collect()
}

fn names(tally: &Tally) -> BTreeSet<&str> {
    tally.answered.values().map(|server| server.name.as_str()).collect()
}

/// Both ClusterIPs of a Service.
pub(crate) fn cluster(node_port: u16) -> [SocketAddr; 2] {
    cluster_ips(node_port).map(|ip| SocketAddr::new(ip, PORT))
}

/// A node port at both addresses of a node.
pub(crate) fn at_node(number: u8, node_port: u16) -> [SocketAddr; 2] {
    let ips: [IpAddr; 2] =
        [format!("172.18.0.1{number}").parse().unwrap(), format!("fd00:18::1{number}").parse().unwrap()];
    ips.map(|ip| SocketAddr::new(ip, node_port))
}
