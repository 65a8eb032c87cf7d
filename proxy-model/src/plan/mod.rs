//! From the world to writes: stable ids, segments, the difference to what the kernel holds, and the order.
//!
//! ```text
//! world.dirty ─► intent (per Service, per family) ─► ledger: claims, pending keys
//!                                                      │ ids, segments
//!                                                      ▼
//!                                        slots, ranges, frontends, deletions (phase)
//! ```
//!
//! A plan counts as written as soon as it is handed out; what was not is told to [`Planner::failed`] before the
//! next one, stays pending and is tried again. A restart is [`Planner::adopt`] and then an ordinary plan.

mod claim;
mod ids;
mod kept;
mod ledger;
mod name;
mod phase;
mod ranges;
mod refusal;
mod segments;
mod space;
mod undo;

use std::collections::BTreeMap;

use proxy_common::{Backend, Family, Frontend, FrontendKey, RangeKey, ServiceId, V4, V6};

pub use ledger::Ledger;
pub use name::{NotAName, ServiceName};
pub use phase::Write;
pub use refusal::{Place, Refusal, Refused};

use crate::family::Served;
use crate::servers::{Answering, Moved};
use crate::world::{Dirty, World};
use ids::Ids;
use kept::Kept;

/// A moment: milliseconds of a clock that never goes back. Only differences count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Tick(pub u64);

impl Tick {
    /// The moment `millis` later.
    #[must_use]
    pub const fn after(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// How long slots and ids rest before they are used again: no packet that chose a backend just before a switch
/// still looks at them then. A hook runs for microseconds; two seconds also cover a preempted one.
pub const GRACE_MILLIS: u64 = 2_000;

/// Sizes of the maps of each family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Entries of a `frontends` map.
    pub frontends: u32,
    /// Slots of a `backends` array.
    pub backends: u32,
    /// Entries of a `ranges` map.
    pub ranges: u32,
}

/// What to write, per family, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Plan {
    /// Writes to the maps of IPv4.
    pub v4: Vec<Write<V4>>,
    /// Writes to the maps of IPv6.
    pub v6: Vec<Write<V6>>,
    /// Refusals that are new since the last plan; [`Planner::refusals`] has all.
    pub refused: Vec<Refusal>,
    /// Something was refused for want of room, and at this moment there may be more: plan again then.
    pub next_release: Option<Tick>,
}

impl Plan {
    /// Nothing to write.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// What the kernel holds.
pub struct Actual<'a> {
    /// Maps of IPv4.
    pub v4: Table<'a, V4>,
    /// Maps of IPv6.
    pub v6: Table<'a, V6>,
    /// Whose the ids are, as far as it was written down ([`Planner::names`]). Without a name, an id is adopted by
    /// whoever claims its frontends.
    pub names: BTreeMap<ServiceId, ServiceName>,
}

impl Actual<'_> {
    /// Empty maps.
    pub fn empty() -> Self {
        Self { v4: Table::empty(), v6: Table::empty(), names: BTreeMap::new() }
    }
}

/// What the maps of a family hold.
pub struct Table<'a, F: Family> {
    /// Entries of `frontends`, in any order.
    pub frontends: Vec<(FrontendKey<F::Addr>, Frontend)>,
    /// Entries of `ranges`, in any order.
    pub ranges: Vec<RangeKey<F::Addr>>,
    /// Reads a slot of `backends`; `None` beyond its end. Asked only for slots that a frontend names.
    pub slot: Box<dyn Fn(u32) -> Option<Backend<F::Addr>> + 'a>,
}

impl<F: Family> Table<'_, F> {
    /// Empty maps.
    pub fn empty() -> Self {
        Self { frontends: Vec::new(), ranges: Vec::new(), slot: Box::new(|_| None) }
    }
}

/// What was found in the kernel. Whether it is right is seen when the next plan is made: each frontend that it
/// does not write was kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Adoption {
    /// Frontends, both families.
    pub frontends: usize,
    /// Distinct segments with backends.
    pub segments: usize,
    /// Ids with a name.
    pub named: usize,
    /// Frontends whose segments cannot be read or overlap others; they will be written anew.
    pub broken: usize,
}

/// Makes plans, and remembers what they did.
#[derive(Debug)]
pub struct Planner {
    pub(crate) v4: Ledger<V4>,
    pub(crate) v6: Ledger<V6>,
    ids: Ids,
    /// The next plan looks at every Service and every entry, whatever the world says changed.
    whole: bool,
}

impl Planner {
    /// A planner for empty maps.
    pub fn new(capacity: Capacity) -> Self {
        Self { v4: Ledger::new(capacity), v6: Ledger::new(capacity), ids: Ids::default(), whole: true }
    }

    /// Takes what the kernel holds as the state that plans start from: after a restart, and whenever there is doubt
    /// about it. Writes that are still running must have ended.
    pub fn adopt(&mut self, actual: Actual<'_>) -> Adoption {
        let Actual { v4, v6, names } = actual;
        let mut adoption = Adoption::default();
        let used = self.v4.adopt(v4, &mut adoption).into_iter().chain(self.v6.adopt(v6, &mut adoption));
        adoption.named = self.ids.adopt(used, names);
        self.whole = true;
        adoption
    }

