//! What was lost while somebody watched. The counters of a node are sums since its maps were made, and say nothing of now.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use proxy_common::Reason;
use serde::Serialize;

use crate::ctl::drops::{is_lost, rate};
use crate::observe::maps::outcome;

/// Parts of the time that is watched: as many as a small picture shows.
const PARTS: u32 = 60;
/// Shortest part: reading all counters takes a thousandth of it.
const SHORTEST: Duration = Duration::from_millis(100);
/// How long somebody may watch.
const LENGTHS: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(3_600)];

/// The counters at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Look {
    /// Since the first look.
    pub(super) after: Duration,
    pub(super) counts: BTreeMap<Reason, u64>,
}

/// What was lost, and when.
#[derive(Serialize, Debug, Clone, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Course {
    /// The end of each part, in seconds since the beginning.
    pub(super) ends: Vec<f64>,
    /// Reasons for which something was lost, most first.
    pub(super) reasons: Vec<CourseLine>,
}

/// One reason.
#[derive(Serialize, Debug, Clone, PartialEq)]
#[serde(rename_all = "camelCase")]
pub(super) struct CourseLine {
    pub(super) reason: &'static str,
    pub(super) outcome: &'static str,
    /// In all of the time.
    pub(super) count: u64,
    /// In each part.
    pub(super) per_second: Vec<f64>,
}

/// How long to watch, as it is typed.
///
/// # Errors
/// It is no duration, or none that makes sense.
pub(super) fn length(text: &str) -> anyhow::Result<Duration> {
    let length = humantime::parse_duration(text).context("not a duration such as 30s")?;
    let [shortest, longest] = LENGTHS;
    ensure!((shortest..=longest).contains(&length), "not between 1s and 1h");
    Ok(length)
}

/// Watches for so long.
///
/// # Errors
/// Those of a look.
pub(super) fn watch(
    length: Duration,
    mut counters: impl FnMut() -> anyhow::Result<Vec<(Reason, u64)>>,
) -> anyhow::Result<Course> {
    let part = (length / PARTS).max(SHORTEST);
    let begin = Instant::now();
    let mut looks = vec![Look { after: Duration::ZERO, counts: counters()?.into_iter().collect() }];
    let mut due = part;
    while due <= length {
        thread::sleep(due.saturating_sub(begin.elapsed()));
        looks.push(Look { after: begin.elapsed(), counts: counters()?.into_iter().collect() });
        due += part;
    }
    Ok(course(&looks))
}

/// What lies between the looks.
pub(super) fn course(looks: &[Look]) -> Course {
    let count = |look: &Look, reason: &Reason| look.counts.get(reason).copied().unwrap_or(0);
    let line = |reason: &Reason| {
        let part = |pair: &[Look]| {
            rate(count(&pair[1], reason), count(&pair[0], reason), pair[1].after - pair[0].after)
        };
        // Maps that were exchanged meanwhile begin at zero.
        let added = |pair: &[Look]| count(&pair[1], reason).saturating_sub(count(&pair[0], reason));
        CourseLine {
            reason: reason.text(),
            outcome: outcome(reason.outcome()),
            count: looks.windows(2).map(added).sum(),
            per_second: looks.windows(2).map(part).collect(),
        }
    };
    let lost = Reason::ALL.iter().filter(|reason| is_lost(**reason));
    let mut reasons: Vec<_> = lost.map(line).filter(|line| line.count > 0).collect();
    reasons.sort_by_key(|line| std::cmp::Reverse(line.count));
    let seconds = |look: &Look| (look.after.as_secs_f64() * 100.0).round() / 100.0;
    Course { ends: looks.iter().skip(1).map(seconds).collect(), reasons }
}

impl CourseLine {
    /// The most of a part.
    pub(super) fn most(&self) -> f64 {
        self.per_second.iter().copied().fold(0.0, f64::max)
    }
}

impl Course {
    /// All of the time, in seconds.
    pub(super) fn seconds(&self) -> f64 {
        self.ends.last().copied().unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(seconds: u64, refused: u64, denied: u64, answers: u64) -> Look {
        let counts =
            [(Reason::NoEndpoints, refused), (Reason::DeniedIngress, denied), (Reason::FlowReply, answers)];
        Look { after: Duration::from_secs(seconds), counts: BTreeMap::from(counts) }
    }

    #[test]
    fn what_was_lost_is_told_part_by_part_most_first_and_what_got_through_is_not() {
        let looks = [look(0, 7, 1, 0), look(2, 7, 5, 9), look(6, 9, 13, 9)];
        let line = |reason: Reason, outcome, count, per_second: [f64; 2]| CourseLine {
            reason: reason.text(),
            outcome,
            count,
            per_second: per_second.into(),
        };
        let reasons = vec![
            line(Reason::DeniedIngress, "drop", 12, [2.0, 2.0]),
            line(Reason::NoEndpoints, "reject", 2, [0.0, 0.5]),
        ];
        assert_eq!(course(&looks), Course { ends: vec![2.0, 6.0], reasons });
    }

    #[test]
    fn counters_that_begin_anew_have_lost_nothing_backwards() {
        let course = course(&[look(0, 70, 0, 0), look(1, 2, 0, 0), look(2, 5, 0, 0)]);
        assert_eq!((course.reasons[0].count, &*course.reasons[0].per_second), (3, &[0.0, 3.0][..]));
    }

    #[test]
    fn somebody_watches_for_a_second_at_least_and_an_hour_at_most() {
        let refused = |text| length(text).unwrap_err().to_string();
        assert_eq!(length("1m 30s").unwrap(), Duration::from_secs(90));
        assert_eq!(["900ms", "2h"].map(refused), ["not between 1s and 1h"; 2]);
        assert_eq!(refused("soon"), "not a duration such as 30s");
    }

    #[test]
    fn each_part_is_looked_at_once() {
        let mut counted = 0;
        let course = watch(Duration::from_secs(1), || {
            counted += 1;
            Ok(vec![(Reason::NoEndpoints, counted)])
        });
        let course = course.unwrap();
        assert_eq!((course.ends.len(), course.reasons[0].count, counted), (10, 10, 11));
    }
}
