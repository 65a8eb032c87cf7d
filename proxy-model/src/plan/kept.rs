//! Entries that a start found, kept while the source cannot tell all that there was. Nothing here is deleted because
//! of a fact that is missing; whatever a fact explains is planned as always.

use std::collections::BTreeSet;

use proxy_common::{Family, Frontend, FrontendFlags, FrontendKey, ServiceId};

use crate::fact::ObjectKey;
use crate::plan::ledger::Wanted;
use crate::sorted::Sorted;
use crate::world::World;

/// The entries that no fact has explained yet.
#[derive(Debug)]
pub(crate) struct Kept<F: Family> {
    unclaimed: BTreeSet<FrontendKey<F::Addr>>,
    /// A Service was told that claims them, and no slice of it.
    awaiting: BTreeSet<FrontendKey<F::Addr>>,
}

impl<F: Family> Kept<F> {
    pub(crate) const NOTHING: Self = Self { unclaimed: BTreeSet::new(), awaiting: BTreeSet::new() };

    /// From now on these stay.
    pub(crate) fn all(found: &Sorted<FrontendKey<F::Addr>, Frontend>) -> Self {
        Self { unclaimed: found.keys().copied().collect(), awaiting: BTreeSet::new() }
    }

    /// An entry that nobody has claimed yet stays; one whose Service was told and is gone does not.
    pub(crate) fn holds(&self, key: &FrontendKey<F::Addr>) -> bool {
        self.unclaimed.contains(key)
    }

    /// The entry of a Service stays as it is: it has backends, and no slice of the Service was ever told. Once one
    /// was, the entry is explained, and follows the facts.
    pub(crate) fn awaits_slices(
        &mut self,
        (key, known): (&FrontendKey<F::Addr>, Option<&Frontend>),
        wanted: &Wanted<F>,
        world: &World,
        service: &ObjectKey,
    ) -> bool {
        if !(self.unclaimed.remove(key) || self.awaiting.remove(key)) {
            return false;
        }
        // The entry of the address has no list; it says whether there is one (item 54).
        let is_served = |entry: &Frontend| {
            !entry.cluster.is_empty() || !entry.local.is_empty() || entry.flags.has(FrontendFlags::ECHO)
        };
        let unknown = known.is_some_and(is_served)
            && wanted.cluster.is_empty()
            && wanted.local.is_empty()
            && !wanted.value.flags.has(FrontendFlags::ECHO)
            && world.slices_at(service).next().is_none();
        if unknown {
            self.awaiting.insert(*key);
        }
        unknown
    }

    /// The ids of these entries: still in use.
    pub(crate) fn ids(
        &self,
        actual: &Sorted<FrontendKey<F::Addr>, Frontend>,
    ) -> impl Iterator<Item = ServiceId> {
        self.unclaimed
            .iter()
            .chain(&self.awaiting)
            .filter_map(|key| actual.get(key).map(|value| value.service))
    }

    pub(crate) fn len(&self) -> usize {
        self.unclaimed.len() + self.awaiting.len()
    }
}
