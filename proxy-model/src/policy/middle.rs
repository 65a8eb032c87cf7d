//! What pods are under while a change is being written: what both the old and the new rules allow.
//!
//! A connection is judged at both ends, and they change one after the other. Were one end under its new rules while the
//! other is under its old ones, something could pass that neither state allows. So every pod whose rules change goes by a
//! rule set that allows what both allow: until all of them have it nothing passes that the old state denies, and from then
//! on nothing that the new one denies. What both allow passes throughout.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proxy_common::policy::{PeerClass, Policed, RuleSetId};

use super::class::Class;
use super::digest::{Domain, Encoder};
use super::model::Model;
use super::pages::Missing;
use super::rules::RuleSet;
use super::verdict::{Verdicts, verdicts};

/// What is written before anything else changes.
#[derive(Debug, Default)]
pub(super) struct Middle {
    /// Entries of `policed`.
    pub(super) policed: BTreeMap<IpAddr, Policed>,
    /// Pages of the rule sets that exist only meanwhile.
    pub(super) missing: Vec<Missing>,
    pub(super) sets: BTreeSet<RuleSetId>,
}

/// Old and new rules of a pod in one direction.
type Pair = (RuleSetId, RuleSetId);

/// Finds what stands between old and new rule sets.
pub(super) struct Between<'a> {
    model: &'a Model,
    classes: &'a [(PeerClass, Class)],
    found: BTreeMap<Pair, RuleSetId>,
    missing: Vec<Missing>,
    sets: BTreeSet<RuleSetId>,
}

/// Whether there is room for rule sets that exist only meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Room {
    /// There is.
    Enough,
    /// The pods are closed meanwhile.
    None,
}

/// A rule set as far as its verdicts go.
enum Said {
    Open,
    Closed,
    Rules(Arc<RuleSet>),
    /// Of an earlier life, whose facts are not known.
    Unknown,
}

impl Said {
    fn about(&self, class: &Class) -> Verdicts {
        match self {
            Self::Open => Verdicts::free(),
            Self::Closed | Self::Unknown => Verdicts::default(),
            Self::Rules(set) => verdicts(set, class),
        }
    }
}

impl<'a> Between<'a> {
    pub(super) fn new(model: &'a Model, classes: &'a [(PeerClass, Class)]) -> Self {
        Self { model, classes, found: BTreeMap::new(), missing: Vec::new(), sets: BTreeSet::new() }
    }

    /// What these addresses are under meanwhile; each with its old and its new value.
    pub(super) fn middle(mut self, changed: &[(IpAddr, Policed, Policed)], room: Room) -> Middle {
        let mut policed = BTreeMap::new();
        for (addr, old, new) in changed {
            let egress = self.rules((old.egress, new.egress), room);
            let ingress = self.rules((old.ingress, new.ingress), room);
            let value = Policed { egress, ingress, device: new.device, pad: 0 };
            if value != *old {
                policed.insert(*addr, value);
            }
        }
        Middle { policed, missing: self.missing, sets: self.sets }
    }

    fn said(&self, id: RuleSetId) -> Said {
        match id {
            RuleSetId::OPEN => Said::Open,
            RuleSetId::CLOSED => Said::Closed,
            RuleSetId(id) => {
                self.model.sets.get(id).map_or(Said::Unknown, |set| Said::Rules(Arc::clone(set)))
            }
        }
    }

    fn rules(&mut self, pair: Pair, room: Room) -> RuleSetId {
        if let Some(found) = self.found.get(&pair) {
            return *found;
        }
        let rules = self.find(pair, room);
        self.found.insert(pair, rules);
        rules
    }

    fn find(&mut self, (old_id, new_id): Pair, room: Room) -> RuleSetId {
        if old_id == new_id {
            return new_id;
        }
        let (old, new) = (self.said(old_id), self.said(new_id));
        let is_unknown = matches!(old, Said::Unknown) || matches!(new, Said::Unknown);
        if is_unknown || matches!(old, Said::Closed) || matches!(new, Said::Closed) {
            return RuleSetId::CLOSED;
        }
        let (mut is_old, mut is_new) = (true, true);
        let mut joint = Vec::new();
        for (id, class) in self.classes {
            let (old, new) = (old.about(class), new.about(class));
            let both = old.and(&new);
            is_old &= both.agrees_with(&old);
            is_new &= both.agrees_with(&new);
            joint.push((*id, both));
        }
        match (is_old, is_new) {
            (_, true) => new_id,
            (true, false) => old_id,
            (false, false) if room == Room::None => RuleSetId::CLOSED,
            (false, false) => {
                let name = self.name((old_id, new_id));
                let pages = joint
                    .into_iter()
                    .map(|(class, both)| Missing { pair: (name, class), pages: both.pages() });
                self.missing.extend(pages.filter(|missing| !missing.pages.is_empty()));
                self.sets.insert(name);
                name
            }
        }
    }

    /// A name that no rule set has.
    fn name(&self, (old, new): Pair) -> RuleSetId {
        let mut name = Encoder::new(Domain::Middle).number(old.0).number(new.0).digest();
        while self.model.sets.get(name).is_some() {
            name = name.wrapping_add(1).clamp(1, u64::MAX - 1);
        }
        RuleSetId(name)
    }
}
