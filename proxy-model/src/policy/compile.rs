//! One policy's facts → its rules. The only place that decides what an unset field and an `Unknown` mean.

use std::sync::Arc;

use proxy_common::Port;

use super::digest::Register;
use super::peers::{Block, Peers, PeersId, PodPeers, Scope};
use super::rules::{Ports, Rule, Says, Span, Whom, rule_id};
use super::write::{PolicyName, RuleName};
use crate::fact::{
    Action, ClusterPeer, ClusterPolicy, ClusterRule, Direction, NetworkPeer, NetworkPolicy, NetworkRule,
    PortMatch, Prefix, Selector, Subject, Understood,
};

/// Whose peers have which name.
pub(super) type PeersRegister = Register<Arc<Peers>>;

/// The rules of a policy per direction; none in a direction that the policy does not speak of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Compiled {
    pub(super) ingress: Option<Vec<Arc<Rule>>>,
    pub(super) egress: Option<Vec<Arc<Rule>>>,
}

impl Compiled {
    pub(super) fn rules(&self, direction: Direction) -> Option<&[Arc<Rule>]> {
        match direction {
            Direction::Ingress => self.ingress.as_deref(),
            Direction::Egress => self.egress.as_deref(),
        }
    }
}

/// Both directions.
pub(super) const DIRECTIONS: [Direction; 2] = [Direction::Ingress, Direction::Egress];

/// The policy isolates the pods that it selects in this direction (items 2–4).
pub(super) fn isolates(policy: &NetworkPolicy, direction: Direction) -> bool {
    match (&policy.types, direction) {
        (Some(types), _) => types.contains(&direction),
        (None, Direction::Ingress) => true,
        (None, Direction::Egress) => !policy.egress.is_empty(),
    }
}

/// The rules of a NetworkPolicy.
pub(super) fn network(policy: &NetworkPolicy, register: &mut PeersRegister) -> Compiled {
    let mut list = |direction| {
        let rules = network_rules(policy, direction);
        isolates(policy, direction).then(|| {
            let named = rules.iter().enumerate();
            named.filter_map(|(at, rule)| network_rule(policy, (direction, at), rule, register)).collect()
        })
    };
    Compiled { ingress: list(Direction::Ingress), egress: list(Direction::Egress) }
}

/// The rules of a direction as they stand in the policy.
pub(super) fn network_rules(policy: &NetworkPolicy, direction: Direction) -> &[NetworkRule] {
    match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    }
}

/// The rules of a direction as they stand in the policy.
pub(super) fn cluster_rules(policy: &ClusterPolicy, direction: Direction) -> &[ClusterRule] {
    match direction {
        Direction::Ingress => &policy.ingress,
        Direction::Egress => &policy.egress,
    }
}

/// A place in a policy: more rules than a number of sixteen bits has share the last name.
fn index(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}

/// Peers with a name; none if there is nobody.
fn named(peers: Peers, register: &mut PeersRegister) -> Option<(Whom, Arc<Peers>)> {
    let peers = Arc::new(peers);
    let id = register.name(peers.digest(), Arc::clone(&peers));
    (!peers.is_empty()).then_some((Whom::Of(PeersId(id)), peers))
}

fn network_rule(
    policy: &NetworkPolicy,
    (direction, at): (Direction, usize),
    rule: &NetworkRule,
    register: &mut PeersRegister,
) -> Option<Arc<Rule>> {
    let whom = if rule.peers.is_empty() {
        (Whom::Everybody, Arc::default())
    } else {
        let mut peers = Peers::default();
        rule.peers.iter().for_each(|peer| add_network_peer(&mut peers, policy, peer));
        named(peers, register)?
    };
    let policy = PolicyName::Network(policy.key.clone());
    Some(Arc::new(finish((policy, direction, at), Says::Accept, whom, ports(&rule.ports), "")))
}

fn add_network_peer(peers: &mut Peers, policy: &NetworkPolicy, peer: &NetworkPeer) {
    match peer {
        NetworkPeer::Pods { namespaces: None, pods: None } | NetworkPeer::Unknown => {}
        NetworkPeer::Pods { namespaces, pods } => {
            let scope =
                namespaces.clone().map_or_else(|| Scope::Own(policy.key.namespace.clone()), Scope::Labelled);
            peers.pods.insert(PodPeers { scope, pods: pods.clone().unwrap_or_default() });
        }
        NetworkPeer::Block { net, except } => peers.blocks.extend(Block::new(*net, except.iter().copied())),
    }
}

fn ports(list: &[PortMatch]) -> Ports {
    if list.is_empty() {
        return Ports::Every;
    }
    let span = |port: &PortMatch| match port {
        PortMatch::Every(proto) => {
            Some(Span::Range { proto: *proto, first: Port::NONE, last: Port::new(u16::MAX) })
        }
        PortMatch::Range { proto, first, last } => {
            Some(Span::Range { proto: *proto, first: *first, last: *last })
        }
        PortMatch::Named { proto, name } => Some(Span::Named { proto: *proto, name: name.clone() }),
        PortMatch::Unknown => None,
    };
    Ports::Some(list.iter().filter_map(span).collect())
}

