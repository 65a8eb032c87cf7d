//! `proxyctl` about policies beside real agents and sockets: what it explains and traces is what sockets see, with the
//! agents and without them, and a monitor names who denied.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::binary::Program;
use sluice_lab::{Probe, Protocol, SocketLb, Stop};

use crate::objects::{DNS_TARGET, HTTP_TARGET};
use crate::stage::{NODES, PATIENCE, Stage};

const CLIENTS: [&str; 5] = ["client", "web-1", "web-3", "node-1", "outside"];
const SERVERS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// How long an attempt waits that is to be blocked: on an idle node an answer takes a hundredth.
const GLANCE: Duration = Duration::from_millis(300);
/// How long one waits that is to be answered, with two cores busy.
const ANSWER: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(10);

/// One attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cell {
    from: &'static str,
    source: IpAddr,
    to: SocketAddr,
    protocol: Protocol,
    /// Whether it is to be let through.
    passes: bool,
}

impl Cell {
    fn question(&self) -> Value {
        let proto = if self.protocol == Protocol::Tcp { "tcp" } else { "udp" };
        json!({"from": self.source.to_string(), "to": self.to.ip().to_string(), "port": self.to.port(), "proto": proto})
    }
}

/// Every client towards every other server, over both families and protocols.
fn cells(stage: &Stage) -> Vec<Cell> {
    let mut cells = Vec::new();
    for from in CLIENTS {
        for to in SERVERS.into_iter().filter(|to| *to != from) {
            let sources = stage.lab.place(from).unwrap().ips;
            for ip in stage.lab.pod(to).unwrap().ips {
                let source = *sources.iter().find(|source| source.is_ipv4() == ip.is_ipv4()).unwrap();
                for (protocol, port) in [(Protocol::Tcp, HTTP_TARGET), (Protocol::Udp, DNS_TARGET)] {
                    let passes = passes(from, to, protocol);
                    cells.push(Cell { from, source, to: SocketAddr::new(ip, port), protocol, passes });
                }
            }
        }
    }
    cells
}

/// Who is let through by the policies of [`strict`]: the client, with TCP; and each node to its own pods.
fn passes(from: &str, to: &str, protocol: Protocol) -> bool {
    match (from, to) {
        ("client", "web-3") => false,
        ("client", _) => protocol == Protocol::Tcp,
        ("node-1", "web-1") | (_, "web-3") => true,
        (_, _) => false,
    }
}

/// What sockets see of each cell; those of one client stand together.
fn seen(stage: &Stage, cells: &[Cell]) -> Vec<bool> {
    let probe = |cell: &Cell| {
        let timeout = if cell.passes { ANSWER } else { GLANCE };
        Probe { tries: 1, timeout, ..Probe::new(cell.protocol, cell.to) }
    };
    let of_client = |cells: &[Cell]| {
        let probes: Vec<Probe> = cells.iter().map(probe).collect();
        stage.lab.place(cells[0].from).unwrap().probe(&probes).unwrap()
    };
    let tallies = cells.chunk_by(|one, other| one.from == other.from).flat_map(of_client);
    tallies.map(|tally| tally.answers() > 0).collect()
}

/// What the nodes explain of each cell: allowed, unless one of them denies it.
fn explained(stage: &Stage, cells: &[Cell]) -> Vec<bool> {
    let questions: Vec<String> = cells.iter().map(|cell| cell.question().to_string()).collect();
    let file = std::env::temp_dir().join(format!("sluice-questions-{}", std::process::id()));
    std::fs::write(&file, questions.join("\n")).unwrap();
    let mut allowed = vec![true; cells.len()];
    for node in NODES {
        let output = stage.proxyctl(node, &["explain", "--batch", file.to_str().unwrap()]);
        let answers = lines(&output);
        assert_eq!(answers.len(), cells.len());
        for (allowed, answer) in allowed.iter_mut().zip(answers) {
            let verdict = answer["verdict"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
            *allowed &= verdict != "denied";
        }
    }
    std::fs::remove_file(file).unwrap();
    allowed
}

fn lines(output: &Output) -> Vec<Value> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn json_of(stage: &Stage, node: &str, words: &[&str]) -> Value {
    let output = stage.proxyctl(node, &[words, &["-o", "json"]].concat());
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A pod of that app with an object.
fn pod(stage: &Stage, name: &str, node: &str, app: &str) -> Value {
    let ips: Vec<Value> = stage.lab.pod(name).unwrap().ips.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "demo", "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": [{"name": "main"}]},
        "status": {"phase": "Running", "podIPs": ips},
    })
}

fn policy(name: &str, app: &str, rules: (&str, Value)) -> Value {
    let mut spec = json!({"podSelector": {"matchLabels": {"app": app}}});
    spec[rules.0] = rules.1;
    let kind = if rules.0 == "egress" { "Egress" } else { "Ingress" };
    spec["policyTypes"] = json!([kind]);
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "demo"}, "spec": spec})
}

