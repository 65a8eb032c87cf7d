//! The metrics that the Prometheus rules and the dashboard name are metrics that an agent exposes.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use sluice_lab::{Probe, Protocol, SocketLb};
use tests::repository;

use crate::stage::Stage;

/// Exposed only once something has happened that no test brings about in passing.
const RARE: [&str; 1] = ["sluice_object_problems"];

/// Words that begin like a metric of ours.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("sluice_") || word.starts_with("kubeproxy_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn every_metric_that_rules_and_dashboard_name_is_exposed() {
    let files = repository().join("deploy/helm/sluice/files");
    let wanted: BTreeSet<String> = ["rules.yaml", "dashboard.json"]
        .iter()
        .flat_map(|name| named(&fs::read_to_string(files.join(name)).unwrap()))
        .collect();
    assert!(wanted.len() > 15, "{wanted:?}");

    let stage = Stage::begin(SocketLb::On);
    let client = stage.lab.pod("client").unwrap();
    let tallies = client.probe(&[Probe::new(Protocol::Tcp, "10.96.0.10:80".parse().unwrap())]).unwrap();
    assert_eq!(tallies[0].failures(), 0, "{}", tallies[0]);
    let node = stage.lab.node("node-1").unwrap();
    let answer = node.get("http://127.0.0.1:10249/metrics", Duration::from_secs(10)).unwrap().unwrap();
    let exposed: BTreeSet<String> = answer
        .body
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split(['{', ' ']).next().map(str::to_owned))
        .collect();
    let missing: Vec<&String> =
        wanted.difference(&exposed).filter(|name| !RARE.contains(&name.as_str())).collect();
    assert_eq!(missing, Vec::<&String>::new(), "{}", answer.body);
    stage.lab.down().unwrap();
}
