//! Counters: what became of packets and socket calls, and why.

use proxy_common::Reason;
use serde::Serialize;

use super::output::Row;
use super::reader::Reader;
use crate::observe::maps::outcome;

/// One reason.
#[derive(Serialize, Debug)]
pub(super) struct CounterRow {
    reason: &'static str,
    outcome: &'static str,
    count: u64,
    meaning: &'static str,
}

impl Row for CounterRow {
    const COLUMNS: &'static [&'static str] = &["REASON", "OUTCOME", "COUNT", "MEANING"];

    fn cells(&self) -> Vec<String> {
        vec![self.reason.into(), self.outcome.into(), self.count.to_string(), self.meaning.into()]
    }
}

/// Every reason, in the order of its number.
pub(super) fn list(reader: &Reader) -> anyhow::Result<Vec<CounterRow>> {
    let row = |(reason, count): (Reason, u64)| CounterRow {
        reason: reason.text(),
        outcome: outcome(reason.outcome()),
        count,
        meaning: reason.explanation().trim(),
    };
    Ok(reader.pinned.counters()?.into_iter().map(row).collect())
}
