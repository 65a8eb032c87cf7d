//! Stable numbers for Service ports: the smallest free one, kept while the port exists, adopted after a restart.
//!
//! One room for both families, because affinity entries of both lie in one map. A number rests for the grace
//! period before somebody else gets it.

use std::collections::{BTreeMap, BTreeSet};

use proxy_common::ServiceId;

use super::name::ServiceName;
use super::space::Space;
use super::{GRACE_MILLIS, Tick};
use crate::sorted::Sorted;

/// Who has which number.
#[derive(Debug)]
pub(crate) struct Ids {
    by_name: Sorted<ServiceName, ServiceId>,
    by_id: Sorted<ServiceId, ServiceName>,
    space: Space,
    resting: BTreeSet<(Tick, u32)>,
    /// Found in the kernel, and nobody knows whose they are.
    nameless: BTreeSet<ServiceId>,
    /// Found in the kernel with a name that no Service has claimed yet.
    unclaimed: BTreeSet<ServiceId>,
    version: u64,
}

impl Default for Ids {
    fn default() -> Self {
        Self {
            by_name: Sorted::new(),
            by_id: Sorted::new(),
            // Zero is nobody.
            space: Space::new((1, u32::MAX - 1)),
            resting: BTreeSet::new(),
            nameless: BTreeSet::new(),
            unclaimed: BTreeSet::new(),
            version: 0,
        }
    }
}

impl Ids {
    /// Takes over the numbers that the kernel uses. Returns how many of them have a name.
    pub(crate) fn adopt(
        &mut self,
        used: impl Iterator<Item = ServiceId>,
        mut names: BTreeMap<ServiceId, ServiceName>,
    ) -> usize {
        let used: BTreeSet<_> = used.filter(|id| *id != ServiceId::NONE).collect();
        let mut named = 0;
        for id in used {
            let is_new = self.space.take_at((id.0, 1)) == [(id.0, 1)];
            if self.by_id.contains_key(&id) {
                named += 1;
                continue;
            }
            match names.remove(&id).filter(|name| is_new && !self.by_name.contains_key(name)) {
                Some(name) => {
                    named += 1;
                    self.unclaimed.insert(id);
                    self.bind(name, id);
                }
                None if is_new => {
                    self.nameless.insert(id);
                }
                // At rest: it goes on resting.
                None => {}
            }
        }
        named
    }

    /// The number of a port that is planned. `found` are the numbers that the kernel has under its frontends.
    pub(crate) fn assign(
        &mut self,
        name: &ServiceName,
        mut found: impl Iterator<Item = ServiceId>,
    ) -> ServiceId {
        if let Some(id) = self.by_name.get(name) {
            self.unclaimed.remove(id);
            return *id;
        }
        let adopted = found.find(|id| self.nameless.remove(id));
        // Four billion ports do not fit in any map; nobody's number is a safe answer all the same.
        let id = adopted.or_else(|| self.space.take_lowest().map(ServiceId)).unwrap_or(ServiceId::NONE);
        self.bind(name.clone(), id);
        id
    }

    /// The port is gone.
    pub(crate) fn retire(&mut self, name: &ServiceName, now: Tick) {
        if let Some(id) = self.by_name.remove(name) {
            self.by_id.remove(&id);
            self.unclaimed.remove(&id);
            self.version += 1;
            self.rest(id, now);
        }
    }

    /// Every Service has been planned: what was found and belongs to none of them is free after the grace period.
    /// `kept` are in use all the same.
    pub(crate) fn retire_unclaimed(&mut self, kept: &BTreeSet<ServiceId>, now: Tick) {
        let (unclaimed, nameless) = (&self.unclaimed - kept, &self.nameless - kept);
        self.unclaimed.retain(|id| kept.contains(id));
        self.nameless.retain(|id| kept.contains(id));
        for id in unclaimed {
            if let Some(name) = self.by_id.get(&id).cloned() {
                self.retire(&name, now);
            }
        }
        for id in nameless {
            self.rest(id, now);
        }
    }

    /// Frees what has rested long enough.
    pub(crate) fn release(&mut self, now: Tick) {
        while let Some(&(tick, id)) = self.resting.first()
            && tick <= now
        {
            self.resting.pop_first();
            self.space.give((id, 1));
        }
    }

    pub(crate) fn of(&self, name: &ServiceName) -> Option<ServiceId> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = (ServiceId, &ServiceName)> {
        self.by_id.iter().map(|(id, name)| (*id, name))
    }

    pub(crate) fn names_after(
        &self,
        id: Option<ServiceId>,
    ) -> impl Iterator<Item = (ServiceId, &ServiceName)> {
        self.by_id.skip_while(move |known| Some(*known) <= id).map(|(id, name)| (*id, name))
    }

    pub(crate) fn is_named(&self, id: ServiceId) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    fn bind(&mut self, name: ServiceName, id: ServiceId) {
        self.version += 1;
        self.by_id.insert(id, name.clone());
        self.by_name.insert(name, id);
    }

    fn rest(&mut self, id: ServiceId, now: Tick) {
        if id != ServiceId::NONE {
            self.resting.insert((now.after(GRACE_MILLIS), id.0));
        }
    }
}
