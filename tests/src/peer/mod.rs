//! The real kube-proxy, fed by a real API server, in the place of the product on a bench of the fixture runner: so that the cases
//! can be judged by the one whose behaviour they describe.

mod api;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use sluice_lab::fixture::product::{Product, await_at_nodes};
use sluice_lab::{AgentOptions, Failure, Family, Lab, Op, Probe, Protocol, Tally};

use crate::cluster::binary::ClusterBinary;
use crate::cluster::control_plane::{ControlPlane, User};
use crate::cluster::daemon::Daemon;
use crate::cluster::kube_proxy::{Files, KubeProxy, Mode, Settings};
use crate::cluster::{node, open_doors};
use api::Api;

/// The Service ranges that the collection uses.
const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd00:96::/112"];
/// How long kube-proxy may take to see a change, before the expectations are put all the same.
const CATCH_UP: Duration = Duration::from_secs(5);
/// Where the objects live by which it is known to have caught up; no case uses it.
const NAMESPACE: &str = "sluice-lab";
/// kube-proxy's own health server, which speaks HTTP on every address of the node.
const HEALTH_PORT: u16 = 10256;
const PORT: u16 = 9;

/// kube-proxy on every node of a lab.
pub struct Peer {
    // In the order in which they are dropped.
    proxies: Vec<KubeProxy>,
    _doors: Daemon,
    api: Api,
    control: ControlPlane,
    binary: ClusterBinary,
    running: Option<AgentOptions>,
    generation: u32,
}

impl Peer {
    /// A control plane that the nodes of this lab can reach. kube-proxy is started by `configure`.
    ///
    /// # Errors
    /// It does not start.
    pub fn at(lab: &Lab) -> Result<Self> {
        let binary = ClusterBinary::build()?;
        let control = ControlPlane::start(&binary, &lab.id().state_dir().join("control-plane"), SERVICES)?;
        let doors = open_doors(lab, &binary, &control)?;
        let api = Api::new(&control.kubeconfig(User::Admin))?;
        control.kubectl().apply(&node::objects(&lab.topology()).to_string()).context("making the Nodes")?;
        api.namespace(NAMESPACE)?;
        Ok(Self { proxies: Vec::new(), _doors: doors, api, control, binary, running: None, generation: 0 })
    }

    /// A Service address that no case uses, new for each generation.
    fn sentinels(&self, lab: &Lab) -> Vec<IpAddr> {
        let last = self.generation % 250 + 2;
        let of = |family: Family| -> IpAddr {
            match family {
                Family::Ipv4 => [10, 96, 250, last.to_le_bytes()[0]].into(),
                Family::Ipv6 => {
                    let low = 0xfa00 + u16::from(last.to_le_bytes()[0]);
                    [0xfd00, 0x96, 0, 0, 0, 0, 0, low].into()
                }
            }
        };
        lab.topology().families().into_iter().map(of).collect()
    }

    fn name(&self) -> String {
        format!("sentinel-{}", self.generation)
    }

    fn run(&mut self, lab: &Lab, options: &AgentOptions) -> Result<()> {
        let (kubeconfig, folder) = (self.control.kubeconfig(User::KubeProxy), lab.id().state_dir());
        let files = Files { kubeconfig: &kubeconfig, folder: &folder, tools: None };
        let settings = Settings {
            mode: Mode::Nftables,
            cluster_cidrs: options.cluster_cidrs.iter().map(ToString::to_string).collect(),
            masquerade: options.masquerade,
            node_port_addresses: options.nodeport_addresses.clone(),
        };
        for node in lab.topology().nodes {
            self.proxies.push(KubeProxy::start(lab, &node.name, &settings, &self.binary, &files)?);
        }
        self.proxies.iter_mut().try_for_each(|proxy| proxy.ready(lab))?;
        self.running = Some(options.clone());
        Ok(())
    }
}

impl Product for Peer {
    fn configure(&mut self, lab: &Lab, options: &AgentOptions) -> Result<()> {
        self.api.clear(NAMESPACE)?;
        self.api.relabel_nodes(&node::objects(&lab.topology()))?;
        let same = self.running.as_ref() == Some(options);
        if same && self.check(lab).is_ok() && self.catch_up(lab)?.is_empty() {
            return Ok(());
        }
        self.stop(lab)?;
        for node in lab.topology().nodes {
            forget_flows(lab, &node.name)?;
        }
        self.run(lab, options)
    }

