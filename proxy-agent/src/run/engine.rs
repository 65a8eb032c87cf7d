//! Takes in updates, plans, and writes: the state of a running agent, in one pair of hands. Knows no tasks, no
//! timers and no channels; when to act again is in what it returns.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proxy_common::{Addr4, Addr6, V4, V6};
use proxy_model::{
    Capacity, Change, Changed, Event, IpFamily, NodeFacts, ObjectKey, Plan, Planner, Settings, World,
};

use super::clock::Clock;
use super::dataplane::Dataplane;
use super::kept::{self, Stage};
use super::local;
use super::notes::Known;
use super::policy::{Enforcing, Policies};
use super::problems::Problems;
use super::progress::{self, Behind, Progress};
use super::ranges::ServiceRanges;
use crate::kernel::{Error, Serving, Topology};
use crate::observe::metrics::Extent;
use crate::observe::{Events, Metrics, Status};
use crate::parse::{self, Fact, Parsed};
use crate::source::{Key, Update};

mod audit;
mod names;
mod node;
mod policy;
mod refusal;

/// First pause before a failed write is tried again; doubles up to [`LONGEST_RETRY`].
const SHORTEST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(5);
/// Least time between two writings of the names.
const NAMES: Duration = Duration::from_secs(1);
/// What takes long to write is written less often: at most one part in so many of the agent's time.
const SHARE: u32 = 20;

/// The state of a running agent.
#[derive(Debug)]
pub(super) struct Engine<D> {
    dataplane: D,
    world: World,
    planner: Planner,
    problems: Problems,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    events: Events,
    clock: Clock,
    progress: Progress,
    policies: Policies,
    named: policy::Named,
    /// Ranges of ClusterIPs from ServiceCIDR objects (item 53).
    ranges: ServiceRanges,
    topology: Option<Topology>,
    followed: Option<Vec<IpAddr>>,
    node: Option<(NodeFacts<Addr4>, NodeFacts<Addr6>)>,
    /// Something is not in the kernel yet.
    pending: Pending,
    retry: Duration,
    naming: names::Naming,
    /// Services that Events say of that not all of theirs is written.
    unwritten: BTreeSet<ObjectKey>,
    last_write: Option<Instant>,
    /// When an audit last compared what Services need.
    compared: Option<Instant>,
    owed: audit::Debts,
    applied_first: bool,
    /// Counts what [`Engine::known`] differs by.
    version: u64,
}

/// Whether the kernel may differ from the world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pending {
    No,
    Yes,
}

/// When to call [`Engine::sync`] again without a new update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Next {
    /// Not before an update.
    OnUpdate,
    /// Then.
    At(Instant),
}

impl Next {
    /// The same, but not before then.
    pub(super) fn not_before(self, earliest: Instant) -> Self {
        match self {
            Self::At(at) => Self::At(at.max(earliest)),
            Self::OnUpdate => Self::OnUpdate,
        }
    }

    /// The earlier of two.
    pub(super) fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::At(one), Self::At(two)) => Self::At(one.min(two)),
            (Self::At(at), Self::OnUpdate) | (Self::OnUpdate, Self::At(at)) => Self::At(at),
            (Self::OnUpdate, Self::OnUpdate) => Self::OnUpdate,
        }
    }
}

