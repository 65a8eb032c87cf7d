//! `kubectl sluice`, with a `kubectl` that says what it was asked.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Answers the list of pods, and says anything else back, a word a line.
const KUBECTL: &str = "#!/bin/sh\nfor word in \"$@\"; do\n  if [ \"$word\" = get ]; then printf '%b' \"$PODS\"; exit 0; fi\ndone\n\
    printf '%s\\n' \"$@\"\n";

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/kubectl-sluice")
}

/// The plugin's exit code, and what it said to either.
fn run(pods: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let kubectl = dir.join("kubectl");
    // By another process: a child that another test forks just now would hold a file that is open for writing here, and nobody
    // could run it before that child runs something else (ETXTBSY).
    let mut install = Command::new("install");
    let mut install =
        install.args(["-m", "755", "/dev/stdin"]).arg(&kubectl).stdin(Stdio::piped()).spawn().unwrap();
    install.stdin.take().unwrap().write_all(KUBECTL.as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
    let path = format!("{}:{}", dir.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    let Output { status, stdout, stderr } =
        command.arg(script()).args(arguments).env("PATH", path).env("PODS", pods).output().unwrap();
    (
        status.code(),
        String::from_utf8([stdout, stderr].concat()).unwrap().replace('\n', " ").trim_end().to_owned(),
    )
}

const TWO: &str = "node-1 sluice-a\\nnode-2 sluice-b\\n";

#[test]
fn proxyctl_runs_in_the_agents_pod_of_the_node_that_is_named() {
    let exec = |pod: &str, rest: &str| {
        (Some(0), format!("exec --namespace kube-system {pod} --container agent -- /proxyctl {rest}"))
    };
    assert_eq!(run(TWO, &["--node", "node-2", "status", "-o", "json"]), exec("sluice-b", "status -o json"));
    assert_eq!(run("node-1 sluice-a\\n", &["flow", "list"]), exec("sluice-a", "flow list"));
    let other =
        run(TWO, &["--context", "c", "--namespace", "net", "--node", "node-1", "--", "drops", "--all"]);
    let wanted = "--context c exec --namespace net sluice-a --container agent -- /proxyctl drops --all";
    assert_eq!(other, (Some(0), wanted.to_owned()));
    assert_eq!(run(TWO, &["nodes"]), (Some(0), "node-1 sluice-a node-2 sluice-b".to_owned()));
}

#[test]
fn where_there_is_no_pod_or_several_the_plugin_says_what_to_do() {
    let said = |text: &str| (Some(1), format!("kubectl-sluice: {text}"));
    let several = "several nodes have an agent; name one with --node (kubectl sluice nodes)";
    assert_eq!(run(TWO, &["status"]), said(several));
    let nowhere = "no agent runs on node node-3; kubectl sluice nodes shows where one does";
    assert_eq!(run(TWO, &["--node", "node-3", "status"]), said(nowhere));
    let none = "no agent runs in kube-system with app.kubernetes.io/name=sluice: see kubectl -n kube-system get daemonset";
    assert_eq!(run("", &["status"]), said(none));
    let flag = "there is no flag --nodes before the command; flags of proxyctl come after its command";
    assert_eq!(run(TWO, &["--nodes", "x"]), said(flag));
    assert_eq!(run(TWO, &[]).0, Some(2));
}
