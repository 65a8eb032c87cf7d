//! `cargo xtask e2e`: Kubernetes' own end-to-end specs against Sluice, or kube-proxy, in the lab. Chooses specs, runs several at
//! once, writes down each result as it comes, and ends with a table. Knows nothing of what a spec asks.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use regex::Regex;
use tests::cluster::binary::ClusterBinary;
use tests::cluster::kube_proxy::Mode;
use tests::cluster::{Implementation, Road};
use tests::upstream::conformance::{Conformance, Verdict};
use tests::upstream::ledger::{Entry, Ledger};
use tests::upstream::spec::{self, Choice, Company, Outcome, Spec};
use tests::upstream::table::{self, Column};
use tests::upstream::{NodeCount, Upstream};

/// Who serves Services.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Server {
    Sluice,
    KubeProxy,
}

/// Which way pods' connections take with Sluice.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    Socket,
    Packet,
}

/// Whose tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Kubernetes' sig-network specs
    Network,
    /// The conformance tests of ClusterNetworkPolicy; --focus and --skip are for their names
    Cnp,
}

#[derive(Debug, Parser)]
#[command(name = "cargo xtask e2e", about = "Runs Kubernetes' own sig-network specs in the lab")]
struct Options {
    /// Whose tests
    #[arg(long, value_enum, default_value = "network")]
    suite: Suite,
    /// Only specs whose name matches this regular expression [default: all about Services, or all of another suite]
    #[arg(long)]
    focus: Option<String>,
    /// No specs whose name matches this one
    #[arg(long)]
    skip: Option<String>,
    /// Who serves Services
    #[arg(long, value_enum, default_value = "sluice")]
    implementation: Server,
    /// Which way pods' connections take with Sluice
    #[arg(long, value_enum, default_value = "socket")]
    road: Way,
    /// Only list the specs
    #[arg(long)]
    list: bool,
    /// Only write the table of what was run before
    #[arg(long)]
    table: bool,
    /// Run also what has passed or was skipped before
    #[arg(long)]
    again: bool,
    /// How many nodes the cluster has, in three zones; a few specs want six
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// How many specs run at once
    #[arg(long, default_value_t = 4)]
    parallel: usize,
    /// How long one spec may take
    #[arg(long, default_value = "10m", value_parser = humantime::parse_duration)]
    deadline: Duration,
    /// Keep the cluster until Enter is pressed
    #[arg(long)]
    hold: bool,
}

/// What is run of sig-network's specs if nothing else is asked for.
const SERVICES: &str =
    "sig-network.*(Services|Networking|EndpointSlice|Traffic Distribution|Conntrack|KubeProxy|HostPort|Dual)";

const COLUMNS: [(&str, &str); 3] = [
    ("Sluice, sockets", "sluice-socket"),
    ("Sluice, packets", "sluice-packet"),
    ("kube-proxy, nftables", "kube-proxy"),
];

impl Options {
    /// Whether a test is still to be run.
    fn due(&self, ledger: &Ledger, name: &str) -> bool {
        self.again || ledger.get(name).is_none_or(|entry| failed(&entry.outcome))
    }

