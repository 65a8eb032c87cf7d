//! What `proxyctl` prints on a node that is well, and on one that is not: whole pages, as `docs/proxyctl.md` shows them. What
//! differs from run to run is put under a name there and here.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::Instant;

use regex::Regex;
use serde_json::Value;
use sluice_lab::{Probe, Protocol, SocketLb, Stop, netns};

use crate::objects;
use crate::stage::{PATIENCE, SERVERS, Stage, WEB};

const NODE: &str = "node-1";
const DOCUMENT: &str = include_str!("../../docs/proxyctl.md");

/// What differs from run to run, and what is put in its place; at last what a narrower value leaves of a column.
const VARIES: [(&str, &str); 11] = [
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"/sys/fs/bpf/sluice-lab-\w+", "/sys/fs/bpf/LAB"),
    (r"/run/sluice-lab/\w+", "/run/LAB"),
    (r"pid \d+", "pid N"),
    (r"Linux [\w.+-]+", "Linux RELEASE"),
    (r"\d+\.\d ms", "N ms"),
    (r"\d+(\.\d)? (B|KiB|MiB|GiB)", "SIZE"),
    // What changes with each layout of the maps.
    (r"layout \d+", "layout N"),
    (r"\d+ are pinned", "N are pinned"),
    (r"\d+ with SIZE", "N with SIZE"),
    (r" {2,}", "  "),
];

fn steady(text: &str) -> String {
    let replace = |text: String, (pattern, name): &(&str, &str)| {
        Regex::new(pattern).unwrap().replace_all(&text, *name).into_owned()
    };
    VARIES.iter().fold(text.to_owned(), replace)
}

/// The commands that the document shows in a scene, with what they print.
fn shown(scene: &str) -> Vec<(Vec<&str>, String)> {
    let begin = format!("```console {scene}\n$ proxyctl ");
    let blocks = DOCUMENT.split(&begin).skip(1);
    let all: Vec<_> = blocks
        .map(|block| {
            let block = block.split("```").next().unwrap();
            let (command, text) = block.split_once('\n').unwrap();
            (command.split(' ').collect(), steady(text))
        })
        .collect();
    assert!(!all.is_empty(), "the document has nothing of {scene}");
    all
}

/// Everything that the document shows in a scene is what is printed.
fn prints_as_shown(stage: &Stage, scene: &str) {
    for (arguments, expected) in shown(scene) {
        let Output { stdout, stderr, .. } = stage.proxyctl(NODE, &arguments);
        let text = String::from_utf8([stdout, stderr].concat()).unwrap();
        assert!(!text.contains('\x1b'), "a pipe gets no colours: {text:?}");
        assert_eq!(steady(&text), expected, "proxyctl {}, {scene}:\n{text}", arguments.join(" "));
    }
}

/// The fields of a document: `list[].field`, with nothing behind an empty list.
fn fields(value: &Value, path: &str, all: &mut BTreeSet<String>) {
    match value {
        Value::Object(inner) => {
            let dot = if path.is_empty() { "" } else { "." };
            inner.iter().for_each(|(name, value)| fields(value, &format!("{path}{dot}{name}"), all));
        }
        Value::Array(inner) if !inner.is_empty() => {
            inner.iter().for_each(|value| fields(value, &format!("{path}[]"), all));
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
            all.insert(path.to_owned());
        }
    }
}

/// What the document's table says of a command.
fn documented(command: &str) -> BTreeSet<String> {
    let begin = format!("| `{command}` | ");
    let line = DOCUMENT.lines().find_map(|line| line.strip_prefix(&begin)).unwrap();
    line.trim_end_matches(" |")
        .split(' ')
        .map(|field| field.trim_matches('`').trim_end_matches('?').to_owned())
        .collect()
}

fn has_the_documented_fields(stage: &Stage, command: &str) {
    let words: Vec<&str> = command.split(' ').collect();
    let Output { stdout, .. } = stage.proxyctl(NODE, &[&words[..], &["-o", "json"]].concat());
    let mut found = BTreeSet::new();
    fields(&serde_json::from_slice(&stdout).unwrap(), "", &mut found);
    assert_eq!(found, documented(command), "proxyctl {command} -o json");
}

