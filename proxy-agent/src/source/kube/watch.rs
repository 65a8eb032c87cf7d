//! The watch of one kind: list, follow, begin anew; a list that lacks an object deletes it.

use std::fmt::Debug;

use futures_util::{StreamExt, pin_mut};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, Resource, ResourceExt};

use super::contact::{Contacts, Waited};
use super::known::{Known, Step, Told};
use super::lenient::{self, Lenient, Misshapen};
use super::servers::Servers;
use super::strategy::{Backoff, Listing, status};
use super::untold::Untold;
use super::wants::Wants;
use crate::observe::causes;
use crate::parse::{Fault, Problem};
use crate::source::{Closed, Extent, Feed, Key, Kind, Object, Update};

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

/// A kind's resource, decoded as a whole or object by object.
pub(super) struct Apis<K> {
    whole: Api<K>,
    single: Api<Lenient<K>>,
}

impl<K: Resource> Apis<K> {
    /// All objects of the kind.
    pub(super) fn all(client: &Client, kind: &K::DynamicType) -> Self {
        Self { whole: Api::all_with(client.clone(), kind), single: Api::all_with(client.clone(), kind) }
    }
}

/// How objects are decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Care {
    Whole,
    Single,
}

/// Why a watch is not gone on with as it was.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Lists are asked for in another way.
    Listing,
    /// Something has not the shape of the kind.
    Misshapen,
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
    untold: Untold,
    has_synced: bool,
}

/// Failures of one sort in a row: a server that refuses after it was away says something new.
#[derive(Default)]
struct Failures {
    /// Status of the refusal; `None`: no answer.
    code: Option<u16>,
    count: u32,
}

impl Watch {
    pub(super) fn new(kind: Kind, feed: Feed, contacts: Contacts) -> Self {
        let config = watcher::Config::default();
        Self {
            kind,
            feed,
            contacts,
            config,
            need: Need::Required,
            tie: Tie::None,
            known: Known::default(),
            untold: Untold::default(),
            has_synced: false,
        }
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

    /// Whose objects could not be told is one account for all kinds.
    pub(super) fn accounting(mut self, untold: &Untold) -> Self {
        self.untold = untold.clone();
        self
    }

    /// Watches until the agent stops.
    pub(super) async fn run<K>(mut self, apis: Apis<K>, object: fn(K) -> Object) -> Result<(), Closed>
    where
        K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut listing = Listing::Streaming;
        // As a whole, until something has not the shape that it should have.
        let whole = |value| Ok(object(value));
        while self.follow(&apis.whole, Care::Whole, &mut listing, whole).await? != Ended::Misshapen {}
        loop {
            let single = |value: Lenient<K>| value.object.map(object);
            self.follow(&apis.single, Care::Single, &mut listing, single).await?;
        }
    }

    /// Watches until it has to be done in another way.
    async fn follow<T>(
        &mut self,
        api: &Api<T>,
        care: Care,
        listing: &mut Listing,
        object: impl Fn(T) -> Result<Object, Misshapen>,
    ) -> Result<Ended, Closed>
    where
        T: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
    {
        let mut backoff = Backoff::new();
        let mut failures = Failures::default();
        let stream = watcher::watcher(api.clone(), listing.apply(self.config.clone()));
        pin_mut!(stream);
        while let Some(event) = stream.next().await {
            let error = match event {
                Ok(event) => {
                    // `Init` comes before the first page is asked for: it is nobody's answer.
                    if !matches!(event, Event::Init) {
                        backoff.reset();
                        failures = Failures::default();
                        self.contacts.answered().await?;
                    }
                    self.take(event, &object).await?;
                    continue;
                }
                Err(error) => error,
            };
            if care == Care::Whole && lenient::is_misshapen(&error) {
                let kind = self.kind.name();
                tracing::warn!(
                    kind,
                    error = causes(&error),
                    "an object cannot be decoded: decoding them one by one"
                );
                self.contacts.answered().await?;
                return Ok(Ended::Misshapen);
            }
            let wait = backoff.step();
            self.failed(&error, &mut failures).await?;
            if self.contacts.wait(wait).await == Waited::UntilBack {
                backoff.reset();
            }
            let next = listing.after(&error);
            if next != *listing {
                let kind = self.kind.name();
                tracing::info!(kind, "the API server offers no streaming lists; listing in pages");
                *listing = next;
                break;
            }
        }
        Ok(Ended::Listing)
    }

