//! Which capabilities an agent needs: those that the DaemonSet gives it, and each of them.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sluice_lab::binary::Program;
use sluice_lab::process::in_cgroup;
use sluice_lab::{Lab, SocketLb};
use tests::repository;

use crate::stage::{PATIENCE, SERVERS, Stage, WEB};

const NODE: &str = "node-1";

/// What the DaemonSet adds to nothing, as its manifest has it.
fn granted() -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("deploy/manifests/sluice.yaml")).unwrap();
    let (_, rest) = text.split_once("add:\n").unwrap();
    assert!(text.contains("drop: [ALL]") || text.contains("drop:\n"), "it keeps what the runtime gives");
    let items = rest.lines().map_while(|line| line.trim().strip_prefix("- "));
    items.map(|item| item.split(' ').next().unwrap_or(item).to_lowercase()).collect()
}

/// An agent of root with these capabilities and no way to more.
fn agent(lab: &Lab, capabilities: &[String]) -> Command {
    let bounds: String = capabilities.iter().map(|one| format!(",+{one}")).collect();
    let mut command = lab.node(NODE).unwrap().command("setpriv").unwrap();
    command
        .args([&format!("--bounding-set=-all{bounds}"), "--inh-caps=-all", "--no-new-privs"])
        .arg(Program::Agent.find().unwrap())
        .args(["run", "--node-name", NODE, "--socket-lb=on", "--cluster-cidr=10.244.0.0/16,fd00:244::/32"])
        .arg("--manifests")
        .arg(lab.manifests().path())
        .arg("--bpf-root")
        .arg(lab.node_bpf_root(NODE))
        .arg("--cgroup-root")
        .arg(lab.node_cgroup(NODE))
        .stdin(Stdio::null());
    in_cgroup(&mut command, &lab.node_cgroup(NODE).join("agent")).unwrap();
    command
}

/// Waits until it is ready.
fn ready(lab: &Lab, child: &mut Child) {
    let deadline = Instant::now() + PATIENCE;
    let node = lab.node(NODE).unwrap();
    loop {
        let answer = node.get("http://127.0.0.1:10256/readyz", Duration::from_secs(1)).unwrap();
        if answer.is_ok_and(|answer| answer.status == 200) {
            return;
        }
        if let Some(status) = child.try_wait().unwrap() {
            panic!("the agent has ended ({status}): {}", lab.agent_log("confined", 20));
        }
        assert!(Instant::now() < deadline, "not ready: {}", lab.agent_log("confined", 20));
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn start(lab: &Lab, capabilities: &[String]) -> Child {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(lab.log_path("agent-confined.log"))
        .unwrap();
    agent(lab, capabilities).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

#[test]
fn an_agent_with_the_capabilities_of_the_daemon_set_serves_and_takes_over_and_with_any_less_says_which_is_missing()
 {
    let stage = Stage::set(SocketLb::On);
    let granted = granted();
    assert_eq!(granted, ["bpf", "net_admin", "net_broadcast", "perfmon"]);
    for missing in &granted {
        let rest: Vec<String> = granted.iter().filter(|one| *one != missing).cloned().collect();
        let output = agent(&stage.lab, &rest).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        let expected = format!("missing capabilities: CAP_{}", missing.to_uppercase());
        assert!(!output.status.success() && said.contains(&expected), "{missing}: {said}");
    }
    // The second one adopts what the first has left, which takes more of the kernel's calls.
    for round in ["starts", "takes over"] {
        let mut child = start(&stage.lab, &granted);
        ready(&stage.lab, &mut child);
        stage.reaches(&WEB, &SERVERS);
        stage.point_web_at(&["web-2"]);
        stage.reaches(&WEB, &["web-2"]);
        stage.point_web_at(&SERVERS);
        stage.reaches(&WEB, &SERVERS);
        let node = stage.lab.node(NODE).unwrap();
        let metrics = node.get("http://127.0.0.1:10249/metrics", Duration::from_secs(10)).unwrap().unwrap();
        assert!(metrics.body.contains("sluice_map_memory_bytes{map="), "{round}: {}", metrics.body);
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let log = std::fs::read_to_string(stage.lab.log_path("agent-confined.log")).unwrap();
    let complaints: Vec<&str> =
        log.lines().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert_eq!(complaints, Vec::<&str>::new());
    stage.lab.clean_agent(NODE).unwrap();
}
