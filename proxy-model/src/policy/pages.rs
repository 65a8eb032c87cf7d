//! Which pages of verdicts there are: for every rule set and every class that something names, or named a moment ago.
//!
//! A page never changes: its key is a digest of what it is made from. So it is written before anything names it, and goes
//! a while after nothing does.

use std::collections::{BTreeMap, BTreeSet};

use proxy_common::policy::{PeerClass, RuleSetId, VerdictKey, VerdictPage};

use super::class::Class;
use super::model::Model;
use super::rules::RuleSet;
use super::verdict::verdicts;
use super::write::{PageMark, PolicyWrite};
use crate::plan::{GRACE_MILLIS, Tick};
use crate::world::Changed;

/// A rule set and a class.
pub(super) type Pair = (RuleSetId, PeerClass);

/// What is known of the pages of a pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Held {
    count: u16,
    /// Of what all of them say.
    sum: u32,
}

impl Held {
    /// Of all pages of a pair, in their order.
    fn of(pages: impl IntoIterator<Item = PageMark>) -> Self {
        pages.into_iter().fold(Self { count: 0, sum: 0 }, |Self { count, sum }, page| Self {
            count: count.saturating_add(1),
            sum: sum.rotate_left(5).wrapping_add(page.sum),
        })
    }
}

/// Found, and not known yet whether anything names it: the time of rest begins with the next plan.
const ADOPTED: Tick = Tick(u64::MAX);

/// What is known about the pages in the kernel.
#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Pages that there are.
    held: BTreeMap<Pair, Held>,
    /// Keys without the first page: of a life that ended between two writes.
    strays: BTreeSet<VerdictKey>,
    /// Rule sets and classes of which every pair has been looked at.
    sets: BTreeSet<RuleSetId>,
    classes: BTreeSet<PeerClass>,
    /// Pairs that a write failed for.
    doubtful: BTreeSet<Pair>,
    /// Until when nothing that named them may still be under way.
    pub(super) resting_sets: BTreeMap<RuleSetId, Tick>,
    pub(super) resting_classes: BTreeMap<PeerClass, Tick>,
    entries: usize,
    /// Something has rested long enough since the last sweep.
    has_released: bool,
}

impl Pages {
    /// Takes what the kernel holds.
    pub(super) fn adopt(verdicts: Vec<(VerdictKey, PageMark)>) -> Self {
        let mut all: BTreeMap<Pair, BTreeMap<u32, PageMark>> = BTreeMap::new();
        for (key, mark) in verdicts {
            all.entry((key.rules, key.peer)).or_default().insert(key.page, mark);
        }
        let mut adopted = Self::default();
        for ((rules, peer), pages) in all {
            let wanted = pages.get(&0).map_or(0, |first| first.pages);
            let is_whole = wanted > 0
                && pages.len() == usize::from(wanted)
                && pages.keys().all(|page| *page < u32::from(wanted));
            if is_whole {
                adopted.held.insert((rules, peer), Held::of(pages.values().copied()));
                adopted.resting_sets.insert(rules, ADOPTED);
                adopted.resting_classes.insert(peer, ADOPTED);
                adopted.entries += pages.len();
            } else {
                adopted.strays.extend(pages.keys().map(|page| VerdictKey::new(rules, peer, *page)));
            }
        }
        adopted
    }

    /// Compares what the kernel holds with what was written. What is missing is written by the next plan, what is too much
    /// is deleted by it; both are looked for among all pairs.
    pub(super) fn compare(&mut self, verdicts: Vec<(VerdictKey, PageMark)>) -> Changed {
        let found = Self::adopt(verdicts);
        let lost: Vec<_> =
            self.held.iter().filter(|(k, v)| found.held.get(k) != Some(v)).map(|(pair, _)| *pair).collect();
        let more = found.held.iter().filter(|(k, v)| self.held.get(k) != Some(v));
        let keys = more.flat_map(|((set, class), held)| {
            (0..u32::from(held.count)).map(|page| VerdictKey::new(*set, *class, page))
        });
        self.strays = keys.chain(found.strays).collect();
        let changed = if lost.is_empty() && self.strays.is_empty() { Changed::No } else { Changed::Yes };
        for pair in lost {
            self.let_go(pair);
            self.doubtful.insert(pair);
        }
        changed
    }

    /// Entries of the map.
    pub(super) fn entries(&self) -> usize {
        self.entries + self.strays.len()
    }

