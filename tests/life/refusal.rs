//! Where an agent cannot run it says why in one line, with what to do about it, and leaves the agent that runs and its
//! clients alone.

use std::path::Path;
use std::process::{Command, Output};

use sluice_lab::binary::Program;
use sluice_lab::{Lab, SocketLb, Stop};

use crate::loads::{Loads, Removals};
use crate::stage::{SERVERS, Stage, WEB, complaints};

const NODE: &str = "node-1";

/// How an agent is started wrongly.
#[derive(Default)]
struct Attempt {
    /// The program and arguments before `proxy-agent`.
    through: Vec<String>,
    /// Instead of those that would be right.
    flags: Vec<(&'static str, String)>,
    /// Besides.
    extra: Vec<&'static str>,
}

impl Attempt {
    fn through(words: &[&str]) -> Self {
        Self { through: words.iter().map(|word| (*word).to_owned()).collect(), ..Self::default() }
    }

    fn with(flag: &'static str, value: impl Into<String>) -> Self {
        Self { flags: vec![(flag, value.into())], ..Self::default() }
    }

    fn and(mut self, flag: &'static str, value: impl Into<String>) -> Self {
        self.flags.push((flag, value.into()));
        self
    }

    fn extra(word: &'static str) -> Self {
        Self { extra: vec![word], ..Self::default() }
    }

