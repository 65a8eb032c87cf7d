//! Source ranges in the `ranges` map: what the Services want, what the kernel holds, and what differs.
//!
//! A range that finds no room is left out: its clients are not served, and nobody is who should not be. Knows ids,
//! nothing of Services or frontends.

use std::collections::{BTreeMap, BTreeSet};

use proxy_common::{Family, RangeKey, ServiceId};

use super::phase::Write;

type Key<F> = RangeKey<<F as Family>::Addr>;

/// The map.
#[derive(Debug)]
pub(crate) struct Ranges<F: Family> {
    capacity: u32,
    wanted: BTreeMap<ServiceId, BTreeSet<Key<F>>>,
    /// What the kernel holds once the last plan is written.
    actual: BTreeMap<ServiceId, BTreeSet<Key<F>>>,
    /// Ids whose wanted and actual ranges may differ.
    pending: BTreeSet<ServiceId>,
    /// Ids that may have more than they want.
    surplus: BTreeSet<ServiceId>,
    /// Ids that want more than found room, and how many more.
    short: BTreeMap<ServiceId, u32>,
    /// The last plan deleted an entry, and that did not fail: there is room for another one.
    has_deleted: bool,
}

impl<F: Family> Ranges<F> {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            capacity,
            wanted: BTreeMap::new(),
            actual: BTreeMap::new(),
            pending: BTreeSet::new(),
            surplus: BTreeSet::new(),
            short: BTreeMap::new(),
            has_deleted: false,
        }
    }

    /// Takes what the kernel holds.
    pub(crate) fn adopt(&mut self, found: impl IntoIterator<Item = Key<F>>) {
        self.actual.clear();
        self.has_deleted = false;
        for key in found {
            self.actual.entry(key.service).or_default().insert(key);
        }
        self.pending.extend(self.actual.keys().chain(self.wanted.keys()));
    }

    /// The ranges of an id from now on.
    pub(crate) fn want(&mut self, id: ServiceId, keys: BTreeSet<Key<F>>) {
        self.pending.insert(id);
        if keys.is_empty() {
            self.wanted.remove(&id);
        } else {
            self.wanted.insert(id, keys);
        }
    }

    /// Writes what is missing. Gives the ids that are short of room now and were not, or
    /// the other way round.
    pub(crate) fn settle(&mut self, writes: &mut Vec<Write<F>>) -> BTreeSet<ServiceId> {
        let was_short = std::mem::take(&mut self.short);
        self.pending.extend(was_short.keys());
        let pending = std::mem::take(&mut self.pending);
        // What is deleted goes last, so each of them still counts as taking up room.
        let mut room = (self.capacity as usize).saturating_sub(self.used());
        for id in &pending {
            let wanted = self.wanted.get(id).cloned().unwrap_or_default();
            let actual = self.actual.entry(*id).or_default();
            let missing: Vec<Key<F>> = wanted.difference(actual).copied().collect();
            let fitting = missing.len().min(room);
            room -= fitting;
            for key in &missing[..fitting] {
                actual.insert(*key);
                writes.push(Write::PutRange { key: *key });
            }
            if let Some(short) = u32::try_from(missing.len() - fitting).ok().filter(|short| *short > 0) {
                self.short.insert(*id, short);
            }
        }
        let turned = |id: &&ServiceId| was_short.get(id) != self.short.get(id);
        let turned = pending.iter().filter(turned).copied().collect();
        self.surplus.extend(pending);
        turned
    }

    /// Deletes what is too much, except of these ids: frontends of theirs stay as they were found.
    pub(crate) fn let_go(&mut self, kept: &BTreeSet<ServiceId>, writes: &mut Vec<Write<F>>) {
        self.has_deleted = false;
        for id in std::mem::take(&mut self.surplus) {
            if kept.contains(&id) {
                self.surplus.insert(id);
                continue;
            }
            let Some(actual) = self.actual.get_mut(&id) else { continue };
            let wanted = self.wanted.get(&id);
            let gone = actual.extract_if(.., |key| !wanted.is_some_and(|wanted| wanted.contains(key)));
            let before = writes.len();
            writes.extend(gone.map(|key| Write::DeleteRange { key }));
            self.has_deleted |= writes.len() > before;
            if actual.is_empty() {
                self.actual.remove(&id);
            }
        }
    }

    /// A range was not written.
    pub(crate) fn put_failed(&mut self, key: &Key<F>) {
        self.forget(key);
        self.pending.insert(key.service);
    }

    /// A range was not deleted.
    pub(crate) fn delete_failed(&mut self, key: &Key<F>) {
        self.actual.entry(key.service).or_default().insert(*key);
        self.pending.insert(key.service);
    }

    /// How many ranges of an id found no room.
    pub(crate) fn missing(&self, id: ServiceId) -> Option<u32> {
        self.short.get(&id).copied()
    }

    /// Something waits for room, and there may be some as soon as the last plan is written.
    pub(crate) fn may_enter(&self) -> bool {
        self.has_deleted && !self.short.is_empty()
    }

    /// Entries in the map.
    pub(crate) fn used(&self) -> usize {
        self.actual.values().map(BTreeSet::len).sum()
    }

    fn forget(&mut self, key: &Key<F>) {
        if let Some(keys) = self.actual.get_mut(&key.service) {
            keys.remove(key);
        }
    }
}
