//! Makes plans, and remembers what they did. The order of the writes is decided here (decision 0020).
//!
//! ```text
//! pages ─► blocks, their flags ─► peers of whom more is asked ─► policed: what old and new both allow
//!   ─► peers that are others ─► policed ─► epoch ─► deletions of pages that have rested
//! ```
//!
//! Whatever rule set lives or rests is asked about, so the old rules say the same about a class that knows more. Of a peer
//! that is another than before the old rules see nothing: by then no pod is under them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proxy_common::policy::{PeerClass, Policed, PolicyFlags, PolicyState, RuleSetId, VerdictKey};

use super::maps::{Entry, Maps};
use super::middle::{Between, Middle, Room};
use super::model::Model;
use super::pages::{Missing, Pages};
use super::room;
use super::verdict::verdicts;
use super::write::{
    PageMark, PolicyActual, PolicyCapacity, PolicyNames, PolicyPlan, PolicyRefusal, PolicyUsage, PolicyWrite,
};
use crate::plan::Tick;
use crate::world::{Changed, Touched, World};

/// Entries to be written, by map.
#[derive(Debug)]
struct Changes {
    blocks: Vec<Entry>,
    /// Peers whose class says more or less about them than before, but nothing else.
    refined: Vec<Entry>,
    /// Peers that are others than before.
    relabelled: Vec<Entry>,
    policed: Vec<Entry>,
}

/// Plans the maps of policies; beside [`crate::Planner`], over the same world.
#[derive(Debug)]
pub struct PolicyPlanner {
    capacity: PolicyCapacity,
    model: Model,
    pages: Pages,
    /// What the kernel holds.
    actual: Maps,
    state: PolicyState,
    /// Entries that a write failed for: what they are is not known.
    doubtful: BTreeSet<Entry>,
    /// The entry of `policy` is not known.
    state_doubtful: bool,
    /// Somebody else has changed pages or the epoch: what was judged meanwhile is judged again.
    tampered: Changed,
    /// The next plan looks at everything.
    whole: bool,
    refusals: Vec<PolicyRefusal>,
    policies: u32,
    named: BTreeSet<RuleSetId>,
    version: u64,
}

impl PolicyPlanner {
    /// A planner for empty maps.
    pub fn new(capacity: PolicyCapacity) -> Self {
        Self {
            capacity,
            model: Model::default(),
            pages: Pages::default(),
            actual: Maps::default(),
            state: PolicyState::default(),
            doubtful: BTreeSet::new(),
            state_doubtful: false,
            tampered: Changed::No,
            whole: true,
            refusals: Vec::new(),
            policies: 0,
            named: BTreeSet::new(),
            version: 0,
        }
    }

    /// Takes what the kernel holds as the state that plans start from, after a restart. What nothing of it names begins
    /// to rest.
    pub fn adopt(&mut self, actual: PolicyActual) {
        let verdicts = self.start_from(actual);
        self.pages = Pages::adopt(verdicts);
    }

    /// Compares what the kernel holds with what was written; the next plan puts right what differs, and has nothing else
    /// to do for it. What rests goes on resting. All writes of all plans must have been made, the last epoch being this one.
    pub fn compare(&mut self, actual: PolicyActual, epoch: u32) {
        let is_another = actual.state.epoch != epoch;
        let verdicts = self.start_from(actual);
        self.tampered = self.pages.compare(verdicts);
        if is_another {
            (self.tampered, self.state_doubtful) = (Changed::Yes, true);
            self.state.epoch = self.state.epoch.max(epoch);
        }
    }

    /// Takes over all but the pages, which it gives back.
    fn start_from(&mut self, actual: PolicyActual) -> Vec<(VerdictKey, PageMark)> {
        let PolicyActual { v4, v6, verdicts, state } = actual;
        self.actual = Maps::default();
        self.actual.add(v4);
        self.actual.add(v6);
        let own = PolicyFlags::BLOCKS4.with(PolicyFlags::BLOCKS6);
        self.state = PolicyState { epoch: state.epoch, flags: PolicyFlags(state.flags.0 & own.0) };
        self.doubtful.clear();
        self.state_doubtful = false;
        self.whole = true;
        verdicts
    }

