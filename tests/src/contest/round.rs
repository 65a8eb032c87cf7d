//! A scene, played by everybody in turn, there and back, as often as it has rounds. Slices in which the machine was elsewhere are
//! played again, a bounded number of times.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use sluice_bench::Estimate;
use sluice_bench::pressure::{Pressure, Watch};
use sluice_bench::statistics::{median, paired_difference, paired_ratio};
use sluice_load::control::Metric;
use sluice_load::order::{Mode, Report};
use sluice_load::pairing;
use sluice_load::spread::Spread;

use super::contender::{Contender, Who};
use super::scene::{Place, Scene};
use super::stage::Stage;

/// With both ends on one processor they have all of it, but for what the machine does else. That is what is measured of the
/// machine's other work: its pressure (PSI) is of no use meanwhile, since two processes that take turns on one processor are
/// pressure themselves.
const SHARE: f64 = 0.93;
/// How often a slice is played again at most.
const AGAIN: usize = 3;
/// Of four slices of a scene one is played again at most, so that a busy machine makes figures worse and not a run endless.
const PART: usize = 4;

/// What a scene came to.
pub struct Outcome {
    /// The scene.
    pub scene: Scene,
    /// Slices of everybody, in the order in which they were played: two of each round.
    pub slices: BTreeMap<Contender, Vec<Report>>,
    /// Slices that were played again.
    pub repeated: usize,
    /// Slices that were taken as they were after the last repetition.
    pub disturbed: usize,
    /// Transactions that failed.
    pub failures: u64,
    /// The first of these in words.
    pub first_failures: Vec<String>,
    /// How much the processors were wanted, also by the load itself.
    pub pressure: Option<Pressure>,
}

/// Plays a scene.
///
/// # Errors
/// A client has ended, somebody answers nothing, or `go_on` says so.
pub fn play(scene: &Scene, stages: &mut [Stage], go_on: &dyn Fn() -> Result<()>) -> Result<Outcome> {
    let mut players: Vec<&mut Stage> =
        stages.iter_mut().filter(|stage| scene.is_for(stage.contender)).collect();
    let mut outcome = Outcome::new(scene);
    // A kernel may keep no account of it.
    let watch = Watch::begin().ok();
    // Caches, routes, neighbours: once for everybody, and counted for nobody.
    let short = Scene { millis: scene.millis / 2, ..scene.clone() };
    for player in &mut players {
        player.forget_flows()?;
        let report = player.slice(&short, 1)?;
        ensure!(report.transactions > 0, "{} {}: {:?}", scene.name, player.contender, report.first_failures);
    }
    for turn in 0..scene.rounds {
        go_on()?;
        for (position, index) in pairing::round(players.len(), turn).into_iter().enumerate() {
            let seed = (turn * 1_000 + position) as u64;
            let report = outcome.slice(players[index], seed)?;
            outcome.slices.entry(players[index].contender).or_default().push(report);
        }
    }
    outcome.pressure = watch.and_then(|watch| watch.end().ok());
    Ok(outcome)
}

impl Outcome {
    /// Of a scene that nobody has played yet.
    #[must_use]
    pub fn new(scene: &Scene) -> Self {
        Self {
            scene: scene.clone(),
            slices: BTreeMap::new(),
            repeated: 0,
            disturbed: 0,
            failures: 0,
            first_failures: Vec::new(),
            pressure: None,
        }
    }

    fn slice(&mut self, player: &mut Stage, seed: u64) -> Result<Report> {
        let mut report = player.slice(&self.scene, seed)?;
        for _ in 0..AGAIN {
            let played: usize = self.slices.values().map(Vec::len).sum();
            if !self.is_disturbed(&report) || self.repeated > played / PART + AGAIN {
                break;
            }
            self.repeated += 1;
            report = player.slice(&self.scene, seed)?;
        }
        self.disturbed += usize::from(self.is_disturbed(&report));
        self.failures += report.failures;
        let first = report.first_failures.iter().map(|failure| format!("{}: {failure}", player.contender));
        self.first_failures.extend(first.take(5_usize.saturating_sub(self.first_failures.len())));
        Ok(report)
    }

    fn is_disturbed(&self, report: &Report) -> bool {
        self.scene.place == Place::Same && report.share() < SHARE
    }

    /// A metric of each slice of a contender.
    #[must_use]
    pub fn figures(&self, contender: Contender, metric: Metric) -> Vec<f64> {
        let micros = |spread: &Spread, part| spread.quantile(part) as f64 / 1e3;
        let of = |report: &Report| match metric {
            Metric::Rate => report.rate(),
            Metric::ConnectP50 => micros(&report.connect, 0.5),
            Metric::ConnectP99 => micros(&report.connect, 0.99),
            Metric::WholeP50 => micros(&report.whole, 0.5),
            Metric::WholeP99 => micros(&report.whole, 0.99),
            Metric::Cpu => report.cpu_micros(),
        };
        self.slices.get(&contender).into_iter().flatten().map(of).collect()
    }

    /// The median of a metric over all slices of a contender.
    #[must_use]
    pub fn level(&self, contender: Contender, metric: Metric) -> Option<f64> {
        median(&self.figures(contender, metric))
    }

    /// A contender's metric over another's, paired by rounds.
    #[must_use]
    pub fn ratio(&self, ours: Contender, theirs: Contender, metric: Metric) -> Option<Estimate> {
        self.compare(ours, theirs, metric, paired_ratio)
    }

    /// A contender's metric less another's, paired by rounds.
    #[must_use]
    pub fn difference(&self, ours: Contender, theirs: Contender, metric: Metric) -> Option<Estimate> {
        self.compare(ours, theirs, metric, paired_difference)
    }

    fn compare(
        &self,
        ours: Contender,
        theirs: Contender,
        metric: Metric,
        by: fn(&[f64], &[f64]) -> Option<Estimate>,
    ) -> Option<Estimate> {
        let [ours, theirs] = [ours, theirs].map(|one| pairing::folded(&self.figures(one, metric)));
        // Either did not play.
        (ours.len() == theirs.len()).then(|| by(&ours, &theirs))?
    }

    /// The control: nobody against nobody.
    #[must_use]
    pub fn control(&self, metric: Metric) -> Option<Estimate> {
        let twin = Contender { who: Who::Twin, services: 0 };
        self.ratio(twin, Contender::direct(), metric)
    }

    /// What means something in this scene.
    #[must_use]
    pub fn metrics(&self) -> &'static [Metric] {
        match self.scene.mode {
            Mode::Crr => &Metric::ALL,
            Mode::Rr | Mode::UdpRr | Mode::UdpSendRr | Mode::Held(_) | Mode::Until(_) => {
                &[Metric::Rate, Metric::WholeP50, Metric::WholeP99, Metric::Cpu]
            }
            Mode::Stream | Mode::Datagrams => &[Metric::Rate, Metric::Cpu],
        }
    }
}