    /// What nothing names any more rests from now on; what is named again does not.
    pub(super) fn rest(&mut self, model: &Model, now: Tick) {
        let (sets, classes) = (model.live_sets(), model.live_classes());
        let until = now.after(GRACE_MILLIS);
        for set in self.sets.iter().filter(|set| !sets.contains(set)) {
            self.resting_sets.entry(*set).or_insert(until);
        }
        for class in self.classes.iter().filter(|class| !classes.contains(class)) {
            self.resting_classes.entry(*class).or_insert(until);
        }
        let adopted = self.resting_sets.values_mut().chain(self.resting_classes.values_mut());
        adopted.filter(|at| **at == ADOPTED).for_each(|at| *at = until);
        self.resting_sets.retain(|set, _| !sets.contains(set));
        self.resting_classes.retain(|class, _| !classes.contains(class));
    }

    /// What has rested long enough is forgotten; its pages are in [`Pages::sweep`] then.
    pub(super) fn release(&mut self, now: Tick) {
        let Self { sets, classes, resting_sets, resting_classes, has_released, .. } = self;
        *has_released |= resting_sets.values().chain(resting_classes.values()).any(|until| *until <= now);
        resting_sets.retain(|set, until| {
            let rests = *until > now;
            if !rests {
                sets.remove(set);
            }
            rests
        });
        resting_classes.retain(|class, until| {
            let rests = *until > now;
            if !rests {
                classes.remove(class);
            }
            rests
        });
    }

    /// These rule sets are named only while the plan is being written.
    pub(super) fn rest_at_once(&mut self, sets: impl IntoIterator<Item = RuleSetId>, now: Tick) {
        self.resting_sets.extend(sets.into_iter().map(|set| (set, now.after(GRACE_MILLIS))));
    }

    /// The next moment at which something has rested long enough.
    pub(super) fn next_release(&self) -> Option<Tick> {
        self.resting_sets.values().chain(self.resting_classes.values()).min().copied()
    }

    /// Rule sets that live, or did a moment ago: they still want to be asked.
    pub(super) fn known_sets(&self) -> &BTreeSet<RuleSetId> {
        &self.sets
    }

    /// Pages that are not there yet, for all that is named or rests.
    pub(super) fn missing(&self, model: &Model) -> Vec<Missing> {
        let sets: BTreeSet<_> =
            model.live_sets().into_iter().chain(self.resting_sets.keys().copied()).collect();
        let classes = self.all_classes(model);
        let is_new = |(class, _): &&(PeerClass, Class)| !self.classes.contains(class);
        let new_classes: Vec<_> = classes.iter().filter(is_new).collect();
        let all_classes: Vec<_> = classes.iter().collect();
        let mut missing = Vec::new();
        for id in sets {
            let Some(set) = model.sets.get(id.0) else { continue };
            let is_known = self.sets.contains(&id) && self.doubtful.is_empty();
            let asked = Asked::of(set);
            for (class_id, class) in if is_known { &new_classes } else { &all_classes } {
                if !asked.may_say_something_about(class) {
                    continue;
                }
                let pair = (id, *class_id);
                let pages = verdicts(set, class).pages();
                let wanted = Held::of(pages.iter().map(PageMark::of));
                if wanted.count > 0 && self.held.get(&pair) != Some(&wanted) {
                    missing.push(Missing { pair, pages });
                }
            }
        }
        missing
    }

    /// Every class that something names, or named a moment ago.
    pub(super) fn all_classes(&self, model: &Model) -> Vec<(PeerClass, Class)> {
        let ids = model.live_classes().into_iter().chain(self.resting_classes.keys().copied());
        let ids: BTreeSet<_> = ids.collect();
        ids.into_iter().filter_map(|id| Some((id, model.class(id)?))).collect()
    }

    /// Writes the pages that are missing. Nothing names them before the plan's later writes.
    pub(super) fn fill(&mut self, model: &Model, missing: Vec<Missing>) -> Vec<PolicyWrite> {
        let mut writes = Vec::new();
        for Missing { pair, pages } in missing {
            // The first page last: whoever finds it finds all.
            for (number, page) in pages.iter().enumerate().rev() {
                let number = u32::try_from(number).unwrap_or(u32::MAX);
                let key = VerdictKey::new(pair.0, pair.1, number);
                self.strays.remove(&key);
                writes.push(PolicyWrite::PutVerdict { key, page: Box::new(*page) });
            }
            let held = Held::of(pages.iter().map(PageMark::of));
            let before = self.let_go(pair).map_or(0, |before| before.count);
            // More than there should be, of a pair that says something else.
            let more = (held.count..before).map(|page| VerdictKey::new(pair.0, pair.1, u32::from(page)));
            self.strays.extend(more);
            self.held.insert(pair, held);
            self.entries += usize::from(held.count);
        }
        // What rests since before the start is known by its number alone: should it be named again, every pair is looked at.
        let resting = self.resting_sets.keys().copied().filter(|id| model.sets.get(id.0).is_some());
        self.sets = model.live_sets().into_iter().chain(resting).collect();
        self.classes = self.all_classes(model).into_iter().map(|(id, _)| id).collect();
        self.doubtful.clear();
        writes
    }

