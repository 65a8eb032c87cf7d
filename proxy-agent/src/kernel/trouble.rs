//! Writes of a plan that the kernel refused, for people: what was to be written where, whose it is, why it is not there, and
//! what can be done. Knows nothing of who is told.

use std::collections::{BTreeMap, BTreeSet};
use std::{fmt, io};

use proxy_common::{FrontendKey, ServiceId, V4, V6};
use proxy_model::{Plan, Planner, Served, ServiceName, Write, plan::Place};

use super::{
    apply::{Failure, Made, Outcome},
    family::MapFamily,
    remedy::{Asked, Remedy},
};

/// A write that was not made.
#[derive(Debug)]
pub struct Trouble<'a> {
    /// The map.
    pub map: &'static str,
    /// What was to be written there.
    pub write: String,
    /// Whose it is, where that is known.
    pub service: Option<&'a ServiceName>,
    /// Why not: the kernel's own word on it, or on the write that it follows from.
    pub error: &'a io::Error,
}

impl Trouble<'_> {
    /// What can be done.
    #[must_use]
    pub fn remedy(&self) -> Remedy<'static> {
        Remedy::after(Asked::Entry(self.map), self.error)
    }
}

impl fmt::Display for Trouble<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { map, write, error, .. } = self;
        write!(f, "cannot write {write} to map {map}: {error}{}", self.remedy())
    }
}

impl Outcome {
    /// The write that was refused first, and behind it one for each other Service that has something which is not written.
    #[must_use]
    pub fn troubles<'a>(&'a self, plan: &Plan, planner: &'a Planner) -> Vec<Trouble<'a>> {
        let ids: BTreeSet<ServiceId> =
            owners::<V4>(&self.v4, plan).chain(owners::<V6>(&self.v6, plan)).flatten().collect();
        let names: BTreeMap<_, _> = match ids.is_empty() {
            true => BTreeMap::new(),
            false => planner.names().filter(|(id, _)| ids.contains(id)).collect(),
        };
        let mut all = of::<V4>(&self.v4, plan, &names);
        all.extend(of::<V6>(&self.v6, plan, &names));
        let mut told = BTreeSet::new();
        let mut is_first = true;
        all.retain(|trouble| {
            let is_news = trouble.service.is_some_and(|name| told.insert(name.service.clone()));
            std::mem::take(&mut is_first) || is_news
        });
        all
    }
}

/// The owners of the writes that failed, in their order.
fn owners<'a, F: Served>(made: &'a Made, plan: &'a Plan) -> impl Iterator<Item = Option<ServiceId>> + 'a {
    made.failures.iter().map(|failure| F::writes(plan).get(failure.index).and_then(owner))
}

fn owner<F: Served>(write: &Write<F>) -> Option<ServiceId> {
    match write {
        Write::PutFrontend { value, .. } => Some(value.service),
        Write::PutRange { key } | Write::DeleteRange { key } => Some(key.service),
        Write::Slots { .. } | Write::DeleteFrontend { .. } => None,
    }
}

/// Those of a family.
fn of<'a, F: Served + MapFamily>(
    made: &'a Made,
    plan: &Plan,
    names: &BTreeMap<ServiceId, &'a ServiceName>,
) -> Vec<Trouble<'a>> {
    let place = |key: &FrontendKey<F::Addr>| Place::from(*key).to_string();
    // What was not tried follows from a write that was.
    let Some(cause) = made.failures.iter().find_map(|failure| failure.error.as_ref()) else {
        return Vec::new();
    };
    let trouble = |Failure { index, error }: &'a Failure| {
        let write = F::writes(plan).get(*index)?;
        let (map, text) = match write {
            Write::Slots { start, slots } => {
                (F::NAMES.backends, format!("{} slots from {start}", slots.len()))
            }
            Write::PutFrontend { key, .. } => (F::NAMES.frontends, place(key)),
            Write::DeleteFrontend { key } => (F::NAMES.frontends, format!("without {}", place(key))),
            Write::PutRange { .. } | Write::DeleteRange { .. } => {
                (F::NAMES.ranges, "a source range".to_owned())
            }
        };
        let service = owner(write).and_then(|id| names.get(&id).copied());
        Some(Trouble { map, write: text, service, error: error.as_ref().unwrap_or(cause) })
    };
    made.failures.iter().filter_map(trouble).collect()
}
