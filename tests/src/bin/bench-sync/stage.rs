//! The agent of one node, told of a cluster of one size: started, told of changes, started again.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use sluice_bench::pressure::{Pressure, Watch};
use sluice_lab::{AgentOptions, Lab, SocketLb, Source, Stop, Topology};
use tests::sync::{
    agent::{self, Memory, Start},
    api::Api,
    cluster::{self, Kind, Size, Verb},
    view::View,
};

use crate::floor::Floor;
use crate::{AGENT, HERE, pin};

const LAB: &str = "
nodes:
- {name: node-1, addresses: [172.18.0.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}
";
const NODE: &str = "node-1";
const PATIENCE: Duration = Duration::from_secs(120);
/// Slice events told at once.
const BURST: u32 = 10_000;

/// How often what is measured.
pub(crate) struct Counts {
    pub(crate) starts: usize,
    pub(crate) changes: u32,
    pub(crate) services: u32,
    /// Before each change that is measured by itself, so that it finds the agent at rest.
    pub(crate) rest: Duration,
}

/// What was measured with one size.
pub(crate) struct Found {
    pub(crate) size: Size,
    pub(crate) cold: Vec<Start>,
    pub(crate) warm: Vec<Start>,
    /// Microseconds.
    pub(crate) changes: Vec<f64>,
    /// What a message alone took, right before each of them.
    pub(crate) floor: Vec<f64>,
    pub(crate) added: Vec<f64>,
    /// Per second, and of one processor's time.
    pub(crate) burst: Vec<f64>,
    pub(crate) memory: Memory,
    pub(crate) pressure: Option<Pressure>,
}

struct Stage {
    lab: Lab,
    api: Api,
    options: AgentOptions,
    size: Size,
    version: u64,
}

pub(crate) fn measure(size: Size, counts: &Counts) -> Result<Found> {
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
        floor: Vec::new(),
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
    (found.changes, found.floor) = stage.changes(&view, counts.changes, counts.rest)?;
    found.added = stage.added(&view, counts.services, counts.rest)?;
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
    /// Starts the agent on a processor of its own, this thread goes on on the other one.
    fn start(&self) -> Result<Start> {
        self.api.forget();
        let log = self.lab.log_path(&format!("agent-{NODE}.log"));
        let skip = std::fs::metadata(&log).map_or(0, |meta| meta.len() as usize);
        pin(&[AGENT])?;
        let started = self.lab.start_agent(NODE, &self.options);
        pin(&[HERE])?;
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

    /// The endpoints of one Service change; microseconds each, and those of a message alone before it.
    fn changes(&mut self, view: &View, count: u32, rest: Duration) -> Result<(Vec<f64>, Vec<f64>)> {
        let mut floor = Floor::start()?;
        let (mut times, mut alone) = (Vec::new(), Vec::new());
        for round in 1..=count {
            let service = (round.wrapping_mul(7_919)) % self.size.services;
            let key = cluster::frontend(service);
            let mut line = String::new();
            let generation = 1 + (round / self.size.services + round) % 15;
            cluster::slice_line(&mut line, self.size, Verb::Modified, service, generation, self.version());
            alone.push(floor.once()?);
            std::thread::sleep(rest);
            let before = view.get(&key);
            let told = Instant::now();
            self.api.tell(Kind::Slice, &line)?;
            let seen = view.changed(&key, before)?;
            times.push(seen.duration_since(told).as_secs_f64() * 1e6);
            std::thread::sleep(rest);
        }
        Ok((times, alone))
    }

    /// One Service more, and its endpoints; microseconds until it has backends. It goes again.
    fn added(&mut self, view: &View, count: u32, rest: Duration) -> Result<Vec<f64>> {
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
            std::thread::sleep(rest);
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
