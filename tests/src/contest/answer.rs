//! What a contest says about the goals: which figure of which scene answers which of them.

use std::collections::{BTreeMap, BTreeSet};

use sluice_bench::{Estimate, Figure, Unit};
use sluice_load::control::{Metric, Verdict};

use super::contender::{Contender, Policies, Rules, Who};
use super::round::Outcome;

/// A goal, and whom it compares in which scene.
struct Question {
    row: u8,
    case: &'static str,
    scene: &'static str,
    metric: Metric,
    ours: Contender,
    theirs: Contender,
    kind: Kind,
}

/// How two contenders are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Ours over theirs.
    Ratio,
    /// Ours less theirs.
    Difference,
    /// How many hundredths ours is short of theirs.
    Loss,
}

/// The figures that answer goals, then those that are told for their own sake.
#[must_use]
pub fn figures(outcomes: &[Outcome]) -> Vec<Figure> {
    let answers = questions().into_iter().filter_map(|question| question.answer(outcomes));
    answers.chain(outcomes.iter().flat_map(told)).collect()
}

/// A figure without a number for each goal of a contest that nobody has answered, with the reason: who was absent, and why.
#[must_use]
pub fn missing(outcomes: &[Outcome], absent: &[(Contender, String)]) -> Vec<Figure> {
    let all = questions();
    let answered: BTreeSet<(u8, &str)> =
        all.iter().filter(|question| question.answer(outcomes).is_some()).map(Question::goal).collect();
    let mut open: BTreeMap<(u8, &str), Vec<&Question>> = BTreeMap::new();
    for question in all.iter().filter(|question| !answered.contains(&question.goal())) {
        open.entry(question.goal()).or_default().push(question);
    }
    let figure = |((row, case), questions): ((u8, &str), Vec<&Question>)| {
        let whom = |who: Contender| absent.iter().find(|(one, _)| *one == who).map(|(_, why)| why.clone());
        let why = questions.iter().find_map(|question| whom(question.theirs).or_else(|| whom(question.ours)));
        let configuration = format!("{} beside {}", questions[0].ours, questions[0].theirs);
        let why = why.unwrap_or_else(|| "not everybody took part; without --quick they do".to_owned());
        Figure::missing(row, case, configuration, why)
    };
    open.into_iter().map(figure).collect()
}

/// Where the control is off, in words: figures of these scenes and metrics are not to be believed.
#[must_use]
pub fn doubts(outcome: &Outcome) -> Vec<String> {
    let metrics = outcome.metrics().iter();
    let spoilt = |metric: &Metric| {
        let control = outcome.control(*metric)?;
        let Verdict::Spoilt { off } = metric.judge(control.value) else { return None };
        let (name, band) = (outcome.scene.name, metric.band());
        Some(format!(
            "{name}: the control of {metric} is off by {off:.3}, more than {band}: do not believe it."
        ))
    };
    metrics.filter_map(spoilt).collect()
}

impl Question {
    fn goal(&self) -> (u8, &'static str) {
        (self.row, self.case)
    }

    fn answer(&self, outcomes: &[Outcome]) -> Option<Figure> {
        let outcome = outcomes.iter().find(|outcome| outcome.scene.name == self.scene)?;
        let control = outcome.control(self.metric);
        let (estimate, control, sign) = match self.kind {
            Kind::Ratio => (outcome.ratio(self.ours, self.theirs, self.metric)?, control, "÷"),
            Kind::Difference => {
                let twin = Contender { who: Who::Twin, services: 0 };
                let control = outcome.difference(twin, Contender::direct(), self.metric);
                (outcome.difference(self.ours, self.theirs, self.metric)?, control, "−")
            }
            Kind::Loss => {
                let loss = |ratio: Estimate| Estimate {
                    value: 100.0 * (1.0 - ratio.value),
                    low: 100.0 * (1.0 - ratio.high),
                    high: 100.0 * (1.0 - ratio.low),
                    ..ratio
                };
                (loss(outcome.ratio(self.ours, self.theirs, self.metric)?), control.map(loss), "against")
            }
        };
        let configuration = format!("{} {sign} {}", self.ours, self.theirs);
        let figure = Figure::of(self.row, self.case, configuration, Some(estimate));
        Some(figure.controlled(control).under(outcome.pressure))
    }
}

