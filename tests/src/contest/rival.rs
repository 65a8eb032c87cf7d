//! How soon what an API server says counts for who connects: Sluice's agent and kube-proxy, told of the same cluster by the same
//! server, each at a node of its own, one after the other. What is looked at is no map and no rule, but whether a connection
//! stands. It knows nothing of figures and goals.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;
use sluice_lab::{AgentOptions, SocketLb, Source};
use sluice_load::order::Turn;

use super::contender::{Contender, Rules, Who};
use super::feed::{self, Feed};
use super::stage::{self, Stage};
use super::world::{self, NODE, WEBS};
use crate::sync::agent;

/// What the kernel takes for nftables' rules of 10,000 Services, and as much again.
const PATIENCE: Duration = Duration::from_secs(150);
/// Where nobody listens.
const CLOSED: u16 = 8_079;
/// Between two changes, so that each finds everybody at rest.
const REST: Duration = Duration::from_millis(300);

/// Who is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rival {
    /// The agent.
    Sluice,
    /// kube-proxy.
    KubeProxy(Rules),
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sluice => f.write_str("Sluice"),
            Self::KubeProxy(rules) => {
                let who = Contender { who: Who::KubeProxy(*rules), services: 0 };
                f.write_str(who.to_string().trim_end_matches("@0"))
            }
        }
    }
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Found {
    /// Who.
    pub rival: Rival,
    /// Services.
    pub services: usize,
    /// Seconds from the start of the process until the Service that is found last was reached.
    pub start: f64,
    /// Microseconds from what was said until connections ended otherwise.
    pub changes: Vec<f64>,
    /// Bytes that the process had, arrays of maps left out: its most for kube-proxy, whose rules are made by other programs.
    pub resident: u64,
}

/// Sluice and kube-proxy, as it writes with `iptables` and with `nft`.
pub const RIVALS: [Rival; 3] =
    [Rival::Sluice, Rival::KubeProxy(Rules::Legacy), Rival::KubeProxy(Rules::Nftables)];

/// Tells each of them of so many Services and of so many changes.
///
/// # Errors
/// Names who does not serve.
pub fn compare(services: usize, changes: usize) -> Result<Vec<Found>> {
    let contender = |rival| match rival {
        Rival::Sluice => Contender::direct(),
        Rival::KubeProxy(rules) => Contender { who: Who::KubeProxy(rules), services },
    };
    let mut stages = RIVALS.iter().map(|rival| Stage::up(contender(*rival))).collect::<Result<Vec<_>>>()?;
    let mut feed = Feed::start(&stages)?;
    feed.grow(services)?;
    let mut all = Vec::new();
    for (rival, stage) in RIVALS.into_iter().zip(&mut stages) {
        let found = Told { rival, services, feed: &feed, stage }.measure(changes);
        all.push(found.with_context(|| format!("{rival} with {services} Services"))?);
    }
    stages.into_iter().try_for_each(Stage::down)?;
    Ok(all)
}

/// One of them on its stage.
struct Told<'a> {
    rival: Rival,
    services: usize,
    feed: &'a Feed,
    stage: &'a mut Stage,
}

impl Told<'_> {
    fn measure(mut self, changes: usize) -> Result<Found> {
        let last = self.services - 1;
        self.begin(last, Turn::Served)?;
        let began = now();
        // Ended when this is over.
        let proxy = match self.rival {
            Rival::Sluice => self.start_agent().map(|()| None)?,
            Rival::KubeProxy(rules) => Some(self.feed.start_proxy(self.stage, rules)?.0),
        };
        let start = self.seen(began)? / 1e6;
        self.feed.sweep(self.stage)?;
        let changes = (0..changes).map(|number| self.change(number)).collect::<Result<_>>()?;
        let resident = match &proxy {
            Some(proxy) => agent::memory(proxy.pid())?.peak,
            None => {
                let process = self.stage.lab.agent_process(NODE)?.context("the agent has ended")?;
                agent::memory(u32::try_from(process.pid)?)?.own
            }
        };
        Ok(Found { rival: self.rival, services: self.services, start, changes, resident })
    }

    fn start_agent(&self) -> Result<()> {
        let mut options = AgentOptions::new(SocketLb::On);
        options.source = Source::Kubeconfig(self.feed.kubeconfig(self.stage)?);
        options.cluster_cidrs = vec![world::CLUSTER_CIDR.parse()?];
        self.stage.lab.start_agent(NODE, &options)?;
        stage::keep_away(&self.stage.lab)
    }

    /// The Service in the middle gets backends that refuse connections, or those that take them, in turn. Microseconds.
    fn change(&mut self, number: usize) -> Result<f64> {
        std::thread::sleep(REST);
        self.stage.forget_flows()?;
        let service = self.services / 2;
        let (port, turn) =
            if number.is_multiple_of(2) { (CLOSED, Turn::Refused) } else { (world::TARGET, Turn::Served) };
        let mut slice = world::slice(&format!("web-{service}"), "TCP", &self.stage.lab.topology(), &WEBS);
        slice["ports"][0]["port"] = json!(port);
        self.begin(service, turn)?;
        let told = now();
        self.feed.tell(&slice)?;
        self.seen(told)
    }

    /// Lets the client connect from now on.
    fn begin(&mut self, service: usize, turn: Turn) -> Result<()> {
        self.stage.watch(feed::target(service), turn, PATIENCE)
    }

    /// Microseconds from that moment until the client has seen what it waited for.
    fn seen(&mut self, since: u64) -> Result<f64> {
        Ok(self.stage.watched()?.saturating_sub(since) as f64 / 1e3)
    }
}

/// Nanoseconds of the clock that the client goes by.
fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}
