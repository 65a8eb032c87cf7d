//! Mixed load and churn on a live lab: nothing of it may fail, and when it is over nothing may be left of it: no memory, no
//! descriptor, no entry, no repair. `cargo xtask soak` does it for half an hour. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod gauge;
#[path = "../life/loads.rs"]
mod loads;
#[path = "../life/objects.rs"]
mod objects;
#[expect(dead_code, reason = "the room of another target, of which some is used here")]
#[path = "../life/stage.rs"]
mod stage;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::{Family, SocketLb, Stop};

use gauge::{Gauge, Table};
use loads::{Flows, Loads, Removals};
use stage::{NODES, PATIENCE, SERVERS, Stage, WEB};

/// Seconds of load where nobody says otherwise.
const SECONDS: u64 = 16;
/// What the endpoints are, in turn.
const STATES: [&[&str]; 4] = [&["web-1", "web-2"], &["web-2", "web-3"], &["web-3"], &SERVERS];
/// Services that come and go.
const PASSING: u32 = 3;
/// Between two looks at the agents.
const GLANCE: Duration = Duration::from_millis(500);
/// The agent of the first node dies that often in the time; that of the other lives throughout.
const DEATHS: u32 = 4;

#[test]
fn nothing_grows_on_the_socket_road() {
    soaks(SocketLb::On);
}

#[test]
fn nothing_grows_on_the_packet_road() {
    soaks(SocketLb::Host);
}

fn soaks(road: SocketLb) {
    let seconds = std::env::var("SLUICE_SOAK_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    // Both roads share the time.
    let end = Duration::from_secs(seconds.unwrap_or(SECONDS)) / 2;
    let mut stage = Stage::set(road);
    stage.options.extra = vec!["--audit-period=2s".to_owned()];
    guard(&stage);
    stage.start_agents();
    stage.reaches(&WEB, &SERVERS);
    let wanted = gauge::occupancy(&stage);
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    let mut table = Table::default();
    let (began, mut looked, mut round, mut deaths) = (Instant::now(), None::<Instant>, 0, 0);
    // Where a death takes as long as a quarter of the time, there are more rounds until there were enough looks.
    while began.elapsed() < end || !table.is_full() {
        round += 1;
        churn(&stage, round);
        loads.go_on_for(5);
        if deaths < DEATHS && began.elapsed() > end * (deaths + 1) / (DEATHS + 1) {
            deaths += 1;
            let stop = if deaths % 2 == 0 { Stop::Kill } else { Stop::Terminate };
            stage.lab.restart_agent(NODES[0], stop).unwrap();
            stage.lab.agent_ready(NODES[0], PATIENCE).unwrap();
            flows.still_stand();
        }
        if looked.is_none_or(|at| at.elapsed() > GLANCE) {
            looked = Some(Instant::now());
            table.note(NODES.map(|node| Gauge::read(&stage, node)));
        }
    }
    let took = began.elapsed();
    flows.still_stand();
    println!("{road:?}: {round} rounds of churn in {took:.0?}, {deaths} deaths of an agent");
    // A round takes endpoints away at most once.
    loads.end(Removals(round));
    settle(&stage);
    gauge::is_true(&stage, 3);
    gauge::comes_to_rest(&stage, road, &wanted);
    let audits = gauge::audits(&stage);
    println!(
        "audits of the agents that ran last: {audits:?}, without a repair; entries left in maps: 0\n{table}"
    );
    table.judge();
    for node in NODES {
        let log = std::fs::read_to_string(stage.lab.log_path(&format!("agent-{node}.log"))).unwrap();
        assert_eq!(stage::complaints(&log), Vec::<String>::new(), "{node}");
    }
}

/// A policy that lets everybody in who asks, so that connections are judged and labels matter.
fn guard(stage: &Stage) {
    stage.put(&namespace(0));
    for (name, node) in [("web-1", "node-1"), ("web-2", "node-2"), ("web-3", "node-2")] {
        let ips = stage.lab.pod(name).unwrap().ips;
        let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        stage.put(&json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "demo", "labels": {"app": "web"}},
            "spec": {"nodeName": node, "containers": []},
            "status": {"phase": "Running", "podIPs": ips},
        }));
    }
    stage.put(&policy(0));
}

fn namespace(round: u32) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "demo", "labels": {"round": (round % 7).to_string()}}})
}

/// Everybody is let in, and so is a range that nobody has.
fn policy(round: u32) -> Value {
    let blocks = ["0.0.0.0/0", "::/0", &format!("192.0.2.{}/32", round % 5)]
        .map(|cidr| json!({"ipBlock": {"cidr": cidr}}));
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "guard", "namespace": "demo"},
        "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"from": blocks}]}})
}

fn passing(number: u32, round: u32) -> (String, Value) {
    let name = format!("passing-{}", number % PASSING);
    let ips = [format!("10.96.1.{}", round % 200 + 1), format!("fd00:96::1:{:x}", round % 200 + 1)];
    let service = objects::service(&name, &ips.each_ref().map(String::as_str));
    (name, service)
}

/// Other endpoints; a Service with endpoints comes, and one goes; a policy and a label change.
fn churn(stage: &Stage, round: u32) {
    stage.point_web_at(STATES[round as usize % STATES.len()]);
    let (name, service) = passing(round, round);
    stage.put(&service);
    stage.point_at(&name, &SERVERS[..1 + round as usize % 3]);
    stage.delete(&passing(round + 1, round).1);
    stage.put(&namespace(round));
    stage.put(&policy(round));
}

/// The objects as they were at the beginning.
fn settle(stage: &Stage) {
    for number in 0..PASSING {
        let (name, service) = passing(number, 0);
        stage.delete(&service);
        for family in [Family::Ipv4, Family::Ipv6] {
            stage.delete(&objects::slice(&name, family, &[]));
        }
    }
    stage.put(&namespace(0));
    stage.put(&policy(0));
    stage.point_web_at(&SERVERS);
    stage.reaches(&WEB, &SERVERS);
}
