//! The product on the nodes of a lab: started inside the node's namespace and cgroup, asked for readiness, stopped, killed.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use ipnet::IpNet;
use rustix::process::Signal;

use crate::binary::Program;
use crate::lab::{Lab, hold};
use crate::netns;
use crate::process::{ProcessId, in_cgroup, in_netns};

/// How long an agent may take to end after a signal.
const PATIENCE: Duration = Duration::from_secs(60);
const READY_URL: &str = "http://127.0.0.1:10256/readyz";

/// Where the agent's objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The lab's own manifests folder.
    LabManifests,
    /// Another manifests folder.
    Manifests(PathBuf),
    /// An API server.
    Kubeconfig(PathBuf),
}

/// `--socket-lb`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocketLb {
    /// What the agent chooses.
    Auto,
    /// Every socket is translated when it connects.
    On,
    /// Only the node's own sockets; pods take the packet road.
    Host,
    /// No cgroup hooks at all.
    Off,
}

impl SocketLb {
    fn flag(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Host => "host",
            Self::Off => "off",
        }
    }
}

/// Which Service traffic of pods is masqueraded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// What has to be.
    AsNeeded,
    /// All of it.
    All,
}

/// How an agent is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOptions {
    /// Where objects come from.
    pub source: Source,
    /// Socket or packet road.
    pub socket_lb: SocketLb,
    /// `--cluster-cidr`; empty means that pods cannot be told from others.
    pub cluster_cidrs: Vec<IpNet>,
    /// `--masquerade-all`.
    pub masquerade: Masquerade,
    /// `--service-cidr`.
    pub service_cidrs: Vec<IpNet>,
    /// `--nodeport-addresses`: `primary` or CIDRs; empty leaves the default.
    pub nodeport_addresses: Vec<String>,
    /// Further flags, as they are.
    pub extra: Vec<String>,
    /// What is started.
    pub program: Program,
}

impl AgentOptions {
    /// The lab's manifests on the given road, all else by default.
    #[must_use]
    pub fn new(socket_lb: SocketLb) -> Self {
        Self {
            source: Source::LabManifests,
            socket_lb,
            cluster_cidrs: Vec::new(),
            masquerade: Masquerade::AsNeeded,
            service_cidrs: Vec::new(),
            nodeport_addresses: Vec::new(),
            extra: Vec::new(),
            program: Program::Agent,
        }
    }

    /// The flags after `run`, but for those that name the node's own places.
    #[must_use]
    pub fn flags(&self, lab_manifests: &std::path::Path) -> Vec<String> {
        let (kind, path) = match &self.source {
            Source::LabManifests => ("--manifests", lab_manifests),
            Source::Manifests(path) => ("--manifests", path.as_path()),
            Source::Kubeconfig(path) => ("--kubeconfig", path.as_path()),
        };
        let mut flags = vec![kind.to_owned(), path.display().to_string()];
        flags.push(format!("--socket-lb={}", self.socket_lb.flag()));
        let list = |cidrs: &[IpNet]| cidrs.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        if !self.cluster_cidrs.is_empty() {
            flags.push(format!("--cluster-cidr={}", list(&self.cluster_cidrs)));
        }
        if self.masquerade == Masquerade::All {
            flags.push("--masquerade-all".to_owned());
        }
        if !self.service_cidrs.is_empty() {
            flags.push(format!("--service-cidr={}", list(&self.service_cidrs)));
        }
        if !self.nodeport_addresses.is_empty() {
            flags.push(format!("--nodeport-addresses={}", self.nodeport_addresses.join(",")));
        }
        flags.extend(self.extra.iter().cloned());
        flags
    }
}

/// How an agent is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM.
    Terminate,
    /// SIGKILL.
    Kill,
}

/// An agent that this process has started.
pub(crate) struct Agent {
    child: Child,
    options: AgentOptions,
}

impl Agent {
    /// Its process, to be waited for.
    pub(crate) fn into_child(self) -> Child {
        self.child
    }
}

impl Lab {
    /// Starts the agent of a node; does not wait until it is ready.
    ///
    /// # Errors
    /// One runs already, or the program is missing.
    pub fn start_agent(&self, node: &str, options: &AgentOptions) -> Result<()> {
        self.start_agent_with(node, options, |_| Ok(()))
    }

    /// As [`Lab::start_agent`], with a command that `prepare` has had in its hands.
    ///
    /// # Errors
    /// As [`Lab::start_agent`], and what `prepare` returns.
    pub fn start_agent_with(
        &self,
        node: &str,
        options: &AgentOptions,
        prepare: impl FnOnce(&mut Command) -> Result<()>,
    ) -> Result<()> {
        let place = self.node(node)?;
        if self.agent_process(node)?.is_some() {
            bail!("an agent runs on {node} already");
        }
        let program = options.program.find()?;
        let log = self.log(&format!("agent-{node}.log"))?;
        let mut command = Command::new(&program);
        command
            .args(["run", "--node-name", node])
            .args(options.flags(self.manifests().path()))
            .arg("--bpf-root")
            .arg(self.node_bpf_root(node))
            .arg("--cgroup-root")
            .arg(self.node_cgroup(node))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        in_netns(&mut command, &netns::path(&place.netns))?;
        in_cgroup(&mut command, &self.node_cgroup(node).join("agent"))?;
        // Ctrl-C in the owner's terminal is for the owner, who then takes the lab down in order.
        command.process_group(0);
        prepare(&mut command)?;
        let child = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let pid = i32::try_from(child.id()).context("process id")?;
        let file = self.agent_file(node)?;
        fs::write(&file, serde_json::to_vec(&ProcessId::of(pid)?)?)
            .with_context(|| format!("writing {}", file.display()))?;
        hold(&self.agents).insert(node.to_owned(), Agent { child, options: options.clone() });
        Ok(())
    }

