//! A run of the agent, from its configuration to the signal that ends it.
//!
//! ```text
//! config ─► source opened ─► devices read ─► kernel: lock, load, attach ─► adopt ─► sources, servers
//!                                                                               └─► take ─► plan ─► write ─┐
//!                                                                                    ▲                      │
//!                                                                                    └── updates, timers ◄──┘
//! ```
//! World and planner are in one pair of hands; sources and servers run beside it. The dataplane outlives the
//! agent however it ends.

mod clock;
mod dataplane;
mod engine;
mod families;
mod heap;
mod kept;
mod local;
mod names;
mod notes;
mod policy;
mod problems;
mod progress;
mod ranges;
mod settings;
#[cfg(test)]
mod tests;
mod unwritten;
mod upkeep;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use proxy_model::Capacity;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::time::{self, MissedTickBehavior};

use self::dataplane::{Dataplane, Live};
use self::engine::{Engine, Next};
use self::notes::Notes;
use self::policy::Enforcing;
use self::upkeep::Upkeep;
use crate::config::{Config, SourceConfig, Watched};
use crate::health::{self, Pages, Shown};
use crate::kernel::{Kernel, Record, Topology, netlink, preflight, record, served};
use crate::observe::maps::PinnedMaps;
use crate::observe::{Events, Metrics, Status, event};
use crate::source::kube::{Cluster, Known};
use crate::source::manifests::Manifests;
use crate::source::{self, Feed, Update};

/// Updates taken in together at most: bounds the time to the next look at signals and timers.
const BATCH: usize = 8_192;
/// Least time between two plans without news in between.
const PACE: Duration = Duration::from_millis(1);
/// How often what is over is removed.
const COLLECT: Duration = Duration::from_secs(10);
/// How often the configuration file is looked at: a ConfigMap takes about a minute to reach a pod.
const CONFIG: Duration = Duration::from_secs(2);
/// How often it is checked whether the names of Services must be written down.
const NAMES: Duration = Duration::from_secs(1);

/// A source that can be used, not started yet.
enum Source {
    Manifests(Manifests),
    Cluster(Cluster),
}

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Whatever keeps the agent from serving at all, with the remedy. Later nothing ends it but what takes another start: a changed
/// configuration, a family of addresses that the node did not have.
pub async fn run(config: Config, pages: Pages) -> anyhow::Result<()> {
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = config.node_name, bpf_root = %config.roots.bpf.display(), "starting");
    let source = Source::open(&config).await?;
    // The first step that needs any of them would say less.
    preflight::capabilities()?;
    let topology = netlink::follow().await.context("the node's devices cannot be followed")?;
    let left = served::families(&config.roots.bpf);
    let families = families::chosen(config.families, &topology.borrow(), left);
    let outgrown = families::outgrown(config.families, families, topology.clone());
    let kernel = Kernel::open(&settings::kernel(&config, families))?;
    tracing::info!(road = ?kernel.socket_road(), ?families, "the programs are loaded and attached");

    let model = settings::model(&config, families);
    ranges::say(&model);
    let status = Arc::new(Status::of(&progress::served(&model), config.sync_period));
    let metrics = Arc::new(Metrics::new(PinnedMaps::below(config.roots.bpf.clone())));
    let capacity = Capacity {
        frontends: config.tables.frontends,
        backends: config.tables.backends,
        ranges: proxy_common::limits::RANGES,
    };
    let record = Record::of(Path::new(record::RUN_ROOT), &config.roots.bpf);
    let notes = Notes::new(record, settings::about(&config, &kernel), Instant::now());
    let upkeep = Upkeep::start(kernel.caretaker()?, kernel.caretaker()?, &metrics)
        .context("the threads that clean up cannot be started")?;
    let live = Live::new(kernel, upkeep);
    let events = source.events(&config.node_name);
    let enforcing =
        Enforcing { args: config.policy, capacity: settings::policy(&config), events: events.clone() };
    let engine = Engine::adopt(live, model, capacity, enforcing, status.clone(), metrics.clone())?;

    serve(&config, Shown { status, metrics }, pages, events);
    let (feed, updates) = source::channel();
    source.start(feed);
    let pace = Pace { writes: config.min_sync_period, audits: config.audit_period };
    let served = follow(engine, updates, topology, notes, pace);
    tokio::select! {
        result = served => result,
        path = changed(config.file) => anyhow::bail!("{path} has changed; ending, to be started with what it says now"),
        () = outgrown => anyhow::bail!(
            "the node has got an address of a family that is not served (--ip-family=auto, {families:?}); ending, to be started with both"
        ),
    }
}

/// Waits until the configuration file has changed, and gives its path.
async fn changed(file: Option<Watched>) -> String {
    let Some(file) = file else { return std::future::pending().await };
    let path = file.path().display().to_string();
    file.changed(CONFIG).await;
    path
}

