//! Finds room in the maps for what is wanted, and says what finds none.

use std::collections::BTreeSet;

use proxy_common::{Frontend, FrontendFlags, Segment, ServiceId};

use super::{Key, Ledger, Wanted};
use crate::family::Served;
use crate::intent::Backends;
use crate::plan::phase::Write;
use crate::plan::refusal::Refused;
use crate::plan::undo::Soundness;

impl<F: Served> Ledger<F> {
    /// Puts the frontends of these ids among the pending ones.
    pub(super) fn look_again_at(&mut self, ids: &BTreeSet<ServiceId>) {
        if ids.is_empty() {
            return;
        }
        let planned = self.planned.values().flat_map(|p| p.intent.ports.iter().zip(&p.numbered));
        let keys = planned
            .filter(|(_, numbered)| ids.contains(&numbered.id))
            .flat_map(|(port, _)| port.frontends.iter().map(|(key, _)| key));
        self.pending.extend(keys);
    }

    /// Why a frontend does not serve all of its ranges.
    pub(super) fn missing_ranges(&self, value: &Frontend) -> Option<Refused> {
        let needed = self.ranges.missing(value.service).filter(|_| value.flags.has(FrontendFlags::RANGES))?;
        Some(Refused::Ranges { needed, capacity: self.capacity.ranges })
    }

    /// Writes an entry, unless the kernel holds it.
    pub(super) fn put(
        &mut self,
        key: Key<F>,
        wanted: Wanted<F>,
        writes: &mut Vec<Write<F>>,
    ) -> Result<(), Refused> {
        let known = self.actual.get(&key).copied();
        let capacity = self.capacity;
        if known.is_none() && self.actual.len() >= capacity.frontends as usize {
            return Err(Refused::Frontends { capacity: capacity.frontends });
        }
        let cluster = self.place(&wanted.cluster, writes)?;
        let local = match self.place(&wanted.local, writes) {
            Ok(local) => local,
            Err(reason) => {
                self.segments.rest_unless_held(cluster);
                return Err(reason);
            }
        };
        let mut value = Frontend { cluster, local, generation: 0, ..wanted.value };
        value.generation = match known {
            // A half-open flow keeps its backend only while nothing about its choice has changed.
            Some(known) if Frontend { generation: 0, affinity: value.affinity, ..known } == value => {
                known.generation
            }
            Some(_) | None => self.generation.wrapping_add(1),
        };
        if known == Some(value) && !self.broken.contains(&key) {
            return Ok(());
        }
        self.generation = self.generation.max(value.generation);
        self.undo.put.push((key, self.before(&key)));
        self.replace(key, Some(value), Soundness::Sound);
        writes.push(Write::PutFrontend { key, value });
        Ok(())
    }

    /// The segment that holds a list; written if there is none yet.
    fn place(&mut self, content: &Backends<F>, writes: &mut Vec<Write<F>>) -> Result<Segment, Refused> {
        if let Some(segment) = self.segments.find(content) {
            return Ok(segment);
        }
        let needed = u32::try_from(content.len()).unwrap_or(u32::MAX);
        let segment = self
            .segments
            .insert(content)
            .ok_or(Refused::Backends { needed, capacity: self.capacity.backends })?;
        writes.push(Write::Slots { start: segment.start, slots: content.to_vec() });
        Ok(segment)
    }
}
