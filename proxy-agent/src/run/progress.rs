//! How far the kernel is behind the objects, in each family, and who is told of it: health checks and metrics
//! (items 131, 135–137, 150).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use proxy_model::fact::SliceFamily;
use proxy_model::settings::{Serving, Settings};
use proxy_model::{Change, Event, IpFamily};

use crate::kernel::Outcome;
use crate::observe::metrics::Extent;
use crate::observe::{Metrics, Status};
use crate::parse::Fact;
use crate::source::Kind;

/// Changes of pods whose programming time is remembered between two writes.
const TRIGGERS: usize = 4_096;

/// Families of which something could not be written.
pub(super) type Behind = BTreeSet<IpFamily>;

/// How far the kernel is behind the objects.
#[derive(Debug)]
pub(super) struct Progress {
    served: Vec<IpFamily>,
    status: Arc<Status>,
    metrics: Arc<Metrics>,
    started: SystemTime,
    /// When pods changed that the next writes tell of.
    triggers: BTreeMap<IpFamily, Vec<SystemTime>>,
}

/// The families that are planned.
pub(super) fn served(settings: &Settings) -> Vec<IpFamily> {
    let serving = [(IpFamily::Ipv4, settings.ipv4), (IpFamily::Ipv6, settings.ipv6)];
    serving.into_iter().filter(|(_, serving)| *serving == Serving::On).map(|(family, _)| family).collect()
}

/// What of an outcome is not in the kernel.
pub(super) fn behind(outcome: &Outcome) -> Behind {
    let families = [(IpFamily::Ipv4, &outcome.v4), (IpFamily::Ipv6, &outcome.v6)];
    families.into_iter().filter(|(_, made)| !made.failures.is_empty()).map(|(family, _)| family).collect()
}

impl Progress {
    pub(super) fn new(settings: &Settings, status: Arc<Status>, metrics: Arc<Metrics>) -> Self {
        let (served, started) = (served(settings), SystemTime::now());
        Self { served, status, metrics, started, triggers: BTreeMap::new() }
    }

    /// A fact was told that pods' changes at that time led to. What happened before the start is not ours to measure.
    pub(super) fn triggered(&mut self, fact: &Fact, at: Option<SystemTime>) {
        let Some(at) = at.filter(|at| *at > self.started) else { return };
        let family = match fact {
            Fact::Model(Event::Slice(Change::Put(slice))) => match slice.family {
                SliceFamily::Ipv4 => IpFamily::Ipv4,
                SliceFamily::Ipv6 => IpFamily::Ipv6,
                SliceFamily::Fqdn => return,
            },
            Fact::Model(_) | Fact::ServiceRanges(_) => return,
        };
        let known = self.triggers.entry(family).or_default();
        if known.len() < TRIGGERS {
            known.push(at);
        }
    }

    /// An object of the kind changed what is known.
    pub(super) fn changed(&self, kind: Kind) {
        self.metrics.changed(kind);
        let now = SystemTime::now();
        self.served.iter().for_each(|family| self.metrics.queued(*family, now));
    }

    /// Something waits to be written.
    pub(super) fn pending(&self) {
        let now = SystemTime::now();
        self.status.update(|status| {
            for progress in status.families.values_mut() {
                progress.pending_since.get_or_insert(now);
            }
        });
    }

    /// What was to be written in these families was not, whatever it was written for: a change, room that there is now, a repair.
    pub(super) fn fell_behind(&self, behind: &Behind) {
        let now = SystemTime::now();
        self.status.update(|status| {
            for family in behind {
                status.families.entry(*family).or_default().pending_since.get_or_insert(now);
            }
        });
    }

    /// A plan was made and written, from that moment on.
    pub(super) fn synced(&self, began: Instant, extent: Extent, outcome: &Outcome) {
        self.metrics.synced(&self.served, began.elapsed(), extent, outcome);
    }

    /// The kernel agrees with the objects in all families but these.
    pub(super) fn agreed(&mut self, behind: &Behind) {
        let now = SystemTime::now();
        for family in self.served.iter().filter(|family| !behind.contains(family)) {
            let triggers = self.triggers.remove(family).unwrap_or_default();
            self.metrics.agreed(*family, now, triggers.into_iter());
            self.status.update(|status| {
                let progress = status.families.entry(*family).or_default();
                progress.last_sync = Some(now);
                progress.pending_since = None;
            });
        }
        if behind.is_empty() {
            self.metrics.all_agreed();
        }
    }
}
