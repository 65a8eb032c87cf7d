//! What is asked of the cluster, and what is printed of it: each step is a command that a user would type, with its answer.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};

use super::{control::ControlPlane, network, node::Node};
use crate::{child, kernels::machine};

const WORKLOAD: &str = include_str!("workload.yaml");
const POLICY: &str = include_str!("policy.yaml");
/// Of the Service, with its port, as nc(1) takes them.
const CLUSTER_IPS: [&str; 2] = ["10.96.7.80 80", "fd00:10:96::780 80"];
const NODE_PORT: &str = "30080";
/// Requests that wait for ten seconds each.
const IN_VAIN: usize = 2;
/// NET_BROADCAST, NET_ADMIN, SYS_PTRACE, SYS_ADMIN, PERFMON and BPF, by their numbers (`linux/capability.h`).
const CAPABILITIES: u64 = 1 << 11 | 1 << 12 | 1 << 19 | 1 << 21 | 1 << 38 | 1 << 39;
/// Lines of an answer that are shown.
const SHOWN: usize = 12;
/// For what the API server is asked to wait for.
const ROLLOUT: &str = "--timeout=20m";
/// How often a step is tried: what was changed a moment ago may be on its way, and processors are emulated.
const PATIENCE: Duration = Duration::from_secs(600);
const PAUSE: Duration = Duration::from_secs(1);
/// Requests by which all backends are met: of two, one is missed by chance once in two million runs.
const REQUESTS: usize = 20;

/// Counts, and prints as it goes.
struct Proof<'a> {
    control: &'a ControlPlane,
    nodes: &'a [Node],
    passed: usize,
    failed: usize,
}

/// Installs Sluice, runs a workload, asks it.
///
/// # Errors
/// A step failed; all have been tried that can be without it.
pub(super) fn run(control: &ControlPlane, nodes: &[Node], manifest: &Path) -> Result<()> {
    let manifest = fs::read_to_string(manifest).context("cannot read the manifests")?;
    control.apply(&manifest)?;
    let mut proof = Proof { control, nodes, passed: 0, failed: 0 };
    if proof.installed() {
        control.apply(WORKLOAD)?;
        if proof.deployed() {
            proof.confined();
            proof.services();
            proof.policy(control)?;
            proof.updated();
        }
    }
    if proof.failed > 0 {
        proof.state();
    }
    println!("{} passed, {} failed", proof.passed, proof.failed);
    ensure!(proof.failed == 0, "not all that was asked of the cluster is so");
    Ok(())
}