#[test]
fn a_node_that_is_well_and_one_that_is_not_look_as_the_document_shows() {
    let stage = Stage::begin(SocketLb::On);
    stage.reaches(&WEB, &SERVERS);
    prints_as_shown(&stage, "well");

    // A Service without endpoints, and a port that is none of a Service's: each is refused once.
    stage.put(&objects::service("empty", &["10.96.0.11"]));
    let deadline = Instant::now() + PATIENCE;
    while !stage.proxyctl(NODE, &["service", "get", "demo/empty"]).status.success() {
        assert!(Instant::now() < deadline, "demo/empty is not served");
    }
    let client = stage.lab.pod("client").unwrap();
    for at in ["10.96.0.11:80", "10.96.0.10:81"] {
        let tally = client.probe(&[Probe::new(Protocol::Tcp, at.parse().unwrap()).times(1)]).unwrap();
        assert_eq!(tally[0].failures(), 1, "{at}");
    }
    stage.stop_agents(Stop::Terminate);
    let set = || Ok(fs::write("/proc/sys/net/ipv4/conf/eth0/rp_filter", "1")?);
    netns::inside(&stage.lab.node(NODE).unwrap().netns, set).unwrap();
    let links = stage.lab.node_bpf_root(NODE).join(format!("v{}/links", proxy_common::maps::LAYOUT_VERSION));
    let is_to_wire = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with("to_wire-");
    let link = fs::read_dir(links).unwrap().map(|entry| entry.unwrap().path()).find(is_to_wire).unwrap();
    fs::remove_file(link).unwrap();
    prints_as_shown(&stage, "ill");
    for command in
        ["check", "drops", "status", "top --once", "service list", "backend list", "counter list", "map list"]
    {
        has_the_documented_fields(&stage, command);
    }
}

#[test]
fn a_report_of_a_bug_holds_what_the_commands_say_and_no_address_if_that_is_asked_for() {
    let stage = Stage::begin(SocketLb::On);
    stage.reaches(&WEB, &SERVERS);
    let file = stage.lab.log_path("report.tar.gz");
    let name = file.to_str().unwrap();
    let Output { status, stdout, stderr } =
        stage.proxyctl(NODE, &["bugreport", "--redact-addresses", "--write", name]);
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    assert_eq!(
        String::from_utf8(stdout).unwrap(),
        format!("{name} has 15 files; see its README before you hand it on\n")
    );
    let tar = |arguments: &[&str]| {
        let output = Command::new("tar").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let list = tar(&["-tzf", name]);
    let names: Vec<_> = list.lines().map(|line| line.split_once('/').unwrap().1).collect();
    let wanted = [
        "README.txt",
        "check.json",
        "kernel.txt",
        "status.json",
        "drops.json",
        "services.json",
        "backends.json",
        "flows.json",
        "policies.json",
        "counters.json",
        "maps.json",
        "metrics.txt",
        "configz.json",
        "flagz.txt",
        "statusz.txt",
    ];
    assert_eq!(names, wanted);
    let all = tar(&["-xzOf", name]);
    assert!(all.contains("demo/web") && all.contains("sluice_") && !all.contains("not to be had"), "{all}");
    for address in WEB.into_iter().chain(["172.18.0.11", "10.244.1.11"]) {
        assert!(!all.contains(address), "{address} is in the report");
    }
}

#[test]
fn errors_say_what_to_do_next() {
    let stage = Stage::set(SocketLb::On);
    prints_as_shown(&stage, "bare");
    let other = stage.lab.node_bpf_root(NODE).join("v1/maps");
    fs::create_dir_all(&other).unwrap();
    prints_as_shown(&stage, "older");
    fs::remove_dir_all(stage.lab.node_bpf_root(NODE).join("v1")).unwrap();
}
