//! Whether the maps have room, and whether something was lost for want of it.

use proxy_common::Reason;

use super::finding::Finding;
use crate::ctl::map::{self, MapRow};
use crate::ctl::reader::Reader;

const AREA: &str = "maps";
/// Lost because a table of ours had no room, or was broken.
const OURS: [Reason; 5] = [
    Reason::FlowTableFull,
    Reason::NoSourcePort,
    Reason::SocketPeersFull,
    Reason::BadSegment,
    Reason::RewriteFailed,
];

/// Everything about maps.
pub(super) fn findings(reader: &Reader) -> anyhow::Result<Vec<Finding>> {
    let rows = map::list(reader)?;
    let mut findings = occupancy(&rows);
    findings.push(losses(&reader.pinned.counters()?));
    Ok(findings)
}

fn occupancy(rows: &[MapRow]) -> Vec<Finding> {
    let almost = rows
        .iter()
        .filter_map(|row| Some((row.share()?, row)))
        .filter(|(share, _)| *share >= map::ALMOST_FULL);
    let findings: Vec<_> = almost
        .map(|(share, row)| {
            let found = format!(
                "{} is {:.0} % full: what is new is refused once it is full",
                row.name(),
                share * 100.0
            );
            Finding::warn(
                AREA,
                found,
                "give it more room (`proxy-agent run --help`: the flags that end in -size, --policy-verdicts, --policy-peers)",
            )
        })
        .collect();
    if findings.is_empty() {
        return vec![Finding::ok(AREA, format!("{} are pinned, none is almost full", rows.len()))];
    }
    findings
}

fn losses(counters: &[(Reason, u64)]) -> Finding {
    let ours = counters.iter().filter(|(reason, count)| OURS.contains(reason) && *count > 0);
    let all: Vec<_> = ours.map(|(reason, count)| format!("{} {count}", reason.text())).collect();
    if all.is_empty() {
        return Finding::ok(AREA, "nothing was lost for want of room");
    }
    let next = "`proxyctl drops --watch` says whether it goes on; docs/operations.md has the flag for each";
    Finding::warn(AREA, format!("lost since the maps were made: {}", all.join(", ")), next)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn losses_of_our_own_making_are_worth_a_look_and_denials_are_not() {
        let well = losses(&[(Reason::DeniedIngress, 9), (Reason::FlowTableFull, 0)]);
        assert_eq!(well.verdict, Verdict::Ok);
        let lost = losses(&[(Reason::FlowTableFull, 3), (Reason::BadSegment, 1)]);
        assert_eq!(lost.found, "lost since the maps were made: flow-table-full 3, bad-segment 1");
    }
}