impl Source {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        Ok(match &config.source {
            SourceConfig::Manifests(dir) => Self::Manifests(Manifests::open(dir)?),
            SourceConfig::Kubeconfig(file) => {
                Self::Cluster(Cluster::from_kubeconfig(file, config.watching(), servers(config)).await?)
            }
            SourceConfig::InCluster => {
                Self::Cluster(Cluster::in_cluster(config.watching(), servers(config))?)
            }
        })
    }

    /// Where Events of this node go: to the API server, if there is one.
    fn events(&self, node_name: &str) -> Events {
        match self {
            Self::Manifests(_) => Events::nowhere(),
            Self::Cluster(cluster) => {
                let (events, notices) = Events::channel();
                tokio::spawn(event::post(cluster.client(), node_name.to_owned(), notices, event::PAUSE));
                events
            }
        }
    }

    fn start(self, feed: Feed) {
        // The error means that the agent is stopping.
        tokio::spawn(async move {
            let _ = match self {
                Self::Manifests(manifests) => manifests.run(feed).await,
                Self::Cluster(cluster) => cluster.run(feed).await,
            };
        });
    }
}

/// What is known of the API servers. A kubeconfig says by itself where its one server is, and is believed.
fn servers(config: &Config) -> Known {
    let learning = config.source == SourceConfig::InCluster || !config.api_servers.is_empty();
    let record = Record::of(Path::new(record::RUN_ROOT), &config.roots.bpf);
    Known { given: config.api_servers.clone(), memory: learning.then(|| record.dir().join("api-servers")) }
}

fn serve(config: &Config, shown: Shown, pages: Pages, events: Events) {
    tokio::spawn(health::check::follow(shown.clone(), events));
    if let Some(address) = config.healthz {
        tokio::spawn(health::serve("health", address, health::health_routes(shown.clone())));
    }
    if let Some(address) = config.metrics {
        tokio::spawn(health::serve("metrics", address, health::metrics_routes(shown, pages)));
    }
}

/// How often something is done.
#[derive(Clone, Copy)]
struct Pace {
    /// Least time between two writes to the kernel.
    writes: Duration,
    /// Time between two audits.
    audits: Duration,
}

/// The loop: what arrived together is taken in together, and written at once. What is done now and then is done however much
/// there is to be taken in.
async fn follow<D: Dataplane>(
    mut engine: Engine<D>,
    mut updates: mpsc::Receiver<Update>,
    mut topology: watch::Receiver<Topology>,
    mut notes: Notes,
    pace: Pace,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut collect = every(COLLECT);
    let mut audit = every(pace.audits);
    let mut names = every(NAMES);
    let mut batch = Vec::new();
    let mut next = Next::At(Instant::now());
    let mut earliest = Instant::now();
    let mut note = Instant::now();
    let first = topology.borrow_and_update().clone();
    engine.take_topology(first);
    loop {
        tokio::select! {
            biased;
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            () = due(next, earliest) => {
                let began = Instant::now();
                let starts = engine.last_write().is_none();
                next = engine.sync(began).not_before(began + PACE);
                if starts && engine.last_write().is_some() {
                    // Whoever asks right after a start is told that the start is over.
                    note = began;
                    tokio::task::spawn_blocking(heap::give_back);
                }
                // Counted from the last write: a look at sources that are not there yet delays nothing.
                earliest = engine.last_write().map_or(earliest, |at| at + pace.writes);
            }
            _ = collect.tick() => engine.collect(),
            // What waits for its time goes on waiting for no longer than that.
            _ = audit.tick() => next = engine.audit(Instant::now()).or(next),
            received = updates.recv_many(&mut batch, BATCH) => {
                anyhow::ensure!(received > 0, "the source has ended");
                engine.take(batch.drain(..));
                next = Next::At(Instant::now());
            }
            Ok(()) = topology.changed() => {
                let now = topology.borrow_and_update().clone();
                engine.take_topology(now);
                next = Next::At(Instant::now());
            }
            () = either(&mut names, engine.naming()) => engine.write_names(Instant::now()),
            () = time::sleep_until(note.into()) => note = notes.write(&engine.known(), Instant::now()),
        }
    }
    engine.write_names_at_last(Instant::now());
    notes.finish(&engine.known());
    tracing::info!("stopping; what is in the kernel goes on serving");
    Ok(())
}

fn every(period: Duration) -> time::Interval {
    let mut interval = time::interval_at(time::Instant::now() + period, period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Until that moment, or the next tick if there is none.
async fn either(ticks: &mut time::Interval, moment: Option<Instant>) {
    match moment {
        Some(moment) => time::sleep_until(moment.into()).await,
        None => drop(ticks.tick().await),
    }
}

async fn due(next: Next, earliest: Instant) {
    match next {
        // A timer is late by a millisecond or two, even one that is over: most of what an event takes to the kernel.
        Next::At(at) if at.max(earliest) <= Instant::now() => {}
        Next::At(at) => time::sleep_until(at.max(earliest).into()).await,
        Next::OnUpdate => std::future::pending().await,
    }
}