/// The rules of a ClusterNetworkPolicy. One without rules in a direction says nothing about it (item 54).
pub(super) fn cluster(policy: &ClusterPolicy, register: &mut PeersRegister) -> Compiled {
    let mut list = |direction| {
        let rules = cluster_rules(policy, direction);
        let each = rules.iter().enumerate();
        let compiled: Vec<_> =
            each.filter_map(|(at, rule)| cluster_rule(policy, (direction, at), rule, register)).collect();
        (!rules.is_empty()).then_some(compiled)
    };
    Compiled { ingress: list(Direction::Ingress), egress: list(Direction::Egress) }
}

/// A rule is understood as a whole or not at all (item 58).
fn understood(rule: &ClusterRule) -> Understood {
    let strange = rule.rest == Understood::InPart
        || rule.action == Action::Unknown
        || rule.peers.iter().any(|peer| matches!(peer, ClusterPeer::Unknown))
        || rule.protocols.iter().any(|port| matches!(port, PortMatch::Unknown));
    if strange { Understood::InPart } else { Understood::Fully }
}

fn cluster_rule(
    policy: &ClusterPolicy,
    (direction, at): (Direction, usize),
    rule: &ClusterRule,
    register: &mut PeersRegister,
) -> Option<Arc<Rule>> {
    let place = (PolicyName::Cluster(policy.name.clone()), direction, at);
    let says = match (rule.action, &policy.subject) {
        (Action::Accept, Subject::Namespaces(_) | Subject::Pods { .. }) => Says::Accept,
        (Action::Pass, Subject::Namespaces(_) | Subject::Pods { .. }) => Says::Pass,
        (Action::Accept | Action::Pass, Subject::Unknown) => return None,
        (Action::Deny | Action::Unknown, _) => Says::Deny,
    };
    if understood(rule) == Understood::InPart {
        // Item 58: accepts nothing, or denies everything.
        let everybody = (Whom::Everybody, Arc::default());
        return (says != Says::Accept)
            .then(|| Arc::new(finish(place, Says::Deny, everybody, Ports::Every, " (not understood)")));
    }
    let whom = if rule.peers.is_empty() {
        (Whom::Everybody, Arc::default())
    } else {
        let mut peers = Peers::default();
        rule.peers.iter().for_each(|peer| add_cluster_peer(&mut peers, peer));
        named(peers, register)?
    };
    Some(Arc::new(finish(place, says, whom, ports(&rule.protocols), &rule.name)))
}

fn add_cluster_peer(peers: &mut Peers, peer: &ClusterPeer) {
    let mut add = |namespaces: &Selector, pods: Selector| {
        peers.pods.insert(PodPeers { scope: Scope::Labelled(namespaces.clone()), pods });
    };
    match peer {
        ClusterPeer::Namespaces(namespaces) => add(namespaces, Selector::default()),
        ClusterPeer::Pods { namespaces, pods } => add(namespaces, pods.clone()),
        ClusterPeer::Nodes(selector) => {
            peers.nodes.insert(selector.clone());
        }
        ClusterPeer::Networks(nets) => {
            peers.blocks.extend(nets.iter().filter_map(|net: &Prefix| Block::new(*net, [])));
        }
        ClusterPeer::Unknown => {}
    }
}

fn finish(
    (policy, direction, at): (PolicyName, Direction, usize),
    says: Says,
    (whom, peers): (Whom, Arc<Peers>),
    ports: Ports,
    called: &str,
) -> Rule {
    let index = index(at);
    let id = rule_id(&policy, direction, index);
    let text = text(direction, says, (whom, &peers), &ports, called);
    Rule { id, name: RuleName { policy, direction, index, text }, says, whom, ports }
}

/// The rule in a few words.
fn text(
    direction: Direction,
    says: Says,
    (whom, peers): (Whom, &Peers),
    ports: &Ports,
    called: &str,
) -> String {
    let says = match says {
        Says::Accept => "accept",
        Says::Deny => "deny",
        Says::Pass => "pass",
    };
    let way = match direction {
        Direction::Ingress => "from",
        Direction::Egress => "to",
    };
    let whom = match whom {
        Whom::Everybody => "everybody".to_owned(),
        Whom::Of(_) => peers.to_string(),
    };
    let ports = match ports {
        Ports::Every => "every port".to_owned(),
        Ports::Some(spans) if spans.is_empty() => "no port".to_owned(),
        Ports::Some(spans) => spans.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    let called = if called.is_empty() { String::new() } else { format!("{}: ", called.trim()) };
    format!("{called}{says} {way} {whom}: {ports}")
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Range { proto, first: Port::NONE, .. } => write!(f, "{proto}"),
            Self::Range { proto, first, last } if first == last => write!(f, "{proto} {first}"),
            Self::Range { proto, first, last } => write!(f, "{proto} {first}-{last}"),
            Self::Named { proto: Some(proto), name } => write!(f, "{proto} {name}"),
            Self::Named { proto: None, name } => write!(f, "{name}"),
        }
    }
}
