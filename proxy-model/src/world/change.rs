//! Changes of single objects, and whether they are any.

use std::collections::BTreeSet;

use super::Changed;
use crate::fact::{Change, EndpointSlice, Object, ObjectKey};
use crate::sorted::Sorted;

/// A change of one object.
pub(super) enum One<T> {
    Put(T),
    Delete(ObjectKey),
}

impl<T: Object> One<T> {
    pub(super) fn key(&self) -> ObjectKey {
        match self {
            Self::Put(object) => object.key(),
            Self::Delete(key) => key.clone(),
        }
    }
}

/// A change as changes of single objects; a whole list deletes what it does not name.
pub(super) fn each<T: Object>(change: Change<T>, known: &Sorted<ObjectKey, T>) -> Vec<One<T>> {
    match change {
        Change::Put(object) => vec![One::Put(object)],
        Change::Delete(key) => vec![One::Delete(key)],
        Change::Replace(objects) => {
            let named: BTreeSet<_> = objects.iter().map(Object::key).collect();
            let gone = known.keys().filter(|key| !named.contains(key)).cloned().map(One::Delete);
            gone.chain(objects.into_iter().map(One::Put)).collect()
        }
    }
}

pub(super) fn store<T: Object>(known: &mut Sorted<ObjectKey, T>, change: One<T>) -> Changed {
    let changed = match change {
        One::Put(object) => {
            let key = object.key();
            if known.get(&key) == Some(&object) {
                false
            } else {
                known.insert(key, object);
                true
            }
        }
        One::Delete(key) => known.remove(&key).is_some(),
    };
    if changed { Changed::Yes } else { Changed::No }
}

pub(super) fn owner(slice: &EndpointSlice) -> Option<ObjectKey> {
    let name = slice.service.clone()?;
    Some(ObjectKey { namespace: slice.key.namespace.clone(), name })
}
