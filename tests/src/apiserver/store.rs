//! The world of the server and what happened to it, in one order. A place in that order is a `resourceVersion`. Knows no HTTP.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::selector::{Marks, Selector};
use super::{Conduct, Resource, Streaming};

/// Changes that are remembered at least.
const HISTORY: usize = 200_000;

/// An object: namespace and name.
pub(super) type Name = (String, String);

/// An object as it is sent.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Stored {
    pub(super) text: Arc<str>,
    marks: Marks,
}

/// What is told beside the truth, to watches that are open.
#[derive(Clone, Debug)]
pub(super) enum Word {
    Line(Arc<str>),
    Bookmark,
    /// The connection breaks.
    Break,
    /// The answer is complete.
    End,
}

#[derive(Clone, Debug)]
enum Entry {
    Change { before: Option<Arc<Stored>>, after: Option<Arc<Stored>>, gone: Option<Arc<str>> },
    Word(Word),
}

/// What a watch is told next.
#[derive(Debug)]
pub(super) enum Told {
    Text(String),
    Nothing,
    Break,
    End,
    /// The place is not in the history any more.
    Gone,
}

#[derive(Default, Debug)]
struct State {
    objects: BTreeMap<Resource, BTreeMap<Name, Arc<Stored>>>,
    log: VecDeque<(Resource, Entry)>,
    /// Number of the log's first entry. Numbers begin with 1: 0 has a meaning of its own in requests.
    first: u64,
    /// Open watches: what they watch, and how far they are.
    followers: BTreeMap<u64, (Resource, u64)>,
    next_follower: u64,
    asked: Vec<String>,
    events: Vec<Value>,
}

/// All that requests share.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// The log's end.
    end: watch::Sender<u64>,
    conducts: watch::Sender<BTreeMap<Resource, Conduct>>,
    pub(super) streaming: Streaming,
}

/// An open watch.
#[derive(Debug)]
pub(super) struct Follower {
    shared: Arc<Shared>,
    id: u64,
    resource: Resource,
    selector: Selector,
    /// Words before this were not for this watch.
    opened: u64,
    next: u64,
    pub(super) ends: watch::Receiver<u64>,
}

impl State {
    fn end(&self) -> u64 {
        self.first + self.log.len() as u64
    }

    fn note(&mut self, resource: Resource, entry: Entry) -> u64 {
        self.log.push_back((resource, entry));
        let slowest = self.followers.values().map(|(_, at)| *at).min().unwrap_or(u64::MAX);
        while self.log.len() > HISTORY && self.first < slowest {
            self.log.pop_front();
            self.first += 1;
        }
        self.end()
    }
}

impl Shared {
    pub(super) fn new(streaming: Streaming) -> Arc<Self> {
        let state = State { first: 1, ..State::default() };
        let (end, conducts) = (watch::Sender::new(1), watch::Sender::new(BTreeMap::new()));
        Arc::new(Self { state: Mutex::new(state), end, conducts, streaming })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, resource: Resource, make: impl FnOnce(&mut State, u64) -> Option<Entry>) {
        let mut state = self.state();
        // The entry's own number is the version of the object in it.
        let version = state.end();
        if let Some(entry) = make(&mut state, version) {
            self.end.send_replace(state.note(resource, entry));
        }
    }

    pub(super) fn put(&self, object: &Value) -> Result<()> {
        let (resource, name) = named(object)?;
        self.note(resource, |state, version| {
            let after = Arc::new(stored(object, version));
            let before = state.objects.entry(resource).or_default().insert(name, after.clone());
            Some(Entry::Change { before, after: Some(after), gone: None })
        });
        Ok(())
    }

    pub(super) fn delete(&self, object: &Value) -> Result<()> {
        let (resource, name) = named(object)?;
        self.note(resource, |state, version| {
            let before = state.objects.get_mut(&resource)?.remove(&name)?;
            let last: Value = serde_json::from_str(&before.text).ok()?;
            let gone = Some(stored(&last, version).text);
            Some(Entry::Change { before: Some(before), after: None, gone })
        });
        Ok(())
    }

    pub(super) fn say(&self, resource: Resource, word: Word) {
        self.note(resource, |_, _| Some(Entry::Word(word)));
    }

    pub(super) fn conduct(&self, resource: Resource, conduct: Conduct) {
        self.conducts.send_modify(|conducts| {
            conducts.insert(resource, conduct);
        });
    }

    /// How requests for a kind are answered, once they are.
    pub(super) async fn answered(&self, resource: Resource) -> Conduct {
        let of = |conducts: &BTreeMap<Resource, Conduct>| {
            conducts.get(&resource).copied().unwrap_or(Conduct::Answers)
        };
        let mut conducts = self.conducts.subscribe();
        match conducts.wait_for(|conducts| of(conducts) != Conduct::Holds).await {
            Ok(conducts) => of(&conducts),
            // The sender is ours.
            Err(_) => Conduct::Answers,
        }
    }

    pub(super) fn forget(&self) {
        let mut state = self.state();
        state.first = state.end();
        state.log.clear();
    }

    pub(super) fn end(&self) -> u64 {
        self.state().end()
    }

    pub(super) fn followers(&self, resource: Resource) -> Vec<u64> {
        let state = self.state();
        state.followers.values().filter(|(of, _)| *of == resource).map(|(_, at)| *at).collect()
    }