    async fn take<T>(
        &mut self,
        event: Event<T>,
        object: &impl Fn(T) -> Result<Object, Misshapen>,
    ) -> Result<(), Closed>
    where
        T: Resource,
    {
        let (event, value) = self.named(event);
        if let Event::Apply(key) | Event::InitApply(key) = &event
            && key.name.is_empty()
        {
            tracing::warn!(kind = self.kind.name(), "an object without a name is left out");
            return Ok(());
        }
        match (self.known.step(self.kind, event), value) {
            (Step::Put(key, told), Some(value)) => match object(value) {
                Ok(object) => self.put(key, object).await,
                Err(misshapen) => self.leave(key, told, misshapen).await,
            },
            (Step::Delete(key), _) => self.delete(key).await,
            (Step::Complete(lacking), _) => {
                for key in lacking {
                    self.delete(key).await?;
                }
                tracing::debug!(kind = self.kind.name(), objects = self.known.len(), "listed");
                match &self.tie {
                    Tie::None | Tie::Servers(_) => {}
                    Tie::Wants(wants) => wants.complete().await,
                    Tie::Nodes(wants) => wants.nodes_listed(),
                }
                self.has_synced = true;
                self.feed.send(Update::Synced(self.kind)).await
            }
            (Step::Nothing | Step::Put(..), _) => Ok(()),
        }
    }

    async fn put(&self, key: Key, object: Object) -> Result<(), Closed> {
        match (&self.tie, &object) {
            (Tie::Wants(wants), _) => wants.look_at(&object),
            (Tie::Servers(servers), Object::EndpointSlice(slice)) => servers.look_at(slice),
            (Tie::None | Tie::Nodes(_) | Tie::Servers(_), _) => {}
        }
        let extent = self.untold.remove(&key);
        self.feed.put(key, &object).await?;
        self.extend(extent).await
    }

    async fn delete(&self, key: Key) -> Result<(), Closed> {
        let extent = self.untold.remove(&key);
        self.feed.send(Update::Delete(key)).await?;
        self.extend(extent).await
    }

    async fn extend(&self, extent: Option<Extent>) -> Result<(), Closed> {
        match extent {
            Some(extent) => self.feed.send(Update::Extent(extent)).await,
            None => Ok(()),
        }
    }

    /// What was told of the object last stays in force. If nothing was, what an earlier run made of it does, and a policy that
    /// nobody understands allows nothing (policy item 58).
    async fn leave(&self, key: Key, told: Told, misshapen: Misshapen) -> Result<(), Closed> {
        if told == Told::First && !self.has_synced && self.kind.makes_frontends() {
            self.extend(self.untold.add(&key)).await?;
        }
        if told == Told::First && self.kind == Kind::NetworkPolicy {
            self.feed.put(key.clone(), &Object::closed_policy()).await?;
        }
        let Misshapen { field, error } = misshapen;
        let problem = Problem { object: key, field, fault: Fault::Misshapen { error } };
        self.feed.send(Update::Misshapen(Box::new(problem))).await?;
        // It may be the only policy, and nobody else would ask for the pods that it isolates.
        if let Tie::Wants(wants) = &self.tie {
            wants.look_at(&Object::closed_policy());
        }
        Ok(())
    }

    /// The event by name, and the object that it carries.
    fn named<T: Resource>(&self, event: Event<T>) -> (Event<Key>, Option<T>) {
        let key = |value: &T| Key {
            kind: self.kind,
            namespace: value.namespace().unwrap_or_default().into(),
            name: value.name_any().into(),
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
