//! Counts connections that break while something changes: backends of the Service that is asked, other Services, the agent. New
//! connections are made without a pause and others stay open meanwhile. `cargo xtask bench churn` is the way to call it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use sluice_bench::part::{Mode, Part, Version};
use sluice_bench::{Estimate, Figure, Unit};
use tests::cluster::Road;
use tests::contest::churn::{Churn, Event, Tally};

/// Counts connections broken by changes.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench churn", bin_name = "cargo xtask bench churn")]
struct Options {
    /// A tenth of it, in two minutes
    #[arg(long)]
    quick: bool,
    /// Seconds: whether the runner runs
    #[arg(long, conflicts_with = "quick")]
    smoke: bool,
    /// Where the report is put together
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
}

impl Options {
    fn events(&self) -> Vec<(Event, u32)> {
        let [changes, restarts] = match (self.smoke, self.quick) {
            (true, _) => [10, 1],
            (false, true) => [1_000, 4],
            (false, false) => [10_000, 40],
        };
        vec![
            (Event::OwnBackend, changes),
            (Event::OtherBackend, changes),
            (Event::Kill, restarts),
            (Event::Restart, restarts),
        ]
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let began = Instant::now();
    let mut broken = 0;
    let mut part = Part {
        what: "churn".to_owned(),
        mode: if options.quick || options.smoke { Mode::Quick } else { Mode::Full },
        command: std::iter::once("cargo xtask bench churn".to_owned())
            .chain(std::env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" "),
        versions: Version::machine(),
        seconds: 0.0,
        figures: Vec::new(),
        plots: Vec::new(),
        notes: vec![
            "New connections are made one after the other as fast as they go, at the processor of the servers; 100 others \
             stay open and are asked in turn, a thousand requests in a second. A removed backend goes on serving, as one does \
             that ends gracefully."
                .to_owned(),
        ],
    };
    for road in [Road::Socket, Road::Packet] {
        let mut churn = Churn::up(road)?;
        for (event, times) in options.events() {
            let tally = churn.count(event, times)?;
            println!("{road:?} road, {times:>5} × {event:<34} {tally}");
            broken += tally.broken();
            part.figures.push(figure(road, event, times, &tally));
            part.notes.push(format!("{road:?} road, {times} × {event}: {tally}."));
            // After each, so that it is there whatever becomes of the next one.
            part.seconds = began.elapsed().as_secs_f64();
            part.write(&options.folder)?;
        }
        churn.down()?;
    }
    println!("{:.0} s; {}", began.elapsed().as_secs_f64(), Part::path(&options.folder, &part.what).display());
    Ok(if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn figure(road: Road, event: Event, times: u32, tally: &Tally) -> Figure {
    let configuration = format!("{road:?} road, {times} × {event}, {} connections", tally.made());
    let broken = Some(Estimate::exact(tally.broken() as f64));
    match event {
        Event::OwnBackend => Figure::told(
            "connections broken by changes of their own backends",
            configuration,
            Unit::Count,
            Estimate::exact(tally.broken() as f64),
        ),
        Event::OtherBackend => Figure::of(17, "change", configuration, broken),
        Event::Kill => Figure::of(17, "restart", configuration, broken),
        // The programs are replaced at each start, by others if there are others.
        Event::Restart => Figure::of(17, "upgrade", configuration, broken),
    }
}
