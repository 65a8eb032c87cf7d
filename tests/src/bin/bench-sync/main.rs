//! `cargo xtask bench sync`: how long it takes from what the cluster says to what the kernel holds, and what the agent is
//! made of meanwhile.
//!
//! The agent and what measures it have a processor each. What is told comes from a server of our own over plain HTTP, and
//! is seen in the pinned map by looking at it every few microseconds: a figure is from the write to the socket to the map, with
//! reading, decoding and planning in it.

mod figures;
mod floor;
mod rivals;
mod stage;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::Parser;
use rustix::thread::{CpuSet, sched_setaffinity};
use sluice_bench::{Mode, Part, Version, table};
use tests::contest::rival;
use tests::sync::cluster::Size;

use stage::Counts;

/// What else is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    /// Sluice's agent, from the event to the map.
    Agent,
    /// The agent and kube-proxy, from the event to the connection.
    Rivals,
}

#[derive(Debug, Parser)]
struct Options {
    /// Fewer changes and starts; kube-proxy with 1,000 Services alone
    #[arg(long)]
    quick: bool,
    /// Only this many Services; may be given again
    #[arg(long, value_name = "N")]
    services: Vec<u32>,
    /// Only one half of it
    #[arg(long)]
    only: Option<Only>,
    /// How long the agent rests before each change that is measured by itself, in microseconds
    #[arg(long, value_name = "N", default_value_t = 4_000)]
    rest: u64,
    /// Where the part goes
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    folder: PathBuf,
}

impl Options {
    fn does(&self, half: Only, services: u32) -> bool {
        self.only.is_none_or(|only| only == half)
            && (self.services.is_empty() || self.services.contains(&services))
    }
}

fn main() -> Result<()> {
    let options = Options::parse();
    let mut part = Part {
        what: "sync".to_owned(),
        mode: if options.quick { Mode::Quick } else { Mode::Full },
        command: format!("cargo xtask bench sync{}", if options.quick { " --quick" } else { "" }),
        versions: Version::machine(),
        seconds: 0.0,
        figures: Vec::new(),
        plots: Vec::new(),
        notes: vec![
            "The agent has one processor, what measures it another; both are served before all else (SCHED_RR). Objects come over plain HTTP from a server that only writes; each change is timed from the write to the socket until the pinned map shows it."
                .to_owned(),
        ],
    };
    agents(&options, &mut part)?;
    rivals(&options, &mut part)?;
    print!("{}", table::of_part(&part));
    Ok(())
}

/// What has been measured is written down after each size, so that it is there whatever becomes of the next one.
fn agents(options: &Options, part: &mut Part) -> Result<()> {
    let began = Instant::now();
    let rest = Duration::from_micros(options.rest);
    let counts = if options.quick {
        Counts { starts: 2, changes: 300, services: 30, rest }
    } else {
        Counts { starts: 5, changes: 2_000, services: 200, rest }
    };
    let sizes = [(1_000, 2_000), (10_000, 20_000), (100_000, 250_000)]
        .map(|(services, endpoints)| Size { services, endpoints });
    let sizes = sizes.into_iter().filter(|size| options.does(Only::Agent, size.services));
    let mut found = Vec::new();
    order(Order::First)?;
    for size in sizes {
        eprintln!("{}", size.name());
        found.push(stage::measure(size, &counts)?);
        part.figures = found.iter().flat_map(figures::figures).collect();
        part.plots = figures::plots(&found);
        part.seconds = began.elapsed().as_secs_f64();
        part.write(&options.folder)?;
    }
    pin(&[HERE, AGENT])?;
    order(Order::Usual)
}

fn rivals(options: &Options, part: &mut Part) -> Result<()> {
    let sizes: &[(u32, usize)] = if options.quick { &[(1_000, 10)] } else { &[(1_000, 40), (10_000, 40)] };
    let before = part.seconds;
    let began = Instant::now();
    for (services, changes) in sizes.iter().filter(|(services, _)| options.does(Only::Rivals, *services)) {
        eprintln!("{services} Services, kube-proxy beside Sluice");
        let found = rival::compare(usize::try_from(*services)?, *changes)?;
        part.figures.extend(rivals::figures(&found));
        part.seconds = before + began.elapsed().as_secs_f64();
        part.write(&options.folder)?;
    }
    Ok(())
}

/// Where the agent runs.
const AGENT: usize = 1;
/// Where this thread runs, which tells the agent of changes and looks at the maps.
const HERE: usize = 0;

/// Lets this thread, and what it starts, run on these processors only.
fn pin(processors: &[usize]) -> Result<()> {
    let mut set = CpuSet::new();
    processors.iter().for_each(|number| set.set(*number));
    sched_setaffinity(None, &set).context("choosing a processor")
}

/// How this thread, and what it starts, is given processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Before everything that has no such right: what others do on these processors is not what is measured.
    First,
    /// As everybody.
    Usual,
}

fn order(order: Order) -> Result<()> {
    let (policy, priority) = match order {
        Order::First => (libc::SCHED_RR, 5),
        Order::Usual => (libc::SCHED_OTHER, 0),
    };
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: the pointer is to a whole sched_param that outlives the call.
    if unsafe { libc::sched_setscheduler(0, policy, &param) } == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error()).context("choosing how processors are given")
}
