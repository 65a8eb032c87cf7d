//! The watch of one kind: list, follow, begin anew; a list that lacks an object deletes it.

use std::collections::HashMap;
use std::fmt::Debug;

use futures_util::{StreamExt, pin_mut};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt};

use super::contact::{Contacts, Waited};
use super::servers::Servers;
use super::strategy::{Backoff, Listing, status};
use super::wants::Wants;
use crate::observe::causes;
use crate::source::{Closed, Feed, Key, Kind, Object, Update};

/// How many more of the same failure pass before it is logged again.
const QUIET: u32 = 20;

/// Whether the agent can do without the kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Required,
    /// A server that does not have it, or does not allow it, is asked again now and then.
    Optional,
}

/// What the watch has to do with others.
enum Tie {
    None,
    /// What it tells makes others necessary.
    Wants(Wants),
    /// It is one of those, and brings the other nodes.
    Nodes(Wants),
    /// What it tells says where the API servers are.
    Servers(Servers),
}

/// The watch of one kind.
pub(super) struct Watch {
    kind: Kind,
    feed: Feed,
    contacts: Contacts,
    config: watcher::Config,
    need: Need,
    tie: Tie,
    known: Known,
}

/// Names of the objects that were told, each with the list that brought it last: one copy of each name, however many lists
/// there were.
#[derive(Default)]
struct Known {
    told: HashMap<Key, u32>,
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

/// Failures of one sort in a row: a server that refuses after it was away says something new.
#[derive(Default)]
struct Failures {
    /// Status of the refusal; `None`: no answer.
    code: Option<u16>,
    count: u32,
}

/// What follows from an event of the watch.
#[derive(Debug, PartialEq)]
enum Step {
    Nothing,
    Put(Key),
    Delete(Key),
    /// The list is complete, and lacks these.
    Complete(Vec<Key>),
}

impl Known {
    fn step(&mut self, event: &Event<Key>) -> Step {
        match event {
            Event::Init => {
                self.list = self.list.wrapping_add(1);
                self.listing = Listed::UnderWay;
                Step::Nothing
            }
            Event::InitApply(key) => {
                self.told.insert(key.clone(), self.list);
                Step::Put(key.clone())
            }
            Event::InitDone => {
                if std::mem::take(&mut self.listing) == Listed::No {
                    return Step::Complete(Vec::new());
                }
                let list = self.list;
                let lacking = self.told.extract_if(|_, brought| *brought != list);
                let mut lacking: Vec<Key> = lacking.map(|(key, _)| key).collect();
                lacking.sort();
                Step::Complete(lacking)
            }
            Event::Apply(key) => {
                self.told.insert(key.clone(), self.list);
                Step::Put(key.clone())
            }
            Event::Delete(key) => {
                self.told.remove(key);
                Step::Delete(key.clone())
            }
        }
    }
}

impl Watch {
    pub(super) fn new(kind: Kind, feed: Feed, contacts: Contacts) -> Self {
        let config = watcher::Config::default();
        Self { kind, feed, contacts, config, need: Need::Required, tie: Tie::None, known: Known::default() }
    }

    pub(super) fn labels(mut self, selector: &str) -> Self {
        self.config = self.config.labels(selector);
        self
    }

    pub(super) fn fields(mut self, selector: &str) -> Self {
        self.config = self.config.fields(selector);
        self
    }

    pub(super) fn optional(mut self) -> Self {
        self.need = Need::Optional;
        self
    }

    /// Whatever is told makes other kinds necessary.
    pub(super) fn wanting(mut self, wants: &Wants) -> Self {
        self.tie = Tie::Wants(wants.clone());
        self
    }

    /// Among these are the addresses of the API servers.
    pub(super) fn teaching(mut self, servers: &Servers) -> Self {
        self.tie = Tie::Servers(servers.clone());
        self
    }

    /// These are the nodes that others want.
    pub(super) fn bringing_nodes(mut self, wants: &Wants) -> Self {
        self.tie = Tie::Nodes(wants.clone());
        self
    }

    /// Watches until the agent stops.
    pub(super) async fn run<K>(mut self, api: Api<K>, object: fn(K) -> Object) -> Result<(), Closed>
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut listing = Listing::Streaming;
        let mut backoff = Backoff::new();
        let mut failures = Failures::default();
        loop {
            let stream = watcher::watcher(api.clone(), listing.apply(self.config.clone()));
            pin_mut!(stream);
            while let Some(event) = stream.next().await {
                match event {
                    Ok(event) => {
                        // `Init` comes before the first page is asked for: it is nobody's answer.
                        if !matches!(event, Event::Init) {
                            backoff.reset();
                            failures = Failures::default();
                            self.contacts.answered().await?;
                        }
                        self.take(event, object).await?;
                    }
                    Err(error) => {
                        let wait = backoff.step();
                        self.failed(&error, &mut failures).await?;
                        if self.contacts.wait(wait).await == Waited::UntilBack {
                            backoff.reset();
                        }
                        let next = listing.after(&error);
                        if next != listing {
                            tracing::info!(
                                kind = self.kind.name(),
                                "the API server offers no streaming lists; listing in pages"
                            );
                            listing = next;
                            break;
                        }
                    }
                }
            }
        }
    }