    /// Facts are missing that there were when the entries found by [`Planner::adopt`] were written: those that no
    /// fact explains stay until [`Planner::let_go`]. An entry is explained by a Service that claims it, and one with
    /// backends also by a slice of that Service.
    pub fn keep(&mut self) {
        self.v4.keep();
        self.v6.keep();
    }

    /// Every fact is known: what none of them explains goes with the next plan.
    pub fn let_go(&mut self) {
        self.v4.kept = Kept::NOTHING;
        self.v6.kept = Kept::NOTHING;
        self.whole = true;
    }

    /// Entries that stay only because of [`Planner::keep`].
    pub fn kept(&self) -> usize {
        self.v4.kept.len() + self.v6.kept.len()
    }

    /// What must be written so that the kernel serves this world. Empty until the world is synced (item 112).
    pub fn plan(&mut self, world: &mut World, now: Tick) -> Plan {
        if !world.is_synced() {
            return Plan::default();
        }
        let mut dirty = world.take_dirty();
        if std::mem::take(&mut self.whole) {
            dirty = Dirty::All;
        }
        self.ids.release(now);
        let mut refused = Vec::new();
        let v4 = self.v4.plan(world, &dirty, &mut self.ids, now, &mut refused);
        let v6 = self.v6.plan(world, &dirty, &mut self.ids, now, &mut refused);
        if dirty == Dirty::All {
            let kept = self.v4.kept_ids().chain(self.v6.kept_ids()).collect();
            self.ids.retire_unclaimed(&kept, now);
        }
        let next_release = [self.v4.next_release(now), self.v6.next_release(now)].into_iter().flatten().min();
        Plan { v4, v6, refused, next_release }
    }

    /// A write of the last plan was not made. It is tried again by the next plan.
    pub fn failed<F: Served>(&mut self, write: &Write<F>) {
        F::ledger_mut(self).failed(write);
    }

    /// The last plan is over: whatever was not made of it has been told. What it replaced is forgotten, and after a first plan
    /// that is a tenth of everything.
    pub fn written(&mut self) {
        self.v4.written();
        self.v6.written();
    }

    /// Whose each id is; to be written down for [`Actual::names`] and for people.
    pub fn names(&self) -> impl Iterator<Item = (ServiceId, &ServiceName)> {
        self.ids.names()
    }

    /// Those of [`Planner::names`] with greater ids than one, or all, in the order of the ids.
    pub fn names_after(&self, id: Option<ServiceId>) -> impl Iterator<Item = (ServiceId, &ServiceName)> {
        self.ids.names_after(id)
    }

    /// Whether somebody has this id.
    pub fn is_named(&self, id: ServiceId) -> bool {
        self.ids.is_named(id)
    }

    /// Counts the changes of [`Planner::names`]: write them down again when it differs.
    pub fn names_version(&self) -> u64 {
        self.ids.version()
    }

    /// The id of a Service port, if it was ever planned.
    pub fn id(&self, name: &ServiceName) -> Option<ServiceId> {
        self.ids.of(name)
    }

    /// Everything that is refused now.
    pub fn refusals(&self) -> impl Iterator<Item = &Refusal> {
        self.v4.refusals().chain(self.v6.refusals())
    }

    /// Who is refused one key of a family.
    pub fn refused<F: Served>(&self, key: &FrontendKey<F::Addr>) -> impl Iterator<Item = &Refusal> {
        F::ledger(self).refused_at(key)
    }

    /// Service ports whose UDP flows may lead to endpoints that are gone, of all plans since the last call. To be
    /// asked once the kernel holds the plan: before, a new flow could still be sent to such an endpoint. One whose
    /// frontend was not written is told now, for its other frontends, and again when it is.
    pub fn take_moved<F: Served>(&mut self) -> Moved<F> {
        F::ledger_mut(self).take_moved()
    }

    /// Who serves each UDP Service port by the last plan, for judging flows at any other time than after a change: whoever
    /// serves keeps its flows, also if no new ones are sent to it (item 103).
    pub fn answering<F: Served>(&self) -> Answering<F> {
        F::ledger(self).answering()
    }

    /// Entries and slots in use in a family, for metrics.
    pub fn usage<F: Served>(&self) -> Usage {
        F::ledger(self).usage()
    }

    /// What the kernel holds in a family as far as the planner knows: every entry with its two lists of backends.
    pub fn entries<F: Served>(&self) -> impl Iterator<Item = Entry<'_, F>> {
        F::ledger(self).entries()
    }
}

/// How full the maps of a family are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Usage {
    /// Entries of `frontends`.
    pub frontends: u32,
    /// Slots of `backends` that are in use or at rest.
    pub backends: u32,
    /// Entries of `ranges`.
    pub ranges: u32,
    /// Sizes.
    pub capacity: Capacity,
}

/// An entry of `frontends` with the backends that its segments hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a, F: Family> {
    /// Key.
    pub key: FrontendKey<F::Addr>,
    /// Value.
    pub value: Frontend,
    /// Content of the cluster segment.
    pub cluster: &'a [Backend<F::Addr>],
    /// Content of the local segment.
    pub local: &'a [Backend<F::Addr>],
}
