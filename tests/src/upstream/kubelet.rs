//! The real kubelet on the nodes of a lab, each a child that ends with this process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sluice_lab::process::{in_cgroup, in_netns};
use sluice_lab::{Lab, NodeSpec, cgroup, netns};

use super::DNS;
use crate::cluster::binary::ClusterBinary;
use crate::cluster::control_plane::{ControlPlane, User};
use crate::cluster::daemon::Daemon;

const PATIENCE: Duration = Duration::from_secs(60);

/// A running kubelet.
pub(super) struct Kubelet(Daemon);

impl Kubelet {
    /// Starts one on every node.
    ///
    /// # Errors
    /// The first that does not start; with the end of its log.
    pub(super) fn start_all(
        lab: &Lab,
        suite: &ClusterBinary,
        control: &ControlPlane,
        rooms: &Path,
    ) -> Result<Vec<Self>> {
        lab.topology().nodes.iter().map(|node| Self::start(lab, node, suite, control, rooms)).collect()
    }

    fn start(
        lab: &Lab,
        node: &NodeSpec,
        suite: &ClusterBinary,
        control: &ControlPlane,
        rooms: &Path,
    ) -> Result<Self> {
        let (place, cgroups) = (lab.node(&node.name)?, lab.node_cgroup(&node.name));
        let folder = lab.id().state_dir().join("kubelets").join(&node.name);
        fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        for name in ["kubelet", "pods"] {
            cgroup::create(&cgroups.join(name))?;
        }
        let netns = netns::path(&place.netns);
        let addresses: Vec<String> = node.addresses.iter().map(ToString::to_string).collect();
        let flags: [(&str, PathBuf); 11] = [
            ("node", node.name.clone().into()),
            ("node-ips", addresses.join(",").into()),
            ("kubeconfig", control.kubeconfig(User::Kubelet)),
            ("folder", folder),
            ("programs", suite.program("images")),
            ("rooms", rooms.to_owned()),
            ("netns", netns.clone()),
            ("cgroup", cgroups.join("pods")),
            ("certificate", control.file("kubelet.crt")),
            ("key", control.file("kubelet.key")),
            ("client-ca", control.file("ca.crt")),
        ];
        let mut command = Command::new(suite.program("kubelet"));
        command.args(["--stop-on", "stdin", "--cluster-dns", &DNS.to_string()]);
        for (name, value) in flags {
            command.arg(format!("--{name}")).arg(value);
        }
        in_netns(&mut command, &netns)?;
        in_cgroup(&mut command, &cgroups.join("kubelet"))?;
        let log = lab.log_path(&format!("kubelet-{}.log", node.name));
        Daemon::start(&format!("kubelet on {}", node.name), command, &log, PATIENCE).map(Self)
    }

    /// Stops it; its containers end with it.
    ///
    /// # Errors
    /// It does not stop.
    pub(super) fn stop(self) -> Result<()> {
        self.0.stop()
    }
}
