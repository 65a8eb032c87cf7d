//! One family's books: who claims which frontend, what the kernel holds, and what differs.
//!
//! A frontend is wanted by the strongest claim to its key. Only keys that a changed Service claims, claimed, or
//! could not get are looked at; nothing here walks over everything because of a small change.

mod here;
mod late;
mod room;
mod slots;
mod told;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proxy_common::{
    ClientRule, Family, ForwardingMode, Frontend, FrontendFlags, FrontendKey, RangeKey, ServiceId,
};

use self::here::Here;
use self::late::Late;
use self::slots::Slots;
use super::claim::{self, Claim, Claimed, Claims};
use super::ids::Ids;
use super::kept::Kept;
use super::name::ServiceName;
use super::phase::{self, Write};
use super::ranges::Ranges;
use super::refusal::{Refusal, Refused};
use super::segments::Segments;
use super::undo::{Before, Soundness, Undo};
use super::{Adoption, Capacity, Table, Tick};
use crate::fact::ObjectKey;
use crate::family::Served;
use crate::intent::{self, Backends, Intent, PortIntent, Surroundings};
use crate::servers::{self, Moved};
use crate::sorted::Sorted;
use crate::world::{Dirty, World};

type Key<F> = FrontendKey<<F as Family>::Addr>;

/// The books.
#[derive(Debug)]
pub struct Ledger<F: Family> {
    capacity: Capacity,
    planned: Sorted<ObjectKey, Planned<F>>,
    claims: Claims<F>,
    /// Keys whose wanted and actual entry may differ.
    pending: BTreeSet<Key<F>>,
    /// What the kernel holds once the last plan is written.
    actual: Sorted<Key<F>, Frontend>,
    /// Entries found in the kernel whose segments are not what they should be: never equal to what is wanted.
    broken: BTreeSet<Key<F>>,
    /// What the last plan replaced and deleted.
    undo: Undo<F>,
    segments: Segments<F>,
    ranges: Ranges<F>,
    refused: BTreeMap<Key<F>, Vec<Refusal>>,
    /// Keys that are refused for want of room.
    starved: BTreeSet<Key<F>>,
    generation: u32,
    /// What the start found and no fact has explained, while facts are missing.
    pub(super) kept: Kept<F>,
    /// Whose flows may lead to endpoints that are gone.
    moved: Moved<F>,
    late: Late<F>,
    here: Here,
}

#[derive(Debug)]
struct Planned<F: Family> {
    intent: Intent<F>,
    /// In the order of the ports.
    numbered: Box<[Numbered<F>]>,
}

/// What the books add to a port.
#[derive(Debug)]
struct Numbered<F: Family> {
    id: ServiceId,
    slots: Slots<F>,
}

/// An entry as it is wanted, before its segments have a place.
pub(super) struct Wanted<F: Family> {
    pub(super) cluster: Backends<F>,
    pub(super) local: Backends<F>,
    /// Without segments and generation.
    pub(super) value: Frontend,
}

