//! What is wrong with objects right now, so that each problem is said once and its end is noticed.

use std::collections::BTreeMap;

use crate::parse::Problem;
use crate::source::{Key, Kind};

/// Problems logged for one object at a time; a slice has up to a thousand endpoints.
const SHOWN: usize = 8;

/// The objects that have problems now.
#[derive(Debug, Default)]
pub(super) struct Problems {
    of: BTreeMap<Key, Vec<Problem>>,
}

/// Whether something was said that had not been said before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum News {
    None,
    Said,
}

impl Problems {
    /// Takes in what an object's new version has; logs it if it is news, and says whether it is.
    pub(super) fn note(&mut self, key: &Key, problems: Vec<Problem>) -> News {
        if problems.is_empty() {
            if self.of.remove(key).is_some() {
                tracing::info!("{key}: readable in full again");
            }
            return News::None;
        }
        if self.of.get(key) == Some(&problems) {
            return News::None;
        }
        for problem in problems.iter().take(SHOWN) {
            tracing::error!("{problem}");
        }
        if let Some(more) = problems.len().checked_sub(SHOWN).filter(|more| *more > 0) {
            tracing::error!("{key}: and {more} more problems");
        }
        self.of.insert(key.clone(), problems);
        News::Said
    }

    /// The object is gone, and its problems with it.
    pub(super) fn forget(&mut self, key: &Key) {
        self.of.remove(key);
    }

    /// Number of objects with problems, by kind.
    pub(super) fn by_kind(&self) -> BTreeMap<Kind, usize> {
        let mut counts = BTreeMap::new();
        for key in self.of.keys() {
            *counts.entry(key.kind).or_insert(0) += 1;
        }
        counts
    }
}
