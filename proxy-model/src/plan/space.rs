//! Free numbers in runs: backend slots, service ids. Coalesces what is given back.

use std::collections::{BTreeMap, BTreeSet};

/// A run of numbers: first and length.
pub(crate) type Run = (u32, u32);

/// What is free. Every operation is logarithmic in the number of free runs.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    /// First → length; runs never touch.
    by_start: BTreeMap<u32, u32>,
    /// The same as (length, first).
    by_len: BTreeSet<(u32, u32)>,
    free: u32,
}

impl Space {
    /// All numbers from `first` to below `first + len`.
    pub(crate) fn new((first, len): Run) -> Self {
        let mut space = Self { by_start: BTreeMap::new(), by_len: BTreeSet::new(), free: 0 };
        space.give((first, len));
        space
    }

    /// How many numbers are free.
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    /// Takes a run from the smallest hole that holds it, the lowest of equal ones: large holes stay whole.
    pub(crate) fn take(&mut self, len: u32) -> Option<u32> {
        let &(hole, start) = self.by_len.range((len, 0)..).next()?;
        self.remove((start, hole));
        self.insert((start + len, hole - len));
        Some(start)
    }

    /// Takes the smallest number.
    pub(crate) fn take_lowest(&mut self) -> Option<u32> {
        let (&start, &hole) = self.by_start.first_key_value()?;
        self.remove((start, hole));
        self.insert((start + 1, hole - 1));
        Some(start)
    }

    /// Takes whatever is free of a run, and says what it was.
    pub(crate) fn take_at(&mut self, (start, len): Run) -> Vec<Run> {
        let end = start.saturating_add(len);
        let before = self.by_start.range(..start).next_back().map(|(s, l)| (*s, *l));
        let holes: Vec<Run> = before
            .into_iter()
            .chain(self.by_start.range(start..end).map(|(s, l)| (*s, *l)))
            .filter(|(s, l)| s + l > start)
            .collect();
        let mut taken = Vec::new();
        for (s, l) in holes {
            let (from, to) = (s.max(start), (s + l).min(end));
            self.remove((s, l));
            self.insert((s, from - s));
            self.insert((to, s + l - to));
            taken.push((from, to - from));
        }
        taken
    }

    /// Gives a run back that was taken.
    pub(crate) fn give(&mut self, (mut start, mut len): Run) {
        if let Some((&s, &l)) = self.by_start.range(..start).next_back()
            && s + l == start
        {
            self.remove((s, l));
            (start, len) = (s, l + len);
        }
        if let Some(&l) = self.by_start.get(&(start + len)) {
            self.remove((start + len, l));
            len += l;
        }
        self.insert((start, len));
    }

    fn insert(&mut self, (start, len): Run) {
        if len > 0 {
            self.by_start.insert(start, len);
            self.by_len.insert((len, start));
            self.free += len;
        }
    }

    fn remove(&mut self, (start, len): Run) {
        self.by_start.remove(&start);
        self.by_len.remove(&(len, start));
        self.free -= len;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_run_comes_from_the_smallest_hole_that_holds_it() {
        let mut space = Space::new((0, 100));
        assert_eq!(space.take(10), Some(0));
        assert_eq!(space.take(5), Some(10));
        assert_eq!(space.take(1), Some(15));
        space.give((10, 5));
        assert_eq!(space.take(4), Some(10));
        assert_eq!(space.take(84), Some(16));
        assert_eq!(space.take(2), None);
        assert_eq!(space.free(), 1);
    }

    #[test]
    fn taking_a_place_skips_what_is_not_free_there() {
        let mut space = Space::new((0, 20));
        assert_eq!(space.take_at((5, 5)), [(5, 5)]);
        assert_eq!(space.take_at((3, 10)), [(3, 2), (10, 3)]);
        assert_eq!(space.take_at((18, 10)), [(18, 2)]);
        assert_eq!(space.take_at((u32::MAX, 10)), []);
        assert_eq!(space.free(), 3 + 5);
    }

    proptest! {
        #[test]
        fn runs_never_overlap_and_come_back_whole(steps in prop::collection::vec((any::<bool>(), 1u32..20, any::<prop::sample::Index>()), 1..200)) {
            let mut space = Space::new((0, 200));
            let mut taken: Vec<Run> = Vec::new();
            for (take, len, which) in steps {
                if take {
                    if let Some(start) = space.take(len) {
                        prop_assert!(start + len <= 200);
                        prop_assert!(taken.iter().all(|(s, l)| start + len <= *s || s + l <= start));
                        taken.push((start, len));
                    }
                } else if !taken.is_empty() {
                    let run = taken.swap_remove(which.index(taken.len()));
                    space.give(run);
                }
                prop_assert_eq!(space.free(), 200 - taken.iter().map(|(_, l)| l).sum::<u32>());
            }
            for run in taken {
                space.give(run);
            }
            prop_assert_eq!(space.take(200), Some(0));
        }
    }
}