    /// What must be written so that the kernel judges by this world. Empty until [`World::is_guarded`]: what was
    /// adopted stays as it is until then.
    pub fn plan(&mut self, world: &mut World, now: Tick) -> PolicyPlan {
        if !world.is_guarded() {
            return PolicyPlan::default();
        }
        let mut touched = world.take_touched();
        touched.whole |= std::mem::take(&mut self.whole);
        self.policies = count(world.network_policies().count() + world.cluster_policies().count());
        if !self.is_in_doubt() {
            self.pages.release(now);
        }
        if touched.whole {
            self.model.moved.extend(self.actual.peers.keys());
        }
        self.update(world, &touched, now);
        let mut missing = self.pages.missing(&self.model);
        let mut refused = Vec::new();
        if !self.refusals.is_empty() || !self.has_room_for(&missing) {
            refused = self.find_room(world, now);
            missing = self.pages.missing(&self.model);
        }
        PolicyPlan { refused, ..self.write(missing, now) }
    }

    fn update(&mut self, world: &World, touched: &Touched, now: Tick) {
        self.model.update(world, touched, self.pages.known_sets());
        self.pages.rest(&self.model, now);
    }

    fn has_room_for(&self, missing: &[Missing]) -> bool {
        let more: usize = missing.iter().map(|missing| missing.pages.len()).sum();
        self.pages.entries() + more <= self.capacity.verdicts as usize
            && room::lacking_entries(&self.model, self.capacity).is_none()
    }

    /// Refuses policies if there is no room for all; returns the refusals that are new.
    fn find_room(&mut self, world: &World, now: Tick) -> Vec<PolicyRefusal> {
        let refusals = room::refusals(world, self.capacity);
        let refused = refusals.iter().map(|refusal| refusal.policy.clone()).collect();
        if self.model.refused != refused {
            self.model.refused = refused;
            self.update(world, &Touched { whole: true, ..Touched::default() }, now);
        }
        let before = std::mem::replace(&mut self.refusals, refusals);
        self.refusals.iter().filter(|refusal| !before.contains(refusal)).cloned().collect()
    }

    fn is_in_doubt(&self) -> bool {
        !self.doubtful.is_empty() || self.state_doubtful
    }

    /// The writes from what is held to what is wanted.
    fn write(&mut self, mut missing: Vec<Missing>, now: Tick) -> PolicyPlan {
        self.tampered = self.tampered.or(self.pages.contradict(&missing));
        let changes = self.changes();
        let middle = self.middle(&changes, &missing);
        missing.extend(middle.missing);
        self.pages.rest_at_once(middle.sets, now);
        let mut writes = self.pages.fill(&self.model, missing);
        let is_full = self.pages.entries() > self.capacity.verdicts as usize;
        if is_full {
            // No room for old and new side by side: the old go first, and what they allowed is denied for a moment.
            self.pages.release(Tick(u64::MAX));
            let mut first = self.pages.sweep(&self.model);
            first.extend(writes.into_iter().filter(|write| self.pages.still_wants(write)));
            writes = first;
        }
        let meanwhile = Maps { policed: middle.policed, ..Maps::default() };
        let tampered = std::mem::replace(&mut self.tampered, Changed::No) == Changed::Yes;
        let judged_anew = tampered || !self.doubtful.is_empty() || self.changes_a_verdict(&changes);
        self.doubtful.clear();
        self.write_entries(changes.blocks, &mut writes);
        self.write_state(self.state.epoch, self.state.flags.with(self.model.maps.flags()), &mut writes);
        self.write_entries(changes.refined, &mut writes);
        writes.extend(meanwhile.policed.keys().filter_map(|addr| meanwhile.write(Entry::Policed(*addr))));
        self.write_entries(changes.relabelled, &mut writes);
        self.actual.policed.extend(&meanwhile.policed);
        // What has come to its end already is not written twice.
        let is_done = |entry: &Entry| match entry {
            Entry::Policed(addr) => meanwhile.policed.get(addr).is_some_and(|value| self.wants(addr, value)),
            Entry::Peer(_) | Entry::Block(_) => false,
        };
        let policed = changes.policed.into_iter().filter(|entry| !is_done(entry)).collect();
        self.write_entries(policed, &mut writes);
        let epoch = if judged_anew { next_epoch(self.state.epoch) } else { self.state.epoch };
        self.write_state(epoch, self.model.maps.flags(), &mut writes);
        writes.append(&mut self.pages.sweep(&self.model));
        self.model.forget(&self.pages.resting_sets, &self.pages.resting_classes);
        self.count_names();
        // What was released early has not been forgotten in the classes yet.
        let next_release = if is_full { Some(now) } else { self.pages.next_release() };
        PolicyPlan { writes, refused: Vec::new(), next_release }
    }

