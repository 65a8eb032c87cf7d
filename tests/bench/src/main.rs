//! `bench-report`: merges the parts in a folder into a table and `report.html`. It measures nothing.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Parser;
use sluice_bench::{
    Mode, Part, Version, packets, page,
    summary::{Run, Summary},
    table,
};

#[derive(Debug, Parser)]
#[command(about = "Shows what benches have measured")]
enum Verb {
    /// All parts as a table, and as a page with plots
    Merge(Merge),
    /// What `bench-packets` wrote, as a part
    Packets(Packets),
}

#[derive(Debug, clap::Args)]
struct Merge {
    /// Where the parts are, and where report.html goes
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// A part that failed, and why; may be given again
    #[arg(long, value_name = "WHAT=REASON", value_parser = failure)]
    failed: Vec<(String, String)>,
    /// The parts, in the order in which they are told
    #[arg(value_name = "WHAT", required = true)]
    parts: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Packets {
    /// Where the part goes
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// How long it took
    #[arg(long, value_name = "SECONDS")]
    seconds: f64,
    /// What `bench-packets --json` wrote
    raw: PathBuf,
}

fn failure(text: &str) -> Result<(String, String), String> {
    let (what, reason) = text.split_once('=').ok_or("WHAT=REASON is what it should look like")?;
    Ok((what.to_owned(), reason.to_owned()))
}

fn main() -> Result<()> {
    match Verb::parse() {
        Verb::Merge(options) => merge(options),
        Verb::Packets(options) => convert(&options),
    }
}

fn merge(Merge { folder, failed, parts }: Merge) -> Result<()> {
    let mut failed: BTreeMap<String, String> = failed.into_iter().collect();
    let runs = parts
        .into_iter()
        .map(|what| {
            let reason = failed.remove(&what);
            let run = run(&folder, &what, reason);
            (what, run)
        })
        .collect();
    let summary = Summary { runs };
    let file = folder.join("report.html");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(&file, page::html(&summary)).with_context(|| format!("cannot write {}", file.display()))?;
    print!("{}", table::text(&summary));
    println!("report: {}", file.display());
    Ok(())
}

fn run(folder: &Path, what: &str, reason: Option<String>) -> Run {
    match (Part::read(folder, what), reason) {
        (Ok(part), reason) => Run::Written(Box::new(part), reason),
        (Err(_), Some(reason)) => Run::Failed(reason),
        (Err(error), None) => Run::Failed(format!("its figures cannot be read: {error}")),
    }
}

fn convert(Packets { folder, seconds, raw }: &Packets) -> Result<()> {
    let bytes = fs::read(raw).with_context(|| format!("cannot read {}", raw.display()))?;
    let found: packets::Raw =
        serde_json::from_slice(&bytes).with_context(|| format!("cannot understand {}", raw.display()))?;
    let part = Part {
        what: "packets".to_owned(),
        mode: Mode::Full,
        command: "cargo xtask bench packets".to_owned(),
        versions: Version::machine(),
        seconds: *seconds,
        figures: packets::figures(&found),
        plots: packets::plots(&found),
        notes: vec![
            "The kernel's own clock around BPF_PROG_TEST_RUN, minus that of an empty program in the same round. The lower end is the best of nine rounds."
                .to_owned(),
        ],
    };
    part.write(folder)?;
    print!("{}", table::of_part(&part));
    Ok(())
}
