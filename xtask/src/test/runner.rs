//! Runs one step: its output goes through as it comes, and is counted on the way.

use std::{
    fmt,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{count::Count, kernel_lint, steps::Action};
use crate::{child, setup};

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    count: Count,
    verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Ok,
    Failed(String),
}

impl Outcome {
    pub(super) fn failed(error: &anyhow::Error) -> Self {
        Self { count: Count::default(), verdict: Verdict::Failed(format!("{error:#}")) }
    }

    /// The tests of the step; a failure without a failed test (a lint, a compiler error) is one.
    pub(super) fn total(&self) -> Count {
        let broken = matches!(self.verdict, Verdict::Failed(_)) && self.count.failed == 0;
        Count { failed: self.count.failed + u64::from(broken), ..self.count }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tests = if self.count == Count::default() { String::new() } else { format!(" ({})", self.count) };
        match &self.verdict {
            Verdict::Ok => write!(f, "ok{tests}"),
            Verdict::Failed(why) => write!(f, "FAILED{tests}: {why}"),
        }
    }
}

pub(super) fn run(action: Action) -> Outcome {
    let mut count = Count::default();
    let done = match action {
        Action::Cargo(args) => stream(&mut child::cargo(args), &mut count),
        Action::Kernel(verb, args) => {
            let manifest = ["--manifest-path", "proxy-ebpf/Cargo.toml"];
            stream(child::cargo([verb]).args(manifest).args(args), &mut count)
        }
        Action::KernelLint => kernel_lint::command().and_then(|mut lint| stream(&mut lint, &mut count)),
        Action::Xtask(args) => xtask(args, &mut count),
        Action::Cases(default) => cases(default, &mut count),
        // Without it nobody has looked, and that is no success.
        Action::Deny => setup::have("cargo-deny").and_then(|()| {
            stream(&mut child::cargo(["deny", "check", "licenses", "bans", "sources"]), &mut count)
        }),
    };
    let verdict = done.map_or_else(|error| Verdict::Failed(format!("{error:#}")), |()| Verdict::Ok);
    Outcome { count, verdict }
}

fn xtask(args: &[&str], count: &mut Count) -> Result<()> {
    let program = std::env::current_exe().context("cannot find xtask's own binary")?;
    stream(Command::new(program).current_dir(child::root()).args(args), count)
}

/// The cases that the repository keeps, and those of every folder that `SLUICE_FIXTURES` names (as `PATH` does).
fn cases(default: &str, count: &mut Count) -> Result<()> {
    let others = std::env::var_os("SLUICE_FIXTURES").unwrap_or_default();
    let folders = std::iter::once(child::root().join(default)).chain(std::env::split_paths(&others));
    let folders: Vec<String> = folders
        .filter(|folder| folder != Path::new(""))
        .map(|folder| folder.to_string_lossy().into_owned())
        .collect();
    let args: Vec<&str> = std::iter::once("fixtures").chain(folders.iter().map(String::as_str)).collect();
    xtask(&args, count)
}

/// Standard output is read, counted and printed line by line; standard error is ours.
fn stream(command: &mut Command, count: &mut Count) -> Result<()> {
    let line = child::line(command);
    let mut process = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {line}"))?;
    let out = process.stdout.take().context("a piped process has a standard output")?;
    for bytes in BufReader::new(out).split(b'\n') {
        let bytes = bytes.with_context(|| format!("cannot read from {line}"))?;
        let text = String::from_utf8_lossy(&bytes);
        println!("{text}");
        if let Some(more) = Count::of(&text) {
            *count = [*count, more].into_iter().sum();
        }
    }
    let status = process.wait().with_context(|| format!("cannot wait for {line}"))?;
    if status.success() { Ok(()) } else { bail!("{line}: {status}") }
}
