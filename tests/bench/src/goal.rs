//! The goals: what each figure must be, and what would be better. One row may have several cases.
//!
//! It does not know how a figure is made. A case that nobody measured is part of the report all the same.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Names one goal: the row of the table of goals and the case within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct GoalId {
    /// 1 to 17.
    pub row: u8,
    /// Unique within the row.
    pub case: String,
}

impl GoalId {
    /// A goal that must be in [`GOALS`]; whoever writes a figure tests that it is.
    #[must_use]
    pub fn new(row: u8, case: &str) -> Self {
        Self { row, case: case.to_owned() }
    }

    /// The goal of this name, if there is one.
    #[must_use]
    pub fn find(&self) -> Option<&'static Goal> {
        GOALS.iter().find(|goal| goal.row == self.row && goal.case == self.case)
    }
}

impl fmt::Display for GoalId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.row, self.case)
    }
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A quotient of two figures of the same round.
    Ratio,
    /// Change in hundredths of the reference.
    Percent,
    /// Nanoseconds.
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Seconds.
    Seconds,
    /// Per second.
    PerSecond,
    /// 1,048,576 bytes.
    Mebibytes,
    /// Things.
    Count,
}

impl Unit {
    /// As written after a number; a ratio has a sign of its own.
    #[must_use]
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Ratio => "×",
            Self::Percent => " %",
            Self::Nanoseconds => " ns",
            Self::Microseconds => " µs",
            Self::Seconds => " s",
            Self::PerSecond => "/s",
            Self::Mebibytes => " MiB",
            Self::Count => "",
        }
    }

    /// A number of this unit, with as many digits as it is worth.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        let digits = match (self, value.abs()) {
            (Self::Count, _) => 0,
            (Self::Ratio | Self::Seconds, size) if size < 10.0 => 3,
            (_, size) if size < 10.0 => 2,
            (_, size) if size < 100.0 => 1,
            _ => 0,
        };
        format!("{value:.digits$}{}", self.suffix())
    }
}

/// On which side of the bound a figure should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sense {
    /// Larger is better.
    AtLeast,
    /// Smaller is better.
    AtMost,
}

/// One line of the table of goals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Goal {
    /// The row.
    pub row: u8,
    /// Unique within the row.
    pub case: &'static str,
    /// In words.
    pub claim: &'static str,
    /// Of the bounds and of every figure of this goal.
    pub unit: Unit,
    /// Which side is good.
    pub sense: Sense,
    /// What has to be reached, if the row has such a bound.
    pub must: Option<f64>,
    /// What would be better.
    pub ambition: Option<f64>,
}

impl Goal {
    /// Whether `value` keeps `bound`.
    #[must_use]
    pub fn keeps(&self, value: f64, bound: f64) -> bool {
        match self.sense {
            Sense::AtLeast => value >= bound,
            Sense::AtMost => value <= bound,
        }
    }

    /// A bound as one would write it.
    #[must_use]
    pub fn show(&self, bound: Option<f64>) -> String {
        let sign = match self.sense {
            Sense::AtLeast => '≥',
            Sense::AtMost => '≤',
        };
        bound.map_or_else(|| "–".to_owned(), |bound| format!("{sign} {}", self.unit.show(bound)))
    }

    /// Its name.
    #[must_use]
    pub fn id(&self) -> GoalId {
        GoalId::new(self.row, self.case)
    }
}

