//! Whose UDP clients are to be let go: at once with the change that took their server away, and again once a frontend that
//! could not follow that change is written. Until then it leads to where it led before, and so back to that server
//! (items 101–104). Knows neither why an entry was not written nor when it will be.

use std::collections::BTreeSet;

use proxy_common::{Family, Proto};

use super::{Key, Ledger};
use crate::family::Served;
use crate::servers::Moved;

/// UDP frontends that were to be written and were not.
#[derive(Debug)]
pub(super) struct Late<F: Family>(BTreeSet<Key<F>>);

impl<F: Family> Default for Late<F> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}

impl<F: Family> Late<F> {
    /// There is no room for the entry, or the kernel has refused it.
    pub(super) fn note(&mut self, key: Key<F>) {
        // Item 105.
        if key.proto == Proto::UDP {
            self.0.insert(key);
        }
    }
}

impl<F: Served> Ledger<F> {
    /// Those that the plans since the last call have moved, with those whose frontend these plans made up for.
    pub(crate) fn take_moved(&mut self) -> Moved<F> {
        let waits = |key: &Key<F>| self.pending.contains(key) || self.starved.contains(key);
        let (late, written): (BTreeSet<_>, BTreeSet<_>) =
            std::mem::take(&mut self.late.0).into_iter().partition(waits);
        self.late = Late(late);
        let mut moved = std::mem::take(&mut self.moved);
        let ports = written.iter().filter_map(|key| self.port(self.claims.to(key).next()?));
        let served = ports.filter(|(port, _)| !port.servers.is_empty());
        moved.extend(served.map(|(port, numbered)| (numbered.id, port.servers.clone())));
        moved
    }
}
