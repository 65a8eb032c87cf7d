//! Room for some policies and not for all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::{Probe, Protocol};

use crate::stage::{NODES, PATIENCE, Stage, first_state};
use crate::state::{PORT, VALUES, network_policy};

/// Pages: enough for what the stage itself needs, and for a policy with a port.
const ROOM: &str = "--policy-verdicts=64";
/// How long an attempt waits that is to be answered, with two cores busy.
const ANSWER: Duration = Duration::from_secs(5);
/// How long one waits that is to be blocked: an answer takes a hundredth.
const GLANCE: Duration = Duration::from_millis(500);
/// More ports than fit in all pages together.
const MANY: u16 = 700;

/// Allows some ports from pods of a role, anywhere.
fn allowing(name: &str, year: u16, own: &str, ports: impl Iterator<Item = u16>) -> Value {
    let namespace = if own == "x" { "x" } else { "y" };
    let ports: Vec<Value> = ports.map(|port| json!({"protocol": "TCP", "port": port})).collect();
    let from = json!([{"namespaceSelector": {}, "podSelector": {"matchLabels": {"role": VALUES[1]}}}]);
    let spec = json!({
        "podSelector": {"matchExpressions": [{"key": "keep", "operator": "DoesNotExist"}]},
        "policyTypes": ["Ingress"],
        "ingress": [{"from": from, "ports": ports}],
    });
    let mut policy = network_policy(namespace, name, &spec);
    policy["metadata"]["creationTimestamp"] = json!(format!("{year}-01-01T00:00:00Z"));
    policy
}

#[test]
fn a_policy_for_which_there_is_no_room_is_refused_and_its_pods_are_isolated_and_others_work() {
    let state = first_state();
    let mut stage = Stage::begin(&state, &[ROOM]);
    let reaches = |stage: &Stage, from: &str, to: &str, timeout: Duration| {
        let to = SocketAddr::new(stage.lab.pod(to).unwrap().ips[0], PORT);
        let probe = Probe { timeout, ..Probe::new(Protocol::Tcp, to) };
        stage.lab.pod(from).unwrap().probe(&[probe]).unwrap()[0].answers() == 1
    };
    let sees = |stage: &Stage, wanted: [bool; 4]| {
        let pairs = [("c", "a"), ("s", "a"), ("c", "d"), ("s", "d")].into_iter().zip(wanted);
        let seen: Vec<bool> = pairs
            .map(|((from, to), passes)| reaches(stage, from, to, if passes { ANSWER } else { GLANCE }))
            .collect();
        assert_eq!(seen, wanted, "{}", stage.logs());
    };
    sees(&stage, [true; 4]);
    stage.put(&allowing("small", 2020, "x", [PORT].into_iter()));
    // Ports that do not lie side by side: each is an interval.
    let big = allowing("big", 2026, "y", (0..MANY).map(|number| PORT + 2 * number));
    stage.put(&big);
    stage.settle();
    sees(&stage, [true, false, false, false]);
    for node in NODES {
        assert_eq!(refused(&stage, node), 1.0, "{node}");
        let log = stage.lab.agent_log(node, 40);
        assert!(log.contains("ERROR") && log.contains("y/big"), "{node}: {log}");
    }
    stage.put(&allowing("other", 2027, "x", [PORT + 1].into_iter()));
    stage.delete(&big);
    stage.settle();
    sees(&stage, [true, false, true, true]);
    for node in NODES {
        assert_eq!(refused(&stage, node), 0.0, "{node}");
    }
}

/// What a node's metrics say of refused policies.
fn refused(stage: &Stage, node: &str) -> f64 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let page =
            stage.lab.node(node).unwrap().get("http://127.0.0.1:10249/metrics", Duration::from_secs(5));
        if let Ok(page) = page.unwrap() {
            let line = page.body.lines().find_map(|line| line.strip_prefix("sluice_policy_refused "));
            return line.unwrap().parse().unwrap();
        }
        assert!(Instant::now() < deadline, "{node} shows no metrics");
    }
}