const fn goal(
    (row, case): (u8, &'static str),
    claim: &'static str,
    unit: Unit,
    sense: Sense,
    (must, ambition): (Option<f64>, Option<f64>),
) -> Goal {
    Goal { row, case, claim, unit, sense, must, ambition }
}

const fn both(must: f64, ambition: f64) -> (Option<f64>, Option<f64>) {
    (Some(must), Some(ambition))
}

const fn hoped(ambition: f64) -> (Option<f64>, Option<f64>) {
    (None, Some(ambition))
}

use Sense::{AtLeast, AtMost};
use Unit::{Count, Mebibytes, Microseconds, Nanoseconds, PerSecond, Percent, Ratio, Seconds};

/// All goals, in the order of the report.
pub const GOALS: &[Goal] = &[
    goal((1, "crr"), "socket road: connect/request/response ÷ direct", Ratio, AtLeast, both(0.97, 0.99)),
    goal((1, "rr"), "socket road: request/response ÷ direct", Ratio, AtLeast, both(0.99, 1.0)),
    goal((1, "connect"), "socket road: connect p50 over direct", Microseconds, AtMost, hoped(0.5)),
    goal((2, "crr"), "packet road: connect/request/response ÷ direct", Ratio, AtLeast, both(1.02, 1.06)),
    goal((2, "rr"), "packet road: request/response ÷ direct", Ratio, AtLeast, both(1.07, 1.12)),
    goal((3, "10"), "CRR ÷ iptables-legacy, 10 Services", Ratio, AtLeast, both(1.25, 1.32)),
    goal((3, "1k"), "CRR ÷ iptables-legacy, 1,000 Services", Ratio, AtLeast, both(1.3, 1.36)),
    goal((3, "10k"), "CRR ÷ iptables-legacy, 10,000 Services", Ratio, AtLeast, both(2.1, 2.25)),
    goal((4, "nft"), "CRR ÷ nftables", Ratio, AtLeast, both(1.25, 1.3)),
    goal((4, "flowtable"), "CRR ÷ nftables with a flowtable", Ratio, AtLeast, both(1.25, 1.3)),
    goal((5, "1k"), "CRR ÷ iptables-nft, 1,000 Services", Ratio, AtLeast, both(1.5, 1.6)),
    goal((5, "5k"), "CRR ÷ iptables-nft, 5,000 Services", Ratio, AtLeast, both(2.5, 2.6)),
    goal((6, "connect"), "connect p50 over direct", Microseconds, AtMost, both(1.0, 0.0)),
    goal((7, "services"), "CRR lost from 10 to 100,000 Services", Percent, AtMost, both(2.5, 2.5)),
    goal((7, "policies"), "CRR lost with 100,000 policy rules", Percent, AtMost, hoped(2.5)),
    goal((8, "1"), "established ÷ Katran, 1 flow", Ratio, AtMost, both(1.0, 0.8)),
    goal((8, "64k"), "established ÷ Katran, 65,536 flows", Ratio, AtMost, both(1.0, 0.8)),
    goal((8, "512k"), "established ÷ Katran, 524,288 flows", Ratio, AtMost, both(1.0, 0.8)),
    goal((9, "1"), "new flow ÷ Katran's SYN, few flows", Ratio, AtMost, both(1.3, 0.8)),
    goal((9, "64k"), "new flow ÷ Katran's SYN, 65,536 flows", Ratio, AtMost, both(1.3, 0.8)),
    goal((9, "512k"), "new flow ÷ Katran's SYN, 524,288 flows", Ratio, AtMost, both(1.3, 0.8)),
    goal((10, "pass"), "not a Service ÷ Katran's non-VIP", Ratio, AtMost, both(1.0, 0.6)),
    goal((11, "established"), "policies: an established packet more", Nanoseconds, AtMost, both(20.0, 5.0)),
    goal((11, "new"), "policies: a new flow more", Nanoseconds, AtMost, both(150.0, 80.0)),
    goal((12, "cilium"), "pod egress ÷ Cilium's program", Ratio, AtMost, both(0.9, 0.6)),
    goal((12, "calico"), "pod egress ÷ Calico's program", Ratio, AtMost, both(0.9, 0.6)),
    goal((13, "10k"), "first sync of 10,000 × 2, decoded → serving", Seconds, AtMost, both(0.25, 0.1)),
    goal((13, "100k"), "first sync of 100,000 × 2, decoded → serving", Seconds, AtMost, hoped(1.5)),
    goal((14, "p50"), "slice event → map, median", Microseconds, AtMost, both(300.0, 100.0)),
    goal((14, "p99"), "slice event → map, 99 of 100", Microseconds, AtMost, both(2_000.0, 1_000.0)),
    goal((15, "events"), "slice events, one core", PerSecond, AtLeast, both(2_000.0, 10_000.0)),
    goal((16, "10k"), "agent RSS, 10,000 Services, 20,000 endpoints", Mebibytes, AtMost, both(50.0, 25.0)),
    goal(
        (16, "100k"),
        "agent RSS, 100,000 Services, 250,000 endpoints",
        Mebibytes,
        AtMost,
        both(250.0, 120.0),
    ),
    goal((17, "restart"), "connections broken by an agent's restart", Count, AtMost, both(0.0, 0.0)),
    goal((17, "upgrade"), "connections broken by an upgrade of the programs", Count, AtMost, both(0.0, 0.0)),
    goal((17, "change"), "connections broken by changes of other backends", Count, AtMost, both(0.0, 0.0)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_goal_is_found_by_its_own_name_and_no_two_share_one() {
        for goal in GOALS {
            assert_eq!(goal.id().find(), Some(goal));
        }
        assert_eq!(GoalId::new(1, "nothing").find(), None);
    }

    #[test]
    fn an_ambition_is_never_easier_than_what_must_be() {
        for goal in GOALS {
            if let (Some(must), Some(ambition)) = (goal.must, goal.ambition) {
                assert!(goal.keeps(ambition, must), "{}", goal.id());
            }
        }
    }

    #[test]
    fn numbers_have_the_digits_that_they_are_worth() {
        let shown = [
            (Ratio, 0.98765),
            (Ratio, 12.345),
            (Percent, 1.234),
            (Nanoseconds, 101.4),
            (Microseconds, 24.84),
            (Seconds, 0.08412),
            (PerSecond, 10_234.5),
            (Mebibytes, 49.96),
            (Count, 0.0),
        ]
        .map(|(unit, value)| unit.show(value));
        assert_eq!(
            shown,
            ["0.988×", "12.3×", "1.23 %", "101 ns", "24.8 µs", "0.084 s", "10234/s", "50.0 MiB", "0"]
        );
    }
}
