//! What the agent says of itself, written down beside the maps: `proxyctl status` shows it, with its age, whether the
//! agent still runs or not.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::status::{Progress, Snapshot};

/// Reasons of one kind that are listed.
const SHOWN: usize = 8;

/// What does not change while the agent runs.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct About {
    /// Version of the agent.
    pub version: String,
    /// This node's name.
    pub node: String,
    /// Where the objects come from.
    pub source: String,
    /// Settings by name, as far as they decide what becomes of a packet.
    pub modes: BTreeMap<String, String>,
}

/// The agent at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Seconds since 1970.
    pub at: u64,
    /// What it was told.
    #[serde(flatten)]
    pub about: About,
    /// The node's zone.
    pub zone: Option<String>,
    /// Load balancers may send traffic here (item 123).
    pub node_eligible: bool,
    /// Since when the source has not answered, seconds since 1970; absent while it does.
    pub source_lost_since: Option<u64>,
    /// How far each family is.
    pub families: BTreeMap<String, FamilyReport>,
    /// What is not as it should be, each as a sentence.
    pub degraded: Vec<String>,
}

/// One family.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FamilyReport {
    /// When the kernel last came to agree with the objects, seconds since 1970.
    pub last_sync: Option<u64>,
    /// The same of an earlier run, as long as this one has not got there: that is what the maps hold that were found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier_sync: Option<u64>,
    /// It keeps up.
    pub healthy: bool,
}

impl Report {
    /// The report at `now`; `refused` are the frontends that are not served as asked.
    #[must_use]
    pub fn new(
        about: &About,
        zone: Option<String>,
        status: &Snapshot,
        refused: &[String],
        now: SystemTime,
    ) -> Self {
        let lost = status.source_age(now);
        let family = |progress: &Progress| FamilyReport {
            last_sync: progress.last_sync.map(seconds),
            earlier_sync: None,
            healthy: status.is_in_time(progress, now),
        };
        let families = status.families.iter();
        Self {
            at: seconds(now),
            about: about.clone(),
            zone,
            node_eligible: status.is_eligible(),
            source_lost_since: (lost > Duration::ZERO).then(|| seconds(now - lost)),
            families: families
                .map(|(name, progress)| (name.api_name().to_owned(), family(progress)))
                .collect(),
            degraded: degraded(status, refused, now),
        }
    }

    /// When the families came to agree with the objects last, in this run or before it.
    #[must_use]
    pub fn syncs(&self) -> BTreeMap<String, u64> {
        let sync = |(name, family): (&String, &FamilyReport)| {
            Some((name.clone(), family.last_sync.or(family.earlier_sync)?))
        };
        self.families.iter().filter_map(sync).collect()
    }

    /// Adds what an earlier run's report says of families that this run has not synced yet.
    #[must_use]
    pub fn after(mut self, earlier: &BTreeMap<String, u64>) -> Self {
        for (name, family) in self.families.iter_mut().filter(|(_, family)| family.last_sync.is_none()) {
            family.earlier_sync = earlier.get(name).copied();
        }
        self
    }

    /// Nothing but the time differs.
    #[must_use]
    pub fn says_the_same(&self, other: &Self) -> bool {
        let Self { at: _, about, zone, node_eligible, source_lost_since, families, degraded } = self;
        let same = (about, zone, node_eligible, source_lost_since.is_some(), families, degraded);
        let of_other = (&other.about, &other.zone, &other.node_eligible);
        same == (
            of_other.0,
            of_other.1,
            of_other.2,
            other.source_lost_since.is_some(),
            &other.families,
            &other.degraded,
        )
    }
}

fn degraded(status: &Snapshot, refused: &[String], now: SystemTime) -> Vec<String> {
    let mut reasons = Vec::new();
    if status.source_age(now) > Duration::ZERO {
        reasons.push("the source of objects does not answer; what it told last is served".to_owned());
    }
    for (family, progress) in &status.families {
        if !status.is_in_time(progress, now) {
            reasons.push(format!("{}: a change waits for too long to be written", family.api_name()));
        }
    }
    for (kind, count) in &status.problems {
        let kind = kind.name();
        reasons.push(format!("{kind}s that cannot be read in full: {count}; the log names the fields"));
    }
    if let files @ 1.. = status.unreadable_files {
        reasons.push(format!("manifests that cannot be read in full: {files}; the log names them"));
    }
    if let checks @ 1.. = status.failed_checks {
        reasons.push(format!(
            "addresses on which health checks cannot be answered: {checks}; the log names them"
        ));
    }
    reasons.extend(refused.iter().take(SHOWN).cloned());
    if let Some(more @ 1..) = refused.len().checked_sub(SHOWN) {
        reasons.push(format!("and {more} more frontends are refused"));
    }
    reasons
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use proxy_model::IpFamily;

    use super::*;
    use crate::source::{Contact, Kind};

    #[test]
    fn everything_that_is_not_as_it_should_be_is_a_sentence() {
        let at = |second| UNIX_EPOCH + Duration::from_secs(second);
        let about = About { node: "n1".into(), ..About::default() };
        let idle = Report::new(&about, None, &Snapshot::default(), &[], at(100));
        assert_eq!(idle.degraded, [""; 0]);
        let mut status = Snapshot {
            contact: Some(Contact::LostSince(at(40))),
            problems: BTreeMap::from([(Kind::Service, 1), (Kind::EndpointSlice, 3)]),
            unreadable_files: 2,
            failed_checks: 1,
            ..Snapshot::default()
        };
        status.families.entry(IpFamily::Ipv6).or_default().pending_since = Some(at(20));
        let refused: Vec<String> = (0..10).map(|n| format!("refusal {n}")).collect();
        let report = Report::new(&about, Some("za".into()), &status, &refused, at(100));
        assert_eq!(report.source_lost_since, Some(40));
        assert_eq!(
            report.degraded,
            [
                "the source of objects does not answer; what it told last is served",
                "IPv6: a change waits for too long to be written",
                "Services that cannot be read in full: 1; the log names the fields",
                "EndpointSlices that cannot be read in full: 3; the log names the fields",
                "manifests that cannot be read in full: 2; the log names them",
                "addresses on which health checks cannot be answered: 1; the log names them",
                "refusal 0",
                "refusal 1",
                "refusal 2",
                "refusal 3",
                "refusal 4",
                "refusal 5",
                "refusal 6",
                "refusal 7",
                "and 2 more frontends are refused",
            ]
        );
        let later = Report { at: 101, ..report.clone() };
        assert!(later.says_the_same(&report) && !later.says_the_same(&idle));
    }
}