    /// The entries that are to be written.
    fn changes(&mut self) -> Changes {
        let moved = std::mem::take(&mut self.model.moved);
        let relabelled = std::mem::take(&mut self.model.relabelled);
        let wanted = &self.model.maps;
        let peers = self.doubted(self.actual.changed_peers(wanted, &moved), |e| matches!(e, Entry::Peer(_)));
        let is_relabelled = |entry: &Entry| matches!(entry, Entry::Peer(addr) if relabelled.contains(addr));
        let (relabelled, refined) = peers.into_iter().partition(is_relabelled);
        Changes {
            refined,
            relabelled,
            blocks: self.doubted(self.actual.changed_blocks(wanted), |e| matches!(e, Entry::Block(_))),
            policed: self.doubted(self.actual.changed_policed(wanted), |e| matches!(e, Entry::Policed(_))),
        }
    }

    fn wants(&self, addr: &IpAddr, value: &Policed) -> bool {
        self.model.maps.policed.get(addr) == Some(value)
    }

    /// What the pods are under whose rules change, until all else has changed. One change alone happens at once.
    fn middle(&self, changes: &Changes, missing: &[Missing]) -> Middle {
        let value = |maps: &Maps, addr: &IpAddr| maps.policed.get(addr).copied().unwrap_or_default();
        let changed = changes.policed.iter().filter_map(|entry| match entry {
            Entry::Policed(addr) => Some((*addr, value(&self.actual, addr), value(&self.model.maps, addr))),
            Entry::Peer(_) | Entry::Block(_) => None,
        });
        let changed: Vec<_> = changed.collect();
        if changed.is_empty() || changed.len() == 1 && changes.relabelled.is_empty() {
            return Middle::default();
        }
        let classes = self.pages.all_classes(&self.model);
        let middle = Between::new(&self.model, &classes).middle(&changed, Room::Enough);
        let pages: usize = missing.iter().chain(&middle.missing).map(|missing| missing.pages.len()).sum();
        if self.pages.entries() + pages <= self.capacity.verdicts as usize {
            return middle;
        }
        Between::new(&self.model, &classes).middle(&changed, Room::None)
    }

    /// These entries, and those of a kind that a write failed for.
    fn doubted(&self, mut entries: Vec<Entry>, is_kind: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let more = self.doubtful.iter().filter(|entry| is_kind(entry) && !entries.contains(entry));
        entries.extend(more.copied().collect::<Vec<_>>());
        entries
    }

    fn write_entries(&mut self, entries: Vec<Entry>, writes: &mut Vec<PolicyWrite>) {
        for entry in entries {
            writes.extend(self.model.maps.write(entry));
            self.actual.take(entry, &self.model.maps);
        }
    }

    fn write_state(&mut self, epoch: u32, flags: PolicyFlags, writes: &mut Vec<PolicyWrite>) {
        let state = PolicyState { epoch, flags };
        let is_doubtful = std::mem::take(&mut self.state_doubtful);
        if state != self.state || is_doubtful {
            self.state = state;
            writes.push(PolicyWrite::State(state));
        }
    }

