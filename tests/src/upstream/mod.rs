//! A cluster for Kubernetes' own end-to-end specs: as [`crate::cluster`], but with the real kubelet on every node, pods with
//! files of their own, cluster DNS, and an API server that nodes and pods reach over the network.
//!
//! ```text
//! specs, kubectl ─► API server (host "control" of the lab) ─► controllers, scheduler
//!                      ▲  │ 10250: exec, logs
//!                      │  ▼
//!                   kubelet on each node ─► containers: processes of the machine, a layer over its files
//!                      │ rooms.sock
//!                      ▼
//!                   landlord ─► lab pods: namespace, addresses, cgroup
//! ```
//!
//! It knows how these are put together and how a spec is run; what a spec asks, only upstream knows.

pub mod conformance;
mod dns;
mod kubelet;
pub mod ledger;
mod rooms;
pub mod spec;
pub mod table;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use sluice_lab::{Lab, Topology, netns};

use crate::cluster::Implementation;
use crate::cluster::binary::ClusterBinary;
use crate::cluster::control_plane::{ControlPlane, Seat, User};
use crate::cluster::kube_proxy::KubeProxy;
use crate::cluster::kubectl::Kubectl;
use crate::cluster::node;
use crate::programs::{self, Package};
use kubelet::Kubelet;
use rooms::Landlord;

/// How many zones the nodes are in: the specs about zones ask for three.
const ZONES: [&str; 3] = ["zone-a", "zone-b", "zone-c"];
const CONTROL: &str = "control";

/// How long the nodes may take to be ready, on a busy machine.
const READY: Duration = Duration::from_secs(120);

/// How many nodes a cluster has; at least three, so that there are three zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeCount(u8);

impl NodeCount {
    /// A number of nodes.
    ///
    /// # Errors
    /// Fewer than three, or more than the lab's addresses are laid out for.
    pub fn new(count: u8) -> Result<Self> {
        ensure!((3..=20).contains(&count), "a cluster for the specs has 3 to 20 nodes, not {count}");
        Ok(Self(count))
    }
}

/// The nodes, in turns over the zones, and the host of the control plane.
fn topology(nodes: NodeCount) -> Result<Topology> {
    let node = |number: u8, zone: &str| {
        let host = 10 + number;
        format!(
            "- {{name: node-{number}, zone: {zone}, addresses: [172.18.0.{host}, 'fd00:18::{host}'], \
             podCIDRs: [10.244.{number}.0/24, 'fd00:10:244:{number}::/64']}}\n"
        )
    };
    let nodes: String =
        (1..=nodes.0).zip(ZONES.iter().cycle()).map(|(number, zone)| node(number, zone)).collect();
    Topology::parse(&format!(
        "nodes:\n{nodes}outside:\n- {{name: {CONTROL}, ips: [172.18.0.9, 'fd00:18::9']}}\n"
    ))
}

/// A running cluster. Dropping it takes it down; [`Upstream::down`] also says what went wrong.
pub struct Upstream {
    // In the order in which they are dropped.
    peers: Vec<KubeProxy>,
    kubelets: Vec<Kubelet>,
    landlord: Landlord,
    control: ControlPlane,
    lab: Arc<Lab>,
    binary: ClusterBinary,
    suite: ClusterBinary,
}

