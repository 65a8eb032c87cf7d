//! Which objects of a kind were told: what a list lacks is gone. One copy of each name, however many lists there were, and the
//! same copy that the facts have.

use std::collections::HashMap;

use kube::runtime::watcher::Event;
use proxy_model::Name;

use crate::source::{Key, Kind};

/// Names of the objects that were told, each with the list that brought it last.
#[derive(Default)]
pub(super) struct Known {
    /// By namespace, so that each is there once.
    told: HashMap<Name, HashMap<Name, u32>>,
    /// The number of the last list.
    list: u32,
    listing: Listed,
}

/// Whether a list is under way.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
enum Listed {
    #[default]
    No,
    UnderWay,
}

/// What follows from an event of the watch.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    Put(Key, Told),
    Delete(Key),
    /// The list is complete, and lacks these.
    Complete(Vec<Key>),
}

/// How often an object was told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Told {
    First,
    Again,
}

impl Known {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.told.values().map(HashMap::len).sum()
    }

    /// Takes an event of the watch of a kind.
    pub(super) fn step(&mut self, kind: Kind, event: Event<Key>) -> Step {
        match event {
            Event::Init => {
                self.list = self.list.wrapping_add(1);
                self.listing = Listed::UnderWay;
                Step::Nothing
            }
            Event::InitApply(key) | Event::Apply(key) => self.told(key),
            Event::InitDone => match std::mem::take(&mut self.listing) {
                Listed::No => Step::Complete(Vec::new()),
                Listed::UnderWay => Step::Complete(self.lacking(kind)),
            },
            Event::Delete(key) => {
                if let Some(names) = self.told.get_mut(&key.namespace) {
                    names.remove(&key.name);
                }
                Step::Delete(key)
            }
        }
    }

    /// Notes an object; its key is of the copies that are here already.
    fn told(&mut self, key: Key) -> Step {
        let Key { kind, namespace, name } = key;
        let namespace = self.told.get_key_value(&namespace).map_or(namespace, |(known, _)| known.clone());
        let names = self.told.entry(namespace.clone()).or_default();
        let name = names.get_key_value(&name).map_or(name, |(known, _)| known.clone());
        let told = match names.insert(name.clone(), self.list) {
            None => Told::First,
            Some(_) => Told::Again,
        };
        Step::Put(Key { kind, namespace, name }, told)
    }

    /// Forgets what the last list has not brought.
    fn lacking(&mut self, kind: Kind) -> Vec<Key> {
        let list = self.list;
        let mut lacking = Vec::new();
        for (namespace, names) in &mut self.told {
            let gone = names.extract_if(|_, brought| *brought != list);
            lacking.extend(gone.map(|(name, _)| Key { kind, namespace: namespace.clone(), name }));
        }
        self.told.retain(|_, names| !names.is_empty());
        lacking.sort();
        lacking
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { kind: Kind::Service, namespace: "default".into(), name: name.into() }
    }

    fn steps(known: &mut Known, events: &[Event<Key>]) -> Vec<Step> {
        events.iter().map(|event| known.step(Kind::Service, event.clone())).collect()
    }

    #[test]
    fn what_a_relist_lacks_is_deleted_once_the_list_is_complete() {
        let mut known = Known::default();
        let first = [Event::Init, Event::InitApply(key("a")), Event::InitApply(key("b")), Event::InitDone];
        assert_eq!(
            steps(&mut known, &first),
            [
                Step::Nothing,
                Step::Put(key("a"), Told::First),
                Step::Put(key("b"), Told::First),
                Step::Complete(vec![])
            ]
        );
        assert_eq!(
            steps(&mut known, &[Event::Apply(key("c")), Event::Delete(key("a"))]),
            [Step::Put(key("c"), Told::First), Step::Delete(key("a"))]
        );
        let second = [Event::Init, Event::InitApply(key("d")), Event::InitDone];
        assert_eq!(
            steps(&mut known, &second),
            [Step::Nothing, Step::Put(key("d"), Told::First), Step::Complete(vec![key("b"), key("c")])]
        );
    }

    #[test]
    fn a_list_that_breaks_off_deletes_nothing_and_forgets_nothing() {
        let mut known = Known::default();
        steps(&mut known, &[Event::Init, Event::InitApply(key("a")), Event::InitDone]);
        let broken = [Event::Init, Event::InitApply(key("b")), Event::Init, Event::InitApply(key("c"))];
        steps(&mut known, &broken);
        assert_eq!(steps(&mut known, &[Event::InitDone]), [Step::Complete(vec![key("a"), key("b")])]);
    }

    #[test]
    fn an_object_that_is_told_again_has_the_name_that_it_had() {
        let mut known = Known::default();
        let mut name = || match known.step(Kind::Service, Event::Apply(key("a"))) {
            Step::Put(key, _) => (key.namespace, key.name),
            other @ (Step::Nothing | Step::Delete(_) | Step::Complete(_)) => panic!("{other:?}"),
        };
        let (first, second) = (name(), name());
        assert!(Name::ptr_eq(&first.0, &second.0) && Name::ptr_eq(&first.1, &second.1));
    }
}
