//! Who has an address, and what the rules in use can find out about it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::class::Class;
use super::networks::Networks;
use super::peers::{Peers, PeersId, Scope};
use super::rules::{Ports, Rule, RuleSet, Span, Whom, called};
use super::subject::is_addressed;
use crate::fact::{Direction, Name, NamedPort, Object, ObjectKey, Pod, PodPhase, Selector};
use crate::world::World;

/// A set of peers that rules are about.
#[derive(Clone, PartialEq, Eq, Debug)]
struct InUse {
    peers: Arc<Peers>,
    /// Names of ports in egress rules about it.
    names: BTreeSet<Name>,
}

/// Everything that rules in use ask about an address.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Questions {
    sets: BTreeMap<PeersId, InUse>,
    /// Names of ports in egress rules about everybody.
    names: BTreeSet<Name>,
}

impl Questions {
    /// Adds what the rules of a set ask.
    pub(super) fn add(&mut self, set: &RuleSet, peers: impl Fn(PeersId) -> Option<Arc<Peers>>) {
        for rule in set.rules() {
            let names = names(rule);
            match rule.whom {
                Whom::Everybody => self.names.extend(names),
                Whom::Of(id) => {
                    let Some(peers) = peers(id) else { continue };
                    let known = self.sets.entry(id);
                    known.or_insert_with(|| InUse { peers, names: BTreeSet::new() }).names.extend(names);
                }
            }
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = PeersId> {
        self.sets.keys().copied()
    }
}

/// Names of ports that the other end resolves.
fn names(rule: &Rule) -> impl Iterator<Item = Name> {
    let spans = match (&rule.ports, rule.name.direction) {
        (Ports::Some(spans), Direction::Egress) => spans.as_slice(),
        (Ports::Some(_), Direction::Ingress) | (Ports::Every, _) => &[],
    };
    spans.iter().filter_map(|span| match span {
        Span::Named { name, .. } => Some(name.clone()),
        Span::Range { .. } => None,
    })
}

/// Selectors of the sets in use, by where they have to be tried.
#[derive(Debug, Default)]
struct Index {
    own: BTreeMap<Name, Vec<(PeersId, Selector)>>,
    labelled: Vec<(PeersId, Selector, Selector)>,
    nodes: Vec<(PeersId, Selector)>,
}

/// All addresses that are somebody's, and their classes.
#[derive(Debug, Default)]
pub(super) struct Members {
    questions: Questions,
    index: Index,
    networks: Networks,
    /// Address → the pods that say that it is theirs.
    claims: BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
    /// Pod → the addresses that it claims.
    claimed: BTreeMap<ObjectKey, Vec<IpAddr>>,
    /// Address → the nodes that have it.
    nodes: BTreeMap<IpAddr, BTreeSet<Name>>,
    /// Namespace → the selectors that its pods have to be tried on; forgotten when its labels change.
    tried: BTreeMap<Name, Vec<(PeersId, Selector)>>,
}

impl Members {
    pub(super) fn networks(&self) -> &Networks {
        &self.networks
    }

    pub(super) fn questions(&self) -> &Questions {
        &self.questions
    }

    /// The pods that claim an address.
    pub(super) fn pods(&self) -> impl Iterator<Item = &ObjectKey> {
        self.claimed.keys()
    }

    /// Takes other questions. True if they are others: then every address has to be looked at.
    pub(super) fn ask(&mut self, questions: Questions) -> bool {
        if self.questions == questions {
            return false;
        }
        self.index = Index::default();
        self.tried.clear();
        for (id, set) in &questions.sets {
            for peer in &set.peers.pods {
                match &peer.scope {
                    Scope::Own(name) => {
                        self.index.own.entry(name.clone()).or_default().push((*id, peer.pods.clone()));
                    }
                    Scope::Labelled(namespaces) => {
                        self.index.labelled.push((*id, namespaces.clone(), peer.pods.clone()));
                    }
                }
            }
            self.index.nodes.extend(set.peers.nodes.iter().map(|selector| (*id, selector.clone())));
        }
        let blocks = questions.sets.iter();
        self.networks = Networks::new(
            blocks.flat_map(|(id, set)| set.peers.blocks.iter().map(move |block| (*id, block))),
        );
        self.questions = questions;
        true
    }

    /// Every address that is somebody's.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.claims.keys().chain(self.nodes.keys()).copied()
    }

    /// Takes the addresses of a pod as they are now; returns those that have to be looked at again.
    pub(super) fn pod(&mut self, world: &World, key: &ObjectKey) -> Vec<IpAddr> {
        let now = world.pod_at(key).filter(|pod| is_addressed(pod)).map_or(&[][..], |pod| &pod.ips);
        let mut touched = self.claimed.remove(key).unwrap_or_default();
        for addr in &touched {
            if let Some(pods) = self.claims.get_mut(addr) {
                pods.remove(key);
                if pods.is_empty() {
                    self.claims.remove(addr);
                }
            }
        }
        for addr in now {
            self.claims.entry(*addr).or_default().insert(key.clone());
        }
        touched.extend(now);
        if !now.is_empty() {
            self.claimed.insert(key.clone(), now.to_vec());
        }
        touched
    }

    /// The labels of a namespace have changed; returns the addresses of its pods.
    pub(super) fn namespace(&mut self, world: &World, name: &Name) -> Vec<IpAddr> {
        self.tried.remove(name);
        world.pods_in(name).filter_map(|pod| self.claimed.get(&pod.key)).flatten().copied().collect()
    }

    /// Takes the addresses of all nodes as they are now; returns those that have to be looked at again.
    pub(super) fn all_nodes(&mut self, world: &World) -> Vec<IpAddr> {
        let mut nodes: BTreeMap<IpAddr, BTreeSet<Name>> = BTreeMap::new();
        for node in world.nodes() {
            for addr in &node.addresses {
                nodes.entry(*addr).or_default().insert(node.name.clone());
            }
        }
        let before = std::mem::replace(&mut self.nodes, nodes);
        before.into_keys().chain(self.nodes.keys().copied()).collect()
    }

    /// The pod that has an address: of several that claim it the one that runs, then the lower name (item 44).
    pub(super) fn holder<'a>(&self, world: &'a World, addr: IpAddr) -> Option<&'a Pod> {
        let pods = self.claims.get(&addr)?.iter().filter_map(|key| world.pod_at(key));
        pods.min_by_key(|pod| (pod.phase != PodPhase::Running, pod.key()))
    }

    /// The class of an address, if it is another than that of its prefix.
    pub(super) fn class(&mut self, world: &World, addr: IpAddr) -> Option<Class> {
        let mut peers: BTreeSet<PeersId> = BTreeSet::new();
        let mut ports: &[NamedPort] = &[];
        if let Some(pod) = self.holder(world, addr) {
            self.add_pod(world, pod, &mut peers);
            ports = &pod.ports;
        } else if let Some(nodes) = self.nodes.get(&addr) {
            self.add_nodes(world, nodes, &mut peers);
        }
        let of_prefix = self.networks.at(addr);
        peers.extend(of_prefix);
        let class = Class { ports: self.answers(&peers, ports), peers: peers.into_iter().collect() };
        (!class.ports.is_empty() || class.peers != of_prefix).then_some(class)
    }

    fn add_pod(&mut self, world: &World, pod: &Pod, peers: &mut BTreeSet<PeersId>) {
        let Self { index, tried, .. } = self;
        let namespace = &pod.key.namespace;
        let own = index.own.get(namespace).into_iter().flatten();
        if !index.labelled.is_empty() && !tried.contains_key(namespace) {
            let known = world.namespace_at(namespace);
            let is_in = |(_, namespaces, _): &&(PeersId, Selector, Selector)| {
                super::peers::labelled(namespaces, namespace, known)
            };
            let here = index.labelled.iter().filter(is_in).map(|(id, _, pods)| (*id, pods.clone()));
            tried.insert(namespace.clone(), here.collect());
        }
        let labelled = tried.get(namespace).into_iter().flatten();
        peers.extend(
            own.chain(labelled).filter(|(_, selector)| selector.matches(&pod.labels)).map(|(id, _)| *id),
        );
    }

    fn add_nodes(&self, world: &World, names: &BTreeSet<Name>, peers: &mut BTreeSet<PeersId>) {
        if self.index.nodes.is_empty() {
            return;
        }
        for node in names.iter().filter_map(|name| world.node_at(name)) {
            let of_node = self.index.nodes.iter().filter(|(_, selector)| selector.matches(&node.labels));
            peers.extend(of_node.map(|(id, _)| *id));
        }
    }

    /// What a pod calls the ports that rules about its sets name.
    fn answers(&self, peers: &BTreeSet<PeersId>, ports: &[NamedPort]) -> Vec<NamedPort> {
        if ports.is_empty() {
            return Vec::new();
        }
        let of_sets = peers.iter().filter_map(|id| self.questions.sets.get(id)).flat_map(|set| &set.names);
        let asked: BTreeSet<_> = self.questions.names.iter().chain(of_sets).collect();
        let mut answers: Vec<_> =
            asked.into_iter().flat_map(|name| called(ports, None, name)).cloned().collect();
        answers.sort();
        answers
    }
}
