//! Policies beside Services: over the same world, with a planner, maps and a pace of their own. What cannot be written is
//! tried again; until then the kernel judges by what it was told last. Knows no sources.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::{Duration, Instant, SystemTime};

use proxy_common::policy::PolicyState;
use proxy_model::World;
use proxy_model::policy::{
    AddressWrite, PolicyActual, PolicyCapacity, PolicyPlan, PolicyPlanner, PolicyRefusal, PolicyTable,
    PolicyUsage, PolicyWrite,
};

use super::clock::Clock;
use super::dataplane::Dataplane;
use super::names;
use super::unwritten::Unwritten;
use crate::cli::{PolicyArgs, PolicyChangeArg, Switch};
use crate::kernel::{Error, MapFamily, Repairs};
use crate::observe::Events;
use crate::observe::event::{Notice, Regarding};
use crate::observe::policy_names::PolicyNames;
use crate::observe::status::Guard;

/// First pause before a failed write is tried again; doubles up to [`LONGEST_RETRY`].
const SHORTEST_RETRY: Duration = Duration::from_millis(50);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

/// What decides how policies are enforced, and who is told of those that are not.
#[derive(Debug)]
pub(super) struct Enforcing {
    pub(super) args: PolicyArgs,
    pub(super) capacity: PolicyCapacity,
    pub(super) events: Events,
}

/// Policies, as far as they are enforced.
#[derive(Debug)]
pub(super) struct Policies {
    /// None: they are not enforced.
    planner: Option<PolicyPlanner>,
    change: PolicyChangeArg,
    events: Events,
    /// The epoch in the kernel.
    epoch: u32,
    /// Devices that are known to be of pods under a policy.
    devices: BTreeSet<u32>,
    due: Due,
    retry: Duration,
    planned_first: bool,
    /// Some plan was written in full.
    is_in_force: bool,
    /// Which maps the last plan was about.
    places: Repairs,
    unwritten: Unwritten,
}

/// Whether there is something to be planned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Due {
    No,
    Yes,
    /// Something failed, and is tried again then, unless something changes.
    Retry(Instant),
    /// Something has rested long enough then. Until then the kernel holds what it should.
    Release(Instant),
}

/// What has become of an audit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Look {
    /// There is nothing yet that the maps could differ from.
    Needless,
    /// The maps are compared.
    Taken,
    /// Something waits to be written: they can be compared after that.
    Later,
}

/// What has become of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Step {
    /// There was nothing to plan, or not everything is known that a plan needs.
    None,
    /// So many writes were in it, and so much of what the kernel was asked for is not there.
    Planned { writes: usize, failed: usize },
}

impl Policies {
    /// Takes over what the kernel holds; where policies are not enforced, ends what was enforced before.
    ///
    /// # Errors
    /// When the maps cannot be read, or not be cleared.
    pub(super) fn adopt<D: Dataplane>(dataplane: &mut D, enforcing: Enforcing) -> Result<Self, Error> {
        let Enforcing { args, capacity, events } = enforcing;
        let actual = dataplane.policy_actual()?;
        let epoch = actual.state.epoch;
        let (planner, due) = match args.network_policy {
            Switch::On => {
                let pods = actual.v4.policed.len() + actual.v6.policed.len();
                tracing::info!(
                    addresses = pods,
                    pages = actual.verdicts.len(),
                    "took over what policies say"
                );
                let mut planner = PolicyPlanner::new(capacity);
                planner.adopt(actual);
                (Some(planner), Due::Yes)
            }
            Switch::Off => (None, if end(dataplane, actual) == 0 { Due::No } else { Due::Yes }),
        };
        Ok(Self {
            planner,
            change: args.policy_on_change,
            events,
            epoch,
            devices: BTreeSet::new(),
            due,
            places: Repairs::default(),
            unwritten: Unwritten::default(),
            retry: SHORTEST_RETRY,
            planned_first: false,
            is_in_force: false,
        })
    }

    /// Something changed that a plan may depend on.
    pub(super) fn changed(&mut self) {
        if self.planner.is_some() {
            self.due = Due::Yes;
        }
    }