    /// Some connection may be judged otherwise once these are written.
    fn changes_a_verdict(&self, Changes { blocks, refined, relabelled, policed }: &Changes) -> bool {
        let wanted = &self.model.maps;
        if self.actual.policed.is_empty() && wanted.policed.is_empty() {
            return false;
        }
        let rules = |maps: &Maps, entry: &Entry| match entry {
            Entry::Policed(addr) => maps.policed.get(addr).map(|value| (value.egress, value.ingress)),
            Entry::Peer(_) | Entry::Block(_) => None,
        };
        let mut alike = BTreeMap::new();
        policed.iter().any(|entry| rules(&self.actual, entry) != rules(wanted, entry))
            || blocks.iter().chain(refined).chain(relabelled).any(|entry| {
                let pair = (self.actual.class(*entry), wanted.class(*entry));
                !*alike.entry(pair).or_insert_with(|| self.are_alike(pair))
            })
    }

    /// No rule set that is in use tells the two classes apart.
    fn are_alike(&self, (one, other): (PeerClass, PeerClass)) -> bool {
        let (Some(one), Some(other)) = (self.model.class(one), self.model.class(other)) else { return false };
        let sets = self.model.live_sets();
        one == other
            || sets
                .iter()
                .filter_map(|id| self.model.sets.get(id.0))
                .all(|set| verdicts(set, &one).agrees_with(&verdicts(set, &other)))
    }

    /// A write of the last plan was not made. It is tried again by the next plan.
    pub fn failed(&mut self, write: &PolicyWrite) {
        match write {
            PolicyWrite::PutVerdict { key, .. } => self.pages.put_failed(*key),
            PolicyWrite::DeleteVerdict { key } => self.pages.deletion_failed(*key),
            PolicyWrite::State(_) => self.state_doubtful = true,
            PolicyWrite::V4(_) | PolicyWrite::V6(_) => self.doubtful.extend(Entry::of(write)),
        }
    }

    fn count_names(&mut self) {
        let named = self.model.sets.iter().map(|(id, _)| RuleSetId(id)).collect();
        if self.named != named {
            self.named = named;
            self.version += 1;
        }
    }

    /// What the ids in the maps stand for.
    pub fn names(&self) -> PolicyNames {
        let mut rules = BTreeMap::new();
        let mut rule_sets = Vec::new();
        for (id, set) in self.model.sets.iter() {
            rule_sets.push((RuleSetId(id), set.policies.clone()));
            rules.extend(set.rules().map(|rule| (rule.id, rule.name.clone())));
        }
        PolicyNames { rules: rules.into_iter().collect(), rule_sets }
    }

    /// Counts the changes of [`PolicyPlanner::names`]: write them down again when it differs.
    pub fn names_version(&self) -> u64 {
        self.version
    }

    /// Everything that is refused now.
    pub fn refusals(&self) -> impl Iterator<Item = &PolicyRefusal> {
        self.refusals.iter()
    }

    /// How much there is, for metrics.
    pub fn usage(&self) -> PolicyUsage {
        PolicyUsage {
            policies: self.policies,
            rule_sets: count(self.model.live_sets().len()),
            classes: count(self.model.live_classes().len()),
            verdicts: count(self.pages.entries()),
            policed: count(self.actual.policed.len()),
            peers: count(self.actual.peers.len()),
            blocks: count(self.actual.blocks.len()),
        }
    }

    /// Addresses that are judged, as far as the kernel was told; each with the device that needs the hooks for it.
    pub fn policed(&self) -> &BTreeMap<IpAddr, Policed> {
        &self.actual.policed
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Zero is never come back to: a connection of an earlier epoch could take it for its own.
fn next_epoch(epoch: u32) -> u32 {
    epoch.checked_add(1).unwrap_or(1)
}
