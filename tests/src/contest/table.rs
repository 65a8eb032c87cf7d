//! What came of a scene, for eyes: lines on the terminal, curves, and all slices for who wants to compute with them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sluice_bench::{Axis, Estimate, Figure, Plot, Series};
use sluice_load::control::Metric;
use sluice_load::order::Report;
use sluice_load::spread::Spread;

use super::contender::Contender;
use super::round::Outcome;

/// Prints a line for everybody.
pub fn print(outcome: &Outcome) {
    let scene = &outcome.scene;
    println!(
        "{}: {} rounds of 2 × {} ms; {} slices played again, {} failures",
        scene.name, scene.rounds, scene.millis, outcome.repeated, outcome.failures
    );
    for contender in outcome.slices.keys() {
        println!("  {}", line(outcome, *contender));
    }
    println!();
}

/// `name rate/s ×direct [low, high]`, then each other metric as its level and its ratio to nobody's.
fn line(outcome: &Outcome, contender: Contender) -> String {
    let mut line = format!("{contender:<26}");
    for metric in outcome.metrics() {
        let level = outcome.level(contender, *metric).unwrap_or(f64::NAN);
        let ratio = outcome.ratio(contender, Contender::direct(), *metric);
        let Some(Estimate { value, low, high, .. }) = ratio else { continue };
        // Writing into text cannot fail.
        let _ = match metric {
            Metric::Rate => write!(line, " {level:>9.0}/s {value:.3} [{low:.3}, {high:.3}]"),
            Metric::ConnectP50 | Metric::ConnectP99 | Metric::WholeP50 | Metric::WholeP99 | Metric::Cpu => {
                write!(line, "  {metric} {level:.1} ({value:.3})")
            }
        };
    }
    line
}

/// A figure beside its goal.
#[must_use]
pub fn goal(figure: &Figure) -> String {
    let (Some(id), Some(goal)) = (&figure.goal, figure.goal()) else { return figure.name.clone() };
    format!(
        "{:<12} {:<44} {:<26} must {:<9} ambition {:<9} {:<13} {}",
        id.to_string(),
        figure.configuration,
        figure.shown(),
        goal.show(goal.must),
        goal.show(goal.ambition),
        figure.verdict().shown(),
        figure.noise()
    )
}

/// What transactions cost over the number of Services; then, for each scene with connections, how the time until one stands is
/// spread.
#[must_use]
pub fn plots(outcomes: &[Outcome]) -> Vec<Plot> {
    let connects = outcomes.iter().filter(|outcome| outcome.metrics().contains(&Metric::ConnectP50));
    let spread = |outcome: &Outcome| Plot {
        title: format!("{}: connect", outcome.scene.name),
        x: Axis::log("1 of so many is slower"),
        y: Axis::log("µs"),
        series: outcome.slices.iter().map(|(who, slices)| curve(*who, slices)).collect(),
    };
    let sweeps = outcomes.iter().filter(|outcome| matches!(outcome.scene.name, "crr" | "rr")).map(sweep);
    sweeps.chain(connects.map(spread)).collect()
}

/// Rates over the number of Services, of nobody's.
fn sweep(outcome: &Outcome) -> Plot {
    let mut lines: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
    for contender in outcome.slices.keys().filter(|contender| contender.services > 0) {
        let Some(ratio) = outcome.ratio(*contender, Contender::direct(), Metric::Rate) else { continue };
        let whole = contender.to_string();
        let name = whole.split('@').next().unwrap_or_default().to_owned();
        lines.entry(name).or_default().push((contender.services as f64, ratio.value));
    }
    Plot {
        title: format!("{}: rate ÷ direct", outcome.scene.name),
        x: Axis::log("Services"),
        y: Axis::linear("×"),
        series: lines.into_iter().map(|(name, points)| Series::new(name, points)).collect(),
    }
}

fn curve(contender: Contender, slices: &[Report]) -> Series {
    let all = slices.iter().fold(Spread::default(), |all, slice| all.with(&slice.connect));
    let point = |rarity: f64| (rarity, all.quantile(1.0 - 1.0 / rarity) as f64 / 1e3);
    Series::new(contender.to_string(), [1.25, 2.0, 4.0, 10.0, 30.0, 100.0, 300.0, 1_000.0].map(point).into())
}

/// Writes every slice as a line.
///
/// # Errors
/// The file cannot be written.
pub fn write_slices(path: &Path, outcomes: &[Outcome]) -> Result<()> {
    let mut text =
        "scene,contender,slice,transactions,failures,nanos,client_cpu_nanos,server_cpu_nanos,arrived,\
                    connect_p50,connect_p99,whole_p50,whole_p99,whole_p999\n"
            .to_owned();
    for outcome in outcomes {
        for (contender, slices) in &outcome.slices {
            for (index, slice) in slices.iter().enumerate() {
                let Report {
                    transactions,
                    failures,
                    nanos,
                    client_cpu,
                    server_cpu,
                    arrived,
                    connect,
                    whole,
                    ..
                } = slice;
                let quantiles = [
                    connect.quantile(0.5),
                    connect.quantile(0.99),
                    whole.quantile(0.5),
                    whole.quantile(0.99),
                    whole.quantile(0.999),
                ];
                let quantiles = quantiles.map(|nanos| nanos.to_string()).join(",");
                let name = outcome.scene.name;
                // Writing into text cannot fail.
                let _ = writeln!(
                    text,
                    "{name},{contender},{index},{transactions},{failures},{nanos},{client_cpu},{server_cpu},{arrived},{quantiles}"
                );
            }
        }
    }
    fs::write(path, text).with_context(|| format!("writing {}", path.display()))
}
