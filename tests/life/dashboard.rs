//! The metrics that the Prometheus rules and the dashboard name are metrics that an agent exposes, and each of its own is on its page.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use sluice_lab::{Probe, Protocol, SocketLb};
use tests::repository;

use crate::stage::Stage;

/// Exposed only once something has happened that no test brings about in passing.
const RARE: [&str; 1] = ["sluice_object_problems"];

/// Exposed only once a policy has denied something.
const UNTIL_DENIED: [&str; 1] = ["sluice_policy_denials_total"];

/// Type, labels and help of a metric.
type Description = [String; 3];

/// What a scrape says of each of our own metrics. The label of a histogram's buckets is none of its own.
fn described(scrape: &str) -> BTreeMap<String, Description> {
    let mut all: BTreeMap<String, Description> = BTreeMap::new();
    let mut of: Option<String> = None;
    for line in scrape.lines() {
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        match words[..] {
            ["#", what, name, text] if name.starts_with("sluice_") => {
                let slot = if what == "HELP" { 2 } else { 0 };
                all.entry(name.to_owned()).or_default()[slot] = text.to_owned();
                of = Some(name.to_owned());
            }
            ["#", ..] => of = None,
            _ => {
                let Some(name) = &of else { continue };
                let inner = line.split_once('{').map_or("", |(_, rest)| rest.rsplit_once('}').unwrap().0);
                let labels = inner.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0));
                let labels: Vec<String> =
                    labels.filter(|label| *label != "le").map(|label| format!("`{label}`")).collect();
                let text = if labels.is_empty() { "–".to_owned() } else { labels.join(", ") };
                all.get_mut(name).unwrap()[1] = text;
            }
        }
    }
    all
}

/// The same of the page.
fn rows(page: &str) -> BTreeMap<String, Description> {
    let cells =
        page.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")?.split_once("` | "));
    let row = |(name, rest): (&str, &str)| {
        let cells: Vec<String> = rest.splitn(3, " | ").map(str::to_owned).collect();
        (name.to_owned(), cells.try_into().unwrap())
    };
    cells.map(row).collect()
}

/// Words that begin like a metric of ours.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("sluice_") || word.starts_with("kubeproxy_"));
    ours.map(str::to_owned).collect()
}

#[test]
fn every_metric_that_rules_and_dashboard_name_is_exposed_and_each_of_ours_is_on_its_page() {
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
    let page = fs::read_to_string(repository().join("docs/metrics.md")).unwrap();
    let [told, mut documented] = [described(&answer.body), rows(&page)];
    for name in UNTIL_DENIED {
        assert!(documented.remove(name).is_some(), "{name}");
    }
    assert_eq!(documented, told, "docs/metrics.md");
    stage.lab.down().unwrap();
}
