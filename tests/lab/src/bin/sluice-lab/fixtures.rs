//! `fixtures`: arguments of the runner, and its report.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use regex::Regex;
use sluice_lab::binary::Program;
use sluice_lab::fixture::agents::Sluice;
use sluice_lab::fixture::expectation::Road;
use sluice_lab::fixture::play_policy::Addressing;
use sluice_lab::fixture::play_service::Flipping;
use sluice_lab::fixture::runner::{self, Agents, Plan};
use sluice_lab::fixture::{self, report};

/// Arguments.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Case files, or folders of them
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Only cases whose id or one of whose features matches
    #[arg(long, value_name = "REGEX")]
    filter: Option<Regex>,
    /// Where connections are translated
    #[arg(long, value_enum, default_value_t = RoadArg::Both)]
    road: RoadArg,
    /// Form of the report
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Labs at a time
    #[arg(long, default_value_t = 3)]
    jobs: usize,
    /// Also turn every expectation round: each has to fail then, and so every case
    #[arg(long)]
    flip: bool,
    /// How policy cases reach pods
    #[arg(long, value_enum, default_value_t = AddressingArg::Both)]
    addressing: AddressingArg,
    /// Clean up and start the agents for each case
    #[arg(long)]
    fresh_agents: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RoadArg {
    /// At the socket
    Socket,
    /// Packet by packet
    Packet,
    /// Each case on both
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AddressingArg {
    /// By their own addresses
    Direct,
    /// By the ClusterIP of their Service, on each road, where the case has Services
    Services,
    /// First by the one, then by the other
    Both,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

/// Plays the cases; the exit code says whether all passed.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut cases = fixture::load(&options.paths)?;
    if let Some(filter) = &options.filter {
        cases.retain(|case| case.matches(filter));
        ensure!(!cases.is_empty(), "no case matches {filter}");
    }
    // Said once, instead of by every case.
    Program::Agent.find()?;
    let plan = Plan {
        roads: match options.road {
            RoadArg::Socket => vec![Road::Socket],
            RoadArg::Packet => vec![Road::Packet],
            RoadArg::Both => vec![Road::Socket, Road::Packet],
        },
        jobs: options.jobs.min(cases.len() * 3),
        flipping: if options.flip { Flipping::On } else { Flipping::Off },
        addressing: match options.addressing {
            AddressingArg::Direct => vec![Addressing::Direct],
            AddressingArg::Services => vec![Addressing::ThroughServices],
            AddressingArg::Both => vec![Addressing::Direct, Addressing::ThroughServices],
        },
        agents: if options.fresh_agents { Agents::Fresh } else { Agents::Reused },
    };
    let verdicts = runner::run(&cases, &plan, &Sluice::on, |verdict| {
        if options.output == Output::Table {
            println!("{}", report::line(verdict));
        }
    })?;
    let count = report::Count::of(&verdicts);
    match options.output {
        Output::Table => {
            if let Some(flips) = report::flips(&verdicts).filter(|_| options.flip) {
                println!("{flips}");
            }
            if let Some(unprobed) = report::unprobed(&verdicts) {
                println!("{unprobed}");
            }
            println!("{count}");
        }
        Output::Json => {
            println!("{}", report::json(&verdicts));
            // The document stays a document; the line is for who watches.
            eprintln!("{count}");
        }
    }
    Ok(if count.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
