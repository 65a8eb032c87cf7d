//! Objects that were there when the agent started and could not be told: the frontends that an earlier run made of them stay in
//! the kernel until they can be, or are gone. One account for the watches of all kinds that make frontends.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use crate::source::{Extent, Key};

/// The account. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Untold(Arc<Mutex<BTreeSet<Key>>>);

impl Untold {
    /// A first list has an object that cannot be told; what that changes.
    pub(super) fn add(&self, key: &Key) -> Option<Extent> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = keys.is_empty();
        keys.insert(key.clone());
        was_empty.then_some(Extent::Part)
    }

    /// An object was told, or is gone; what that changes.
    pub(super) fn remove(&self, key: &Key) -> Option<Extent> {
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (keys.remove(key) && keys.is_empty()).then_some(Extent::Whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Kind;

    #[test]
    fn all_is_told_once_the_last_is() {
        let key = |name: &str| Key { kind: Kind::Service, namespace: "default".into(), name: name.into() };
        let untold = Untold::default();
        assert_eq!(untold.remove(&key("a")), None);
        assert_eq!([untold.add(&key("a")), untold.add(&key("b"))], [Some(Extent::Part), None]);
        assert_eq!([untold.remove(&key("a")), untold.remove(&key("b"))], [None, Some(Extent::Whole)]);
    }
}
