//! `cargo xtask bench sync`: how long it takes from what the cluster says to what the kernel holds, and what the agent is
//! made of meanwhile.
//!
//! The agent and what measures it have a processor each. What is told comes from a server of our own over plain HTTP, and
//! is seen in the pinned map by looking at it every few microseconds: a figure is from the write to the socket to the map, with
//! reading, decoding and planning in it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use rustix::thread::{CpuSet, sched_setaffinity};
use sluice_bench::{
    Axis, Estimate, Figure, Mode, Part, Plot, Series, Unit, Version, pressure::Watch, statistics, table,
};
use sluice_lab::{AgentOptions, Lab, SocketLb, Source, Stop, Topology};
use tests::sync::{
    agent::{self, Memory, Start},
    api::Api,
    cluster::{self, Kind, Size, Verb},
    view::View,
};

const LAB: &str = "
nodes:
- {name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
";
const NODE: &str = "node-1";
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two changes that are measured one by one, so that each finds the agent at rest.
const REST: Duration = Duration::from_millis(4);
/// Slice events told at once.
const BURST: u32 = 10_000;
const MIB: f64 = 1_048_576.0;

#[derive(Debug, Parser)]
struct Options {
    /// Fewer changes and starts
    #[arg(long)]
    quick: bool,
    /// Only this many Services; may be given again
    #[arg(long, value_name = "N")]
    services: Vec<u32>,
    /// Where the part goes
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    folder: PathBuf,
}

/// How often what is measured.
struct Counts {
    starts: usize,
    changes: u32,
    services: u32,
}

/// What was measured with one size.
struct Found {
    size: Size,
    cold: Vec<Start>,
    warm: Vec<Start>,
    /// Microseconds.
    changes: Vec<f64>,
    added: Vec<f64>,
    /// Per second, and of one processor's time.
    burst: Vec<f64>,
    memory: Memory,
    pressure: Option<sluice_bench::pressure::Pressure>,
}

fn main() -> Result<()> {
    let Options { quick, services, folder } = Options::parse();
    let began = Instant::now();
    let counts = if quick {
        Counts { starts: 2, changes: 300, services: 30 }
    } else {
        Counts { starts: 5, changes: 2_000, services: 200 }
    };
    let sizes = [(1_000, 2_000), (10_000, 20_000), (100_000, 250_000)]
        .map(|(services, endpoints)| Size { services, endpoints });
    let sizes = sizes.into_iter().filter(|size| services.is_empty() || services.contains(&size.services));
    let mut found = Vec::new();
    at_once()?;
    for size in sizes {
        eprintln!("{}", size.name());
        found.push(measure(size, &counts)?);
    }
    let part = Part {
        what: "sync".to_owned(),
        mode: if quick { Mode::Quick } else { Mode::Full },
        command: format!("cargo xtask bench sync{}", if quick { " --quick" } else { "" }),
        versions: Version::machine(),
        seconds: began.elapsed().as_secs_f64(),
        figures: found.iter().flat_map(figures).collect(),
        plots: plots(&found),
        notes: vec![
            "The agent has one processor, what measures it another; both are served before all else (SCHED_RR). Objects come over plain HTTP from a server that only writes; each change is timed from the write to the socket until the pinned map shows it."
                .to_owned(),
        ],
    };
    part.write(&folder)?;
    print!("{}", table::of_part(&part));
    Ok(())
}

/// Lets this thread, and what it starts, run on one processor.
fn pin(processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor);
    sched_setaffinity(None, &set).context("choosing a processor")
}

/// This thread, and what it starts, runs before everything that has no such right: what others do on these processors is
/// not what is measured.
fn at_once() -> Result<()> {
    let param = libc::sched_param { sched_priority: 5 };
    // SAFETY: the pointer is to a whole sched_param that outlives the call.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_RR, &param) } == 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error()).context("choosing how processors are given")
}

struct Stage {
    lab: Lab,
    api: Api,
    options: AgentOptions,
    size: Size,
    version: u64,
}

fn measure(size: Size, counts: &Counts) -> Result<Found> {
    let watch = Watch::begin().ok();
    let lab = Lab::up(&Topology::parse(LAB)?)?;
    let api = Api::start(&lab.node(NODE)?.netns, NODE, size)?;
    let folder = lab.log_path("kubeconfig");
    let folder = folder.parent().context("a log lies in a folder")?;
    let mut options = AgentOptions::new(SocketLb::On);
    options.source = Source::Kubeconfig(api.kubeconfig(folder)?);
    options.extra = vec!["--log-level=info,proxy_agent::source=debug".to_owned()];
    let mut stage = Stage { lab, api, options, size, version: 10_000_000 };
    let mut found = Found {
        size,
        cold: Vec::new(),
        warm: Vec::new(),
        changes: Vec::new(),
        added: Vec::new(),
        burst: Vec::new(),
        memory: Memory::default(),
        pressure: None,
    };
    for round in 0..counts.starts {
        found.cold.push(stage.start()?);
        if round + 1 < counts.starts {
            stage.lab.stop_agent(NODE, Stop::Terminate)?;
            stage.lab.clean_agent(NODE)?;
        }
    }
    // What is only needed for the first plan is given back by then.
    std::thread::sleep(Duration::from_secs(3));
    found.memory = agent::memory(stage.pid()?)?;
    let view = View::open(&stage.lab.node_bpf_root(NODE))?;
    found.changes = stage.changes(&view, counts.changes)?;
    found.added = stage.added(&view, counts.services)?;
    for _ in 0..counts.starts {
        found.burst.push(stage.burst(&view)?);
    }
    for _ in 0..counts.starts {
        stage.lab.stop_agent(NODE, Stop::Terminate)?;
        found.warm.push(stage.start()?);
    }
    stage.lab.stop_agent(NODE, Stop::Terminate)?;
    found.pressure = watch.and_then(|watch| watch.end().ok());
    Ok(found)
}