    fn forget(&mut self) {
        self.running = None;
    }

    fn apply(&mut self, _lab: &Lab, op: Op, object: &Value) -> Result<()> {
        self.api.apply(op, object)
    }

    /// A Service refuses datagrams once it is known. When it gets an endpoint at which HTTP is spoken, the answer to what is no
    /// request tells that its slice is known. The two come by different watches, so one of them proves nothing about the other.
    fn catch_up(&mut self, lab: &Lab) -> Result<Vec<String>> {
        let old = self.name();
        self.generation += 1;
        let (name, ips) = (self.name(), self.sentinels(lab));
        self.api.apply(Op::Create, &sentinel(&name, &ips))?;
        let deadline = Instant::now() + CATCH_UP;
        let probes = |protocol: Protocol| -> Vec<Probe> {
            let probe = |ip: &IpAddr| Probe {
                timeout: Duration::from_millis(100),
                tries: 1,
                ..Probe::new(protocol, SocketAddr::new(*ip, PORT))
            };
            ips.iter().map(probe).collect()
        };
        // A datagram that netfilter rejects on its way out of the node fails the call that sends it.
        let eperm = Failure::Errno("EPERM".to_owned());
        let refused =
            |tally: &Tally| tally.failed.keys().any(|why| *why == eperm || *why == Failure::Refused);
        let mut behind = await_at_nodes(lab, &probes(Protocol::Udp), deadline, refused)?;
        if behind.is_empty() {
            let nodes = lab.topology().nodes;
            let first = nodes.first().context("a lab without nodes")?;
            for ip in &ips {
                let family = Family::of(*ip);
                let at = first.primary(family).context("the first node lacks a family")?;
                self.api.apply(Op::Create, &sentinel_slice(&name, family, at))?;
            }
            let answer = |failure: &Failure| matches!(failure, Failure::Garbled | Failure::Closed);
            let spoken = |tally: &Tally| tally.failed.keys().any(answer);
            behind = await_at_nodes(lab, &probes(Protocol::Tcp), deadline, spoken)?;
        }
        self.api.remove_all(NAMESPACE, &old)?;
        Ok(behind)
    }

    fn stop(&mut self, _lab: &Lab) -> Result<()> {
        self.proxies.clear();
        Ok(())
    }

    fn start(&mut self, lab: &Lab) -> Result<()> {
        let options = self.running.clone().context("kube-proxy was never configured")?;
        self.run(lab, &options)
    }

    fn check(&mut self, _lab: &Lab) -> Result<()> {
        self.proxies.iter_mut().try_for_each(KubeProxy::alive)
    }

    /// kube-proxy refuses by ICMP (item 91). An ICMPv6 error that comes while connect() still holds the socket is soft
    /// (`tcp_v6_err` in net/ipv6/tcp_ipv6.c), so TCP over IPv6 may be refused only when the SYN is repeated, after a second.
    fn patience(&self) -> Duration {
        Duration::from_millis(2500)
    }
}

/// Removes the rules and the affinities of earlier cases from a node.
fn forget_flows(lab: &Lab, node: &str) -> Result<()> {
    let mut command = lab.node(node)?.command("nft")?;
    let status = command.args(["flush", "ruleset"]).status().context("starting nft")?;
    anyhow::ensure!(status.success(), "nft flush ruleset on {node}: {status}");
    Ok(())
}

fn sentinel(name: &str, ips: &[IpAddr]) -> Value {
    let families: Vec<&str> = ips.iter().map(|ip| kind_of(Family::of(*ip))).collect();
    let policy = if ips.len() == 2 { "RequireDualStack" } else { "SingleStack" };
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ips.first(),
            "clusterIPs": ips,
            "ipFamilies": families,
            "ipFamilyPolicy": policy,
            "ports": [{"name": "http", "port": PORT, "protocol": "TCP", "targetPort": HEALTH_PORT}],
        },
    })
}

fn sentinel_slice(name: &str, family: Family, at: IpAddr) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{name}-{}", kind_of(family).to_lowercase()),
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": name},
        },
        "addressType": kind_of(family),
        "endpoints": [{"addresses": [at], "conditions": {"ready": true}}],
        "ports": [{"name": "http", "protocol": "TCP", "port": HEALTH_PORT}],
    })
}

fn kind_of(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}
