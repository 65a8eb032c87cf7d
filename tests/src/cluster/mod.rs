//! A cluster with nothing faked between API server and socket: the real control plane, nodes and pods as network namespaces of a
//! lab, the product's agents (or the real kube-proxy) on the nodes.
//!
//! ```text
//! kubectl ─► API server ─► controllers, scheduler, fake kubelet (addresses, readiness)
//!                │  ▲
//!         watch  │  │ annotations
//!                ▼  │
//!  doors (nsproxy) pod runner ─► lab pods: agnhost in its namespace, cgroup and host name
//!       │
//!       └─► proxy-agent or kube-proxy in each node's namespace
//! ```
//!
//! It knows how these are put together, not what a Service is.

pub mod binary;
pub mod control_plane;
pub mod daemon;
pub mod kube_proxy;
pub mod kubectl;
pub mod node;
pub mod runner;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use sluice_lab::{AgentOptions, Lab, Place, SocketLb, Source, Topology, netns};

use crate::programs::{self, Package};
use binary::ClusterBinary;
use control_plane::{CLUSTER_CIDRS, ControlPlane, SERVICE_CIDRS, User};
use daemon::Daemon;
use kube_proxy::{Files, KubeProxy, Mode, Settings};
use kubectl::Kubectl;
use runner::{PodKey, PodRunner};

/// How long agents may take to have their first plan in the kernel.
const READY: Duration = Duration::from_secs(90);
/// Lines of each log that are shown when a test fails.
const LINES: usize = 40;
/// The same of a pod's server.
const LINES_OF_POD: usize = 4;
/// Characters of a line of them: more than any says that is about one thing.
const WIDTH: usize = 300;
const DOORS: Duration = Duration::from_secs(30);

/// Which of Sluice's roads pods' connections take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Road {
    /// Sockets are translated when they connect.
    Socket,
    /// Packets are translated at the pod's device.
    Packet,
}

/// Who serves the Services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Implementation {
    /// The product.
    Sluice(Road),
    /// The real kube-proxy.
    KubeProxy(Mode),
}

impl Implementation {
    /// Starts it on every node and waits until it serves. What it answers has to be kept as long as the lab.
    pub(crate) fn start(
        self,
        lab: &Lab,
        control: &ControlPlane,
        binary: &ClusterBinary,
    ) -> Result<Vec<KubeProxy>> {
        match self {
            Self::Sluice(road) => {
                let parse =
                    |cidrs: [&str; 2]| cidrs.iter().map(|cidr| cidr.parse()).collect::<Result<_, _>>();
                let socket_lb = match road {
                    Road::Socket => SocketLb::On,
                    Road::Packet => SocketLb::Host,
                };
                let options = AgentOptions {
                    source: Source::Kubeconfig(control.kubeconfig(User::Agent)),
                    cluster_cidrs: parse(CLUSTER_CIDRS)?,
                    service_cidrs: parse(SERVICE_CIDRS)?,
                    ..AgentOptions::new(socket_lb)
                };
                lab.start_agents(&options, READY).map(|()| Vec::new())
            }
            Self::KubeProxy(mode) => {
                let (kubeconfig, folder) = (control.kubeconfig(User::KubeProxy), lab.id().state_dir());
                let files = Files { kubeconfig: &kubeconfig, folder: &folder, tools: None };
                let settings = Settings::new(mode);
                let start = |node: &sluice_lab::NodeSpec| {
                    KubeProxy::start(lab, &node.name, &settings, binary, &files)
                };
                let mut peers = lab.topology().nodes.iter().map(start).collect::<Result<Vec<_>>>()?;
                peers.iter_mut().try_for_each(|peer| peer.ready(lab))?;
                Ok(peers)
            }
        }
    }
}

/// A running cluster. Dropping it takes it down; [`Cluster::down`] also says what went wrong.
pub struct Cluster {
    // In the order in which they are dropped.
    _witness: Witness,
    peers: Vec<KubeProxy>,
    runner: PodRunner,
    doors: Daemon,
    control: ControlPlane,
    lab: Arc<Lab>,
}

