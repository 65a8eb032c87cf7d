//! Connections while something changes: how many were made, how many stood, how many broke.

use std::fmt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use sluice_lab::{Place, Stop};
use sluice_load::order::{Mode, Order, Report};

use super::contender::{Contender, Policies, Who};
use super::driver::Driver;
use super::scene::{Aim, Asker};
use super::stage::{self, Stage};
use super::world::{self, CLIENT, NODE, WEBS};
use crate::cluster::Road;

/// Connections that stay open.
const HELD: u32 = 100;
/// Between two changes of backends.
const PACE: Duration = Duration::from_millis(10);
/// After the last change: what is on its way arrives.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// Nothing that is counted takes longer.
const LONGEST: u64 = 1_800_000;
const READY: Duration = Duration::from_secs(90);
/// Services, of which the last one is asked.
const SERVICES: usize = 100;

/// What happens again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The Service that is asked loses a backend, gets it back, swaps it for the other.
    OwnBackend,
    /// Another Service does.
    OtherBackend,
    /// The agent is killed and started again.
    Kill,
    /// The agent is asked to end and started again, which replaces the programs.
    Restart,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::OwnBackend => "change of the Service's backends",
            Self::OtherBackend => "change of another Service's",
            Self::Kill => "SIGKILL and start of the agent",
            Self::Restart => "orderly restart of the agent",
        })
    }
}

/// What became of the connections.
#[derive(Clone, Debug)]
pub struct Tally {
    made: Report,
    held: Report,
}

impl Tally {
    /// Connections that failed or ended before their time.
    #[must_use]
    pub fn broken(&self) -> u64 {
        self.made.failures + self.held.failures
    }

    /// Connections that were made, or tried.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made.transactions + self.made.failures
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { made, held } = self;
        write!(
            f,
            "{} broken of {} made ({:.0}/s, slowest {:.1} ms) and {HELD} held ({} requests)",
            self.broken(),
            self.made(),
            made.rate(),
            made.whole.quantile(1.0) as f64 / 1e6,
            held.transactions
        )?;
        let first: Vec<&String> = made.first_failures.iter().chain(&held.first_failures).collect();
        if first.is_empty() { Ok(()) } else { write!(f, " {first:?}") }
    }
}

/// A stage on which things change.
pub struct Churn {
    stage: Stage,
    holder: Driver,
}

impl Churn {
    /// Brings it up.
    ///
    /// # Errors
    /// As [`Stage::up`].
    pub fn up(road: Road) -> Result<Self> {
        let who = match road {
            Road::Socket => Who::Socket(Policies::Absent),
            Road::Packet => Who::Packet(Policies::Absent),
        };
        let stage = Stage::up(Contender { who, services: SERVICES })?;
        let client: Place = stage.lab.pod(CLIENT)?;
        let holder = Driver::start(&client)?;
        Ok(Self { stage, holder })
    }

    /// Lets something happen so many times under load.
    ///
    /// # Errors
    /// A client or the agent has ended.
    pub fn count(&mut self, event: Event, times: u32) -> Result<Tally> {
        let order = |mode, targets| Order {
            mode,
            targets,
            millis: LONGEST,
            limit: u64::MAX,
            seed: 1,
            cpu: Some(super::driver::measured()),
            servers: Vec::new(),
            raw: None,
        };
        let targets = self.stage.targets(Aim::Last)?;
        self.holder.begin(&order(Mode::Held(HELD), targets.clone()))?;
        self.stage.driver(Asker::Pod).begin(&order(Mode::Crr, targets))?;
        let happened = (0..times).try_for_each(|turn| self.happen(event, turn));
        std::thread::sleep(AFTERWARDS);
        let (made, held) = (self.stage.driver(Asker::Pod).end()?, self.holder.end()?);
        happened?;
        ensure!(
            made.transactions > 0 && held.transactions > 0,
            "nobody was answered: {:?}",
            made.first_failures
        );
        Ok(Tally { made, held })
    }

    fn happen(&self, event: Event, turn: u32) -> Result<()> {
        match event {
            Event::OwnBackend => self.change(SERVICES - 1, turn),
            Event::OtherBackend => self.change(0, turn),
            Event::Kill => self.restart(Stop::Kill),
            Event::Restart => self.restart(Stop::Terminate),
        }
    }

    /// One, the other, both, in turn.
    fn change(&self, service: usize, turn: u32) -> Result<()> {
        let name = format!("web-{service}");
        let sets: [&[&str]; 3] = [&WEBS[..1], &WEBS[1..], &WEBS];
        let pods = sets[turn as usize % sets.len()];
        let began = Instant::now();
        let mut slice = world::slice(&name, "TCP", &self.stage.lab.topology(), pods);
        // A file of its own, whose objects come before those of the world's file.
        slice["metadata"]["annotations"] = json!({"turn": turn.to_string()});
        self.stage.lab.manifests().put(&slice).context("changing a slice")?;
        std::thread::sleep(PACE.saturating_sub(began.elapsed()));
        Ok(())
    }

    fn restart(&self, stop: Stop) -> Result<()> {
        self.stage.lab.restart_agent(NODE, stop)?;
        self.stage.lab.agent_ready(NODE, READY)?;
        stage::keep_away(&self.stage.lab)
    }

    /// Takes it down.
    ///
    /// # Errors
    /// As [`Stage::down`].
    pub fn down(self) -> Result<()> {
        drop(self.holder);
        self.stage.down()
    }
}
