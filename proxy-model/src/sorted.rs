//! A sorted map that is little larger than what is in it. What is listed comes in the order of its keys, and a tree's nodes
//! stay half empty then; here they are runs of neighbours, which are full. Knows nothing of what it holds.

/// Entries of a run at most. A new entry moves half of them; a lookup compares with few of them.
const MOST: usize = 64;
/// Entries that a run makes room for at a time.
const STEP: usize = 8;

/// Keys in their order, each with its value.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Sorted<K, V> {
    /// None is empty, and the last key of each comes before the first of the next.
    runs: Vec<Vec<(K, V)>>,
    len: usize,
}

/// Where a key is, or where it belongs.
enum Place {
    Known { run: usize, at: usize },
    Free { run: usize, at: usize },
}

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Sorted<K, V> {
    pub(crate) const fn new() -> Self {
        Self { runs: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.runs.iter().flatten().map(|(key, value)| (key, value))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// The entries from the first one on that is not before something. `is_before` holds for the first keys and for no other.
    pub(crate) fn skip_while(&self, is_before: impl Fn(&K) -> bool) -> impl Iterator<Item = (&K, &V)> {
        let starts_before = |run: &Vec<(K, V)>| run.first().is_some_and(|(key, _)| is_before(key));
        // Only the last run that begins before it can end behind it.
        let run = self.runs.partition_point(starts_before).saturating_sub(1);
        let runs = self.runs.get(run..).unwrap_or_default();
        let at = runs.first().map_or(0, |run| run.partition_point(|(key, _)| is_before(key)));
        runs.iter().flatten().skip(at).map(|(key, value)| (key, value))
    }
}

impl<K: Ord, V> Sorted<K, V> {
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.get_key_value(key).map(|(_, value)| value)
    }

    pub(crate) fn get_key_value(&self, key: &K) -> Option<(&K, &V)> {
        match self.find(key) {
            Place::Known { run, at } => self.runs.get(run)?.get(at).map(|(key, value)| (key, value)),
            Place::Free { .. } => None,
        }
    }

    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        match self.find(key) {
            Place::Known { run, at } => self.runs.get_mut(run)?.get_mut(at).map(|(_, value)| value),
            Place::Free { .. } => None,
        }
    }

    pub(crate) fn contains_key(&self, key: &K) -> bool {
        matches!(self.find(key), Place::Known { .. })
    }

    /// Gives the value that was there.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.find(&key) {
            Place::Known { run, at } => {
                let known = self.runs.get_mut(run)?.get_mut(at)?;
                Some(std::mem::replace(&mut known.1, value))
            }
            Place::Free { run, at } => {
                self.len += 1;
                self.put((run, at), (key, value));
                None
            }
        }
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let Place::Known { run: number, at } = self.find(key) else { return None };
        let run = self.runs.get_mut(number)?;
        let (_, value) = run.remove(at);
        self.len -= 1;
        if run.is_empty() {
            self.runs.remove(number);
            return Some(value);
        }
        if run.len() + 2 * STEP <= run.capacity() {
            run.shrink_to(run.len() + STEP);
        }
        self.join(number);
        if let Some(before) = number.checked_sub(1) {
            self.join(before);
        }
        Some(value)
    }

    /// Makes one run of a run and the next, if there is little in both.
    fn join(&mut self, number: usize) {
        let Some([run, next]) = self.runs.get_mut(number..).and_then(<[_]>::first_chunk_mut) else { return };
        if run.len() + next.len() <= MOST / 2 {
            run.reserve_exact(next.len());
            run.append(next);
            self.runs.remove(number + 1);
        }
    }

    fn find(&self, key: &K) -> Place {
        let starts_behind = |run: &Vec<(K, V)>| run.first().is_some_and(|(first, _)| first <= key);
        let run = self.runs.partition_point(starts_behind).saturating_sub(1);
        let entries = self.runs.get(run).map_or(&[][..], Vec::as_slice);
        match entries.binary_search_by(|(known, _)| known.cmp(key)) {
            Ok(at) => Place::Known { run, at },
            Err(at) => Place::Free { run, at },
        }
    }

    fn put(&mut self, (number, at): (usize, usize), entry: (K, V)) {
        let Some(run) = self.runs.get_mut(number) else {
            self.runs.push(alone(entry));
            return;
        };
        if run.len() < MOST {
            insert(run, at, entry);
            return;
        }
        // What comes in order leaves full runs behind; what comes between others halves one.
        if at == MOST {
            self.runs.insert(number + 1, alone(entry));
            return;
        }
        let mut right = run.split_off(MOST / 2);
        run.shrink_to(MOST / 2 + STEP);
        match at.checked_sub(MOST / 2) {
            Some(at) => insert(&mut right, at, entry),
            None => insert(run, at, entry),
        }
        self.runs.insert(number + 1, right);
    }
}

fn alone<T>(entry: T) -> Vec<T> {
    let mut run = Vec::with_capacity(STEP);
    run.push(entry);
    run
}

fn insert<T>(run: &mut Vec<T>, at: usize, entry: T) {
    if run.len() == run.capacity() {
        run.reserve_exact(STEP);
    }
    run.insert(at, entry);
}

impl<K: Ord, V> FromIterator<(K, V)> for Sorted<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut sorted = Self::new();
        entries.into_iter().for_each(|(key, value)| drop(sorted.insert(key, value)));
        sorted
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entries(sorted: &Sorted<u16, u32>) -> Vec<(u16, u32)> {
        sorted.iter().map(|(key, value)| (*key, *value)).collect()
    }

    fn room(sorted: &Sorted<u16, u32>) -> usize {
        sorted.runs.iter().map(Vec::capacity).sum()
    }

    #[test]
    fn what_comes_in_order_leaves_no_room_unused_and_what_goes_gives_it_back() {
        let mut sorted: Sorted<u16, u32> = (0..10_000).map(|key| (key, 0)).collect();
        assert!(room(&sorted) <= 10_000 + STEP, "{}", room(&sorted));
        (0..10_000).filter(|key| key % 100 != 0).for_each(|key| assert_eq!(sorted.remove(&key), Some(0)));
        assert_eq!(sorted.len(), 100);
        assert!(room(&sorted) <= 300, "{} in {} runs", room(&sorted), sorted.runs.len());
    }

    proptest! {
        #[test]
        fn it_says_what_a_tree_says(
            steps in prop::collection::vec((any::<bool>(), 0..200_u16, any::<u32>()), 0..600),
            from in 0..200_u16,
        ) {
            let (mut sorted, mut tree) = (Sorted::new(), BTreeMap::new());
            for (is_new, key, value) in steps {
                if is_new {
                    prop_assert_eq!(sorted.insert(key, value), tree.insert(key, value));
                } else {
                    prop_assert_eq!(sorted.remove(&key), tree.remove(&key));
                }
                prop_assert_eq!(sorted.get(&key), tree.get(&key));
                prop_assert_eq!(sorted.len(), tree.len());
            }
            prop_assert_eq!(entries(&sorted), tree.iter().map(|(k, v)| (*k, *v)).collect::<Vec<_>>());
            let later: Vec<_> = sorted.skip_while(|key| *key < from).map(|(key, _)| *key).collect();
            prop_assert_eq!(later, tree.range(from..).map(|(key, _)| *key).collect::<Vec<_>>());
            prop_assert!(sorted.runs.iter().all(|run| (1..=MOST).contains(&run.len())));
        }
    }
}