impl<F: Served> Ledger<F> {
    pub(crate) fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            planned: Sorted::new(),
            claims: Claims::new(),
            pending: BTreeSet::new(),
            actual: Sorted::new(),
            broken: BTreeSet::new(),
            undo: Undo::NOTHING,
            segments: Segments::new(capacity.backends),
            ranges: Ranges::new(capacity.ranges),
            refused: BTreeMap::new(),
            starved: BTreeSet::new(),
            generation: 0,
            kept: Kept::NOTHING,
            moved: Moved::<F>::new(),
            late: Late::default(),
            here: Here::default(),
        }
    }

    /// Takes what the kernel holds; returns the ids in use.
    pub(crate) fn adopt(&mut self, table: Table<'_, F>, adoption: &mut Adoption) -> Vec<ServiceId> {
        let old = std::mem::replace(&mut self.segments, Segments::new(self.capacity.backends));
        self.actual = Sorted::new();
        self.broken.clear();
        self.undo = Undo::NOTHING;
        let mut found = BTreeSet::new();
        for (key, value) in table.frontends {
            let mut sound = true;
            for segment in [value.cluster, value.local] {
                sound &= segment.is_empty() || self.segments.read(segment, &table.slot);
            }
            if sound {
                let segments = [value.cluster, value.local];
                segments.iter().for_each(|segment| self.segments.hold(*segment));
                found.extend(segments.into_iter().filter(|segment| !segment.is_empty()));
            } else {
                adoption.broken += 1;
                self.broken.insert(key);
            }
            self.generation = self.generation.max(value.generation);
            self.actual.insert(key, value);
        }
        self.segments.keep_resting(old);
        self.ranges.adopt(table.ranges);
        adoption.frontends += self.actual.len();
        adoption.segments += found.len();
        self.actual.values().map(|value| value.service).collect()
    }

    /// What must be written in this family.
    pub(crate) fn plan(
        &mut self,
        world: &World,
        dirty: &Dirty,
        ids: &mut Ids,
        now: Tick,
        refused: &mut Vec<Refusal>,
    ) -> Vec<Write<F>> {
        let has_deleted = self.has_deleted();
        self.undo = Undo::NOTHING;
        if self.segments.release(now) | has_deleted {
            self.pending.append(&mut self.starved);
        }
        let around = Surroundings::<F>::new(world);
        match dirty {
            Dirty::Some(services) => {
                services.iter().for_each(|service| self.take_in(world, &around, service, ids, now));
            }
            Dirty::All => {
                let gone = self.planned.keys().filter(|key| world.service_at(key).is_none()).cloned();
                let services = gone.chain(world.services().map(|service| service.key.clone()));
                for service in services.collect::<Vec<_>>() {
                    self.take_in(world, &around, &service, ids, now);
                }
                self.pending.extend(self.actual.keys().chain(self.claims.keys()));
            }
        }
        self.settle(world, refused)
    }

    /// A write was not made: the kernel holds what it held before.
    pub(crate) fn failed(&mut self, write: &Write<F>) {
        let key = match write {
            Write::Slots { start, slots: _ } => return self.segments.spoil(*start),
            Write::PutRange { key } => return self.ranges.put_failed(key),
            Write::DeleteRange { key } => return self.ranges.delete_failed(key),
            Write::PutFrontend { key, value: _ } | Write::DeleteFrontend { key } => *key,
        };
        let Some(before) = self.undo.find(&key) else { return };
        self.replace(key, before.value, before.soundness);
        self.late.note(key);
        self.pending.insert(key);
    }

    /// The last plan is over. What it deleted still says whether there is room.
    pub(crate) fn written(&mut self) {
        self.undo.put = Vec::new();
    }

    /// When to plan again; only if something waits for room.
    pub(crate) fn next_release(&mut self, now: Tick) -> Option<Tick> {
        if self.ranges.may_enter() {
            return Some(now);
        }
        if self.starved.is_empty() {
            return None;
        }
        if self.has_deleted() { Some(now) } else { self.segments.next_release(now) }
    }

    /// The last plan deleted an entry, and that did not fail: there is room for another one.
    fn has_deleted(&self) -> bool {
        self.undo.deleted.iter().any(|(key, _)| !self.actual.contains_key(key))
    }

    pub(super) fn keep(&mut self) {
        self.kept = Kept::all(&self.actual);
    }

    pub(super) fn kept_ids(&self) -> impl Iterator<Item = ServiceId> {
        self.kept.ids(&self.actual)
    }

    /// Brings the claims of one Service up to date.
    fn take_in(
        &mut self,
        world: &World,
        around: &Surroundings<'_, F>,
        service: &ObjectKey,
        ids: &mut Ids,
        now: Tick,
    ) {
        let new = world.service_at(service).and_then(|facts| intent::intent(world, around, facts));
        if self.planned.get(service).map(|planned| &planned.intent) == new.as_ref() {
            return;
        }
        let old = self.planned.remove(service).map(|Planned { intent, numbered }| {
            numbered.iter().for_each(|port| self.ranges.want(port.id, BTreeSet::new()));
            intent
        });
        self.here.turn(service, old.as_ref(), new.as_ref());
        for (key, claim) in old.iter().flat_map(|old| claim::claims(service, old)) {
            self.claims.remove(key, claim);
            self.pending.insert(key);
        }
        let names = |intent: &Option<Intent<F>>| -> Vec<ServiceName> {
            let ports = intent.iter().flat_map(|intent| &intent.ports);
            ports.map(|port| claim::name_of(service, port)).collect()
        };
        let kept = names(&new);
        names(&old).iter().filter(|name| !kept.contains(name)).for_each(|name| ids.retire(name, now));
        let Some(intent) = new else { return };
        for (key, claim) in claim::claims(service, &intent) {
            self.claims.insert(key, claim);
            self.pending.insert(key);
        }
        let assign = |(port, name): (&PortIntent<F>, &ServiceName)| {
            ids.assign(name, port.frontends.iter().filter_map(|(key, _)| Some(self.actual.get(key)?.service)))
        };
        let ids: Vec<ServiceId> = intent.ports.iter().zip(&kept).map(assign).collect();
        self.moved.extend(servers::moved(old.as_ref(), &intent, &ids));
        for (port, id) in intent.ports.iter().zip(&ids).filter(|(port, _)| !port.ranges.is_empty()) {
            self.ranges
                .want(*id, port.ranges.iter().map(|(net, len)| RangeKey::new(*id, *net, *len)).collect());
        }
        let size = world.settings().table_size;
        let ports = intent.ports.iter().zip(ids);
        let numbered = ports.map(|(port, id)| Numbered { id, slots: Slots::of(port, size) }).collect();
        self.planned.insert(service.clone(), Planned { intent, numbered });
    }

    /// Turns what is pending into writes.
    fn settle(&mut self, world: &World, refused: &mut Vec<Refusal>) -> Vec<Write<F>> {
        let mut writes = Vec::new();
        let mut deletions = Vec::new();
        let turned = self.ranges.settle(&mut writes);
        self.look_again_at(&turned);
        for key in std::mem::take(&mut self.pending) {
            self.starved.remove(&key);
            let mut refusals: Vec<_> = self.losers(&key);
            match self.wanted(&key) {
                Some((wanted, claim)) => {
                    if self.kept.awaits_slices((&key, self.actual.get(&key)), &wanted, world, &claim.service)
                    {
                        continue;
                    }
                    let missing = self.missing_ranges(&wanted.value);
                    refusals.extend(missing.map(|reason| Refusal {
                        name: claim.name::<F>(),
                        frontend: key.into(),
                        reason,
                    }));
                    if let Err(reason) = self.put(key, wanted, &mut writes) {
                        self.starved.insert(key);
                        self.late.note(key);
                        refusals.push(Refusal { name: claim.name::<F>(), frontend: key.into(), reason });
                    }
                }
                None if self.actual.contains_key(&key) && !self.kept.holds(&key) => deletions.push(key),
                None => {}
            }
            let known = self.refused.remove(&key).unwrap_or_default();
            refused.extend(refusals.iter().filter(|refusal| !known.contains(refusal)).cloned());
            if !refusals.is_empty() {
                self.refused.insert(key, refusals);
            }
        }
        // Last, so that each of them still counts as taking up room: the kernel sees them last, too.
        for key in deletions {
            self.undo.deleted.push((key, self.before(&key)));
            self.replace(key, None, Soundness::Sound);
            writes.push(Write::DeleteFrontend { key });
        }
        let kept = self.kept_ids().collect();
        self.ranges.let_go(&kept, &mut writes);
        phase::order(&mut writes);
        writes
    }

    /// The entry that the strongest claim wants.
    fn wanted(&self, key: &Key<F>) -> Option<(Wanted<F>, Claim)> {
        let claim = self.claims.to(key).next()?;
        let none: Backends<F> = Arc::default();
        let wanted = match claim.what {
            Claimed::Wildcard => {
                // Two Services may share it: one that is served is enough.
                let mut owners = self.claims.to(key).filter_map(|claim| self.planned.get(&claim.service));
                let flags = FrontendFlags::WILDCARD.with(FrontendFlags::CLUSTER_IP);
                let flags = match owners.any(|owner| owner.intent.is_served()) {
                    true => flags.with(FrontendFlags::ECHO),
                    false => flags,
                };
                Wanted {
                    cluster: none.clone(),
                    local: none,
                    value: Frontend { flags, ..Frontend::default() },
                }
            }
            Claimed::Frontend(exposure) => {
                let (port, Numbered { id, slots }) = self.port(claim)?;
                let rules = port.rules(exposure);
                // Only lists that a rule asks for: a change of the other one is no change of this entry.
                let uses = |wanted: bool| rules.iter().any(|rule| rule.has(ClientRule::LOCAL) == wanted);
                let mode = port.mode(exposure);
                let local = if mode == ForwardingMode::TUNNEL { &port.ends } else { &slots.local };
                Wanted {
                    cluster: if uses(false) { slots.cluster.clone() } else { none.clone() },
                    local: if uses(true) || mode == ForwardingMode::TUNNEL { local.clone() } else { none },
                    value: Frontend {
                        service: *id,
                        affinity: port.affinity,
                        rules,
                        flags: port.flags(exposure),
                        algorithm: port.algorithm,
                        mode,
                        ..Frontend::default()
                    },
                }
            }
        };
        Some((wanted, claim.clone()))
    }

    /// Claims that somebody else's precedes. Two Services may share the wildcard of an address.
    fn losers(&self, key: &Key<F>) -> Vec<Refusal> {
        let mut claims = self.claims.to(key);
        let Some(by) = claims.next().map(|claim| claim.service.clone()) else { return Vec::new() };
        claims
            .filter(|claim| claim.what != Claimed::Wildcard)
            .map(|claim| Refusal {
                name: claim.name::<F>(),
                frontend: (*key).into(),
                reason: Refused::Taken { by: by.clone() },
            })
            .collect()
    }

    fn before(&self, key: &Key<F>) -> Before {
        let soundness = if self.broken.contains(key) { Soundness::Broken } else { Soundness::Sound };
        Before { value: self.actual.get(key).copied(), soundness }
    }

    /// Notes what the kernel holds under a key, and moves the pointers to segments.
    fn replace(&mut self, key: Key<F>, value: Option<Frontend>, soundness: Soundness) {
        let old = self.actual.remove(&key).filter(|_| !self.broken.remove(&key));
        if let Some(value) = value {
            self.actual.insert(key, value);
            match soundness {
                Soundness::Broken => drop(self.broken.insert(key)),
                Soundness::Sound => {
                    [value.cluster, value.local].into_iter().for_each(|segment| self.segments.hold(segment));
                }
            }
        }
        if let Some(old) = old {
            [old.cluster, old.local].into_iter().for_each(|segment| self.segments.let_go(segment));
        }
    }
}
