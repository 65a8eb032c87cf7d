//! Runs one step: its output goes through as it comes, and is counted on the way.

use std::{
    fmt,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{
    count::{Count, Counter},
    kernel_lint,
    steps::Action,
    told::Told,
};
use crate::{child, setup};

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Outcome {
    count: Count,
    told: Told,
    verdict: Verdict,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Ok,
    Failed(String),
}

impl Outcome {
    pub(super) fn failed(error: &anyhow::Error) -> Self {
        Self {
            count: Count::default(),
            told: Told::default(),
            verdict: Verdict::Failed(format!("{error:#}")),
        }
    }

    /// What its failed tests said.
    pub(super) fn told(&self) -> impl Iterator<Item = &str> {
        self.told.lines()
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

/// What a step has printed so far, as far as it matters at the end.
#[derive(Default)]
struct Heard {
    counter: Counter,
    told: Told,
}

impl Heard {
    fn line(&mut self, text: &str) {
        self.counter.see(text);
        self.told.hear(text);
    }
}

pub(super) fn run(action: Action) -> Outcome {
    let mut heard = Heard::default();
    let done = match action {
        Action::Cargo(args) => stream(&mut child::cargo(args), &mut heard),
        Action::Kernel(verb, args) => {
            let manifest = ["--manifest-path", "proxy-ebpf/Cargo.toml"];
            stream(child::cargo([verb]).args(manifest).args(args), &mut heard)
        }
        Action::KernelLint => kernel_lint::command().and_then(|mut lint| stream(&mut lint, &mut heard)),
        Action::Xtask(args) => xtask(args, &mut heard),
        Action::Cases(default) => cases(default, &mut heard),
        // Without it nobody has looked, and that is no success.
        Action::Deny => setup::have("cargo-deny").and_then(|()| {
            stream(&mut child::cargo(["deny", "check", "licenses", "bans", "sources"]), &mut heard)
        }),
    };
    let verdict = done.map_or_else(|error| Verdict::Failed(format!("{error:#}")), |()| Verdict::Ok);
    Outcome { count: heard.counter.total(), told: heard.told, verdict }
}

fn xtask(args: &[&str], heard: &mut Heard) -> Result<()> {
    let program = std::env::current_exe().context("cannot find xtask's own binary")?;
    stream(Command::new(program).current_dir(child::root()).args(args), heard)
}

/// The cases that the repository keeps, and those of every folder that `SLUICE_FIXTURES` names (as `PATH` does).
fn cases(default: &str, heard: &mut Heard) -> Result<()> {
    let others = std::env::var_os("SLUICE_FIXTURES").unwrap_or_default();
    let folders = std::iter::once(child::root().join(default)).chain(std::env::split_paths(&others));
    let folders: Vec<String> = folders
        .filter(|folder| folder != Path::new(""))
        .map(|folder| folder.to_string_lossy().into_owned())
        .collect();
    let args: Vec<&str> = std::iter::once("fixtures").chain(folders.iter().map(String::as_str)).collect();
    xtask(&args, heard)
}

/// Standard output is read, counted and printed line by line; standard error is ours.
fn stream(command: &mut Command, heard: &mut Heard) -> Result<()> {
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
        heard.line(&text);
    }
    let status = process.wait().with_context(|| format!("cannot wait for {line}"))?;
    if status.success() { Ok(()) } else { bail!("{line}: {status}") }
}