    /// Deletes pages that nothing names or named a while ago.
    pub(super) fn sweep(&mut self, model: &Model) -> Vec<PolicyWrite> {
        if !std::mem::take(&mut self.has_released) && self.strays.is_empty() {
            return Vec::new();
        }
        let (sets, classes) = (model.live_sets(), model.live_classes());
        let stays = |(set, class): &Pair| {
            (sets.contains(set) || self.resting_sets.contains_key(set))
                && (classes.contains(class) || self.resting_classes.contains_key(class))
        };
        let gone: Vec<_> = self.held.iter().filter(|(pair, _)| !stays(pair)).map(|(k, v)| (*k, *v)).collect();
        let mut writes = Vec::new();
        for ((set, class), Held { count, .. }) in gone {
            self.let_go((set, class));
            // The first page first: without it the others are not looked for.
            let keys = (0..u32::from(count)).map(|page| VerdictKey::new(set, class, page));
            writes.extend(keys.map(|key| PolicyWrite::DeleteVerdict { key }));
        }
        let strays = std::mem::take(&mut self.strays);
        writes.extend(strays.into_iter().map(|key| PolicyWrite::DeleteVerdict { key }));
        writes
    }

    /// It is no page, or one that is still held.
    pub(super) fn still_wants(&self, write: &PolicyWrite) -> bool {
        match write {
            PolicyWrite::PutVerdict { key, .. } => self.held.contains_key(&(key.rules, key.peer)),
            PolicyWrite::DeleteVerdict { .. }
            | PolicyWrite::State(_)
            | PolicyWrite::V4(_)
            | PolicyWrite::V6(_) => true,
        }
    }

    /// A write of a page failed.
    pub(super) fn put_failed(&mut self, key: VerdictKey) {
        let pair = (key.rules, key.peer);
        if let Some(Held { count, .. }) = self.let_go(pair) {
            self.strays.extend((0..u32::from(count)).map(|page| VerdictKey::new(key.rules, key.peer, page)));
        }
        self.doubtful.insert(pair);
    }

    /// Another page is there than one that is missing.
    pub(super) fn contradict(&self, missing: &[Missing]) -> Changed {
        match missing.iter().any(|missing| self.held.contains_key(&missing.pair)) {
            true => Changed::Yes,
            false => Changed::No,
        }
    }

    fn let_go(&mut self, pair: Pair) -> Option<Held> {
        let held = self.held.remove(&pair)?;
        self.entries = self.entries.saturating_sub(usize::from(held.count));
        Some(held)
    }

    /// A deletion failed.
    pub(super) fn deletion_failed(&mut self, key: VerdictKey) {
        self.strays.insert(key);
    }
}

/// Pages that a pair needs.
#[derive(Debug)]
pub(super) struct Missing {
    pub(super) pair: Pair,
    pub(super) pages: Vec<VerdictPage>,
}

/// What a rule set asks about a class before it says something else than "no".
struct Asked {
    everybody: bool,
    peers: BTreeSet<super::peers::PeersId>,
}

impl Asked {
    fn of(set: &RuleSet) -> Self {
        Self { everybody: set.is_for_everybody(), peers: set.peers() }
    }

    fn may_say_something_about(&self, class: &Class) -> bool {
        self.everybody || class.peers.iter().any(|id| self.peers.contains(id))
    }
}

/// Pages that the rule sets and classes of a model need, without any that rest.
pub(super) fn demand(model: &Model) -> usize {
    let classes: Vec<_> = model.live_classes().into_iter().filter_map(|id| model.class(id)).collect();
    let sets = model.live_sets();
    let of = |set: &RuleSet| -> usize {
        let asked = Asked::of(set);
        let about = classes.iter().filter(|class| asked.may_say_something_about(class));
        about.map(|class| verdicts(set, class).pages().len()).sum()
    };
    sets.iter().filter_map(|id| model.sets.get(id.0)).map(|set| of(set)).sum()
}
