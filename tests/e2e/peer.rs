//! A handful of the kept cases, put to the real kube-proxy: they say what it does, or they are wrong.

use std::path::PathBuf;

use sluice_lab::Lab;
use sluice_lab::fixture::expectation::Road;
use sluice_lab::fixture::play_policy::Addressing;
use sluice_lab::fixture::play_service::Flipping;
use sluice_lab::fixture::product::Product;
use sluice_lab::fixture::runner::{self, Agents, Plan};
use sluice_lab::fixture::{self, report};
use tests::peer::Peer;
use tests::programs::{self, Package};

/// One lab will do for all: their nodes are the same.
const CASES: [&str; 4] = ["ep-30", "ep-31", "ep-40", "ud-101"];

#[test]
fn kube_proxy_agrees_with_the_cases() {
    programs::build(Package::Lab).unwrap();
    let folder = tests::repository().join("tests/fixtures/service");
    let paths: Vec<PathBuf> = CASES.iter().map(|case| folder.join(format!("{case}.json"))).collect();
    let cases = fixture::load(&paths).unwrap();
    let plan = Plan {
        roads: vec![Road::Packet],
        jobs: 1,
        flipping: Flipping::Off,
        addressing: vec![Addressing::Direct],
        agents: Agents::Reused,
    };
    let peer = |lab: &Lab| -> anyhow::Result<Box<dyn Product>> { Ok(Box::new(Peer::at(lab)?)) };
    let verdicts =
        runner::run(&cases, &plan, &peer, |verdict| println!("{}", report::line(verdict))).unwrap();
    assert_eq!(report::Count::of(&verdicts).to_string(), "4 passed, 0 failed, 0 skipped");
}
