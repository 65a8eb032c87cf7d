//! Measures connections: the same cluster served by nobody, by Sluice and by kube-proxy's rules, asked in turn. Prints a table for
//! each scene and writes its part of the report. `cargo xtask bench connect` is the way to call it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use sluice_bench::part::{Mode, Part, Version};
use tests::contest::contender::{self, Contender, Size};
use tests::contest::field::Field;
use tests::contest::round::{self, Outcome};
use tests::contest::scene::{self, Scene};
use tests::contest::{answer, table};

/// Measures connections through Sluice, kube-proxy and none of them.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench connect", bin_name = "cargo xtask bench connect")]
struct Options {
    /// 10, 10,000 and 100,000 Services, in minutes
    #[arg(long)]
    quick: bool,
    /// Sluice against nobody, without peers
    #[arg(long, conflicts_with = "quick")]
    own: bool,
    /// Seconds: whether the runner runs
    #[arg(long, conflicts_with_all = ["quick", "own"])]
    smoke: bool,
    /// Beside IPVS, in an emulated machine
    #[arg(long, conflicts_with_all = ["quick", "own", "smoke"])]
    emulated: bool,
    /// Only this scene; can be repeated
    #[arg(long, value_name = "NAME")]
    scene: Vec<String>,
    /// Only who has this in his name, and nobody; can be repeated
    #[arg(long, value_name = "PART")]
    who: Vec<String>,
    /// Rounds of each scene
    #[arg(long)]
    rounds: Option<usize>,
    /// No scene begins after so many seconds, but for the first
    #[arg(long, value_name = "SECONDS")]
    until: Option<u64>,
    /// Where the report is put together
    #[arg(long, default_value = "target/bench")]
    folder: PathBuf,
}

impl Options {
    fn size(&self) -> Size {
        let asked = [
            (self.quick, Size::Quick),
            (self.own, Size::Own),
            (self.smoke, Size::Smoke),
            (self.emulated, Size::Emulated),
        ];
        asked.into_iter().find(|(is_asked, _)| *is_asked).map_or(Size::Full, |(_, size)| size)
    }

    fn scenes(&self) -> Vec<Scene> {
        let mut scenes = scene::scenes(self.size(), self.rounds);
        scenes.retain(|scene| self.scene.is_empty() || self.scene.iter().any(|name| name == scene.name));
        scenes
    }

    fn contenders(&self) -> Vec<Contender> {
        let mut all = contender::field(self.size());
        let wanted = |one: &Contender| {
            let name = one.to_string();
            one.services == 0 || self.who.is_empty() || self.who.iter().any(|part| name.contains(part))
        };
        all.retain(wanted);
        all
    }
}

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let began = Instant::now();
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    let go_on = || -> Result<()> {
        ensure!(!stop.load(Ordering::Relaxed), "stopped by a signal");
        Ok(())
    };
    let scenes = options.scenes();
    ensure!(!scenes.is_empty(), "there is no such scene");
    let mut field = Field::up(&options.contenders(), &go_on)?;
    println!("{:.0} s: everybody is ready\n", began.elapsed().as_secs_f64());
    let mut part = Part {
        what: "connect".to_owned(),
        mode: if options.size() == Size::Full { Mode::Full } else { Mode::Quick },
        command: std::iter::once("cargo xtask bench connect".to_owned())
            .chain(std::env::args().skip(1))
            .collect::<Vec<_>>()
            .join(" "),
        versions: Version::machine().into_iter().chain(field.versions()).collect(),
        seconds: 0.0,
        figures: Vec::new(),
        plots: Vec::new(),
        notes: Vec::new(),
    };
    let mut outcomes = Vec::new();
    for (index, scene) in scenes.iter().enumerate() {
        if index > 0 && options.until.is_some_and(|until| began.elapsed().as_secs() > until) {
            part.notes.push(left_out(&scenes[index..]));
            part.write(&options.folder)?;
            break;
        }
        let outcome = round::play(scene, field.stages(), &go_on)?;
        table::print(&outcome);
        outcomes.push(outcome);
        // After each, so that it is there whatever becomes of the next one.
        part.figures = answer::figures(&outcomes);
        if options.size() != Size::Emulated {
            part.figures.extend(answer::missing(&outcomes, field.absent()));
        }
        part.plots = table::plots(&outcomes);
        part.notes = field.notes().into_iter().chain(outcomes.iter().flat_map(remarks)).collect();
        part.seconds = began.elapsed().as_secs_f64();
        part.write(&options.folder)?;
        table::write_slices(&options.folder.join("connect.csv"), &outcomes)?;
    }
    field.down()?;
    conclude(&part, &options.folder);
    let failures: u64 = outcomes.iter().map(|outcome| outcome.failures).sum();
    Ok(if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What it comes to, and where that stands.
fn conclude(part: &Part, folder: &Path) {
    for figure in part.figures.iter().filter(|figure| figure.goal.is_some()) {
        println!("{}", table::goal(figure));
    }
    part.notes.iter().for_each(|note| println!("{note}"));
    println!("\n{:.0} s; {}", part.seconds, Part::path(folder, &part.what).display());
}

fn left_out(scenes: &[Scene]) -> String {
    let names: Vec<&str> = scenes.iter().map(|scene| scene.name).collect();
    format!("Left out, because the time was up: {}.", names.join(", "))
}

/// What has to be said of a scene besides its figures.
fn remarks(outcome: &Outcome) -> Vec<String> {
    let mut all = answer::doubts(outcome);
    let name = outcome.scene.name;
    if outcome.disturbed > 0 {
        let all_slices: usize = outcome.slices.values().map(Vec::len).sum();
        all.push(format!(
            "{name}: {} of {all_slices} slices lacked some of their processor also when played again.",
            outcome.disturbed
        ));
    }
    if outcome.failures > 0 {
        all.push(format!("{name}: {} transactions failed: {:?}", outcome.failures, outcome.first_failures));
    }
    all
}
