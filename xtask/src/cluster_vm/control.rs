//! The control plane of `tests/cluster` on the host, and kubectl.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    network::{self, ADDRESSES},
    node::Node,
    parts::Parts,
};

/// One that runs; dropped, it ends: its standard input does.
#[derive(Debug)]
pub(super) struct ControlPlane {
    process: Child,
    kubectl: PathBuf,
    folder: PathBuf,
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        // It ends by itself now, whatever it says.
        let _ = self.process.wait();
    }
}

impl ControlPlane {
    /// Starts it and waits until it can be used.
    pub(super) fn start(room: &Path, parts: &Parts, nodes: &[Node]) -> Result<Self> {
        let folder = room.join("control");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        let kubelets: Vec<String> = nodes.iter().map(|node| node.addresses()[0].clone()).collect();
        let mut command = network::within(&parts.cluster.join("cluster"));
        command.arg("up").arg("--dir").arg(&folder).args(["--stop-on", "stdin", "--port", "6443"]);
        command.args(["--bind-address", ADDRESSES[0], "--advertise-address", ADDRESSES[0]]);
        command.args(["--kubelet-addresses", &kubelets.join(",")]);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the control plane")?;
        let out = process.stdout.take().context("the control plane has no output")?;
        let control = Self { process, kubectl: parts.cluster.join("kubectl"), folder };
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        ensure!(
            lines.any(|line| line.starts_with("READY")),
            "the control plane did not start; its logs are in {}",
            control.folder.display()
        );
        Ok(control)
    }

    /// The administrator's.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.file("admin.kubeconfig")
    }

    /// A file of its folder.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// kubectl as the administrator.
    pub(super) fn kubectl(&self, args: &[&str]) -> Command {
        let mut command = network::within(&self.kubectl);
        command.arg("--kubeconfig").arg(self.kubeconfig()).args(args);
        command
    }

    /// What kubectl prints.
    ///
    /// # Errors
    /// It fails; with what it said.
    pub(super) fn ask(&self, args: &[&str]) -> Result<String> {
        let output = self.kubectl(args).stdin(Stdio::null()).output().context("cannot run kubectl")?;
        if !output.status.success() {
            bail!("kubectl {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Applies objects in YAML.
    pub(super) fn apply(&self, yaml: &str) -> Result<()> {
        let mut apply = self.kubectl(&["apply", "-f", "-"]);
        let mut process = apply
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run kubectl")?;
        let mut input = process.stdin.take().context("kubectl has no input")?;
        input.write_all(yaml.as_bytes()).context("kubectl does not listen")?;
        drop(input);
        let output = process.wait_with_output().context("cannot wait for kubectl")?;
        ensure!(
            output.status.success(),
            "kubectl apply: {}\n{yaml}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }
}
