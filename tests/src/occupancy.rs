//! What maps hold, as `proxyctl … -o json` says it: what follows from the objects alone, and what traffic has left.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

/// Maps whose content follows from the objects alone, and not from traffic.
const DESIRED: [&str; 14] = [
    "frontends4",
    "frontends6",
    "ranges4",
    "ranges6",
    "localaddrs4",
    "localaddrs6",
    "devices",
    "policed4",
    "policed6",
    "peers4",
    "peers6",
    "verdicts",
    "nodes4",
    "nodes6",
];

/// Between two looks at connections that are collected every ten seconds.
const GLANCE: Duration = Duration::from_millis(200);

/// Entries of the maps whose content follows from the objects; `maps` is what `map list` says.
#[must_use]
pub fn desired(maps: &Value) -> BTreeMap<String, u64> {
    let row = |row: &Value| Some((row["name"].as_str()?.to_owned(), row["used"].as_u64()?));
    let all = maps.as_array().into_iter().flatten().filter_map(row);
    all.filter(|(name, _)| DESIRED.contains(&name.as_str())).collect()
}

/// The translated connections of TCP; `flows` is what `flow list` says.
#[must_use]
pub fn translated(flows: &Value) -> Vec<Value> {
    let all = flows.as_array().into_iter().flatten();
    all.filter(|flow| flow["protocol"] == "TCP" && flow["judged"] == false).cloned().collect()
}

/// Waits until so many connections are left, and neither more nor fewer.
///
/// # Panics
/// They are not, in time; with those that are left.
pub fn comes_to_rest(patience: Duration, open: usize, mut ask: impl FnMut() -> Vec<Value>) {
    let deadline = Instant::now() + patience;
    loop {
        let left = ask();
        if left.len() == open {
            return;
        }
        assert!(Instant::now() < deadline, "{} connections of {open} are left: {left:#?}", left.len());
        std::thread::sleep(GLANCE);
    }
}