    /// Starts the agents of all nodes and waits until each is ready.
    ///
    /// # Errors
    /// Names the node and the end of its log.
    pub fn start_agents(&self, options: &AgentOptions, patience: Duration) -> Result<()> {
        let nodes: Vec<String> = self.topology().nodes.into_iter().map(|node| node.name).collect();
        nodes.iter().try_for_each(|node| self.start_agent(node, options))?;
        nodes.iter().try_for_each(|node| self.agent_ready(node, patience))
    }

    /// Waits until the agent says that its first full plan is in the kernel.
    ///
    /// # Errors
    /// It ended, or was not ready in time; with the end of its log.
    pub fn agent_ready(&self, node: &str, patience: Duration) -> Result<()> {
        let place = self.node(node)?;
        let deadline = Instant::now() + patience;
        loop {
            let answer = place.get(READY_URL, Duration::from_secs(1))?;
            let state = match answer {
                Ok(answer) if answer.status == 200 => return Ok(()),
                Ok(answer) => format!("/readyz answered {}: {}", answer.status, answer.body.trim()),
                Err(failure) => format!("/readyz: {failure}"),
            };
            if self.agent_process(node)?.is_none() {
                bail!("the agent on {node} has ended; its log ends:\n{}", self.agent_log(node, 10));
            }
            if Instant::now() > deadline {
                bail!(
                    "the agent on {node} is not ready ({state}); its log ends:\n{}",
                    self.agent_log(node, 10)
                );
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Stops the agent of a node and waits until it has ended. No agent is no error.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop_agent(&self, node: &str, stop: Stop) -> Result<()> {
        let signal = match stop {
            Stop::Terminate => Signal::TERM,
            Stop::Kill => Signal::KILL,
        };
        if let Some(process) = self.agent_process(node)? {
            process.end(signal, PATIENCE).with_context(|| format!("stopping the agent on {node}"))?;
        }
        if let Some(mut agent) = hold(&self.agents).remove(node) {
            agent.child.wait().with_context(|| format!("waiting for the agent on {node}"))?;
        }
        Ok(())
    }

    /// Stops the agent of a node and starts it with the same options.
    ///
    /// # Errors
    /// This process did not start it, or as the two steps.
    pub fn restart_agent(&self, node: &str, stop: Stop) -> Result<()> {
        let options = hold(&self.agents).get(node).map(|agent| agent.options.clone());
        let options = options.ok_or_else(|| anyhow!("no agent was started on {node}"))?;
        self.stop_agent(node, stop)?;
        self.start_agent(node, &options)
    }

    /// Lets the product remove its traces from a node, as an operator would after stopping the agent.
    ///
    /// # Errors
    /// `proxy-agent cleanup` failed; with what it said.
    pub fn clean_agent(&self, node: &str) -> Result<()> {
        let place = self.node(node)?;
        let mut command = Command::new(Program::Agent.find()?);
        command.arg("cleanup").arg("--bpf-root").arg(self.node_bpf_root(node));
        command.arg("--cgroup-root").arg(self.node_cgroup(node)).stdin(Stdio::null());
        in_netns(&mut command, &netns::path(&place.netns))?;
        let output = command.output().context("starting proxy-agent cleanup")?;
        if output.status.success() {
            return Ok(());
        }
        bail!("proxy-agent cleanup on {node}: {}", String::from_utf8_lossy(&output.stderr).trim())
    }

    /// The process of a node's agent, whoever started it.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn agent_process(&self, node: &str) -> Result<Option<ProcessId>> {
        let Ok(text) = fs::read(self.agent_file(node)?) else { return Ok(None) };
        let process: Option<ProcessId> = serde_json::from_slice(&text).unwrap_or(None);
        Ok(process.filter(ProcessId::is_alive))
    }

    /// The last lines of an agent's log.
    #[must_use]
    pub fn agent_log(&self, node: &str, lines: usize) -> String {
        let text = fs::read_to_string(self.log_path(&format!("agent-{node}.log"))).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn agent_file(&self, node: &str) -> Result<PathBuf> {
        let dir = self.id().state_dir().join("agents");
        fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        Ok(dir.join(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_the_flags_of_the_agent() {
        let mut options = AgentOptions::new(SocketLb::Host);
        assert_eq!(options.flags("/m".as_ref()), ["--manifests", "/m", "--socket-lb=host"]);
        options.source = Source::Kubeconfig("/k".into());
        options.cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap(), "fd00:244::/32".parse().unwrap()];
        options.masquerade = Masquerade::All;
        options.service_cidrs = vec!["10.96.0.0/16".parse().unwrap()];
        options.nodeport_addresses = vec!["primary".to_owned()];
        options.extra = vec!["--log-level=debug".to_owned()];
        assert_eq!(
            options.flags("/m".as_ref()),
            [
                "--kubeconfig",
                "/k",
                "--socket-lb=host",
                "--cluster-cidr=10.244.0.0/16,fd00:244::/32",
                "--masquerade-all",
                "--service-cidr=10.96.0.0/16",
                "--nodeport-addresses=primary",
                "--log-level=debug"
            ]
        );
    }
}
