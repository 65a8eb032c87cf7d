//! What `bench-packets` prints, as figures of rows 8 to 11.
//!
//! The reference of rows 8 to 10 is Katran at commit 19f08fe, measured on the kind of machine that the goals are about:
//! its own program in the kernel's loop, minus the same wrapper without it. It does not know how packets are made.

use serde::Deserialize;

use crate::{
    figure::Figure,
    goal::Unit,
    plot::{Axis, Plot, Series},
    statistics::Estimate,
};

/// What the bench writes with `--json`.
#[derive(Debug, Deserialize)]
pub struct Raw {
    /// One line per family, path and way.
    pub paths: Vec<Path>,
    /// Instructions that the verifier looked at.
    pub verified: Vec<Verified>,
}

/// One line of nanoseconds.
#[derive(Debug, Clone, Deserialize)]
pub struct Path {
    /// `IPv4` or `IPv6`, as the bench writes it.
    pub family: String,
    /// In words.
    pub path: String,
    /// `loop` or `once`.
    pub way: String,
    /// Of the table, or of policies.
    pub flows: u32,
    /// Over the rounds.
    pub median_ns: f64,
    /// The best round.
    pub min_ns: f64,
}

/// One program.
#[derive(Debug, Clone, Deserialize)]
pub struct Verified {
    /// Its name.
    pub program: String,
    /// With both families.
    pub both: u32,
}