impl Stage {
    /// Starts the agent on the last processor, this thread goes on on the first.
    fn start(&self) -> Result<Start> {
        self.api.forget();
        let processors = std::thread::available_parallelism()?.get();
        let log = self.lab.log_path(&format!("agent-{NODE}.log"));
        let skip = std::fs::metadata(&log).map_or(0, |meta| meta.len() as usize);
        pin(processors - 1)?;
        let started = self.lab.start_agent(NODE, &self.options);
        pin(0)?;
        started?;
        self.api.await_listener(PATIENCE)?;
        let end = Instant::now() + PATIENCE;
        loop {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(start) = Start::of(text.get(skip..).unwrap_or_default()) {
                return Ok(start);
            }
            if Instant::now() > end {
                bail!("the agent did not start: {}", self.lab.agent_log(NODE, 5));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn pid(&self) -> Result<u32> {
        let process = self.lab.agent_process(NODE)?.context("the agent is gone")?;
        Ok(u32::try_from(process.pid)?)
    }

    fn version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// The endpoints of one Service change; microseconds each.
    fn changes(&mut self, view: &View, count: u32) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for round in 1..=count {
            let service = (round.wrapping_mul(7_919)) % self.size.services;
            let key = cluster::frontend(service);
            let mut line = String::new();
            let generation = 1 + (round / self.size.services + round) % 15;
            cluster::slice_line(&mut line, self.size, Verb::Modified, service, generation, self.version());
            let before = view.get(&key);
            let told = Instant::now();
            self.api.tell(Kind::Slice, &line)?;
            let seen = view.changed(&key, before)?;
            times.push(seen.duration_since(told).as_secs_f64() * 1e6);
            std::thread::sleep(REST);
        }
        Ok(times)
    }

    /// One Service more, and its endpoints; microseconds until it has backends. It goes again.
    fn added(&mut self, view: &View, count: u32) -> Result<Vec<f64>> {
        let mut times = Vec::new();
        for round in 0..count {
            let service = self.size.services + round % 100;
            let key = cluster::frontend(service);
            let (mut slice, mut line) = (String::new(), String::new());
            let size = Size { services: 1, endpoints: 2 };
            cluster::slice_line(&mut slice, size, Verb::Added, service, 0, self.version());
            cluster::service_line(&mut line, Verb::Added, service, self.version());
            let told = Instant::now();
            self.api.tell(Kind::Slice, &slice)?;
            self.api.tell(Kind::Service, &line)?;
            let mut seen = view.changed(&key, None)?;
            while view.get(&key).is_none_or(|frontend| frontend.cluster.len == 0) {
                seen = Instant::now();
            }
            times.push(seen.duration_since(told).as_secs_f64() * 1e6);
            let before = view.get(&key);
            let (mut slice, mut line) = (String::new(), String::new());
            cluster::service_line(&mut line, Verb::Deleted, service, self.version());
            cluster::slice_line(&mut slice, size, Verb::Deleted, service, 0, self.version());
            self.api.tell(Kind::Service, &line)?;
            view.changed(&key, before)?;
            self.api.tell(Kind::Slice, &slice)?;
            std::thread::sleep(REST);
        }
        Ok(times)
    }

    /// Many slices change at once; events in a second until the last of them is in the map.
    fn burst(&mut self, view: &View) -> Result<f64> {
        let last = self.size.services - 1;
        let mut lines = String::new();
        let generation = (self.version % 13) as u32 + 1;
        for event in 0..BURST {
            let service = if event + 1 == BURST { last } else { event.wrapping_mul(7_919) % last };
            let generation = generation + event / self.size.services;
            cluster::slice_line(&mut lines, self.size, Verb::Modified, service, generation, self.version());
        }
        let key = cluster::frontend(last);
        let before = view.get(&key);
        let told = Instant::now();
        self.api.tell(Kind::Slice, &lines)?;
        let seen = view.changed(&key, before)?;
        std::thread::sleep(Duration::from_secs(3));
        Ok(f64::from(BURST) / seen.duration_since(told).as_secs_f64())
    }
}

/// Seconds between two moments of each start.
fn spans(starts: &[Start], span: impl Fn(&Start) -> f64) -> Vec<f64> {
    starts.iter().map(span).collect()
}

fn median(samples: &[f64]) -> Option<Estimate> {
    statistics::estimate(samples, statistics::median)
}

fn figures(found: &Found) -> Vec<Figure> {
    let Found { size, cold, warm, changes, added, burst, memory, pressure } = found;
    let on = size.name();
    let told = |name: &str, unit, estimate: Option<Estimate>| {
        estimate.map(|estimate| Figure::told(name, on.as_str(), unit, estimate))
    };
    let p99 = |samples: &[f64]| statistics::estimate(samples, |all| statistics::quantile(all, 0.99));
    let serving = median(&spans(cold, |start| start.serving - start.listed));
    let mut all: Vec<Option<Figure>> = match size.services {
        10_000 => vec![Some(Figure::of(13, "10k", on.as_str(), serving))],
        100_000 => vec![Some(Figure::of(13, "100k", on.as_str(), serving))],
        _ => vec![told("first sync, decoded → serving", Unit::Seconds, serving)],
    };
    all.push(told(
        "start: programs loaded and attached",
        Unit::Seconds,
        median(&spans(cold, |s| s.loaded - s.began)),
    ));
    all.push(told(
        "start: lists read and decoded",
        Unit::Seconds,
        median(&spans(cold, |s| s.listed - s.adopted)),
    ));
    all.push(told("start: all of it", Unit::Seconds, median(&spans(cold, |s| s.serving - s.began))));
    all.push(told(
        "restart: programs loaded, links taken over",
        Unit::Seconds,
        median(&spans(warm, |s| s.loaded - s.began)),
    ));
    all.push(told("restart: maps taken over", Unit::Seconds, median(&spans(warm, |s| s.adopted - s.loaded))));
    all.push(told(
        "restart: decoded → serving",
        Unit::Seconds,
        median(&spans(warm, |s| s.serving - s.listed)),
    ));
    all.push(told("restart: all of it", Unit::Seconds, median(&spans(warm, |s| s.serving - s.began))));
    all.push(Some(Figure::of(14, "p50", on.as_str(), median(changes))));
    all.push(Some(Figure::of(14, "p99", on.as_str(), p99(changes))));
    all.push(told("a Service more: event → map, median", Unit::Microseconds, median(added)));
    all.push(told("a Service more: event → map, 99 of 100", Unit::Microseconds, p99(added)));
    all.push(Some(Figure::of(15, "events", on.as_str(), median(burst))));
    let resident = Some(Estimate::exact(memory.own as f64 / MIB));
    all.push(match size.services {
        10_000 => Some(Figure::of(16, "10k", on.as_str(), resident)),
        100_000 => Some(Figure::of(16, "100k", on.as_str(), resident)),
        _ => told("agent RSS", Unit::Mebibytes, resident),
    });
    for (name, bytes) in [
        ("agent: heap and stacks", memory.heap),
        ("agent: most RSS so far, with mapped arrays", memory.peak),
        ("arrays of maps that the agent has mapped", memory.mapped),
        ("maps, by the kernel's account", memory.maps),
    ] {
        all.push(told(name, Unit::Mebibytes, Some(Estimate::exact(bytes as f64 / MIB))));
    }
    all.into_iter().flatten().map(|figure| figure.under(*pressure)).collect()
}

fn plots(found: &[Found]) -> Vec<Plot> {
    let line = |name: &str, value: &dyn Fn(&Found) -> Option<f64>| {
        let points = found.iter().filter_map(|f| Some((f64::from(f.size.services), value(f)?)));
        Series::new(name, points.collect())
    };
    let plot = |title: &str, unit: &str, series| Plot {
        title: title.to_owned(),
        x: Axis::log("Services"),
        y: Axis::log(unit),
        series,
    };
    vec![
        plot(
            "One change: event → map",
            "µs",
            vec![
                line("endpoints, p50", &|f| statistics::median(&f.changes)),
                line("endpoints, p99", &|f| statistics::quantile(&f.changes, 0.99)),
                line("Service more, p50", &|f| statistics::median(&f.added)),
                line("Service more, p99", &|f| statistics::quantile(&f.added, 0.99)),
            ],
        ),
        plot(
            "Starts",
            "s",
            vec![
                line("cold, all", &|f| statistics::median(&spans(&f.cold, |s| s.serving - s.began))),
                line("decoded → serving", &|f| {
                    statistics::median(&spans(&f.cold, |s| s.serving - s.listed))
                }),
                line("restart, all", &|f| statistics::median(&spans(&f.warm, |s| s.serving - s.began))),
            ],
        ),
        plot(
            "Memory",
            "MiB",
            vec![
                line("agent, RSS", &|f| Some(f.memory.own as f64 / MIB)),
                line("maps", &|f| Some(f.memory.maps as f64 / MIB)),
            ],
        ),
    ]
}
