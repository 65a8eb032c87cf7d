//! `proxyctl capture` beside real agents: each packet at a hook with what became of it, as lines and as a file; in the driver, too
//! (`early`). When it has ended, nothing is left of it.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};

use aya::programs::ProgramType;
use serde_json::Value;
use sluice_lab::binary::Program;
use sluice_lab::{Lab, Probe, Protocol, SocketLb};

use crate::stage::{Stage, WEB, proxyctl};

const NODE: &str = "node-1";

/// A capture that runs.
pub(crate) struct Capture {
    child: Child,
    said: BufReader<std::process::ChildStderr>,
}

impl Capture {
    /// Starts one on a node and waits until it sees packets.
    pub(crate) fn start(lab: &Lab, node: &str, arguments: &[&str]) -> Self {
        let program = Program::Agent.find().unwrap().with_file_name("proxyctl");
        let mut command = lab.node(node).unwrap().command(&program.to_string_lossy()).unwrap();
        command.arg("capture").args(arguments).arg("--bpf-root").arg(lab.node_bpf_root(node));
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert!(line.starts_with("proxyctl: capturing up to "), "{line}");
        Self { child, said }
    }

    /// Waits for its end, and gives what it has written.
    pub(crate) fn end(mut self) -> Vec<u8> {
        let mut written = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut written).unwrap();
        let mut said = String::new();
        self.said.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        assert!(!said.contains("missing"), "{said}");
        written
    }

    /// The same, of `-o json`.
    pub(crate) fn lines(self) -> Vec<Value> {
        let text = String::from_utf8(self.end()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Whether the kernel takes tracing programs: a kernel that is locked down may not. Asked without `proxyctl`.
pub(crate) fn is_to_be_had() -> bool {
    matches!(aya::sys::is_program_supported(ProgramType::Tracing), Ok(true))
}

fn programs(lab: &Lab) -> Vec<Value> {
    let output = proxyctl(lab, NODE, &["status", "-o", "json"]);
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    status["hooks"].as_array().unwrap().clone()
}

/// The blocks of a file: their kinds and bodies.
fn blocks(mut rest: &[u8]) -> Vec<(u32, &[u8])> {
    let mut blocks = Vec::new();
    while !rest.is_empty() {
        let word = |at: usize| u32::from_ne_bytes(rest[at..at + 4].try_into().unwrap());
        let length = word(4) as usize;
        blocks.push((word(0), &rest[8..length - 4]));
        rest = &rest[length..];
    }
    blocks
}

#[test]
fn packets_are_captured_as_they_came_and_as_they_were_left_with_the_reason() {
    const PACKET: u32 = 6;
    let stage = Stage::begin(SocketLb::Host);
    if !is_to_be_had() {
        tests::leave_out("all but what is said of it: this kernel takes no tracing programs");
        let output = proxyctl(&stage.lab, NODE, &["capture"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("the kernel must take tracing programs"), "{said}");
        return;
    }
    // Of a server on the same node the answers would leave by the same hook.
    stage.point_web_at(&["web-2"]);
    stage.reaches(&WEB, &["web-2"]);
    let before = programs(&stage.lab);
    let client = stage.lab.pod("client").unwrap();
    let ask = |at: &str| client.probe(&[Probe::new(Protocol::Tcp, at.parse().unwrap()).times(1)]).unwrap();
    for (at, ip) in [("10.96.0.10:80", "10.244.1.100"), ("[fd00:96::10]:80", "[fd00:244:1::100]")] {
        let hook = ["--hook", "from_pod", "--proto", "tcp", "--port", "80"];
        let capture =
            Capture::start(&stage.lab, NODE, &[&hook[..], &["--count", "2", "-o", "json"]].concat());
        assert_eq!(ask(at)[0].failures(), 0);
        let lines = capture.lines();
        assert_eq!(lines.len(), 2, "{lines:?}");
        let told = |line: &Value| {
            ["hook", "reason", "outcome"].map(|field| line[field].as_str().unwrap().to_owned())
        };
        assert_eq!(told(&lines[0]), ["from_pod", "service-new", "translate"]);
        assert_eq!(told(&lines[1]), ["from_pod", "flow-forward", "translate"]);
        for line in &lines {
            assert_eq!(line["before"]["destination"], at);
            assert_ne!(line["after"]["destination"], at);
            assert!(line["before"]["source"].as_str().unwrap().starts_with(ip), "{line}");
        }
    }
    let capture =
        Capture::start(&stage.lab, NODE, &["--service", "demo/web:http", "--count", "4", "--write", "-"]);
    assert_eq!(ask("10.96.0.10:80")[0].failures(), 0);
    let file = capture.end();
    let packets: Vec<_> = blocks(&file).into_iter().filter(|(kind, _)| *kind == PACKET).collect();
    let has = |text: &str| {
        packets.iter().any(|(_, body)| body.windows(text.len()).any(|bytes| bytes == text.as_bytes()))
    };
    assert!(
        has("from_pod, as it came") && has("from_pod: translate service-new, "),
        "{} packets",
        packets.len()
    );
    assert_eq!(programs(&stage.lab), before);
}
