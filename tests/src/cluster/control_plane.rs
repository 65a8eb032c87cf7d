//! `cluster up` as a child: started, asked for its files, one of its components killed, stopped. Knows nothing of nodes or pods.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use sluice_lab::process::{ProcessId, in_netns};

use super::binary::ClusterBinary;
use super::daemon::Daemon;
use super::kubectl::Kubectl;

/// Usually 2 to 3 s; with every core busy, several times that.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a killed process may take to go.
const DEATH: Duration = Duration::from_secs(5);

/// Ranges of Service addresses, as the control plane uses them by default.
pub const SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/16", "fd00:10:96::/112"];
/// Ranges that hold all pod ranges, likewise.
pub const CLUSTER_CIDRS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/56"];
/// A deleted Pod lives at most this long (and up to a second less, since the API has whole seconds): time enough for the data
/// path to move away from it. It goes sooner when its processes end.
const MAX_GRACE: &str = "6s";

/// Whose credentials a kubeconfig holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// May do everything.
    Admin,
    /// The agent of Sluice.
    Agent,
    /// The real kube-proxy.
    KubeProxy,
    /// The real kubelet.
    Kubelet,
}

/// A process of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The API server.
    ApiServer,
    /// The controllers of endpoints, Deployments and the rest.
    ControllerManager,
    /// The scheduler.
    Scheduler,
}

impl Component {
    fn name(self) -> &'static str {
        match self {
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }
}

/// Where a control plane runs, if not on the machine's loopback.
#[derive(Clone, Debug)]
pub struct Seat<'a> {
    /// The network namespace of its host.
    pub netns: &'a Path,
    /// The host's address.
    pub address: IpAddr,
    /// Where the kubelets listen.
    pub kubelets: Vec<IpAddr>,
    /// Feature gates of the components, as `WatchList=false`; empty: as they come.
    pub gates: &'a str,
}

/// A running control plane. Dropping it stops it.
#[derive(Debug)]
pub struct ControlPlane {
    daemon: Daemon,
    binary: ClusterBinary,
    dir: PathBuf,
    server: String,
}

impl ControlPlane {
    /// Starts one with its state in `dir` and these ranges of Service addresses, and waits until it can be used. Pods wait for a pod runner; components that end come
    /// back after a second.
    ///
    /// # Errors
    /// It does not start; with the end of its log.
    pub fn start(binary: &ClusterBinary, dir: &Path, service_cidrs: [&str; 2]) -> Result<Self> {
        let mut command = Command::new(binary.program("cluster"));
        command.arg("up").arg("--dir").arg(dir);
        command.args([
            "--wait-for-runner",
            "--stop-on",
            "stdin",
            "--on-exit",
            "restart",
            "--max-grace",
            MAX_GRACE,
        ]);
        command.args([
            "--service-cidr",
            &service_cidrs.join(","),
            "--cluster-cidr",
            &CLUSTER_CIDRS.join(","),
        ]);
        Self::launch(binary, dir, command)
    }

    /// Starts one on a host of a lab, where nodes and pods reach it, without the fake kubelet: the nodes have real ones.
    ///
    /// # Errors
    /// As [`ControlPlane::start`].
    pub fn start_at(binary: &ClusterBinary, dir: &Path, seat: &Seat<'_>) -> Result<Self> {
        let mut command = Command::new(binary.program("cluster"));
        command.arg("up").arg("--dir").arg(dir).args(["--stop-on", "stdin"]);
        let address = seat.address.to_string();
        command.args(["--bind-address", &address, "--advertise-address", &address, "--port", "6443"]);
        let kubelets: Vec<String> = seat.kubelets.iter().map(ToString::to_string).collect();
        command.args(["--kubelet-addresses", &kubelets.join(","), "--feature-gates", seat.gates]);
        command.args([
            "--service-cidr",
            &SERVICE_CIDRS.join(","),
            "--cluster-cidr",
            &CLUSTER_CIDRS.join(","),
        ]);
        in_netns(&mut command, seat.netns)?;
        Self::launch(binary, dir, command)
    }

    fn launch(binary: &ClusterBinary, dir: &Path, command: Command) -> Result<Self> {
        let daemon = Daemon::start("cluster up", command, &dir.with_extension("log"), PATIENCE)?;
        let ready = dir.join("ready");
        let server = fs::read_to_string(&ready).with_context(|| format!("reading {}", ready.display()))?;
        let server = server.trim().trim_start_matches("https://").to_owned();
        Ok(Self { daemon, binary: binary.clone(), dir: dir.to_owned(), server })
    }

    /// `ADDRESS:PORT` of the API server.
    #[must_use]
    pub fn server(&self) -> &str {
        &self.server
    }

    /// A file of its state directory.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        self.dir.join(match user {
            User::Admin => "admin.kubeconfig",
            User::Agent => "sluice.kubeconfig",
            User::KubeProxy => "kube-proxy.kubeconfig",
            User::Kubelet => "kubelet.kubeconfig",
        })
    }

    /// kubectl as the administrator.
    #[must_use]
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(self.binary.program("kubectl"), &self.kubeconfig(User::Admin))
    }

    /// The process of a component, if it lives.
    fn process(&self, component: Component) -> Result<Option<ProcessId>> {
        let file = self.dir.join(format!("{}.pid", component.name()));
        let text = fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        ProcessId::of(text.trim().parse().with_context(|| format!("in {}", file.display()))?)
    }

    /// Kills a component with SIGKILL and keeps it away until the outage ends.
    ///
    /// # Errors
    /// It does not run.
    pub fn outage(&self, component: Component) -> Result<Outage<'_>> {
        let Some(process) = self.process(component)? else { bail!("{} does not run", component.name()) };
        // A supervisor that is stopped starts nothing anew.
        self.daemon.signal(Signal::STOP)?;
        let outage = Outage { control: self };
        process.end(Signal::KILL, DEATH)?;
        Ok(outage)
    }

    /// Stops all of it.
    ///
    /// # Errors
    /// It does not stop, or a component had failed.
    pub fn stop(self) -> Result<()> {
        self.daemon.stop()
    }
}

/// A time without a component. When the value is dropped, the component comes back after a second.
#[must_use]
pub struct Outage<'a> {
    control: &'a ControlPlane,
}

impl Drop for Outage<'_> {
    fn drop(&mut self) {
        if let Err(error) = self.control.daemon.signal(Signal::CONT) {
            eprintln!("ending an outage: {error:#}");
        }
    }
}