/// Everybody's levels, and how they are to nobody's.
fn told(outcome: &Outcome) -> Vec<Figure> {
    let direct = Contender::direct();
    let all = outcome
        .slices
        .keys()
        .flat_map(|contender| outcome.metrics().iter().map(|metric| (*contender, *metric)));
    let figure = |(contender, metric): (Contender, Metric)| {
        let level = outcome.level(contender, metric)?;
        let ratio = outcome.ratio(contender, direct, metric)?;
        let unit = match metric {
            Metric::Rate => Unit::PerSecond,
            Metric::ConnectP50 | Metric::ConnectP99 | Metric::WholeP50 | Metric::WholeP99 | Metric::Cpu => {
                Unit::Microseconds
            }
        };
        let name = format!("{} {metric} ÷ direct", outcome.scene.name);
        let configuration = format!("{contender}, {}", unit.show(level));
        let figure = Figure::told(name, configuration, Unit::Ratio, ratio);
        Some(figure.controlled(outcome.control(metric)).under(outcome.pressure))
    };
    all.filter_map(figure).collect()
}

fn roads(services: usize) -> [(u8, Contender); 2] {
    [(1, Who::Socket(Policies::Absent)), (2, Who::Packet(Policies::Absent))]
        .map(|(row, who)| (row, Contender { who, services }))
}

fn questions() -> Vec<Question> {
    let direct = Contender::direct();
    let rate = |row, case, scene, ours, theirs| Question {
        row,
        case,
        scene,
        metric: Metric::Rate,
        ours,
        theirs,
        kind: Kind::Ratio,
    };
    let mut all = Vec::new();
    let sizes = [10, 1_000, 10_000, 100_000];
    for (row, ours) in sizes.into_iter().flat_map(roads) {
        all.push(rate(row, "crr", "crr", ours, direct));
        all.push(rate(row, "rr", "rr", ours, direct));
        let connect = |row| Question {
            metric: Metric::ConnectP50,
            kind: Kind::Difference,
            ..rate(row, "connect", "crr", ours, direct)
        };
        all.push(connect(6));
        if row == 1 {
            all.push(connect(1));
        }
    }
    let policed = Contender { who: Who::Packet(Policies::Present(0)), services: 10 };
    all.push(rate(2, "crr", "crr", policed, direct));
    all.push(rate(2, "rr", "rr", policed, direct));
    for (row, case, rules, theirs, ours) in PEERS {
        let theirs = Contender { who: Who::KubeProxy(rules), services: theirs };
        all.extend(roads(ours).map(|(_, ours)| rate(row, case, "crr", ours, theirs)));
    }
    let loss = |case, ours, theirs| Question { kind: Kind::Loss, ..rate(7, case, "crr", ours, theirs) };
    for more in [10_000, 100_000] {
        let pairs = roads(10).into_iter().zip(roads(more));
        all.extend(pairs.map(|((_, few), (_, many))| loss("services", many, few)));
    }
    let crowd = Contender { who: Who::Packet(Policies::Present(100_000)), services: 10 };
    all.push(loss("policies", crowd, policed));
    all
}

/// Row, case, rules, how many Services they are for, and how many Sluice has: as many, or more.
const PEERS: [(u8, &str, Rules, usize, usize); 12] = [
    (3, "10", Rules::Legacy, 10, 10),
    (3, "1k", Rules::Legacy, 1_000, 1_000),
    (3, "1k", Rules::Legacy, 1_000, 10_000),
    (3, "10k", Rules::Legacy, 10_000, 10_000),
    (4, "nft", Rules::Nftables, 10, 10),
    (4, "nft", Rules::Nftables, 1_000, 1_000),
    (4, "nft", Rules::Nftables, 10_000, 10_000),
    (4, "flowtable", Rules::NftablesFlowtable, 10, 10),
    (5, "1k", Rules::IptablesNft, 1_000, 1_000),
    (5, "1k", Rules::IptablesNft, 1_000, 10_000),
    (5, "5k", Rules::IptablesNft, 5_000, 10_000),
    (5, "5k", Rules::IptablesNft, 5_000, 100_000),
];