/// Web pods take the client only, and the client sends TCP to web pods only.
pub(crate) fn strict() -> (Stage, Vec<Cell>) {
    let stage = Stage::set(SocketLb::On);
    stage.put(&json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "demo", "labels": {"kubernetes.io/metadata.name": "demo"}}}));
    for (name, node, app) in [
        ("web-1", "node-1", "web"),
        ("web-2", "node-2", "web"),
        ("web-3", "node-2", "other"),
        ("client", "node-1", "client"),
    ] {
        stage.put(&pod(&stage, name, node, app));
    }
    let pods = |app: &str| json!([{"podSelector": {"matchLabels": {"app": app}}}]);
    stage.put(&policy("guard", "web", ("ingress", json!([{"from": pods("client")}]))));
    let tcp = json!([{"protocol": "TCP", "port": HTTP_TARGET}]);
    stage.put(&policy("sender", "client", ("egress", json!([{"to": pods("web"), "ports": tcp}]))));
    stage.start_agents();
    let cells = cells(&stage);
    let deadline = Instant::now() + PATIENCE;
    let wanted: Vec<bool> = cells.iter().map(|cell| cell.passes).collect();
    while seen(&stage, &cells) != wanted {
        assert!(Instant::now() < deadline, "the policies are not in force");
    }
    (stage, cells)
}

#[test]
fn what_is_explained_and_traced_is_what_sockets_see() {
    let (stage, cells) = strict();
    let seen = seen(&stage, &cells);
    let named = |allowed: &[bool]| -> Vec<(Cell, bool)> {
        cells.iter().cloned().zip(allowed.iter().copied()).collect()
    };
    assert_eq!(named(&explained(&stage, &cells)), named(&seen));
    assert!(seen.contains(&true) && seen.contains(&false));

    let traced = |cell: &Cell| {
        let question = cell.question();
        let (source, to, port) =
            (cell.source.to_string(), cell.to.ip().to_string(), cell.to.port().to_string());
        let words = [
            "trace",
            "--from",
            &source,
            "--to",
            &to,
            "--port",
            &port,
            "--proto",
            question["proto"].as_str().unwrap(),
        ];
        json_of(&stage, "node-1", &words)["end"] == "pod"
    };
    // Both ends on the first node, or the client elsewhere: the first node's programs decide.
    let web_1 = stage.lab.pod("web-1").unwrap().ips;
    for (cell, seen) in cells.iter().zip(&seen).filter(|(cell, _)| web_1.contains(&cell.to.ip())) {
        assert_eq!(traced(cell), *seen, "{cell:?}");
    }

    stage.stop_agents(Stop::Kill);
    assert_eq!(named(&explained(&stage, &cells)), named(&seen));
    let answer = json_of(
        &stage,
        "node-1",
        &["explain", "--from", "demo/client", "--to", "demo/web-3", "--port", "80"],
    );
    assert_eq!(answer["verdict"], "denied");
    assert_eq!(answer["answers"][0]["egress"]["policies"][0]["name"], "sender");
    assert_eq!(answer["answers"][0]["ingress"]["ask"], "node-2");
    let service =
        json_of(&stage, "node-1", &["explain", "--from", "demo/client", "--to", "svc/demo/web:http"]);
    let verdicts: Vec<&Value> =
        service["answers"].as_array().unwrap().iter().map(|answer| &answer["verdict"]).collect();
    assert_eq!(
        verdicts.iter().filter(|verdict| **verdict == "denied").count(),
        2,
        "web-3, in both families: {service}"
    );
    assert_eq!(service["verdict"], "partly");
}

#[test]
fn a_monitor_names_who_denied_and_a_policy_what_it_denied() {
    let (stage, cells) = strict();
    let program = Program::Agent.find().unwrap().with_file_name("proxyctl");
    let words = ["monitor", "--drops", "--policy", "demo/guard", "--limit", "1", "-o", "json"];
    let mut command: Command = stage.lab.node("node-1").unwrap().command(&program.to_string_lossy()).unwrap();
    command.args(words).arg("--bpf-root").arg(stage.lab.node_bpf_root("node-1"));
    let flags =
        || json_of(&stage, "node-1", &["map", "dump", "policy"])["entries"][0]["value"]["flags"].clone();
    let before = flags();
    let mut monitor = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while flags() == before {
        assert!(Instant::now() < deadline, "the programs are not told that somebody listens");
    }
    let denied: Vec<Cell> = cells.into_iter().filter(|cell| cell.from == "web-3").collect();
    assert!(!seen(&stage, &denied).contains(&true));
    // What is never told must not be waited for without an end.
    while monitor.try_wait().unwrap().is_none() {
        assert!(Instant::now() < deadline, "the monitor does not see its drop");
        std::thread::sleep(POLL);
    }
    let told = lines(&monitor.wait_with_output().unwrap()).remove(0);
    assert_eq!(
        [
            &told["reason"],
            &told["source"]["name"],
            &told["destination"]["name"],
            &told["policies"][0]["name"]
        ],
        [&json!("denied-ingress"), &json!("demo/web-3"), &json!("demo/web-1"), &json!("guard")]
    );
    let page = json_of(&stage, "node-1", &["policy", "get", "demo/guard"]);
    assert!(page["deniedByIsolation"].as_u64() > Some(0), "{page}");
    assert_eq!(page["pods"][0]["name"], "demo/web-1");
}