    /// Brings the kernel to judge by this world, as far as it can be done now.
    pub(super) fn sync<D: Dataplane>(
        &mut self,
        world: &mut World,
        dataplane: &mut D,
        now: Instant,
        clock: Clock,
    ) -> Step {
        let is_due = match self.due {
            Due::No => false,
            Due::Yes => true,
            Due::Retry(at) | Due::Release(at) => at <= now,
        };
        if !is_due {
            return Step::None;
        }
        let Some(planner) = &mut self.planner else { return self.end_again(dataplane, now) };
        if !world.is_guarded() {
            return Step::None;
        }
        let plan = planner.plan(world, clock.tick(now));
        for refusal in &plan.refused {
            tracing::error!("{refusal}");
            self.events.say(Notice {
                regarding: Regarding::Policy(refusal.policy.clone()),
                reason: "NoRoomForPolicy",
                action: "Enforce",
                note: format!("node {}: {refusal}", world.settings().node_name),
            });
        }
        self.places = places(&plan.writes);
        let failed = self.write(&plan, dataplane, &world.settings().node_name);
        let complete = failed == 0;
        self.planned_first = true;
        self.is_in_force |= complete;
        self.due = match (complete, plan.next_release) {
            (false, _) => Due::Retry(self.later(now)),
            (true, Some(tick)) => Due::Release(clock.moment(tick)),
            (true, None) => Due::No,
        };
        Step::Planned { writes: plan.writes.len(), failed }
    }

    /// Not all that an agent before this one enforced could be ended.
    fn end_again<D: Dataplane>(&mut self, dataplane: &mut D, now: Instant) -> Step {
        let failed = match dataplane.policy_actual() {
            Ok(actual) => end(dataplane, actual),
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "what policies said cannot be read"
                );
                1
            }
        };
        self.due = if failed == 0 { Due::No } else { Due::Retry(self.later(now)) };
        Step::Planned { writes: 0, failed }
    }

    /// How far they are: in force once a plan has been written in full.
    pub(super) fn guard(&self) -> Guard {
        match &self.planner {
            Some(_) if !self.is_in_force => Guard::Awaited,
            Some(_) | None => Guard::InForce,
        }
    }

    /// When [`Policies::sync`] has something to do again without a change.
    pub(super) fn next(&self, world: &World) -> Option<Instant> {
        match self.due {
            Due::Retry(at) | Due::Release(at) if self.planner.is_none() || world.is_guarded() => Some(at),
            Due::No | Due::Yes | Due::Retry(_) | Due::Release(_) => None,
        }
    }

    /// Compares the maps with what they should hold, if all is written that is known; the next [`Policies::sync`] repairs
    /// what differs.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub(super) fn audit<D: Dataplane>(&mut self, dataplane: &D, now: Instant) -> Result<Look, Error> {
        let Some(planner) = &mut self.planner else { return Ok(Look::Needless) };
        let is_written = match self.due {
            Due::No => true,
            Due::Yes | Due::Retry(_) => false,
            // What goes because it has rested is nothing that somebody else did.
            Due::Release(at) => at > now,
        };
        if !is_written {
            return Ok(if self.planned_first { Look::Later } else { Look::Needless });
        }
        planner.compare(dataplane.policy_actual()?, self.epoch);
        self.due = Due::Yes;
        Ok(Look::Taken)
    }

    /// What the numbers in the maps stand for; none where policies are not enforced.
    pub(super) fn names(&self, world: &World, now: SystemTime) -> Option<PolicyNames> {
        self.planner.as_ref().map(|planner| names::of(world, planner, now))
    }

    /// How much there is.
    pub(super) fn usage(&self) -> PolicyUsage {
        self.planner.as_ref().map(PolicyPlanner::usage).unwrap_or_default()
    }

    /// Policies that are not enforced as they say.
    pub(super) fn refusals(&self) -> impl Iterator<Item = &PolicyRefusal> {
        self.planner.iter().flat_map(PolicyPlanner::refusals)
    }

    /// For which maps the last plan's writes were.
    pub(super) fn take_places(&mut self) -> Repairs {
        std::mem::take(&mut self.places)
    }

    fn later(&mut self, now: Instant) -> Instant {
        let at = now + self.retry;
        self.retry = (self.retry * 2).min(LONGEST_RETRY);
        at
    }

    /// Makes the writes of a plan; gives how many things were not done.
    fn write<D: Dataplane>(&mut self, plan: &PolicyPlan, dataplane: &mut D, node: &str) -> usize {
        let Some(planner) = &mut self.planner else { return 0 };
        let wanted = planner.policed().values().map(|pod| pod.device).filter(|device| *device != 0).collect();
        // A device whose pod leaves its policies is let go before its address is: what it sends is not forged.
        let staying: BTreeSet<u32> = self.devices.intersection(&wanted).copied().collect();
        let mut failed = 0;
        if self.planned_first && staying != self.devices {
            failed += guarded(dataplane, &staying);
        }
        let writes = rewritten(&plan.writes, self.change, self.epoch);
        if !writes.is_empty() {
            let judged = dataplane.judge(&writes);
            for write in &writes[..judged.made] {
                if let PolicyWrite::State(state) = write {
                    self.epoch = state.epoch;
                }
            }
            if let Some(error) = judged.error {
                let left = &plan.writes[judged.made..];
                left.iter().for_each(|write| planner.failed(write));
                self.unwritten.say(left, &error, planner, &self.events, node);
                return failed + left.len();
            }
        }
        self.unwritten.clear();
        failed += guarded(dataplane, &wanted);
        self.devices = wanted;
        if failed == 0 {
            self.retry = SHORTEST_RETRY;
        }
        failed
    }
}

