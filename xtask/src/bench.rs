//! `cargo xtask bench WHAT`: builds what measures, runs it, and shows what came of it.
//!
//! A bench is a binary of the workspace. It is called with `--quick` or without, prints a table and writes its part,
//! `target/bench/<what>.json`. What a part is, and the report of all, is the package `sluice-bench`.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::{child, setup};

/// What to measure.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// All of them in turn, then the table of goals and target/bench/report.html
    All(All),
    /// The table and the page, of what was measured before
    Report,
    /// Connections through Sluice, kube-proxy and none of them
    Connect(Rest),
    /// Nanoseconds per packet, path by path, and verified instructions
    Packets(Rest),
    /// From the cluster's events to the kernel's maps; memory
    Sync(Rest),
    /// Connections broken by changes
    Churn(Rest),
    /// Round trips and streams once more with sockperf and iperf3; not part of the report
    Cross(Rest),
}

#[derive(Debug, clap::Args)]
struct All {
    /// What fits in 25 minutes on two processors, once it is built
    #[arg(long)]
    quick: bool,
}

/// Arguments, handed on as they are.
#[derive(Debug, clap::Args)]
struct Rest {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    args: Vec<String>,
}

/// A binary that measures.
#[derive(Debug)]
struct Bench {
    what: &'static str,
    binary: &'static str,
    /// Other binaries that it starts, besides the agent.
    others: &'static [&'static str],
    /// What it needs besides what everything needs, by the name in the table of needs.
    needs: &'static [&'static str],
    /// What a quick run may take: all together stay below 25 minutes.
    limit: Duration,
    /// What a quick run is told besides.
    quick: &'static [&'static str],
}

const LOADED: &[&str] = &["sluice-load", "lab-probe"];
const CONNECT: Bench = Bench {
    what: "connect",
    binary: "bench-connect",
    others: LOADED,
    needs: &["rule tools", "Go"],
    limit: Duration::from_secs(780),
    // Its last scene may take the rest.
    quick: &["--until=700"],
};
const PACKETS: Bench = Bench {
    what: "packets",
    binary: "bench-packets",
    others: &[],
    needs: &[],
    limit: Duration::from_secs(300),
    quick: &[],
};
const SYNC: Bench = Bench {
    what: "sync",
    binary: "bench-sync",
    others: LOADED,
    needs: &["rule tools", "Go"],
    limit: Duration::from_secs(220),
    quick: &[],
};
const CHURN: Bench = Bench {
    what: "churn",
    binary: "bench-churn",
    others: LOADED,
    needs: &[],
    limit: Duration::from_secs(200),
    quick: &[],
};
const CROSS: Bench =
    Bench { what: "cross", binary: "bench-cross", others: LOADED, needs: &[], limit: LONG, quick: &[] };
const BENCHES: [Bench; 4] = [CONNECT, PACKETS, SYNC, CHURN];

/// Names the agent that the lab starts.
const AGENT: &str = "SLUICE_AGENT";

/// A run that is not quick ends when it ends; this is for those that hang.
const LONG: Duration = Duration::from_secs(4 * 3600);

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    match &options.what {
        What::All(All { quick }) => all(*quick),
        What::Report => report(&[]),
        What::Connect(rest) => CONNECT.alone(&rest.args),
        What::Packets(rest) => PACKETS.alone(&rest.args),
        What::Sync(rest) => SYNC.alone(&rest.args),
        What::Churn(rest) => CHURN.alone(&rest.args),
        What::Cross(rest) => CROSS.alone(&rest.args),
    }
}

fn folder() -> PathBuf {
    child::root().join("target/bench")
}

