//! The real kube-proxy on the nodes of a lab, as a peer to compare with and as proof of the rig itself.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use sluice_lab::process::{in_cgroup, in_netns};
use sluice_lab::{Lab, Masquerade, netns};

use super::binary::ClusterBinary;
use super::control_plane::CLUSTER_CIDRS;
use super::daemon::log_end;

const HEALTH_URL: &str = "http://127.0.0.1:10256/healthz";
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(10);

/// A mode of kube-proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The contract of Sluice where modes differ.
    Nftables,
    /// The usual one.
    Iptables,
    /// Virtual servers of the kernel, and iptables beside them.
    Ipvs,
}

/// How kube-proxy is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Mode.
    pub mode: Mode,
    /// `clusterCIDR`; empty means that pods cannot be told from others.
    pub cluster_cidrs: Vec<String>,
    /// `masqueradeAll`.
    pub masquerade: Masquerade,
    /// `nodePortAddresses`; empty leaves the default.
    pub node_port_addresses: Vec<String>,
}

impl Settings {
    /// A mode, the pods of the rig's clusters, all else by default.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self {
            mode,
            cluster_cidrs: CLUSTER_CIDRS.map(str::to_owned).into(),
            masquerade: Masquerade::AsNeeded,
            node_port_addresses: Vec::new(),
        }
    }
}

/// Lets kube-proxy remove its rules from a node, as an operator would.
///
/// # Errors
/// It failed; with what it said.
pub fn cleanup(lab: &Lab, node: &str, binary: &ClusterBinary) -> Result<()> {
    let mut command = std::process::Command::new(binary.program("kube-proxy"));
    command.arg("--cleanup").stdin(Stdio::null());
    in_netns(&mut command, &netns::path(&lab.node(node)?.netns))?;
    let output = command.output().context("starting kube-proxy --cleanup")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "kube-proxy --cleanup: {}", said.trim());
    Ok(())
}

/// kube-proxy on one node. Dropping it kills it; its rules go with the node's namespace.
#[derive(Debug)]
pub struct KubeProxy {
    node: String,
    child: Child,
    log: PathBuf,
}

impl KubeProxy {
    /// Starts it; does not wait until it is ready.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn start(
        lab: &Lab,
        node: &str,
        settings: &Settings,
        binary: &ClusterBinary,
        files: &Files<'_>,
    ) -> Result<Self> {
        let config = files.folder.join(format!("kube-proxy-{node}.json"));
        fs::write(&config, config_of(node, settings, files.kubeconfig))
            .with_context(|| format!("writing {}", config.display()))?;
        let log = files.folder.join(format!("kube-proxy-{node}.log"));
        let output = OpenOptions::new().create(true).append(true).open(&log)?;
        let mut command = std::process::Command::new(binary.program("kube-proxy"));
        command.arg("--config").arg(config).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        if let Some(tools) = files.tools {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let all = std::iter::once(tools.to_owned()).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(all)?);
        }
        in_netns(&mut command, &netns::path(&lab.node(node)?.netns))?;
        in_cgroup(&mut command, &lab.node_cgroup(node).join("agent"))?;
        let child = command.spawn().context("starting kube-proxy")?;
        Ok(Self { node: node.to_owned(), child, log })
    }

    /// Waits until its rules are written.
    ///
    /// # Errors
    /// It ended, or was not healthy in time; with the end of its log.
    pub fn ready(&mut self, lab: &Lab) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let place = lab.node(&self.node)?;
        loop {
            if place.get(HEALTH_URL, Duration::from_secs(1))?.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            self.alive()?;
            if Instant::now() > deadline {
                bail!("kube-proxy on {} is not ready:\n{}", self.node, log_end(&self.log, 10));
            }
            std::thread::sleep(POLL);
        }
    }
}

impl KubeProxy {
    /// Fails if it has ended.
    ///
    /// # Errors
    /// With the end of its log.
    pub fn alive(&mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "kube-proxy on {} ended:\n{}", self.node, self.last_words());
        Ok(())
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The end of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        log_end(&self.log, 10)
    }
}

impl Drop for KubeProxy {
    fn drop(&mut self) {
        // Both fail only for a process that is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where its files are.
pub struct Files<'a> {
    /// Where the API server is.
    pub kubeconfig: &'a Path,
    /// Where its configuration and its log go.
    pub folder: &'a Path,
    /// Where to look for programs first.
    pub tools: Option<&'a Path>,
}

fn config_of(node: &str, settings: &Settings, kubeconfig: &Path) -> String {
    // Its default is one sync per second; with less, a change arrives before the pod that it concerns is gone.
    let masquerade_all = settings.masquerade == Masquerade::All;
    let rules = json!({"minSyncPeriod": "100ms", "syncPeriod": "30s", "masqueradeAll": masquerade_all});
    // Without a range this mode tells nobody from anybody.
    let ranges = settings.cluster_cidrs.join(",");
    json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": match settings.mode {
            Mode::Nftables => "nftables",
            Mode::Iptables => "iptables",
            Mode::Ipvs => "ipvs",
        },
        "hostnameOverride": node,
        "clientConnection": {"kubeconfig": kubeconfig},
        "clusterCIDR": ranges,
        "nodePortAddresses": settings.node_port_addresses,
        "detectLocalMode": "ClusterCIDR",
        "healthzBindAddress": "0.0.0.0:10256",
        "metricsBindAddress": "127.0.0.1:10249",
        // 0 leaves the table's size alone: it can be set in the machine's first network namespace only.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nftables": rules,
        "iptables": rules,
        "ipvs": {"minSyncPeriod": "100ms", "syncPeriod": "30s"},
    })
    .to_string()
}
