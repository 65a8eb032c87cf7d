//! Counters: what became of packets and socket calls, and why.

use std::collections::BTreeMap;

use anyhow::bail;
use proxy_common::Reason;
use serde::Serialize;

use super::output::Row;
use super::reader::Reader;
use crate::observe::maps::outcome;

/// One reason.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct CounterRow {
    reason: &'static str,
    outcome: &'static str,
    count: u64,
    /// How many of them ended in a driver (XDP).
    in_driver: u64,
    meaning: &'static str,
}

impl Row for CounterRow {
    const COLUMNS: &'static [&'static str] = &["REASON", "OUTCOME", "COUNT", "IN DRIVER", "MEANING"];

    fn cells(&self) -> Vec<String> {
        let [count, in_driver] = [self.count, self.in_driver].map(|count| count.to_string());
        vec![self.reason.into(), self.outcome.into(), count, in_driver, self.meaning.into()]
    }
}

/// The reason of that name.
pub(super) fn reason(text: &str) -> anyhow::Result<Reason> {
    match Reason::ALL.iter().find(|reason| reason.text() == text) {
        Some(reason) => Ok(*reason),
        None => bail!("there is no reason {text:?}; `proxyctl counter list` shows all"),
    }
}

/// Every reason, in the order of its number.
pub(super) fn list(reader: &Reader) -> anyhow::Result<Vec<CounterRow>> {
    let early: BTreeMap<Reason, u64> = reader.pinned.early()?.into_iter().collect();
    let row = |(reason, count): (Reason, u64)| CounterRow {
        reason: reason.text(),
        outcome: outcome(reason.outcome()),
        count,
        in_driver: early.get(&reason).copied().unwrap_or_default(),
        meaning: reason.explanation().trim(),
    };
    Ok(reader.pinned.counters()?.into_iter().map(row).collect())
}
