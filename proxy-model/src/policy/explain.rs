//! Why a connection passes or does not: what each end says, by which rule, and if none lets it pass, which nearly did.
//!
//! Straight from the facts, rule by rule: neither classes nor pages are asked, so it can be held against them. It knows the
//! whole cluster, also pods of other nodes. What no policy is asked about is not known here: replies, and what a pod sends
//! to itself without leaving (items 33, 35).

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use proxy_common::policy::Effect;
use proxy_common::{Port, Proto};

use super::peers::{Peers, Scope, labelled};
use super::rules::{Ports, Rule, RuleSet, Says, Span, Whom, called};
use super::subject::{Library, is_addressed, over, ranked};
use super::write::{PolicyName, RuleName};
use crate::fact::{Direction, NamedPort, Object, ObjectKey, Pod, PodPhase};
use crate::world::World;

/// The first packet of a connection, as a rule sees it: behind a Service, with the backend's address and port (item 29).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Question {
    /// Source.
    pub from: IpAddr,
    /// Destination.
    pub to: IpAddr,
    /// Protocol.
    pub proto: Proto,
    /// Destination port; [`Port::NONE`] for protocols without ports.
    pub port: Port,
}

/// What both ends say (item 6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explanation {
    /// The pod that sends.
    pub egress: Side,
    /// The pod that is sent to.
    pub ingress: Side,
}

impl Explanation {
    /// The connection passes.
    pub fn effect(&self) -> Effect {
        match (self.egress.effect(), self.ingress.effect()) {
            (Effect::ALLOW, Effect::ALLOW) => Effect::ALLOW,
            _ => Effect::DENY,
        }
    }
}

/// What one end says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Side {
    /// Who has the address.
    pub pod: Option<ObjectKey>,
    /// The policies that the pod is under in this direction, in the order in which they are asked.
    pub policies: Vec<PolicyName>,
    /// What comes of it.
    pub outcome: Outcome,
}

/// What comes of all policies of one end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The address is no pod's, so nobody is asked.
    NoPod,
    /// The node's own packets to its pods always pass (item 34).
    OwnNode,
    /// No policy says anything about it.
    Free,
    /// A rule decides.
    Decided {
        /// Which.
        rule: RuleName,
        /// What it says.
        effect: Effect,
    },
    /// A NetworkPolicy isolates the pod, and no rule allows it.
    Isolated {
        /// The rule that is the next best.
        nearest: Option<Nearest>,
    },
}

/// A rule that would have allowed it, but for one thing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Nearest {
    /// The rule.
    pub rule: RuleName,
    /// What does not match.
    pub lacks: Lack,
}

/// What of a rule does not match.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lack {
    /// The peer does, the port does not.
    Port,
    /// The port does, the peer does not.
    Peer,
}

impl Side {
    /// Whether this end lets it pass.
    pub fn effect(&self) -> Effect {
        match &self.outcome {
            Outcome::NoPod | Outcome::OwnNode | Outcome::Free => Effect::ALLOW,
            Outcome::Decided { effect, .. } => *effect,
            Outcome::Isolated { .. } => Effect::DENY,
        }
    }
}

/// Why a connection passes or does not.
pub fn explain(world: &World, question: &Question) -> Explanation {
    let side = |direction| side(world, question, direction);
    Explanation { egress: side(Direction::Egress), ingress: side(Direction::Ingress) }
}

/// Who has an address (items 44, 45).
fn holder(world: &World, addr: IpAddr) -> Option<&Pod> {
    let claims = world.pods().filter(|pod| is_addressed(pod) && pod.ips.contains(&addr));
    claims.min_by_key(|pod| (pod.phase != PodPhase::Running, pod.key()))
}

fn side(world: &World, question: &Question, direction: Direction) -> Side {
    let (own, other) = match direction {
        Direction::Ingress => (question.to, question.from),
        Direction::Egress => (question.from, question.to),
    };
    let Some(pod) = holder(world, own) else {
        return Side { pod: None, policies: Vec::new(), outcome: Outcome::NoPod };
    };
    let mut library = Library::default();
    let over = over(world, &ranked(world), pod);
    // Nobody is refused here: there is room for everything.
    let set = library.rule_set(&over, (direction, &pod.ports), &BTreeSet::new()).unwrap_or_default();
    let remote = holder(world, other);
    let asked = Asked { world, library: &library, question, direction, other, remote };
    let outcome = if asked.is_from_own_node(pod) { Outcome::OwnNode } else { asked.outcome(&set) };
    Side { pod: Some(pod.key.clone()), policies: set.policies, outcome }
}

/// A question about one end.
struct Asked<'a> {
    world: &'a World,
    library: &'a Library,
    question: &'a Question,
    direction: Direction,
    other: IpAddr,
    /// Who has the other address.
    remote: Option<&'a Pod>,
}

