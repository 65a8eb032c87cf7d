//! Entries that a start found, kept while the source cannot tell all that there was. Nothing here is deleted because
//! of a fact that is missing; whatever a fact explains is planned as always.

use std::collections::{BTreeMap, BTreeSet};

use proxy_common::{Family, Frontend, FrontendKey, ServiceId};

use crate::fact::ObjectKey;
use crate::intent::Backends;
use crate::world::World;

/// The entries that no fact has explained yet.
#[derive(Debug)]
pub(crate) struct Kept<F: Family> {
    keys: BTreeSet<FrontendKey<F::Addr>>,
}

impl<F: Family> Kept<F> {
    pub(crate) const NOTHING: Self = Self { keys: BTreeSet::new() };

    /// From now on these stay.
    pub(crate) fn all(found: &BTreeMap<FrontendKey<F::Addr>, Frontend>) -> Self {
        Self { keys: found.keys().copied().collect() }
    }

    /// An entry that nobody claims stays.
    pub(crate) fn holds(&self, key: &FrontendKey<F::Addr>) -> bool {
        self.keys.contains(key)
    }

    /// The entry of a Service stays as it is: it has backends, and no slice of the Service was ever told. Once one
    /// was, the entry is explained, and follows the facts.
    pub(crate) fn awaits_slices(
        &mut self,
        (key, known): (&FrontendKey<F::Addr>, Option<&Frontend>),
        wanted: [&Backends<F>; 2],
        world: &World,
        service: &ObjectKey,
    ) -> bool {
        if !self.keys.contains(key) {
            return false;
        }
        let unknown = known.is_some_and(|known| !known.cluster.is_empty() || !known.local.is_empty())
            && wanted.iter().all(|list| list.is_empty())
            && world.slices_at(service).next().is_none();
        if !unknown {
            self.keys.remove(key);
        }
        unknown
    }

    /// The ids of these entries: still in use.
    pub(crate) fn ids(
        &self,
        actual: &BTreeMap<FrontendKey<F::Addr>, Frontend>,
    ) -> impl Iterator<Item = ServiceId> {
        self.keys.iter().filter_map(|key| actual.get(key).map(|value| value.service))
    }

    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }
}