impl Upstream {
    /// Brings up nodes, control plane, kubelets, on every node the implementation, and DNS. The objects of `before` are there
    /// before the implementation is.
    ///
    /// # Errors
    /// Says which step failed; what was made until then goes again.
    pub fn up(implementation: Implementation, nodes: NodeCount, before: Option<&str>) -> Result<Self> {
        let (binary, suite) = (ClusterBinary::build()?, ClusterBinary::build_suite()?);
        programs::build(Package::Lab)?;
        programs::build(Package::Agent)?;
        let topology = topology(nodes)?;
        let lab = Arc::new(Lab::up(&topology)?);
        let host = lab.place(CONTROL)?;
        let seat = Seat {
            netns: &netns::path(&host.netns),
            address: *host.ips.first().context("the control plane's host has an address")?,
            kubelets: topology.nodes.iter().flat_map(|node| node.addresses.clone()).collect(),
            gates: "",
        };
        let control = ControlPlane::start_at(&binary, &lab.id().state_dir().join("control-plane"), &seat)?;
        // kubectl runs here, outside of the lab.
        let kubectl = Self::kubectl_of(&lab, &control)?;
        kubectl.apply(&node::objects(&topology).to_string()).context("making the Nodes")?;
        if let Some(objects) = before {
            kubectl.apply(objects)?;
        }
        let landlord = Landlord::start(Arc::clone(&lab))?;
        let kubelets = Kubelet::start_all(&lab, &suite, &control, landlord.socket())?;
        // It waits for its Node's addresses, which the kubelet reports.
        let peers = implementation.start(&lab, &control, &binary)?;
        let upstream = Self { peers, kubelets, landlord, control, lab, binary, suite };
        upstream.settle(&kubectl)?;
        Ok(upstream)
    }

    /// kubectl as the administrator, beside the API server.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn kubectl(&self) -> Result<Kubectl> {
        Self::kubectl_of(&self.lab, &self.control)
    }

    fn kubectl_of(lab: &Lab, control: &ControlPlane) -> Result<Kubectl> {
        Ok(control.kubectl().inside(&netns::path(&lab.place(CONTROL)?.netns)))
    }

    /// Waits until the nodes are ready and names are resolved.
    fn settle(&self, kubectl: &Kubectl) -> Result<()> {
        let patience = format!("--timeout={}s", READY.as_secs());
        kubectl.run(&format!("wait node --all --for=condition=Ready {patience}")).context("the nodes")?;
        kubectl.apply(&dns::objects().to_string()).context("cluster DNS")?;
        kubectl
            .run(&format!("rollout status deployment/coredns --namespace kube-system {patience}"))
            .context("cluster DNS")?;
        Ok(())
    }

    /// A command of the suite that will run beside the API server: it sees the cluster as an administrator outside does.
    ///
    /// # Errors
    /// The lab is gone.
    pub fn suite(&self, name: &str) -> Result<Command> {
        self.beside_control(&self.suite.program(name))
    }

    /// Any other program likewise.
    fn beside_control(&self, program: &Path) -> Result<Command> {
        let mut command = self.lab.place(CONTROL)?.command(&program.to_string_lossy())?;
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.binary.folder().display()));
        command.env("KUBECONFIG", self.control.kubeconfig(User::Admin));
        Ok(command)
    }

    /// The kubeconfig of the administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.control.kubeconfig(User::Admin)
    }

    /// How many nodes take Pods.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.lab.topology().nodes.len()
    }

    /// The folder with all logs.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.lab.id().state_dir()
    }

    /// Takes all of it down.
    ///
    /// # Errors
    /// Names what failed.
    pub fn down(self) -> Result<()> {
        let Self { peers, kubelets, landlord, control, lab, binary: _, suite: _ } = self;
        let mut errors = Vec::new();
        let mut step = |result: Result<()>| errors.extend(result.err().map(|error| format!("{error:#}")));
        drop(peers);
        kubelets.into_iter().for_each(|kubelet| step(kubelet.stop()));
        landlord.stop();
        step(control.stop());
        step(match Arc::try_unwrap(lab) {
            Ok(lab) => lab.down(),
            Err(_) => Err(anyhow!("somebody still uses the lab")),
        });
        if errors.is_empty() { Ok(()) } else { Err(anyhow!(errors.join("; "))) }
    }
}

/// The address at which every cluster's DNS is.
const DNS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 96, 0, 10));

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_take_turns_over_three_zones() {
        let topology = topology(NodeCount::new(4).unwrap()).unwrap();
        let zones: Vec<_> =
            topology.nodes.iter().map(|node| (node.name.as_str(), node.zone.as_deref().unwrap())).collect();
        assert_eq!(
            zones,
            [("node-1", "zone-a"), ("node-2", "zone-b"), ("node-3", "zone-c"), ("node-4", "zone-a")]
        );
        assert_eq!(
            NodeCount::new(2).unwrap_err().to_string(),
            "a cluster for the specs has 3 to 20 nodes, not 2"
        );
    }
}