/// Which parts of a rule match.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Match {
    peer: bool,
    port: bool,
}

impl Asked<'_> {
    fn is_from_own_node(&self, pod: &Pod) -> bool {
        let node = pod.node.as_ref().and_then(|name| self.world.node_at(name));
        self.direction == Direction::Ingress && node.is_some_and(|node| node.addresses.contains(&self.other))
    }

    fn outcome(&self, set: &RuleSet) -> Outcome {
        if let Some(outcome) = self.tier(&set.admin) {
            return outcome;
        }
        let Some(rules) = &set.network else {
            return self.tier(&set.baseline).unwrap_or(Outcome::Free);
        };
        let matches: Vec<_> = rules.iter().map(|rule| (rule, self.compare(rule))).collect();
        let first = |peer, port| {
            let mut found = matches.iter().filter(|(_, found)| *found == Match { peer, port });
            found.next().map(|(rule, _)| rule.name.clone())
        };
        if let Some(rule) = first(true, true) {
            return Outcome::Decided { rule, effect: Effect::ALLOW };
        }
        let by_peer = first(true, false).map(|rule| Nearest { rule, lacks: Lack::Port });
        let by_port = || first(false, true).map(|rule| Nearest { rule, lacks: Lack::Peer });
        Outcome::Isolated { nearest: by_peer.or_else(by_port) }
    }

    /// What the first rule of a tier says; none if the next tier is asked.
    fn tier(&self, rules: &[Arc<Rule>]) -> Option<Outcome> {
        let rule = rules.iter().find(|rule| self.compare(rule) == Match { peer: true, port: true })?;
        let decided = |effect| Some(Outcome::Decided { rule: rule.name.clone(), effect });
        match rule.says {
            Says::Accept => decided(Effect::ALLOW),
            Says::Deny => decided(Effect::DENY),
            Says::Pass => None,
        }
    }

    fn compare(&self, rule: &Rule) -> Match {
        let peer = match rule.whom {
            Whom::Everybody => true,
            Whom::Of(id) => self.library.peers.get(id.0).is_some_and(|peers| self.is_peer(peers)),
        };
        let port = match &rule.ports {
            Ports::Every => true,
            Ports::Some(spans) => spans.iter().any(|span| self.is_port(span)),
        };
        Match { peer, port }
    }

    fn is_peer(&self, peers: &Peers) -> bool {
        let of_block = peers.blocks.iter().any(|block| {
            block.net.contains(self.other) && !block.except.iter().any(|except| except.contains(self.other))
        });
        let Some(pod) = self.remote else {
            let mut nodes = self.world.nodes().filter(|node| node.addresses.contains(&self.other));
            return of_block
                || nodes.any(|node| peers.nodes.iter().any(|selector| selector.matches(&node.labels)));
        };
        let namespace = &pod.key.namespace;
        of_block
            || peers.pods.iter().any(|peer| {
                let is_in = match &peer.scope {
                    Scope::Own(own) => own == namespace,
                    Scope::Labelled(selector) => {
                        labelled(selector, namespace, self.world.namespace_at(namespace))
                    }
                };
                is_in && peer.pods.matches(&pod.labels)
            })
    }

    fn is_port(&self, span: &Span) -> bool {
        let Question { proto, port, .. } = *self.question;
        match span {
            Span::Range { proto: of, first, last } => *of == proto && (*first..=*last).contains(&port),
            Span::Named { proto: of, name } => {
                let ports: &[NamedPort] = self.remote.map_or(&[], |pod| &pod.ports);
                called(ports, *of, name).any(|named| named.proto == proto && named.port == port)
            }
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.outcome.fmt(f)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPod => f.write_str("no pod, so no policy is asked"),
            Self::OwnNode => f.write_str("the pod's own node always reaches it"),
            Self::Free => f.write_str("no policy says anything about it"),
            Self::Decided { rule, effect } => {
                let says = if *effect == Effect::ALLOW { "allowed" } else { "denied" };
                write!(f, "{says} by {rule}")
            }
            Self::Isolated { nearest: None } => f.write_str("no rule allows it"),
            Self::Isolated { nearest: Some(Nearest { rule, lacks }) } => {
                let lacks = match lacks {
                    Lack::Port => "but not this port",
                    Lack::Peer => "but not this peer",
                };
                write!(f, "no rule allows it; nearest: {rule}, {lacks}")
            }
        }
    }
}

impl fmt::Display for RuleName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = match self.direction {
            Direction::Ingress => "ingress",
            Direction::Egress => "egress",
        };
        write!(f, "{}, {list}[{}] ({})", self.policy, self.index, self.text)
    }
}