impl<D: Dataplane> Engine<D> {
    /// Takes over what the kernel holds.
    pub(super) fn adopt(
        mut dataplane: D,
        settings: Settings,
        capacity: Capacity,
        enforcing: Enforcing,
        status: Arc<Status>,
        metrics: Arc<Metrics>,
    ) -> Result<Self, Error> {
        let mut planner = Planner::new(capacity);
        let adoption = planner.adopt(dataplane.actual()?);
        tracing::info!(
            frontends = adoption.frontends,
            segments = adoption.segments,
            named = adoption.named,
            broken = adoption.broken,
            "took over what the kernel holds"
        );
        let events = enforcing.events.clone();
        let policies = Policies::adopt(&mut dataplane, enforcing)?;
        status.update(|status| status.guard = policies.guard());
        let progress = Progress::new(&settings, status.clone(), metrics.clone());
        Ok(Self {
            dataplane,
            world: World::new(settings),
            planner,
            problems: Problems::default(),
            status,
            metrics,
            events,
            clock: Clock::start(),
            progress,
            policies,
            named: policy::Named::default(),
            ranges: ServiceRanges::default(),
            topology: None,
            followed: None,
            node: None,
            pending: Pending::Yes,
            retry: SHORTEST_RETRY,
            naming: names::Naming::default(),
            unwritten: BTreeSet::new(),
            last_write: None,
            compared: None,
            owed: audit::Debts::default(),
            applied_first: false,
            version: 0,
        })
    }

    /// Takes in what the sources tell.
    pub(super) fn take(&mut self, updates: impl Iterator<Item = Update>) {
        let mut changed = Changed::No;
        for update in updates {
            changed = changed.or(self.take_one(update));
        }
        if changed == Changed::Yes {
            self.changed();
        }
        let problems = self.problems.by_kind();
        let world = &self.world;
        self.status.update(|status| {
            status.problems = problems;
            status.eligibility = local::eligibility(world, status.eligibility);
        });
    }

    fn changed(&mut self) {
        self.pending = Pending::Yes;
        self.policies.changed();
        // What waits for a source is not late (item 131): nothing could be written.
        if self.world.is_synced() {
            self.progress.pending();
        }
    }

    fn take_one(&mut self, update: Update) -> Changed {
        match update {
            Update::Put(key, parsed) => {
                let Parsed { fact, problems, triggered } = *parsed;
                // What another proxy makes of its Service is not ours to complain about (item 1).
                let is_others = matches!(&fact, Fact::Model(Event::Service(Change::Put(service)))
                    if !self.world.is_ours(service));
                self.problems.note(&key, if is_others { Vec::new() } else { problems });
                self.progress.triggered(&fact, triggered);
                self.learn(key, fact)
            }
            Update::Misshapen(problem) => {
                self.misshapen(*problem);
                Changed::No
            }
            Update::Delete(key) => {
                self.problems.forget(&key);
                let fact = parse::gone(&key);
                self.learn(key, fact)
            }
            Update::Synced(kind) => parse::synced(kind).map_or(Changed::No, |event| self.world.apply(event)),
            Update::UnreadableFiles(count) => {
                self.status.update(|status| status.unreadable_files = count);
                Changed::No
            }
            Update::Extent(extent) => {
                let stage = if self.applied_first { Stage::Planned } else { Stage::Adopted };
                kept::follow(&mut self.planner, extent, stage)
            }
            Update::Contact(contact) => {
                self.status.update(|status| status.contact = Some(contact));
                Changed::No
            }
        }
    }

    fn learn(&mut self, key: Key, fact: Fact) -> Changed {
        let kind = key.kind;
        let changed = match fact {
            Fact::Model(event) => self.world.apply(event),
            Fact::ServiceRanges(ranges) => self.ranges.learn(key, ranges),
        };
        if changed == Changed::Yes {
            self.progress.changed(kind);
        }
        changed
    }

    /// Brings the kernel to agree with the world, as far as it can be done now. Devices come first, so that no pod sends
    /// by one without our programs, and policies before what can be reached.
    pub(super) fn sync(&mut self, now: Instant) -> Next {
        let devices = self.follow();
        let policies = self.sync_policies(now);
        let next = self.sync_services(now, devices).or(policies);
        self.audit_owed(now).or(next)
    }