    fn implementation(&self) -> (Implementation, &'static str) {
        match (self.implementation, self.road) {
            (Server::Sluice, Way::Socket) => (Implementation::Sluice(Road::Socket), COLUMNS[0].1),
            (Server::Sluice, Way::Packet) => (Implementation::Sluice(Road::Packet), COLUMNS[1].1),
            (Server::KubeProxy, _) => (Implementation::KubeProxy(Mode::Nftables), COLUMNS[2].1),
        }
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Answers whether no spec failed.
fn run(options: &Options) -> Result<bool> {
    let folder = tests::repository().join("target/e2e");
    fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    if options.table {
        return write_table(&folder).map(|()| true);
    }
    if options.suite == Suite::Cnp {
        return conformance(options, &folder);
    }
    let focus = options.focus.clone().unwrap_or_else(|| SERVICES.to_owned());
    let choice = Choice { focus: Some(focus), skip: options.skip.clone() };
    let specs = spec::list(&ClusterBinary::build_suite()?, &choice, &folder)?;
    if specs.is_empty() {
        bail!("no spec is called like that");
    }
    if options.list {
        specs.iter().for_each(|spec| println!("{}", spec.name));
        return Ok(true);
    }
    let (implementation, column) = options.implementation();
    let mut ledger = Ledger::open(&folder.join(format!("{column}.jsonl")))?;
    let due: Vec<Spec> = specs.iter().filter(|spec| options.due(&ledger, &spec.name)).cloned().collect();
    println!("{} specs, {} of them to run", specs.len(), due.len());
    if !due.is_empty() || options.hold {
        let logs = folder.join(column);
        fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        let begin = Instant::now();
        let upstream = Upstream::up(implementation, NodeCount::new(options.nodes)?, None)?;
        println!(
            "{:6.1}s the cluster is up; its logs are in {}",
            begin.elapsed().as_secs_f64(),
            upstream.logs().display()
        );
        let result = play(&upstream, due, &mut ledger, options, &logs);
        if options.hold {
            wait_for_enter(&upstream)?;
        }
        keep_logs(&upstream, &logs);
        upstream.down()?;
        result?;
    }
    write_table(&folder)?;
    let names: Vec<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
    Ok(report(&names, &ledger))
}

/// The conformance tests of ClusterNetworkPolicy, in one process: they share their pods. Answers whether none failed.
fn conformance(options: &Options, folder: &Path) -> Result<bool> {
    let suite = Conformance::build()?;
    let wanted = |expression: &Option<String>| expression.as_deref().map(Regex::new).transpose();
    let (focus, skip) = (wanted(&options.focus)?, wanted(&options.skip)?);
    let mut names = suite.list()?;
    names.retain(|name| focus.as_ref().is_none_or(|focus| focus.is_match(name)));
    names.retain(|name| !skip.as_ref().is_some_and(|skip| skip.is_match(name)));
    if options.list {
        names.iter().for_each(|name| println!("{name}"));
        return Ok(true);
    }
    let (implementation, column) = options.implementation();
    let mut ledger = Ledger::open(&folder.join(format!("{column}.jsonl")))?;
    let due: Vec<String> = names.iter().filter(|name| options.due(&ledger, name)).cloned().collect();
    println!("{} tests, {} of them to run", names.len(), due.len());
    if !due.is_empty() || options.hold {
        let logs = folder.join(column);
        fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        let nodes = NodeCount::new(options.nodes)?;
        let upstream = Upstream::up(implementation, nodes, Some(&suite.definition()?))?;
        let deadline = options.deadline * u32::try_from(due.len())?;
        let log = logs.join("cluster-network-policy.log");
        let verdicts = suite.run(&upstream, &due, deadline, &log);
        if options.hold {
            wait_for_enter(&upstream)?;
        }
        keep_logs(&upstream, &logs);
        upstream.down()?;
        for (name, Verdict { outcome, took }) in verdicts? {
            println!("{name} ({:.0} s) {}", took.as_secs_f64(), told(&outcome, &log));
            ledger.enter(&name, Entry { outcome, took })?;
        }
    }
    write_table(folder)?;
    Ok(report(&names, &ledger))
}

fn wait_for_enter(upstream: &Upstream) -> Result<()> {
    println!("KUBECONFIG={}; Enter ends it", upstream.kubeconfig().display());
    std::io::stdin().read_line(&mut String::new()).map(drop).context("waiting for Enter")
}

fn told(outcome: &Outcome, log: &Path) -> String {
    match outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Skipped(why) => format!("skipped: {why}"),
        Outcome::Failed(why) => format!("FAILED: {why}\n        {}", log.display()),
        Outcome::TimedOut => format!("TIMED OUT\n        {}", log.display()),
    }
}

fn failed(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Failed(_) | Outcome::TimedOut)
}

