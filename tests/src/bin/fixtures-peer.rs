//! Plays fixture cases against the real kube-proxy, in nftables mode and fed by a real API server, and says of each case whether
//! they agree. `cargo xtask fixtures DIR --implementation kube-proxy` is the way to call it.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use regex::Regex;
use sluice_lab::Lab;
use sluice_lab::fixture::expectation::Road;
use sluice_lab::fixture::play_policy::Addressing;
use sluice_lab::fixture::play_service::Flipping;
use sluice_lab::fixture::product::Product;
use sluice_lab::fixture::runner::{self, Agents, Plan};
use sluice_lab::fixture::verdict::{CaseOutcome, CaseVerdict};
use sluice_lab::fixture::{self, Case};
use tests::cluster::binary::ClusterBinary;
use tests::peer::Peer;

/// Plays fixture cases against kube-proxy.
#[derive(Debug, Parser)]
struct Options {
    /// Case files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only cases whose id or one of whose features matches
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
    /// Control planes and labs at a time
    #[arg(long, default_value_t = 1)]
    jobs: usize,
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let mut cases = fixture::load(&options.paths)?;
    // kube-proxy knows no policies.
    cases.retain(|case| matches!(case, Case::Service(_)));
    if let Some(filter) = &options.filter {
        cases.retain(|case| case.matches(filter));
    }
    ensure!(!cases.is_empty(), "no service case to play");
    ClusterBinary::build()?;
    let first = play(&cases, options.jobs, Agents::Reused)?;
    // What earlier cases leave behind in netfilter is no disagreement: those in doubt are played once more, with nothing before.
    let doubtful: Vec<Case> = cases.iter().filter(|case| disagrees(&first, case)).cloned().collect();
    let second = if doubtful.is_empty() {
        Vec::new()
    } else {
        println!("\nOnce more, each with a fresh kube-proxy:");
        play(&doubtful, options.jobs, Agents::Fresh)?
    };
    println!("\n| case | family | kube-proxy | |\n|---|---|---|---|");
    let (mut agree, mut differ, mut mute) = (0, 0, 0);
    for case in &cases {
        let of = |verdicts: &[CaseVerdict]| verdicts.iter().find(|one| one.id == case.id()).cloned();
        let Some(verdict) = of(&second).or_else(|| of(&first)) else { continue };
        let (word, why) = match &verdict.outcome {
            CaseOutcome::Passed => ("agrees", String::new()),
            CaseOutcome::Failed { problems } => ("disagrees", problems.join("; ")),
            CaseOutcome::Skipped { reason } => ("not played", reason.clone()),
        };
        match verdict.outcome {
            CaseOutcome::Passed => agree += 1,
            CaseOutcome::Failed { .. } => differ += 1,
            CaseOutcome::Skipped { .. } => mute += 1,
        }
        println!("| {} | {} | {word} | {} |", case.id(), families(case), why.replace('|', "\\|"));
    }
    println!("\n{agree} agree, {differ} disagree, {mute} not played");
    Ok(if differ == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn play(cases: &[Case], jobs: usize, agents: Agents) -> Result<Vec<CaseVerdict>> {
    let plan = Plan {
        roads: vec![Road::Packet],
        jobs,
        flipping: Flipping::Off,
        addressing: vec![Addressing::Direct],
        agents,
    };
    let peer = |lab: &Lab| -> Result<Box<dyn Product>> { Ok(Box::new(Peer::at(lab)?)) };
    runner::run(cases, &plan, &peer, |verdict| println!("{}", fixture::report::line(verdict)))
}

fn disagrees(verdicts: &[CaseVerdict], case: &Case) -> bool {
    let failed = |verdict: &CaseVerdict| matches!(verdict.outcome, CaseOutcome::Failed { .. });
    verdicts.iter().any(|verdict| verdict.id == case.id() && failed(verdict))
}

fn families(case: &Case) -> &'static str {
    if case.requires().iter().any(|need| need == "ipv6") { "IPv4, IPv6" } else { "IPv4" }
}
