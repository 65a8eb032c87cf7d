//! What the books tell: how full the maps are, what is refused, who answers, and every entry.

use super::{Key, Ledger, Numbered};
use crate::fact::ObjectKey;
use crate::family::Served;
use crate::intent::{Intent, PortIntent};
use crate::local::NothingHere;
use crate::plan::claim::Claim;
use crate::plan::refusal::Refusal;
use crate::plan::{Entry, Usage};
use crate::servers::Answering;

impl<F: Served> Ledger<F> {
    pub(crate) fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.refused.values().flatten()
    }

    pub(crate) fn refused_at(&self, key: &Key<F>) -> impl Iterator<Item = &Refusal> {
        self.refused.get(key).into_iter().flatten()
    }

    pub(crate) fn usage(&self) -> Usage {
        Usage {
            frontends: u32::try_from(self.actual.len()).unwrap_or(u32::MAX),
            backends: self.segments.used(),
            ranges: u32::try_from(self.ranges.used()).unwrap_or(u32::MAX),
            capacity: self.capacity,
        }
    }

    /// The port that a claim is for.
    pub(super) fn port(&self, claim: &Claim) -> Option<(&PortIntent<F>, &Numbered<F>)> {
        let planned = self.planned.get(&claim.service)?;
        let mut ports = planned.intent.ports.iter().zip(&planned.numbered);
        ports.find(|(port, _)| (&port.name, port.proto) == (&claim.port, claim.proto))
    }

    /// Services with a health check.
    pub(crate) fn checked(&self) -> impl Iterator<Item = (&ObjectKey, &Intent<F>)> {
        let planned = self.here.checked.iter().filter_map(|key| self.planned.get_key_value(key));
        planned.map(|(key, planned)| (key, &planned.intent))
    }

    pub(crate) fn nothing_here(&self) -> NothingHere {
        self.here.nothing
    }

    pub(crate) fn answering(&self) -> Answering<F> {
        let ports =
            self.planned.values().flat_map(|planned| planned.intent.ports.iter().zip(&planned.numbered));
        let served = ports.filter(|(port, _)| !port.servers.is_empty());
        served.map(|(port, numbered)| (numbered.id, port.servers.clone())).collect()
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = Entry<'_, F>> {
        self.actual.iter().map(|(key, value)| Entry {
            key: *key,
            value: *value,
            cluster: self.segments.content(value.cluster),
            local: self.segments.content(value.local),
        })
    }
}
