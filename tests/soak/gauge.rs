//! What may not grow: an agent's memory, threads and descriptors, what its maps hold, what its audits repair.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluice_lab::SocketLb;
use tests::occupancy;

use crate::stage::{NODES, PATIENCE, Stage};

/// Growth of an agent's resident memory between the second and the last quarter that is no leak yet, in KiB: pages of a peak
/// that the allocator keeps.
const KEPT: u64 = 4 * 1024;
/// Descriptors and threads that may be there at one moment and not at another: a connection to a server of ours.
const PASSING: usize = 4;
/// Of each quarter, two.
const LOOKS: usize = 8;

/// One look at an agent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Gauge {
    /// KiB.
    resident: u64,
    descriptors: usize,
    threads: usize,
    /// Links of its programs.
    hooks: usize,
    frontends: u64,
}

impl Gauge {
    pub(crate) fn read(stage: &Stage, node: &str) -> Self {
        let status = stage.status(node);
        let pid = status["agent"]["pid"].as_u64().unwrap();
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let number = |name: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let maps = occupancy::desired(&status["maps"]);
        Self {
            resident: number("VmRSS:"),
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count(),
            threads: number("Threads:") as usize,
            hooks: status["hooks"].as_array().unwrap().len(),
            frontends: maps["frontends4"] + maps["frontends6"],
        }
    }

    /// The larger of each.
    fn or_more(self, other: Self) -> Self {
        Self {
            resident: self.resident.max(other.resident),
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            hooks: self.hooks.max(other.hooks),
            frontends: self.frontends.max(other.frontends),
        }
    }
}

/// The largest numbers of each quarter of the looks. The first fills caches and the allocator's pools.
#[derive(Default)]
pub(crate) struct Table(Vec<[Gauge; 2]>);

impl Table {
    /// Notes a look.
    pub(crate) fn note(&mut self, now: [Gauge; 2]) {
        self.0.push(now);
    }

    /// Whether there were so many looks that each quarter has some.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= LOOKS
    }

    fn quarters(&self) -> [[Gauge; 2]; 4] {
        [0, 1, 2, 3].map(|quarter| {
            let part = self.0.len() * quarter / 4..self.0.len() * (quarter + 1) / 4;
            let looks = self.0[part].iter();
            looks
                .fold([Gauge::default(); 2], |[one, other], now| [one.or_more(now[0]), other.or_more(now[1])])
        })
    }

    /// Nothing has grown.
    pub(crate) fn judge(&self) {
        assert!(self.is_full(), "{} looks are too few", self.0.len());
        let [_, early, _, late] = self.quarters();
        for (early, late) in early.into_iter().zip(late) {
            assert!(late.resident <= early.resident + KEPT, "an agent's memory has grown:\n{self}");
            assert!(late.descriptors <= early.descriptors + PASSING, "descriptors are left:\n{self}");
            assert!(late.threads <= early.threads + PASSING, "threads are left:\n{self}");
            assert_eq!(late.hooks, early.hooks, "links are left, or missing:\n{self}");
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<8} {:<8} {:>8} {:>12} {:>8} {:>10} {:>6}",
            "agent", "quarter", "KiB", "descriptors", "threads", "frontends", "hooks"
        )?;
        for (index, node) in NODES.into_iter().enumerate() {
            for (quarter, all) in self.quarters().iter().enumerate() {
                let Gauge { resident, descriptors, threads, hooks, frontends } = all[index];
                writeln!(
                    f,
                    "{node:<8} {:<8} {resident:>8} {descriptors:>12} {threads:>8} {frontends:>10} {hooks:>6}",
                    quarter + 1
                )?;
            }
        }
        Ok(())
    }
}

/// Entries of both nodes' maps that follow from the objects.
pub(crate) fn occupancy(stage: &Stage) -> [BTreeMap<String, u64>; 2] {
    NODES.map(|node| occupancy::desired(&asked(stage, node, &["map", "list"])))
}

/// Waits until maps hold what they held, and no connection is left but the two families' that the pod keeps open where
/// packets are translated.
pub(crate) fn comes_to_rest(stage: &Stage, road: SocketLb, wanted: &[BTreeMap<String, u64>; 2]) {
    let open = if road == SocketLb::Host { 2 } else { 0 };
    let on = |node| occupancy::translated(&asked(stage, node, &["flow", "list"]));
    occupancy::comes_to_rest(PATIENCE, open, || NODES.into_iter().flat_map(on).collect());
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = occupancy(stage);
        if found == *wanted {
            return;
        }
        assert!(Instant::now() < deadline, "left: {found:?}, wanted: {wanted:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What the agents that run say of their audits.
struct Page(String);

impl Page {
    fn of(stage: &Stage, node: &str) -> Self {
        let place = stage.lab.node(node).unwrap();
        Self(place.get("http://127.0.0.1:10249/metrics", Duration::from_secs(5)).unwrap().unwrap().body)
    }

    /// Values that begin so, with what they are about.
    fn values(&self, name: &str) -> impl Iterator<Item = (&str, u64)> {
        let lines = self.0.lines().filter(move |line| line.starts_with(name));
        lines.map(|line| line.rsplit_once(' ').unwrap()).map(|(about, value)| (about, value.parse().unwrap()))
    }

    fn audits(&self) -> u64 {
        self.values("sluice_audits_total").map(|(_, value)| value).sum()
    }

    /// Where something was put right.
    fn repairs(&self) -> Vec<(&str, u64)> {
        self.values("sluice_audit_repairs_total").filter(|(_, value)| *value > 0).collect()
    }
}

/// Audits that the agents which run have made.
pub(crate) fn audits(stage: &Stage) -> [u64; 2] {
    NODES.map(|node| Page::of(stage, node).audits())
}

/// Waits until both agents have audited so often more; nothing was to be repaired.
pub(crate) fn is_true(stage: &Stage, times: u64) {
    let before = audits(stage);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pages = NODES.map(|node| Page::of(stage, node));
        for (node, page) in NODES.iter().zip(&pages) {
            assert_eq!(page.repairs(), [], "{node}: audits have found something");
        }
        let now = pages.map(|page| page.audits());
        if now.iter().zip(before).all(|(now, before)| *now >= before + times) {
            return;
        }
        assert!(Instant::now() < deadline, "no audit: {now:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn asked(stage: &Stage, node: &str, arguments: &[&str]) -> Value {
    let output = stage.proxyctl(node, &[arguments, &["-o", "json"]].concat());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