/// Tells the programs whose devices are under a policy; gives how often the kernel refused.
fn guarded<D: Dataplane>(dataplane: &mut D, devices: &BTreeSet<u32>) -> usize {
    match dataplane.guard(devices) {
        Ok(()) => 0,
        Err(error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "the programs could not be told whose devices are under a policy"
            );
            1
        }
    }
}

/// The writes, without those that make connections be judged again where only new ones are.
fn rewritten(writes: &[PolicyWrite], change: PolicyChangeArg, mut epoch: u32) -> Cow<'_, [PolicyWrite]> {
    match change {
        PolicyChangeArg::All => Cow::Borrowed(writes),
        PolicyChangeArg::NewFlows => writes
            .iter()
            .map(|write| match write {
                // From none to some, and from some to none, is said in any case: it is whether they are asked at all.
                PolicyWrite::State(state) if state.epoch != 0 && epoch != 0 => {
                    PolicyWrite::State(PolicyState { epoch, ..*state })
                }
                PolicyWrite::State(state) => {
                    epoch = state.epoch;
                    write.clone()
                }
                PolicyWrite::PutVerdict { .. }
                | PolicyWrite::DeleteVerdict { .. }
                | PolicyWrite::V4(_)
                | PolicyWrite::V6(_) => write.clone(),
            })
            .collect(),
    }
}

/// Ends whatever an agent before this one enforced; gives how much was not done.
fn end<D: Dataplane>(dataplane: &mut D, actual: PolicyActual) -> usize {
    let PolicyActual { v4, v6, verdicts, state } = actual;
    let mut writes = Vec::new();
    if state != PolicyState::default() {
        writes.push(PolicyWrite::State(PolicyState::default()));
    }
    writes.extend(emptied(v4).map(PolicyWrite::V4));
    writes.extend(emptied(v6).map(PolicyWrite::V6));
    writes.extend(verdicts.into_iter().map(|(key, _)| PolicyWrite::DeleteVerdict { key }));
    let failed = guarded(dataplane, &BTreeSet::new());
    if writes.is_empty() {
        return failed;
    }
    tracing::info!("policies are not enforced any more (--network-policy=off)");
    let judged = dataplane.judge(&writes);
    if let Some(error) = judged.error {
        tracing::error!(%error, "what policies said could not all be removed; trying again");
    }
    failed + writes.len() - judged.made
}

fn emptied<F: proxy_common::Family>(table: PolicyTable<F>) -> impl Iterator<Item = AddressWrite<F>> {
    let PolicyTable { policed, peers, blocks } = table;
    let policed = policed.into_iter().map(|(addr, _)| AddressWrite::DeletePoliced { addr });
    let peers = peers.into_iter().map(|(addr, _)| AddressWrite::DeletePeer { addr });
    policed.chain(peers).chain(blocks.into_iter().map(|(key, _)| AddressWrite::DeleteBlock { key }))
}

/// Counts the entries of each map that writes are for. The epoch moves with other writes.
fn places(writes: &[PolicyWrite]) -> Repairs {
    let mut repairs = Repairs::default();
    let is_state = |write: &PolicyWrite| matches!(write, PolicyWrite::State(_));
    for write in writes.iter().filter(|write| !is_state(write)) {
        repairs.add(place(write), 1);
    }
    if repairs.total() == 0 && !writes.is_empty() {
        repairs.add("policy", 1);
    }
    repairs
}

/// The map that a write is for.
pub(super) fn place(write: &PolicyWrite) -> &'static str {
    match write {
        PolicyWrite::PutVerdict { .. } | PolicyWrite::DeleteVerdict { .. } => "verdicts",
        PolicyWrite::State(_) => "policy",
        PolicyWrite::V4(write) => place_of(write),
        PolicyWrite::V6(write) => place_of(write),
    }
}

fn place_of<F: MapFamily>(write: &AddressWrite<F>) -> &'static str {
    match write {
        AddressWrite::PutBlock { .. } | AddressWrite::DeleteBlock { .. } => F::NAMES.blocks,
        AddressWrite::PutPeer { .. } | AddressWrite::DeletePeer { .. } => F::NAMES.peers,
        AddressWrite::PutPoliced { .. } | AddressWrite::DeletePoliced { .. } => F::NAMES.policed,
    }
}
