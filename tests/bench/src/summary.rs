//! All parts beside all goals: what the terminal table and the page are made of. Pure.

use serde::{Deserialize, Serialize};

use crate::{
    figure::{Figure, Verdict},
    goal::{GOALS, Goal},
    part::Part,
};

/// What came of a bench as a whole.
#[derive(Debug, Clone, PartialEq)]
pub enum Run {
    /// It wrote its part. If it failed after that, this is how.
    Written(Box<Part>, Option<String>),
    /// It wrote nothing; this is why.
    Failed(String),
}

/// The parts of a report by name, in the order in which they are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// `connect`, `packets`, `sync`, `churn`.
    pub runs: Vec<(String, Run)>,
}

/// One line of the table of goals.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What has to be reached.
    pub goal: Goal,
    /// Which bench measured it; empty if none did.
    pub what: String,
    /// What was measured, or why nothing was.
    pub figure: Figure,
}

/// How many lines there are of each verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The must and, where there is one, the ambition.
    pub ambition: usize,
    /// The must alone.
    pub pass: usize,
    /// Not even the must.
    pub short: usize,
    /// Without a must.
    pub told: usize,
    /// No number.
    pub missing: usize,
}

impl Summary {
    /// Every goal with every figure that answers it; a goal that no part speaks of has a line that says so.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        GOALS.iter().flat_map(|goal| self.of_goal(goal)).collect()
    }

    fn of_goal(&self, goal: &Goal) -> Vec<Line> {
        let figures = self.parts().flat_map(|part| part.figures.iter().map(move |figure| (part, figure)));
        let found: Vec<Line> = figures
            .filter(|(_, figure)| figure.goal() == Some(goal))
            .map(|(part, figure)| Line { goal: *goal, what: part.what.clone(), figure: figure.clone() })
            .collect();
        if found.is_empty() {
            let figure = Figure::missing(goal.row, goal.case, "", self.why_missing());
            return vec![Line { goal: *goal, what: String::new(), figure }];
        }
        found
    }

    /// Nobody knows which of the benches that failed would have measured a goal, so all are named.
    fn why_missing(&self) -> String {
        let failed: Vec<&str> = self
            .runs
            .iter()
            .filter(|(_, run)| !matches!(run, Run::Written(_, None)))
            .map(|(what, _)| what.as_str())
            .collect();
        match failed[..] {
            [] => "no bench measures it".to_owned(),
            _ => format!("not reached: {} did not end well", failed.join(", ")),
        }
    }

    /// The parts that were written.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.runs.iter().filter_map(|(_, run)| match run {
            Run::Written(part, _) => Some(&**part),
            Run::Failed(_) => None,
        })
    }

    /// Benches that failed, and why.
    pub fn failures(&self) -> impl Iterator<Item = (&str, &str)> {
        self.runs.iter().filter_map(|(what, run)| match run {
            Run::Written(_, None) => None,
            Run::Written(_, Some(reason)) | Run::Failed(reason) => Some((what.as_str(), reason.as_str())),
        })
    }

    /// How many lines there are of each verdict.
    #[must_use]
    pub fn tally(&self) -> Tally {
        self.lines().iter().fold(Tally::default(), |mut tally, line| {
            match line.figure.verdict() {
                Verdict::Ambition => tally.ambition += 1,
                Verdict::Pass => tally.pass += 1,
                Verdict::Short => tally.short += 1,
                Verdict::Told => tally.told += 1,
                Verdict::NotMeasured(_) => tally.missing += 1,
            }
            tally
        })
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { ambition, pass, short, told, missing } = self;
        let passed = ambition + pass;
        write!(f, "{passed} pass ({ambition} reach the ambition), {short} short, {missing} not measured")?;
        if *told > 0 { write!(f, ", {told} without a must") } else { Ok(()) }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{Axis, Estimate, Mode, Plot, Series, Version};

    pub(crate) fn summary() -> Summary {
        let part = Part {
            what: "sync".to_owned(),
            mode: Mode::Full,
            command: "cargo xtask bench sync".to_owned(),
            versions: vec![Version::new("kernel", "6.18")],
            seconds: 12.0,
            figures: vec![
                Figure::of(13, "10k", "v4", Some(Estimate { value: 0.2, low: 0.19, high: 0.22, samples: 5 })),
                Figure::of(13, "10k", "v6", Some(Estimate::exact(0.3))),
                Figure::of(16, "10k", "", Some(Estimate::exact(24.0))),
                Figure::told("maps", "10k", crate::Unit::Mebibytes, Estimate::exact(12.0)),
            ],
            plots: vec![Plot {
                title: "Latency <p50>".to_owned(),
                x: Axis::log("Services"),
                y: Axis::linear("µs"),
                series: vec![Series::new("Sluice", vec![(1_000.0, 90.0), (100_000.0, 95.0)])],
            }],
            notes: vec!["One core.".to_owned()],
        };
        Summary {
            runs: vec![
                ("connect".to_owned(), Run::Failed("ended with status 1".to_owned())),
                ("sync".to_owned(), Run::Written(Box::new(part), None)),
            ],
        }
    }

    #[test]
    fn every_goal_has_a_line_and_one_with_two_figures_has_two() {
        let lines = summary().lines();
        assert_eq!(lines.len(), GOALS.len() + 1);
        let of_13: Vec<(&str, &str, &str)> = lines
            .iter()
            .filter(|line| line.goal.row == 13)
            .map(|line| {
                (line.what.as_str(), line.figure.configuration.as_str(), line.figure.verdict().word())
            })
            .collect();
        assert_eq!(of_13, [("sync", "v4", "pass"), ("sync", "v6", "SHORT"), ("", "", "not measured")]);
    }

    #[test]
    fn a_bench_that_failed_is_named_where_a_figure_is_missing() {
        let first = &summary().lines()[0];
        let reason = "not reached: connect did not end well".to_owned();
        assert_eq!(first.figure.verdict(), Verdict::NotMeasured(reason));
        assert_eq!(summary().failures().collect::<Vec<_>>(), [("connect", "ended with status 1")]);
    }

    #[test]
    fn the_tally_counts_lines() {
        let tally = Tally { ambition: 1, pass: 1, short: 1, told: 0, missing: GOALS.len() - 2 };
        assert_eq!(summary().tally(), tally);
        let said = format!("2 pass (1 reach the ambition), 1 short, {} not measured", GOALS.len() - 2);
        assert_eq!(tally.to_string(), said);
    }
}
