//! What is written down beside the maps while the agent runs, for `proxyctl`: the agent's own state, and each Service
//! with the reasons why endpoints are not used. A convenience: it waits for everything else, takes small turns, and
//! what cannot be written is said once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use proxy_model::{Planner, World};

use super::policy::Policies;
use crate::kernel::Record;
use crate::observe::explain::Draft;
use crate::observe::report::{About, Report};
use crate::observe::status::Snapshot;

/// How long a turn takes: a change that comes meanwhile waits until it is over.
const TURN: Duration = Duration::from_micros(200);
/// Services written before the clock is looked at again.
pub(super) const STEP: usize = 8;
const BETWEEN_TURNS: Duration = Duration::from_millis(2);
/// Least time between two beginnings of the file of Services.
const PERIOD: Duration = Duration::from_secs(1);
/// A file that takes long to write is written less often: at most one part in so many of the agent's time.
const SHARE: u32 = 20;
/// The agent's state is written at least this often, so that its age says whether it is alive.
const LATEST: Duration = Duration::from_secs(10);

/// What is written down.
#[derive(Debug)]
pub(super) struct Notes {
    record: Record,
    about: About,
    turn: Duration,
    /// When the families were in sync last, by the report of the run before this one.
    earlier: BTreeMap<String, u64>,
    draft: Option<Draft>,
    /// Time that the draft has taken so far.
    took: Duration,
    /// The version of the world and the plan that the draft, or the file, is of.
    version: Option<u64>,
    begin: Instant,
    report: Option<(Report, Instant)>,
    fault: Option<String>,
}

/// What there is to be written down.
pub(super) struct Known<'a> {
    pub(super) world: &'a World,
    pub(super) planner: &'a Planner,
    pub(super) policies: &'a Policies,
    pub(super) status: Snapshot,
    /// Counts the changes of the other two.
    pub(super) version: u64,
}

impl Notes {
    pub(super) fn new(record: Record, about: About, now: Instant) -> Self {
        let earlier = record.report().map(|report| report.syncs()).unwrap_or_default();
        Self {
            record,
            about,
            turn: TURN,
            earlier,
            draft: None,
            took: Duration::ZERO,
            version: None,
            begin: now,
            report: None,
            fault: None,
        }
    }

    /// With turns that are as short as they can be.
    #[cfg(test)]
    pub(super) fn in_shortest_turns(self) -> Self {
        Self { turn: Duration::ZERO, ..self }
    }

    /// Writes some of it; gives when to go on.
    pub(super) fn write(&mut self, known: &Known<'_>, now: Instant) -> Instant {
        if self.draft.is_none() {
            self.write_report(known, now);
        }
        if !known.world.is_synced() {
            return now + PERIOD;
        }
        if self.draft.is_none() && (self.version == Some(known.version) || now < self.begin) {
            return now + PERIOD;
        }
        let began = Instant::now();
        let result = self.turn(known);
        self.took += began.elapsed();
        if let Err(error) = result {
            self.draft = None;
            self.version = None;
            self.begin = now + LATEST;
            self.complain(error.to_string());
        }
        if self.draft.is_some() {
            return now + BETWEEN_TURNS;
        }
        self.begin = self.begin.max(now + PERIOD.max(SHARE * std::mem::take(&mut self.took)));
        now + PERIOD
    }

    /// Writes all of it: the agent is stopping.
    pub(super) fn finish(&mut self, known: &Known<'_>) {
        self.begin = Instant::now();
        self.report = None;
        while self.write(known, Instant::now()) < Instant::now() + PERIOD / 2 {}
    }

    fn turn(&mut self, known: &Known<'_>) -> std::io::Result<()> {
        let end = Instant::now() + self.turn;
        let mut draft = match self.draft.take() {
            Some(draft) => draft,
            None => {
                self.version = Some(known.version);
                Draft::begin(self.dir(), known.world, SystemTime::now())?
            }
        };
        while let Some(more) = draft.write(known.world, known.planner, STEP)? {
            draft = more;
            if Instant::now() >= end {
                self.draft = Some(draft);
                break;
            }
        }
        Ok(())
    }

    fn dir(&self) -> &std::path::Path {
        self.record.dir()
    }

    fn write_report(&mut self, known: &Known<'_>, now: Instant) {
        let zone = known.world.own_node().and_then(|node| node.zone.as_deref().map(str::to_owned));
        let services = known.planner.refusals().map(ToString::to_string);
        let refused: Vec<String> =
            services.chain(known.policies.refusals().map(ToString::to_string)).collect();
        let report =
            Report::new(&self.about, zone, &known.status, &refused, SystemTime::now()).after(&self.earlier);
        let is_news =
            self.report.as_ref().is_none_or(|(last, at)| !last.says_the_same(&report) || now >= *at + LATEST);
        if !is_news {
            return;
        }
        if let Err(error) = self.record.write_report(&report) {
            self.complain(crate::observe::causes(&error));
        }
        self.report = Some((report, now));
    }

    /// Says what cannot be written, once until it is another thing.
    fn complain(&mut self, fault: String) {
        if self.fault.as_ref() != Some(&fault) {
            tracing::warn!(error = fault, "proxyctl will not know everything: it cannot be written down");
            self.fault = Some(fault);
        }
    }
}
