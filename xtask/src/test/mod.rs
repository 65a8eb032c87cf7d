//! `cargo xtask test`: runs the table in [`steps`], to the end whatever fails, and sums up.
//!
//! The last line is `N passed, N failed`: every test of every step, and each failed step that ran no test as one.

mod ahead;
pub(crate) mod count;
mod kernel_lint;
mod runner;
mod steps;
mod told;

use std::time::Instant;

use anyhow::{Result, bail};

use crate::{progress::seconds, setup};
use ahead::Ahead;
use count::Count;
use runner::Outcome;
use steps::{STEPS, Step, Tier};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Only what is done in three minutes: unit, model and packet tests, and one walk through the lab
    #[arg(long)]
    fast: bool,
    /// Only the steps whose name contains TEXT
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Print the table of steps and stop
    #[arg(long)]
    list: bool,
}

/// What became of a step.
struct Report {
    name: &'static str,
    outcome: Outcome,
    seconds: String,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let chosen: Vec<&Step> = STEPS.iter().filter(|step| is_chosen(step, options)).collect();
    if options.list {
        for step in chosen {
            println!("{:<5} {:<18} {}", step.tier, step.name, step.action);
        }
        return Ok(());
    }
    setup::ensure()?;
    if chosen.len() == STEPS.len() {
        // A compiler that finds the disk full says so of a hundred files, after minutes.
        setup::have("disk room")?;
    }
    let mut ahead = Ahead::start(&chosen);
    let mut reports = Vec::new();
    for step in chosen {
        println!("\n=== {} · {}", step.name, step.action);
        let start = Instant::now();
        let outcome = match ahead.wait(step) {
            Ok(()) => runner::run(step.action),
            Err(error) => Outcome::failed(&error),
        };
        println!("=== {}: {outcome} in {}", step.name, seconds(start.elapsed()));
        reports.push(Report { name: step.name, outcome, seconds: seconds(start.elapsed()) });
    }
    sum_up(&reports)
}

/// Whether a step of that name runs before a merge.
#[cfg(test)]
pub(crate) fn has_step(name: &str) -> bool {
    STEPS.iter().any(|step| step.name == name)
}

fn is_chosen(step: &Step, options: &Options) -> bool {
    let tier = !options.fast || step.tier == Tier::Fast;
    tier && options.only.as_ref().is_none_or(|text| step.name.contains(text.as_str()))
}

fn sum_up(reports: &[Report]) -> Result<()> {
    println!("\n{:<20} {:>9}  result", "step", "time");
    for report in reports {
        println!("{:<20} {:>9}  {}", report.name, report.seconds, report.outcome);
    }
    for report in reports.iter().filter(|report| report.outcome.total().failed > 0) {
        report.outcome.told().for_each(|line| println!("{}: {line}", report.name));
    }
    let total: Count = reports.iter().map(|report| report.outcome.total()).sum();
    println!("\n{total}");
    if total.failed == 0 {
        return Ok(());
    }
    let failed = reports.iter().filter(|report| report.outcome.total().failed > 0).map(|report| report.name);
    // The counts stay the last line of the standard output; this goes to the standard error.
    bail!("failed: {}", failed.collect::<Vec<_>>().join(", "))
}