    fn sync_services(&mut self, now: Instant, devices: Option<()>) -> Next {
        if !self.world.is_synced() || (self.pending == Pending::No && self.applied_first) {
            return devices.map_or(Next::OnUpdate, |()| self.later(now));
        }
        let node = self.tell_node();
        let tick = self.clock.tick(now);
        let began = Instant::now();
        let extent = if self.applied_first { Extent::Partial } else { Extent::Full };
        let plan = self.planner.plan(&mut self.world, tick);
        let behind = self.write(&plan, began, extent);
        let complete = behind.is_empty() && node.is_ok();
        self.let_go();
        self.version += 1;
        local::publish(&self.world, &self.planner, &self.status, &self.metrics);
        if node.is_ok() {
            self.agreed(&behind);
        }
        self.write_names(now);
        let release = self.release(&plan);
        if !complete || devices.is_some() {
            return self.later(now);
        }
        self.retry = SHORTEST_RETRY;
        release
    }

    /// When what found no room is planned again.
    fn release(&mut self, plan: &Plan) -> Next {
        let Some(tick) = plan.next_release else { return Next::OnUpdate };
        self.pending = Pending::Yes;
        Next::At(self.clock.moment(tick))
    }

    /// Begins to remove what is over.
    pub(super) fn collect(&mut self) {
        let (v4, v6) = (self.planner.answering::<V4>(), self.planner.answering::<V6>());
        self.dataplane.collect(Serving { v4, v6 });
    }

    /// Begins to let go whom the plans since the last call have moved.
    fn let_go(&mut self) {
        let (v4, v6) = (self.planner.take_moved::<V4>(), self.planner.take_moved::<V6>());
        if !(v4.is_empty() && v6.is_empty()) {
            self.dataplane.let_go(v4, v6);
        }
    }

    fn later(&mut self, now: Instant) -> Next {
        let at = now + self.retry;
        self.retry = (self.retry * 2).min(LONGEST_RETRY);
        Next::At(at)
    }

    /// Makes the writes of a plan; gives the families of which not all were made.
    fn write(&mut self, plan: &Plan, began: Instant, extent: Extent) -> Behind {
        self.refuse(&plan.refused);
        let refused = self.planner.refusals().count();
        self.status.update(|status| status.refused = refused);
        // The first plan is made even when nothing differs: the start is over then.
        if plan.is_empty() && self.applied_first {
            self.unwritten.clear();
            return Behind::new();
        }
        let written = Instant::now();
        let outcome = self.dataplane.apply(plan);
        outcome.report(plan, &mut self.planner);
        self.progress.synced(began, extent, &outcome);
        self.metrics.used(IpFamily::Ipv4, self.planner.usage::<V4>());
        self.metrics.used(IpFamily::Ipv6, self.planner.usage::<V6>());
        self.last_write = Some(written);
        if !std::mem::replace(&mut self.applied_first, true) {
            self.began(plan);
        }
        let behind = progress::behind(&outcome);
        self.say_unwritten(&outcome, plan);
        if !behind.is_empty() {
            self.pending = Pending::Yes;
            self.progress.fell_behind(&behind);
        }
        behind
    }

    fn began(&self, plan: &Plan) {
        let state = self.dataplane.state();
        self.metrics.adopted(&state);
        tracing::info!(
            kept = state.kept,
            written = state.written,
            deleted = state.deleted,
            writes = plan.v4.len() + plan.v6.len(),
            "the first full plan is made"
        );
        kept::say(&self.planner);
    }

    fn agreed(&mut self, behind: &Behind) {
        if behind.is_empty() {
            self.pending = Pending::No;
        }
        self.progress.agreed(behind);
    }

    /// What there is to be written down for people.
    pub(super) fn known(&self) -> Known<'_> {
        let Self { world, planner, policies, version, .. } = self;
        Known { world, planner, policies, status: self.status.snapshot(), version: *version }
    }

    /// When a plan was last written; `None` before the first.
    pub(super) fn last_write(&self) -> Option<Instant> {
        self.last_write
    }

    #[cfg(test)]
    pub(super) fn dataplane(&mut self) -> &mut D {
        &mut self.dataplane
    }

    #[cfg(test)]
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }
}