    async fn take<K>(&mut self, event: Event<K>, object: fn(K) -> Object) -> Result<(), Closed>
    where
        K: Resource,
    {
        let (event, value) = self.named(event);
        match (self.known.step(&event), value) {
            (Step::Put(key), Some(value)) => {
                let object = object(value);
                match (&self.tie, &object) {
                    (Tie::Wants(wants), _) => wants.look_at(&object),
                    (Tie::Servers(servers), Object::EndpointSlice(slice)) => servers.look_at(slice),
                    (Tie::None | Tie::Nodes(_) | Tie::Servers(_), _) => {}
                }
                self.feed.put(key, &object).await
            }
            (Step::Delete(key), _) => self.feed.send(Update::Delete(key)).await,
            (Step::Complete(lacking), _) => {
                for key in lacking {
                    self.feed.send(Update::Delete(key)).await?;
                }
                tracing::debug!(kind = self.kind.name(), objects = self.known.told.len(), "listed");
                match &self.tie {
                    Tie::None | Tie::Servers(_) => {}
                    Tie::Wants(wants) => wants.complete().await,
                    Tie::Nodes(wants) => wants.nodes_listed(),
                }
                self.feed.send(Update::Synced(self.kind)).await
            }
            (Step::Nothing | Step::Put(_), _) => Ok(()),
        }
    }

    /// The event by name, and the object that it carries.
    fn named<K: Resource>(&self, event: Event<K>) -> (Event<Key>, Option<K>) {
        let key = |value: &K| Key {
            kind: self.kind,
            namespace: value.namespace().unwrap_or_default(),
            name: value.name_any(),
        };
        match event {
            Event::Init => (Event::Init, None),
            Event::InitDone => (Event::InitDone, None),
            Event::InitApply(value) => (Event::InitApply(key(&value)), Some(value)),
            Event::Apply(value) => (Event::Apply(key(&value)), Some(value)),
            Event::Delete(value) => (Event::Delete(key(&value)), None),
        }
    }

    async fn failed(&mut self, error: &watcher::Error, failures: &mut Failures) -> Result<(), Closed> {
        let code = status(error);
        if failures.code != code {
            *failures = Failures { code, count: 0 };
        }
        // 404 and 403 mean "never" for an optional kind: nobody has to wait for it.
        if self.need == Need::Optional && matches!(code, Some(403 | 404)) {
            if failures.count == 0 {
                tracing::info!(kind = self.kind.name(), %error, "not offered by the API server");
                self.feed.send(Update::Synced(self.kind)).await?;
            }
            failures.count += 1;
            return Ok(());
        }
        // 410: the place in the history is gone; the watcher lists anew by itself.
        if code != Some(410) && failures.count.is_multiple_of(QUIET) {
            let kind = self.kind.name();
            tracing::warn!(kind, error = causes(error), "the watch failed; what it told last stays in force");
        }
        failures.count += 1;
        match code {
            Some(_) => self.contacts.answered().await,
            None => self.contacts.failed().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key { kind: Kind::Service, namespace: "default".into(), name: name.into() }
    }

    fn steps(known: &mut Known, events: &[Event<Key>]) -> Vec<Step> {
        events.iter().map(|event| known.step(event)).collect()
    }

    #[test]
    fn what_a_relist_lacks_is_deleted_once_the_list_is_complete() {
        let mut known = Known::default();
        let first = [Event::Init, Event::InitApply(key("a")), Event::InitApply(key("b")), Event::InitDone];
        assert_eq!(
            steps(&mut known, &first),
            [Step::Nothing, Step::Put(key("a")), Step::Put(key("b")), Step::Complete(vec![])]
        );
        assert_eq!(
            steps(&mut known, &[Event::Apply(key("c")), Event::Delete(key("a"))]),
            [Step::Put(key("c")), Step::Delete(key("a"))]
        );
        let second = [Event::Init, Event::InitApply(key("d")), Event::InitDone];
        assert_eq!(
            steps(&mut known, &second),
            [Step::Nothing, Step::Put(key("d")), Step::Complete(vec![key("b"), key("c")])]
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
}