impl Cluster {
    /// Brings up nodes, control plane, pod runner and, on every node, the implementation.
    ///
    /// # Errors
    /// Says which step failed; what was made until then goes again.
    pub fn up(topology: &Topology, implementation: Implementation) -> Result<Self> {
        let binary = ClusterBinary::build()?;
        programs::build(Package::Lab)?;
        if matches!(implementation, Implementation::Sluice(_)) {
            programs::build(Package::Agent)?;
        }
        let lab = Arc::new(Lab::up(topology)?);
        // Inside the lab's own folder, which goes with the lab even if this process is killed.
        let control =
            ControlPlane::start(&binary, &lab.id().state_dir().join("control-plane"), SERVICE_CIDRS)?;
        let doors = open_doors(&lab, &binary, &control)?;
        control.kubectl().apply(&node::objects(topology).to_string()).context("making the Nodes")?;
        let logs = lab.id().state_dir();
        let runner = PodRunner::start(Arc::clone(&lab), &binary, &control.kubeconfig(User::Admin), &logs)?;
        let witness = Witness { logs };
        let peers = implementation.start(&lab, &control, &binary)?;
        Ok(Self { _witness: witness, peers, runner, doors, control, lab })
    }

    /// kubectl as the administrator.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        self.control.kubectl()
    }

    /// The control plane.
    #[must_use]
    pub fn control_plane(&self) -> &ControlPlane {
        &self.control
    }

    /// The lab with its nodes and the pods of the moment.
    #[must_use]
    pub fn lab(&self) -> &Lab {
        &self.lab
    }

    /// Where the processes of a Pod with a network of its own run.
    ///
    /// # Errors
    /// The runner has not stood it up.
    pub fn pod(&self, namespace: &str, name: &str) -> Result<Place> {
        let key = PodKey { namespace: namespace.to_owned(), name: name.to_owned() };
        self.lab.pod(&key.in_lab()).with_context(|| format!("Pod {key}"))
    }

    /// What the pod runner could not do so far.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        self.runner.troubles()
    }

    /// The folder with the logs of the runner, of the pods' processes and of the agents.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.lab.id().state_dir()
    }

    /// Takes all of it down.
    ///
    /// # Errors
    /// Names what failed, also what the pod runner could not do earlier.
    pub fn down(self) -> Result<()> {
        let Self { _witness, peers, runner, doors, control, lab } = self;
        let mut errors = runner.troubles();
        let mut step = |result: Result<()>| errors.extend(result.err().map(|error| format!("{error:#}")));
        drop(peers);
        step(runner.stop());
        step(doors.stop());
        step(control.stop());
        step(match Arc::try_unwrap(lab) {
            Ok(lab) => lab.down(),
            Err(_) => Err(anyhow!("somebody still uses the lab")),
        });
        if errors.is_empty() { Ok(()) } else { Err(anyhow!(errors.join("; "))) }
    }
}

/// Shows the ends of the logs when a test fails: they go with the cluster.
struct Witness {
    logs: PathBuf,
}

impl Drop for Witness {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let entries = std::fs::read_dir(&self.logs).into_iter().flatten().filter_map(Result::ok);
        let mut logs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.sort();
        for log in logs {
            let name = log.file_name().unwrap_or_default().to_string_lossy();
            // What a pod's server was asked for is one line a request.
            let is_pod = name.matches('.').count() > 1;
            let end = daemon::log_end(&log, if is_pod { LINES_OF_POD } else { LINES });
            eprintln!("--- {}", log.display());
            for line in end.lines() {
                eprintln!("{}", line.chars().take(WIDTH).collect::<String>());
            }
        }
    }
}

/// Lets the nodes reach the API server under its own address, with no device or route that a data path could touch.
pub(crate) fn open_doors(lab: &Lab, binary: &ClusterBinary, control: &ControlPlane) -> Result<Daemon> {
    let mut command = Command::new(binary.program("cluster"));
    command.args(["nsproxy", "--stop-on", "stdin", "--to", control.server()]);
    for node in lab.topology().nodes {
        let netns = netns::path(&lab.node(&node.name)?.netns);
        command.arg(format!("{}={}", netns.display(), control.server()));
    }
    Daemon::start("cluster nsproxy", command, &lab.log_path("nsproxy.log"), DOORS)
}