/// Runs the specs, at first several at once, then those that must be alone.
fn play(
    upstream: &Upstream,
    due: Vec<Spec>,
    ledger: &mut Ledger,
    options: &Options,
    logs: &Path,
) -> Result<()> {
    let (alone, any): (Vec<Spec>, Vec<Spec>) =
        due.into_iter().partition(|spec| spec.company == Company::Alone);
    let total = alone.len() + any.len();
    let stage = Stage {
        upstream,
        options,
        logs,
        total,
        begin: Instant::now(),
        book: Mutex::new(Book { ledger, done: 0 }),
    };
    stage.play(any, options.parallel)?;
    stage.play(alone, 1)
}

struct Stage<'a> {
    upstream: &'a Upstream,
    options: &'a Options,
    logs: &'a Path,
    total: usize,
    begin: Instant,
    book: Mutex<Book<'a>>,
}

struct Book<'a> {
    ledger: &'a mut Ledger,
    done: usize,
}

impl Stage<'_> {
    fn play(&self, specs: Vec<Spec>, parallel: usize) -> Result<()> {
        let queue = Mutex::new(VecDeque::from(specs));
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        std::thread::scope(|scope| {
            let work = || -> Result<()> {
                while let Some(spec) = next() {
                    self.play_one(&spec)?;
                }
                Ok(())
            };
            let workers: Vec<_> = (0..parallel.max(1)).map(|_| scope.spawn(work)).collect();
            workers.into_iter().try_for_each(|worker| match worker.join() {
                Ok(result) => result,
                Err(_) => bail!("a worker panicked"),
            })
        })
    }

    fn play_one(&self, spec: &Spec) -> Result<()> {
        let begin = Instant::now();
        let log = self.logs.join(format!("{}.log", file_name(&spec.name)));
        let outcome = spec.run(self.upstream, self.options.deadline, &log)?;
        let took = begin.elapsed();
        let mut book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        book.done += 1;
        let told = told(&outcome, &log);
        println!(
            "{:6.0}s {}/{} {} ({:.0} s) {told}",
            self.begin.elapsed().as_secs_f64(),
            book.done,
            self.total,
            spec.name,
            took.as_secs_f64()
        );
        book.ledger.enter(&spec.name, Entry { outcome, took })
    }
}

/// Files named by specs: the letters of the name, and no more than a file system takes.
fn file_name(spec: &str) -> String {
    let letters: String = spec.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    letters.chars().take(180).collect()
}

/// The cluster's logs go with it; those of its daemons are worth keeping.
fn keep_logs(upstream: &Upstream, to: &Path) {
    let entries = fs::read_dir(upstream.logs()).into_iter().flatten().filter_map(Result::ok);
    let logs: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    for log in logs.iter().filter(|path| path.extension().is_some_and(|extension| extension == "log")) {
        // A log that cannot be kept is no reason to fail.
        if let Some(name) = log.file_name() {
            let _ = fs::copy(log, to.join(format!("daemon-{}", name.to_string_lossy())));
        }
    }
}

fn write_table(folder: &Path) -> Result<()> {
    let ledgers = COLUMNS.map(|(_, column)| Ledger::open(&folder.join(format!("{column}.jsonl"))));
    let ledgers = ledgers.into_iter().collect::<Result<Vec<_>>>()?;
    let columns: Vec<Column<'_>> =
        COLUMNS.iter().zip(&ledgers).map(|((title, _), ledger)| Column { title, ledger }).collect();
    let file = folder.join("table.md");
    fs::write(&file, table::markdown(&columns)).with_context(|| format!("writing {}", file.display()))?;
    println!("the table of all implementations: {}", file.display());
    Ok(())
}

fn report(names: &[impl AsRef<str>], ledger: &Ledger) -> bool {
    let count = |wanted: fn(&Outcome) -> bool| {
        let outcomes = names.iter().filter_map(|name| ledger.get(name.as_ref()));
        outcomes.filter(|entry| wanted(&entry.outcome)).count()
    };
    let (passed, lost) = (count(|outcome| *outcome == Outcome::Passed), count(failed));
    let skipped = count(|outcome| matches!(outcome, Outcome::Skipped(_)));
    println!("{passed} passed, {lost} failed, {skipped} skipped");
    lost == 0
}
