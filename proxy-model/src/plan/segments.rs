//! Segments in the `backends` array: equal lists share one, and one that nobody points at rests for the grace
//! period before its slots are used again. Knows nothing of Services.
//!
//! ```text
//! insert ─► hold … let_go (last one) ─► resting ─► free
//!             ▲                            │
//!             └──── hold: wanted again ────┘
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use proxy_common::{Backend, Family, Segment};

use super::space::{Run, Space};
use super::{GRACE_MILLIS, Tick};
use crate::intent::Backends;
use crate::sorted::Sorted;

/// The array.
#[derive(Debug)]
pub(crate) struct Segments<F: Family> {
    size: u32,
    space: Space,
    /// First slot → what is there.
    held: Sorted<u32, Held<F>>,
    by_content: Sorted<Backends<F>, u32>,
    /// Let go since the last plan: the grace period begins when the next plan is asked for, because only then
    /// the writes of the last one are done for sure.
    fresh: Vec<Run>,
    resting: BTreeSet<(Tick, Run)>,
}

#[derive(Debug)]
struct Held<F: Family> {
    content: Backends<F>,
    /// Frontends in the kernel that point here, counted per segment field.
    refs: u32,
    /// In `resting` under this moment.
    rests_until: Option<Tick>,
}

impl<F: Family> Segments<F> {
    pub(crate) fn new(size: u32) -> Self {
        Self {
            size,
            space: Space::new((0, size)),
            held: Sorted::new(),
            by_content: Sorted::new(),
            fresh: Vec::new(),
            resting: BTreeSet::new(),
        }
    }

    /// Slots that are not free.
    pub(crate) fn used(&self) -> u32 {
        self.size - self.space.free()
    }

    /// What a segment holds, as far as it is known.
    pub(crate) fn content(&self, segment: Segment) -> &[Backend<F::Addr>] {
        self.held.get(&segment.start).filter(|_| !segment.is_empty()).map_or(&[], |held| &held.content)
    }

    /// The segment that holds this list already.
    pub(crate) fn find(&self, content: &Backends<F>) -> Option<Segment> {
        if content.is_empty() {
            return Some(Segment::EMPTY);
        }
        let start = *self.by_content.get(content)?;
        Some(Segment { start, len: length(content) })
    }

    /// Finds free slots for a list that [`Segments::find`] does not find. The caller writes it there, and then holds
    /// it or lets it rest.
    pub(crate) fn insert(&mut self, content: &Backends<F>) -> Option<Segment> {
        let len = length(content);
        let start = self.space.take(len)?;
        self.held.insert(start, Held { content: content.clone(), refs: 0, rests_until: None });
        self.by_content.insert(content.clone(), start);
        Some(Segment { start, len })
    }

    /// Takes a segment as it was found in the kernel: held by nobody yet. False if it overlaps another one.
    fn adopt(&mut self, segment: Segment, content: Backends<F>) -> bool {
        if let Some(held) = self.held.get(&segment.start) {
            return held.content.len() == segment.len as usize;
        }
        let run = (segment.start, segment.len);
        let taken = self.space.take_at(run);
        self.fresh.extend(&taken);
        if taken != [run] {
            return false;
        }
        if !self.by_content.contains_key(&content) {
            self.by_content.insert(content.clone(), segment.start);
        }
        self.held.insert(segment.start, Held { content, refs: 0, rests_until: None });
        true
    }

    /// Takes a segment of the kernel, slot by slot; false if it cannot be what it should be.
    pub(crate) fn read(&mut self, segment: Segment, slot: &dyn Fn(u32) -> Option<Backend<F::Addr>>) -> bool {
        if self.content(segment).len() == segment.len as usize {
            return true;
        }
        // Bounds first: a broken entry may name four billion slots.
        let in_bounds = segment.start.checked_add(segment.len).filter(|end| *end <= self.size);
        let content = in_bounds.and_then(|end| (segment.start..end).map(slot).collect::<Option<Vec<_>>>());
        content.is_some_and(|content| self.adopt(segment, content.into()))
    }

    /// One more pointer from the kernel.
    pub(crate) fn hold(&mut self, segment: Segment) {
        if !segment.is_empty()
            && let Some(held) = self.held.get_mut(&segment.start)
        {
            held.refs += 1;
            if let Some(until) = held.rests_until.take() {
                self.resting.remove(&(until, (segment.start, segment.len)));
            }
        }
    }

    /// One pointer less.
    pub(crate) fn let_go(&mut self, segment: Segment) {
        if !segment.is_empty()
            && let Some(held) = self.held.get_mut(&segment.start)
        {
            held.refs = held.refs.saturating_sub(1);
            if held.refs == 0 {
                self.fresh.push((segment.start, segment.len));
            }
        }
    }

    /// Nobody came to point at it after all.
    pub(crate) fn rest_unless_held(&mut self, segment: Segment) {
        let run = (segment.start, segment.len);
        if !segment.is_empty() && self.held_at(run).is_some_and(|held| held.refs == 0) {
            self.fresh.push(run);
        }
    }

    /// The slots could not be written: the segment must not be found again.
    pub(crate) fn spoil(&mut self, start: u32) {
        if let Some(held) = self.held.get(&start)
            && self.by_content.get(&held.content) == Some(&start)
        {
            self.by_content.remove(&held.content);
        }
    }

    /// Frees what has rested long enough. True if anything became free.
    pub(crate) fn release(&mut self, now: Tick) -> bool {
        let until = now.after(GRACE_MILLIS);
        for run in std::mem::take(&mut self.fresh) {
            match self.held_at(run) {
                Some(held) if held.refs > 0 || held.rests_until.is_some() => continue,
                Some(held) => held.rests_until = Some(until),
                None => {}
            }
            self.resting.insert((until, run));
        }
        let mut freed = false;
        while let Some(&(tick, run)) = self.resting.first()
            && tick <= now
        {
            self.resting.pop_first();
            self.free(run);
            freed = true;
        }
        freed
    }

    /// When the next segment becomes free; now, if the grace period of one has not begun yet.
    pub(crate) fn next_release(&mut self, now: Tick) -> Option<Tick> {
        let fresh = std::mem::take(&mut self.fresh);
        self.fresh =
            fresh.into_iter().filter(|run| self.held_at(*run).is_none_or(|held| held.refs == 0)).collect();
        if !self.fresh.is_empty() {
            return Some(now);
        }
        self.resting.first().map(|(tick, _)| *tick)
    }

    /// Lets everything of an older reading of the kernel rest, unless this one holds it.
    pub(crate) fn keep_resting(&mut self, old: Self) {
        let held = old.held.iter().map(|(start, held)| (*start, length(&held.content)));
        for run in held.chain(old.resting.iter().map(|(_, run)| *run)).chain(old.fresh.iter().copied()) {
            let taken = self.space.take_at(run);
            self.fresh.extend(taken);
        }
    }

    fn held_at(&mut self, (start, len): Run) -> Option<&mut Held<F>> {
        self.held.get_mut(&start).filter(|held| length(&held.content) == len)
    }

    fn free(&mut self, run: Run) {
        if self.held_at(run).is_some() {
            self.spoil(run.0);
            self.held.remove(&run.0);
        }
        self.space.give(run);
    }
}

fn length<A>(content: &Arc<[Backend<A>]>) -> u32 {
    // A list longer than the array finds no place anyway.
    u32::try_from(content.len()).unwrap_or(u32::MAX)
}