impl Proof<'_> {
    /// The DaemonSet's pods run and are ready, with no right but those of the manifest.
    fn installed(&mut self) -> bool {
        let rollout = ["-n", "kube-system", "rollout", "status", "daemonset/sluice", ROLLOUT];
        let ready =
            self.kubectl("Sluice rolls out", &rollout, |said| said.contains("successfully rolled out"));
        if ready {
            let status = ["-n", "kube-system", "exec", "daemonset/sluice", "--", "/proxyctl", "status"];
            self.kubectl("it says how it is", &status, |said| said.contains("node-"));
        }
        ready
    }

    fn deployed(&mut self) -> bool {
        let rollout = ["rollout", "status", "deployment/web", ROLLOUT];
        let rolled = self.kubectl("a Deployment", &rollout, |said| said.contains("successfully rolled out"));
        let wait = ["wait", "--for=condition=Ready", ROLLOUT, "pod/friend", "pod/stranger", "pod/warden"];
        let clients = self
            .kubectl("two clients and a warden", &wait, |said| said.matches("condition met").count() == 3);
        self.kubectl("where they are", &["get", "pods", "-o", "wide"], |_| true);
        rolled && clients
    }

    /// What a process with the node's process ids sees of the agent, in the kernel's own words (proc_pid_status(5)).
    fn confined(&mut self) {
        let script = "/busybox grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' /proc/$(/busybox pidof proxy-agent)/status";
        let wanted = [
            format!("CapEff:\t{CAPABILITIES:016x}"),
            format!("CapBnd:\t{CAPABILITIES:016x}"),
            "NoNewPrivs:\t1".to_owned(),
            "Seccomp:\t2".to_owned(),
        ];
        let all = |said: &str| said.lines().eq(&wanted);
        let what = "the agent has the capabilities of the manifest and no others, under the runtime's seccomp profile";
        self.kubectl(what, &["exec", "warden", "--", "/busybox", "sh", "-c", script], all);
    }

    fn services(&mut self) {
        let wanted: Vec<String> = self.nodes.iter().map(|node| format!("on {} ", node.name())).collect();
        for server in CLUSTER_IPS {
            let all = |said: &str| wanted.iter().all(|node| said.contains(node.as_str()));
            self.ask("a pod asks the ClusterIP, and every backend answers", "friend", server, REQUESTS, all);
        }
        for node in self.nodes {
            for address in node.addresses() {
                let server = format!("{address} {NODE_PORT}");
                self.ask("a pod asks a NodePort", "friend", &server, 1, answered);
                self.outside("a client from outside asks it", &server);
            }
        }
    }

    fn policy(&mut self, control: &ControlPlane) -> Result<()> {
        for server in CLUSTER_IPS {
            self.ask("without a policy a stranger is answered", "stranger", server, 1, answered);
        }
        control.apply(POLICY)?;
        for server in CLUSTER_IPS {
            self.ask("with the policy a stranger is not", "stranger", server, IN_VAIN, unanswered);
            self.ask("and a friend is", "friend", server, REQUESTS, answered);
        }
        let list = ["-n", "kube-system", "exec", "daemonset/sluice", "--", "/proxyctl", "policy", "list"];
        self.kubectl("the agent names the policy", &list, |said| said.contains("friends-only"));
        Ok(())
    }

    /// A new agent on every node, one after the other, as an upgrade would have it.
    fn updated(&mut self) {
        let restart = ["-n", "kube-system", "rollout", "restart", "daemonset/sluice"];
        self.kubectl("the agents are replaced", &restart, |said| said.contains("restarted"));
        let rollout = ["-n", "kube-system", "rollout", "status", "daemonset/sluice", ROLLOUT];
        self.kubectl("one node at a time", &rollout, |said| said.contains("successfully rolled out"));
        for server in CLUSTER_IPS {
            self.ask("a friend is still answered", "friend", server, REQUESTS, answered);
            self.ask("a stranger still is not", "stranger", server, IN_VAIN, unanswered);
        }
    }

    /// What helps to find out why a step failed.
    fn state(&self) {
        let words: [&[&str]; 4] = [
            &["get", "pods", "-A", "-o", "wide"],
            &["-n", "kube-system", "describe", "pods"],
            &["-n", "kube-system", "logs", "daemonset/sluice", "--all-containers", "--tail=40"],
            &["get", "events", "-A"],
        ];
        for args in words {
            let said = self.control.ask(args).unwrap_or_else(|error| format!("{error:#}"));
            println!("\n$ kubectl {}\n{said}", args.join(" "));
        }
    }

    /// A pod asks a server so many times.
    fn ask(&mut self, what: &str, pod: &str, server: &str, times: usize, holds: impl Fn(&str) -> bool) {
        let script = requests("/busybox", server, times);
        self.kubectl(what, &["exec", pod, "--", "/busybox", "sh", "-c", &script], holds);
    }

    /// A client that is neither a node nor a pod.
    fn outside(&mut self, what: &str, server: &str) {
        let Some(busybox) = machine::busybox() else { return };
        let mut client = network::within(Path::new(&busybox));
        client.args(["sh", "-c", &requests(&busybox, server, 1)]);
        self.step(what, &mut client, answered);
    }

    fn kubectl(&mut self, what: &str, args: &[&str], holds: impl Fn(&str) -> bool) -> bool {
        let mut command = self.control.kubectl(args);
        self.step(what, &mut command, holds)
    }

    /// Runs a command until what it says is right, for a while, and prints the last answer.
    fn step(&mut self, what: &str, command: &mut Command, holds: impl Fn(&str) -> bool) -> bool {
        let deadline = Instant::now() + PATIENCE;
        let (said, right) = loop {
            let output = command.stdin(Stdio::null()).output();
            let said = output.map_or_else(
                |error| error.to_string(),
                |output| {
                    let text = [output.stdout, output.stderr].concat();
                    String::from_utf8_lossy(&text).trim_end().to_owned()
                },
            );
            let right = holds(&said);
            if right || Instant::now() > deadline {
                break (said, right);
            }
            thread::sleep(PAUSE);
        };
        println!("\n{}: {what}\n$ {}", if right { "ok" } else { "FAILED" }, shown(command));
        for line in said.lines().take(SHOWN) {
            println!("  {line}");
        }
        if said.lines().count() > SHOWN {
            println!("  …");
        }
        *(if right { &mut self.passed } else { &mut self.failed }) += 1;
        right
    }
}

/// Asks so many times, and counts what came back. (The program's own wget needs files that the image does not have.)
fn requests(busybox: &str, server: &str, times: usize) -> String {
    let request = r"printf 'GET /cgi-bin/who HTTP/1.0\r\n\r\n'";
    let one = format!("{request} | {busybox} nc -w 10 {server} 2>&1 | {busybox} tail -n 1");
    format!("for i in $({busybox} seq {times}); do {one}; done | {busybox} sort | {busybox} uniq -c")
}

/// Every request was answered by a web server.
fn answered(said: &str) -> bool {
    !said.is_empty() && said.lines().all(|line| line.contains(" answers "))
}

/// None was: each of them waited in vain.
fn unanswered(said: &str) -> bool {
    !said.is_empty() && said.lines().all(|line| line.contains("timed out"))
}

/// Without what is the same in all of them.
fn shown(command: &Command) -> String {
    let line = child::line(command);
    let words = line.split_whitespace().skip(2);
    let name = |word: &str| word.rsplit('/').next().unwrap_or(word).to_owned();
    let mut shown = Vec::new();
    let mut skip = false;
    for (at, word) in words.enumerate() {
        if at == 0 {
            shown.push(name(word));
        } else if word == "--kubeconfig" {
            skip = true;
        } else if !std::mem::take(&mut skip) {
            shown.push(word.to_owned());
        }
    }
    shown.join(" ")
}