fn all(quick: bool) -> Result<()> {
    fs::create_dir_all(folder())?;
    let mut failed = Vec::new();
    for bench in &BENCHES {
        // An old part must not pass for what this run has measured.
        match fs::remove_file(folder().join(format!("{}.json", bench.what))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        println!("==> {}", bench.what);
        let limit = if quick { bench.limit } else { LONG };
        let args: Vec<String> = if quick {
            std::iter::once(&"--quick").chain(bench.quick).map(ToString::to_string).collect()
        } else {
            Vec::new()
        };
        if let Err(error) = bench.build(&args).and_then(|()| bench.measure(&args, limit)) {
            println!("{}: {error:#}", bench.what);
            failed.push((bench.what, format!("{error:#}")));
        }
    }
    report(&failed)
}

/// The table and the page. A part that failed is in both.
fn report(failed: &[(&str, String)]) -> Result<()> {
    build("bench-report")?;
    let mut merge = Command::new(binary("bench-report"));
    merge.args(["merge", "--folder"]).arg(folder());
    for (what, reason) in failed {
        merge.arg(format!("--failed={what}={reason}"));
    }
    child::run(merge.args(BENCHES.iter().map(|bench| bench.what)))
}

/// The agent that a run is about.
enum Agent {
    /// None.
    Absent,
    /// As it is shipped.
    Shipped,
    /// As it is for tests, beside the bench: whether the bench runs is all that is asked.
    Beside,
    /// The one that the environment names.
    Named,
}

impl Bench {
    fn alone(&self, args: &[String]) -> Result<()> {
        self.build(args)?;
        self.measure(args, LONG)
    }

    fn agent(&self, args: &[String]) -> Agent {
        if self.what == PACKETS.what {
            Agent::Absent
        } else if std::env::var_os(AGENT).is_some() {
            Agent::Named
        } else if args.iter().any(|arg| arg == "--smoke") {
            Agent::Beside
        } else {
            Agent::Shipped
        }
    }

    fn build(&self, args: &[String]) -> Result<()> {
        self.needs.iter().try_for_each(|need| setup::have(need))?;
        let own = std::iter::once(&self.binary).chain(self.others);
        match self.agent(args) {
            Agent::Absent | Agent::Named => build_all(own),
            Agent::Beside => build_all(own.chain(&["proxy-agent"])),
            Agent::Shipped => {
                build_all(own)?;
                child::run(&mut child::cargo(["build", "-q", "--release", "-p", "proxy-agent", "--bins"]))
            }
        }
    }

    fn measure(&self, args: &[String], limit: Duration) -> Result<()> {
        if self.what == PACKETS.what {
            return packets(args, limit);
        }
        let mut command = Command::new(binary(self.binary));
        if let Agent::Shipped = self.agent(args) {
            command.env(AGENT, target().join("release/proxy-agent"));
        }
        within(command.args(args), limit)
    }
}

/// This bench writes nanoseconds; the report makes figures of them. It takes two minutes and has no shorter form.
fn packets(args: &[String], limit: Duration) -> Result<()> {
    let args: Vec<&String> = args.iter().filter(|arg| *arg != "--quick").collect();
    let mut bench = Command::new(binary("bench-packets"));
    if !args.is_empty() {
        return within(bench.args(args), limit);
    }
    let raw = folder().join("packets.raw.json");
    fs::create_dir_all(folder())?;
    let began = Instant::now();
    within(bench.arg("--json").arg(&raw), limit)?;
    build("bench-report")?;
    let seconds = began.elapsed().as_secs_f64().to_string();
    child::run(
        Command::new(binary("bench-report"))
            .args(["packets", "--seconds", &seconds, "--folder"])
            .arg(folder())
            .arg(raw),
    )
}

/// With the whole workspace's features: a package's own would build half of it once more.
fn build(binary: &'static str) -> Result<()> {
    build_all([&binary])
}

fn build_all<'a>(binaries: impl IntoIterator<Item = &'a &'static str>) -> Result<()> {
    let mut cargo = child::cargo(["build", "-q", "--workspace"]);
    child::run(cargo.args(binaries.into_iter().flat_map(|binary| ["--bin", *binary])))
}

fn binary(name: &str) -> PathBuf {
    target().join("debug").join(name)
}

fn target() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    child::root().join(target)
}

/// Runs a command in the root of the repository. One that takes longer is asked to end, and
/// ended a little later.
fn within(command: &mut Command, limit: Duration) -> Result<()> {
    let line = child::line(command);
    let mut child =
        command.current_dir(child::root()).spawn().with_context(|| format!("cannot run {line}"))?;
    if let Some(status) = wait(&mut child, limit)? {
        if !status.success() {
            bail!("{line} failed ({status})");
        }
        return Ok(());
    }
    let id = i32::try_from(child.id()).context("a process has a number that is positive")?;
    // Ctrl-C first: a bench takes its namespaces and agents down.
    for (signal, patience) in [(libc::SIGINT, 60), (libc::SIGKILL, 20)] {
        // SAFETY: only signals our own child, whose number is not free before `wait` has reaped it.
        unsafe { libc::kill(id, signal) };
        if wait(&mut child, Duration::from_secs(patience))?.is_some() {
            break;
        }
    }
    bail!("{line} did not end within {} seconds", limit.as_secs())
}

/// `None` if it still runs when the time is up.
fn wait(child: &mut Child, limit: Duration) -> Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        match child.try_wait()? {
            Some(status) => return Ok(Some(status)),
            None if Instant::now() >= end => return Ok(None),
            None => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}