    /// Exit code and complaints.
    fn make(&self, lab: &Lab) -> (Option<i32>, Vec<String>) {
        let agent = Program::Agent.find().unwrap().display().to_string();
        let mut words = self.through.clone();
        words.extend([agent, "run".to_owned()]);
        let right = [
            ("--node-name", NODE.to_owned()),
            ("--manifests", lab.manifests().path().display().to_string()),
            ("--bpf-root", lab.node_bpf_root(NODE).display().to_string()),
            ("--cgroup-root", lab.node_cgroup(NODE).display().to_string()),
            ("--socket-lb", "on".to_owned()),
            ("--healthz-bind-address", "0".to_owned()),
            ("--metrics-bind-address", "0".to_owned()),
        ];
        for (flag, value) in &right {
            let other = self.flags.iter().find(|(other, _)| other == flag);
            words.push(format!("{flag}={}", other.map_or(value, |(_, value)| value)));
        }
        let further = self.flags.iter().filter(|(flag, _)| right.iter().all(|(known, _)| known != flag));
        words.extend(further.map(|(flag, value)| format!("{flag}={value}")));
        words.extend(self.extra.iter().map(|word| (*word).to_owned()));
        let mut command: Command = lab.node(NODE).unwrap().command(&words[0]).unwrap();
        let Output { status, stdout, stderr } = command.args(&words[1..]).output().unwrap();
        assert_eq!(String::from_utf8(stdout).unwrap(), "");
        (status.code(), complaints(&String::from_utf8(stderr).unwrap()))
    }
}

/// Mounts a BPF file system of its own, makes it read-only, and goes on.
const READ_ONLY: &str = "mount -t bpf bpf \"$0\" && mount -o remount,ro \"$0\" && exec \"$@\"";
/// Ends what is said of missing capabilities.
const GRANT: &str = "run as root, or grant them (securityContext.capabilities.add in a pod, AmbientCapabilities in \
                     systemd)";

#[test]
fn where_an_agent_cannot_run_it_says_in_one_line_what_to_do() {
    let stage = Stage::begin(SocketLb::On);
    stage.reaches(&WEB, &SERVERS);
    let loads = Loads::start(&stage);
    let pid = stage.lab.agent_process(NODE).unwrap().unwrap().pid;
    let other = stage.lab.node_bpf_root("another");

    for (attempt, remedy) in unusable_places(&stage.lab, pid).into_iter().chain(unfit_nodes(&other)) {
        assert_eq!(attempt.make(&stage.lab), (Some(1), vec![format!("proxy-agent: {remedy}")]));
    }
    assert!(!other.exists(), "what could not run left nothing");
    assert_eq!(stage.status(NODE)["agent"]["pid"], serde_json::json!(pid));

    stage.point_web_at(&["web-2"]);
    stage.reaches(&WEB, &["web-2"]);
    loads.end(Removals(1));
}

/// What an agent is pointed at and cannot use, and what it says then. `pid` is of the agent that runs.
fn unusable_places(lab: &Lab, pid: i32) -> Vec<(Attempt, String)> {
    let served = lab.node_bpf_root(NODE).display().to_string();
    let folder = lab.log_path("elsewhere").display().to_string();
    std::fs::create_dir(&folder).unwrap();
    let inside = format!("{folder}/sluice");
    vec![
        (
            Attempt::default(),
            format!(
                "another agent (pid {pid}) serves {served}: stop it, or give this one another --bpf-root"
            ),
        ),
        (
            Attempt::with("--manifests", "/nowhere/at/all"),
            "--manifests /nowhere/at/all: the directory cannot be read: No such file or directory (os error 2)"
                .to_owned(),
        ),
        (
            Attempt::with("--bpf-root", &inside),
            format!(
                "{inside} is not on a BPF file system; mount one (mount -t bpf bpf /sys/fs/bpf) or give another \
                 --bpf-root"
            ),
        ),
        (
            Attempt::through(&["unshare", "--mount", "sh", "-c", READ_ONLY, &folder])
                .and("--bpf-root", &inside),
            format!(
                "the BPF file system of {inside} is read-only; remount it (mount -o remount,rw /sys/fs/bpf) or \
                 give another --bpf-root: read-only filesystem or storage medium"
            ),
        ),
        (
            Attempt::with("--cgroup-root", &folder),
            format!(
                "{folder} is not a cgroup of version 2; mount one (mount -t cgroup2 none /sys/fs/cgroup), give \
                 its path with --cgroup-root, or use --socket-lb=off"
            ),
        ),
        (
            Attempt::with("--cluster-cidr", "10.244.0.0/16,10.300.0.0/16"),
            "--cluster-cidr: \"10.300.0.0/16\" is not an address range such as 10.244.0.0/16 or fd00:10::/56"
                .to_owned(),
        ),
    ]
}

/// What the agent may not do or the kernel cannot do, and what is said of it.
fn unfit_nodes(root: &Path) -> Vec<(Attempt, String)> {
    let root = root.display().to_string();
    let without = |capabilities: &str| {
        let bounds = format!("--bounding-set={capabilities}");
        Attempt::through(&["setpriv", &bounds]).and("--bpf-root", &root)
    };
    vec![
        (
            without("-bpf,-perfmon,-net_admin,-sys_admin"),
            format!("missing capabilities: CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON; {GRANT}"),
        ),
        (without("-net_admin"), format!("missing capabilities: CAP_NET_ADMIN; {GRANT}")),
        (
            Attempt::through(&["setarch", "--uname-2.6"]).and("--bpf-root", &root),
            format!("this kernel is {}; Sluice needs Linux 6.1 or newer", release_of_2_6()),
        ),
    ]
}

#[test]
fn flags_that_do_not_exist_are_named_with_those_that_do() {
    let stage = Stage::set(SocketLb::On);
    let (code, said) = Attempt::with("--socket-lb", "sideways").make(&stage.lab);
    assert_eq!(code, Some(2));
    assert_eq!(
        said[..2],
        [
            "error: invalid value 'sideways' for '--socket-lb <SOCKET_LB>'",
            "  [possible values: auto, on, off, host]"
        ]
    );
    let (code, said) = Attempt::extra("--frobnicate").make(&stage.lab);
    assert_eq!(code, Some(2));
    assert_eq!(said.first().unwrap(), "error: unexpected argument '--frobnicate' found");
    assert_eq!(said.last().unwrap(), "For more information, try '--help'.");
}

#[test]
fn proxyctl_without_anything_pinned_fails_and_says_where_to_look() {
    let stage = Stage::set(SocketLb::On);
    let root = stage.lab.node_bpf_root(NODE);
    let nothing = format!(
        "proxyctl: nothing is pinned below {}: no agent has run with this --bpf-root (give another one, or set \
         SLUICE_BPF_ROOT; agents print theirs when they start)\n",
        root.display()
    );
    for arguments in [&["status"][..], &["service", "list"], &["map", "dump", "frontends4", "-o", "json"]] {
        let Output { status, stdout, stderr } = stage.proxyctl(NODE, arguments);
        let said = (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap());
        assert_eq!((status.code(), said), (Some(1), (String::new(), nothing.clone())), "{arguments:?}");
    }
    // The same after an agent has gone, if it was cleaned up after.
    stage.start_agents();
    assert!(stage.proxyctl(NODE, &["status"]).status.success());
    stage.stop_agents(Stop::Terminate);
    assert!(stage.proxyctl(NODE, &["status"]).status.success());
    stage.lab.clean_agent(NODE).unwrap();
    let Output { status, stderr, .. } = stage.proxyctl(NODE, &["status"]);
    assert_eq!((status.code(), String::from_utf8(stderr).unwrap()), (Some(1), nothing));
}

/// What a kernel says that plays an old one, as `setarch --uname-2.6` makes it.
fn release_of_2_6() -> String {
    let output = Command::new("setarch").args(["--uname-2.6", "uname", "-r"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