    pub(super) fn nobody_follows(&self) {
        self.state().followers.clear();
    }

    pub(super) fn ask(&self, what: &str, resource: Resource) {
        self.state().asked.push(format!("{what} {}", resource.plural()));
    }

    pub(super) fn asked(&self) -> Vec<String> {
        self.state().asked.clone()
    }

    pub(super) fn post(&self, event: Value) {
        self.state().events.push(event);
    }

    pub(super) fn events(&self) -> Vec<Value> {
        self.state().events.clone()
    }

    /// Objects of a list behind `after`, at most so many, the name to go on behind if there are more, and the version.
    pub(super) fn list(
        &self,
        resource: Resource,
        selector: &Selector,
        after: Option<Name>,
        limit: usize,
    ) -> (Vec<Arc<Stored>>, Option<Name>, u64) {
        let state = self.state();
        let version = state.end() - 1;
        let Some(objects) = state.objects.get(&resource) else { return (Vec::new(), None, version) };
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut chosen =
            objects.range((from, Bound::Unbounded)).filter(|(_, stored)| selector.takes(&stored.marks));
        let page: Vec<(&Name, &Arc<Stored>)> = chosen.by_ref().take(limit).collect();
        let more = chosen.next().and(page.last()).map(|(name, _)| (*name).clone());
        (page.into_iter().map(|(_, stored)| stored.clone()).collect(), more, version)
    }

    /// Opens a watch of what comes behind `version`.
    pub(super) fn follow(self: &Arc<Self>, resource: Resource, selector: Selector, version: u64) -> Follower {
        let mut state = self.state();
        let (id, opened) = (state.next_follower, state.end());
        state.next_follower += 1;
        state.followers.insert(id, (resource, version + 1));
        let ends = self.end.subscribe();
        Follower { shared: self.clone(), id, resource, selector, opened, next: version + 1, ends }
    }
}

impl Follower {
    /// What there is to be told now, up to some thousand lines.
    pub(super) fn told(&mut self) -> Told {
        let shared = self.shared.clone();
        let mut state = shared.state();
        if self.next < state.first {
            return Told::Gone;
        }
        let mut text = String::new();
        let skip = (self.next - state.first) as usize;
        for (resource, entry) in state.log.iter().skip(skip).take(4_096) {
            let number = self.next;
            self.next += 1;
            if *resource != self.resource {
                continue;
            }
            match entry {
                Entry::Change { before, after, gone } => {
                    text.push_str(&self.change(before.as_deref(), after.as_deref(), gone.as_deref()));
                }
                Entry::Word(_) if number < self.opened => {}
                Entry::Word(Word::Line(line)) => text.push_str(line),
                Entry::Word(Word::Bookmark) => text.push_str(&bookmark(self.resource, number, false)),
                Entry::Word(_) if !text.is_empty() => {
                    self.next = number;
                    break;
                }
                Entry::Word(Word::Break) => return Told::Break,
                Entry::Word(Word::End) => return Told::End,
            }
        }
        if let Some((_, at)) = state.followers.get_mut(&self.id) {
            *at = self.next;
        }
        if text.is_empty() { Told::Nothing } else { Told::Text(text) }
    }

    fn change(&self, before: Option<&Stored>, after: Option<&Stored>, gone: Option<&str>) -> String {
        let was = before.is_some_and(|stored| self.selector.takes(&stored.marks));
        let is = after.filter(|stored| self.selector.takes(&stored.marks));
        match (was, is, after) {
            (false, Some(stored), _) => line("ADDED", &stored.text),
            (true, Some(stored), _) => line("MODIFIED", &stored.text),
            (true, None, Some(stored)) => line("DELETED", &stored.text),
            (true, None, None) => gone.map_or_else(String::new, |text| line("DELETED", text)),
            (false, None, _) => String::new(),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.shared.state().followers.remove(&self.id);
    }
}

/// One event of a watch.
pub(super) fn line(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

/// A bookmark; the one that ends a list which is the beginning of a watch says so.
pub(super) fn bookmark(resource: Resource, version: u64, ends_list: bool) -> String {
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if ends_list {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = json!({"apiVersion": resource.api_version(), "kind": resource.kind(), "metadata": metadata});
    line("BOOKMARK", &object.to_string())
}

/// The event that says that the place in the history is gone.
pub(super) fn gone() -> Value {
    json!({"type": "ERROR", "object": {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410,
        "reason": "Expired", "message": "too old resource version"}})
}

fn named(object: &Value) -> Result<(Resource, Name)> {
    let kind = object["kind"].as_str().context("kind")?;
    let resource = Resource::of_kind(kind).with_context(|| format!("unknown kind {kind}"))?;
    let name = object["metadata"]["name"].as_str().context("metadata.name")?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    Ok((resource, (namespace.to_owned(), name.to_owned())))
}

fn stored(object: &Value, version: u64) -> Stored {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!(version.to_string());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let marks = Marks {
        labels: labels.map(|(key, value)| (key.clone(), text(value))).collect(),
        name: text(&object["metadata"]["name"]),
        phase: text(&object["status"]["phase"]),
        cluster_ip: text(&object["spec"]["clusterIP"]),
    };
    Stored { text: object.to_string().into(), marks }
}