/// Which line answers which goal, and what a figure of 1 is there.
struct Answer {
    goal: (u8, &'static str),
    path: &'static str,
    way: &'static str,
    flows: u32,
    /// Nanoseconds of the peer; 1 where the goal is in nanoseconds itself.
    reference: f64,
}

const ANSWERS: &[Answer] = &[
    Answer {
        goal: (8, "1"),
        path: "established, out of the uplink",
        way: "loop",
        flows: 1,
        reference: 101.0,
    },
    Answer {
        goal: (8, "1"),
        path: "established, out of the uplink",
        way: "once",
        flows: 1,
        reference: 156.0,
    },
    // Each run gets another flow's packet, in the kernel's loop: as Katran was measured.
    Answer {
        goal: (8, "64k"),
        path: "established, out of the uplink",
        way: "flows",
        flows: 65_536,
        reference: 200.0,
    },
    Answer {
        goal: (8, "512k"),
        path: "established, out of the uplink",
        way: "flows",
        flows: 524_288,
        reference: 275.0,
    },
    Answer { goal: (9, "1"), path: "new TCP connection", way: "once", flows: 0, reference: 341.0 },
    // Entries that were made in the rounds before are in the table meanwhile.
    Answer { goal: (9, "64k"), path: "new TCP connection", way: "flows", flows: 27_648, reference: 553.0 },
    Answer {
        goal: (10, "pass"),
        path: "not a service, mid-stream TCP",
        way: "loop",
        flows: 0,
        reference: 55.0,
    },
    Answer {
        goal: (11, "established"),
        path: "policies +: established",
        way: "loop",
        flows: 100_000,
        reference: 1.0,
    },
    Answer {
        goal: (11, "new"),
        path: "policies +: new to a Service",
        way: "once",
        flows: 100_000,
        reference: 1.0,
    },
    new("policies +: new, to another port"),
    new("policies +: new, to another host"),
    new("policies +: the same, to another port"),
    new("policies +: the same, to another host"),
    new("policies +: to any host of 256 blocks"),
    new("policies +: to the first host of each block"),
    new("policies +: to the first host of each neighbourhood"),
];

/// What policies add to connections that have to be judged.
const fn new(path: &'static str) -> Answer {
    Answer { goal: (11, "new"), path, way: "flows", flows: 100_000, reference: 1.0 }
}

/// The figures: first those with goals, then every path.
#[must_use]
pub fn figures(raw: &Raw) -> Vec<Figure> {
    let answers = ANSWERS.iter().flat_map(|answer| {
        let lines = raw.paths.iter().filter(move |line| {
            line.path == answer.path && line.way == answer.way && line.flows == answer.flows
        });
        lines.map(move |line| {
            let (row, case) = answer.goal;
            let on = format!("{}, {}, {}", line.family, line.path, line.way);
            Figure::of(row, case, on, Some(between(line).scaled(1.0 / answer.reference)))
        })
    });
    let paths = raw.paths.iter().map(|line| {
        let on = format!("{}, {}, {} flows or rules", line.family, line.way, line.flows);
        Figure::told(line.path.as_str(), on, Unit::Nanoseconds, between(line))
    });
    let verified = raw.verified.iter().map(|line| {
        let count = Estimate::exact(f64::from(line.both));
        Figure::told("instructions verified", line.program.as_str(), Unit::Count, count)
    });
    answers.chain(unanswered()).chain(paths).chain(verified).collect()
}

/// Goals that no line answers, with the reason.
fn unanswered() -> impl Iterator<Item = Figure> {
    let foreign = "its program is not built here: its sources are not part of this repository";
    [
        (9, "512k", "at most 32,768 connections are half open, however many are established"),
        (12, "cilium", foreign),
        (12, "calico", foreign),
    ]
    .into_iter()
    .map(|(row, case, why)| Figure::missing(row, case, "", why))
}

/// Median, and the best round as the lower end.
fn between(line: &Path) -> Estimate {
    Estimate { value: line.median_ns, low: line.min_ns, high: line.median_ns, samples: 9 }
}

/// Nanoseconds of an established packet over the number of flows.
#[must_use]
pub fn plots(raw: &Raw) -> Vec<Plot> {
    let mut series: Vec<Series> = Vec::new();
    for line in raw.paths.iter().filter(|line| line.path.starts_with("established") && line.way == "flows") {
        let name = format!("{}, loop", line.family);
        let point = (f64::from(line.flows), line.median_ns);
        match series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.points.push(point),
            None => series.push(Series::new(name, vec![point])),
        }
    }
    series.push(Series::new(
        "Katran, loop",
        vec![(1.0, 101.0), (1_024.0, 132.0), (65_536.0, 200.0), (524_288.0, 275.0)],
    ));
    let title = "An established packet, minus an empty program".to_owned();
    vec![Plot { title, x: Axis::log("flows"), y: Axis::linear("ns"), series }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    #[test]
    fn a_line_answers_its_goal_and_is_told_by_itself() {
        let raw = r#"{"paths": [{"family": "IPv4", "path": "not a service, mid-stream TCP", "way": "loop", "flows": 0,
            "median_ns": 44.0, "min_ns": 33.0}], "verified": [{"program": "from_pod", "both": 7, "ipv4": 4, "ipv6": 4}]}"#;
        let raw: Raw = serde_json::from_str(raw).expect("as the bench writes it");
        let told: Vec<(String, String, String)> = figures(&raw)
            .iter()
            .filter(|figure| !matches!(figure.verdict(), Verdict::NotMeasured(_)))
            .map(|figure| (figure.name.clone(), figure.shown(), figure.verdict().word().to_owned()))
            .collect();
        let expected = [
            ("not a Service ÷ Katran's non-VIP", "0.800× [0.600×, 0.800×]", "pass"),
            ("not a service, mid-stream TCP", "44.0 ns [33.0 ns, 44.0 ns]", ""),
            ("instructions verified", "7", ""),
        ];
        let expected =
            expected.map(|(name, shown, word)| (name.to_owned(), shown.to_owned(), word.to_owned()));
        assert_eq!(told, expected);
    }

    #[test]
    fn every_answer_names_a_goal() {
        for Answer { goal: (row, case), .. } in ANSWERS {
            assert!(crate::GoalId::new(*row, case).find().is_some(), "{row} {case}");
        }
        assert!(unanswered().all(|figure| figure.goal().is_some()));
    }
}