#[cfg(test)]
mod tests {
    use sluice_load::order::{Mode, Report};

    use super::*;
    use crate::contest::scene::{Aim, Asker, Place, Scene};

    fn outcome(rates: &[(Contender, [u64; 4])]) -> Outcome {
        let slices = rates.iter().map(|(contender, rates)| {
            let report =
                |rate: &u64| Report { transactions: *rate, nanos: 1_000_000_000, ..Report::default() };
            (*contender, rates.iter().map(report).collect())
        });
        let scene = Scene {
            name: "crr",
            mode: Mode::Crr,
            aim: Aim::Last,
            asker: Asker::Pod,
            place: Place::Same,
            millis: 1_000,
            rounds: 2,
        };
        Outcome { slices: slices.collect(), ..Outcome::new(&scene) }
    }

    fn twin() -> Contender {
        Contender { who: Who::Twin, services: 0 }
    }

    #[test]
    fn a_goal_that_nobody_has_answered_says_who_was_absent() {
        let packet = Contender { who: Who::Packet(Policies::Absent), services: 10 };
        let outcome = outcome(&[(Contender::direct(), [10_000; 4]), (packet, [11_000; 4])]);
        let peer = Contender { who: Who::KubeProxy(Rules::NftablesFlowtable), services: 10 };
        let missing = missing(&[outcome], &[(peer, "the kernel has none".to_owned())]);
        let told: Vec<(String, String)> = missing
            .iter()
            .map(|figure| (figure.goal.as_ref().unwrap().to_string(), figure.verdict().shown()))
            .filter(|(goal, _)| ["2 crr", "3 10", "4 flowtable"].contains(&goal.as_str()))
            .collect();
        let others = "not measured: not everybody took part; without --quick they do";
        let expected = [("3 10", others), ("4 flowtable", "not measured: the kernel has none")];
        assert_eq!(told, expected.map(|(goal, why)| (goal.to_owned(), why.to_owned())));
    }

    #[test]
    fn a_goal_is_answered_by_the_median_of_its_rounds() {
        let socket = |services| Contender { who: Who::Socket(Policies::Absent), services };
        let outcome = outcome(&[
            (Contender::direct(), [10_000, 10_000, 20_000, 20_000]),
            (socket(10), [9_000, 10_600, 19_800, 19_800]),
            (socket(10_000), [9_310, 9_310, 18_810, 18_810]),
            (twin(), [10_000, 10_100, 20_000, 20_000]),
        ]);
        let said = |row: u8| -> Vec<String> {
            let all = figures(std::slice::from_ref(&outcome));
            let of = all.iter().filter(|figure| figure.goal.as_ref().is_some_and(|goal| goal.row == row));
            of.map(|figure| {
                format!("{} {} {}", figure.configuration, figure.shown(), figure.verdict().word())
            })
            .collect()
        };
        assert_eq!(said(1)[0], "socket@10 ÷ direct 0.985× [0.980×, 0.990×] pass");
        assert_eq!(
            said(7),
            ["socket@10000 against socket@10 5.00 % [5.00 %, 5.00 %] SHORT"]
                .map(|line| line.replace(" [5.00 %, 5.00 %]", ""))
        );
    }

    #[test]
    fn what_nobody_played_is_no_figure() {
        assert!(figures(&[]).is_empty());
        let alone = outcome(&[(Contender::direct(), [1; 4])]);
        assert!(figures(&[alone]).iter().all(|figure| figure.goal.is_none()));
    }

    #[test]
    fn a_control_that_is_off_is_told() {
        let direct = (Contender::direct(), [10_000; 4]);
        let of = |twins| doubts(&outcome(&[direct, (twin(), [twins; 4])]));
        assert_eq!(of(10_100), [""; 0]);
        let rate = "crr: the control of rate is off by 0.100, more than 0.025: do not believe it.";
        assert!(of(11_000).contains(&rate.to_owned()), "{:?}", of(11_000));
    }

    #[test]
    fn every_question_is_about_a_goal() {
        for question in questions() {
            let id = sluice_bench::GoalId::new(question.row, question.case);
            assert!(id.find().is_some(), "{id}");
        }
    }
}
