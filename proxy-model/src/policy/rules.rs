//! What a policy says once its selectors are sets with names: rules, and all rules that a pod is under.

use std::collections::BTreeSet;
use std::sync::Arc;

use proxy_common::policy::RuleId;
use proxy_common::{Port, Proto};

use super::digest::{Domain, Encoder};
use super::peers::PeersId;
use super::write::{PolicyName, RuleName};
use crate::fact::{Direction, Name, NamedPort};

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Rule {
    pub(super) id: RuleId,
    pub(super) name: RuleName,
    pub(super) says: Says,
    pub(super) whom: Whom,
    pub(super) ports: Ports,
}

/// What becomes of a connection that a rule is about. The rules of a NetworkPolicy all accept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Says {
    Accept,
    Deny,
    Pass,
}

/// Whom a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whom {
    Everybody,
    Of(PeersId),
}

/// Which ports a rule is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Ports {
    /// All, and protocols without ports.
    Every,
    /// These; if there are none, the rule is about nothing.
    Some(Vec<Span>),
}

/// Some ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Span {
    Range {
        proto: Proto,
        first: Port,
        last: Port,
    },
    /// What the other end calls so: in rules about what a pod sends.
    Named {
        proto: Option<Proto>,
        name: Name,
    },
}

/// The ports that a pod calls so; of several with one protocol the first (item 26).
pub(super) fn called<'a>(
    ports: &'a [NamedPort],
    proto: Option<Proto>,
    name: &'a Name,
) -> impl Iterator<Item = &'a NamedPort> {
    let is_first = |at: usize, port: &NamedPort| {
        !ports.iter().take(at).any(|other| other.name == port.name && other.proto == port.proto)
    };
    ports
        .iter()
        .enumerate()
        .filter(move |(_, port)| port.name == *name && proto.is_none_or(|proto| proto == port.proto))
        .filter(move |(at, port)| is_first(*at, port))
        .map(|(_, port)| port)
}

impl Rule {
    /// The rule where it is about this pod's own ports: names become numbers.
    pub(super) fn at(self: &Arc<Self>, own: &[NamedPort]) -> Arc<Self> {
        let Ports::Some(spans) = &self.ports else { return Arc::clone(self) };
        if !spans.iter().any(|span| matches!(span, Span::Named { .. })) {
            return Arc::clone(self);
        }
        let mut resolved = Vec::new();
        for span in spans {
            match span {
                Span::Range { .. } => resolved.push(span.clone()),
                Span::Named { proto, name } => resolved.extend(called(own, *proto, name).map(exactly)),
            }
        }
        Arc::new(Self { ports: Ports::Some(resolved), ..Self::clone(self) })
    }

    fn encode(&self, into: &mut Encoder) {
        into.number(self.id.0).tag(match self.says {
            Says::Accept => 1,
            Says::Deny => 2,
            Says::Pass => 3,
        });
        match self.whom {
            Whom::Everybody => into.tag(1),
            Whom::Of(peers) => into.tag(2).number(peers.0),
        };
        let Ports::Some(spans) = &self.ports else {
            into.tag(1);
            return;
        };
        into.tag(2).count(spans.len());
        for span in spans {
            match span {
                Span::Range { proto, first, last } => into
                    .tag(1)
                    .tag(proto.0)
                    .number(u64::from(first.number()))
                    .number(u64::from(last.number())),
                Span::Named { proto, name } => into.tag(2).tag(proto.map_or(0, |proto| proto.0)).text(name),
            };
        }
    }
}

/// One port as a range.
pub(super) fn exactly(port: &NamedPort) -> Span {
    Span::Range { proto: port.proto, first: port.port, last: port.port }
}

/// All rules that a pod is under in one direction, in the order in which they are asked (item 51).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct RuleSet {
    /// The first that is about a connection decides.
    pub(super) admin: Vec<Arc<Rule>>,
    /// Any of them lets a connection pass, and else it does not (item 5); none if no NetworkPolicy isolates the pod.
    pub(super) network: Option<Vec<Arc<Rule>>>,
    /// As `admin`, where no NetworkPolicy decides (item 60).
    pub(super) baseline: Vec<Arc<Rule>>,
    /// Whose rules they are, in order.
    pub(super) policies: Vec<PolicyName>,
}

impl RuleSet {
    /// There is nothing that could deny or be counted.
    pub(super) fn is_open(&self) -> bool {
        self.network.is_none() && self.admin.is_empty() && self.baseline.is_empty()
    }

    pub(super) fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.admin.iter().chain(self.network.iter().flatten()).chain(&self.baseline)
    }

    /// It may say something else than "no" about addresses that are in none of its sets.
    pub(super) fn is_for_everybody(&self) -> bool {
        self.network.is_none() || self.rules().any(|rule| rule.whom == Whom::Everybody)
    }

    /// The sets of peers that its rules are about.
    pub(super) fn peers(&self) -> BTreeSet<PeersId> {
        let of = |rule: &Arc<Rule>| match rule.whom {
            Whom::Everybody => None,
            Whom::Of(peers) => Some(peers),
        };
        self.rules().filter_map(of).collect()
    }

    pub(super) fn digest(&self) -> u64 {
        let mut into = Encoder::new(Domain::RuleSet);
        let mut list = |rules: &[Arc<Rule>]| {
            into.count(rules.len());
            for rule in rules {
                rule.encode(&mut into);
            }
        };
        list(&self.admin);
        list(self.network.as_deref().unwrap_or_default());
        list(&self.baseline);
        into.tag(u8::from(self.network.is_some())).count(self.policies.len());
        for policy in &self.policies {
            match policy {
                PolicyName::Network(key) => into.tag(1).text(&key.namespace).text(&key.name),
                PolicyName::Cluster(name) => into.tag(2).text(name),
            };
        }
        into.digest()
    }
}

/// The name of a rule: of the policy, the direction and the place.
pub(super) fn rule_id(policy: &PolicyName, direction: Direction, index: u16) -> RuleId {
    let mut into = Encoder::new(Domain::Rule);
    match policy {
        PolicyName::Network(key) => into.tag(1).text(&key.namespace).text(&key.name),
        PolicyName::Cluster(name) => into.tag(2).text(name),
    };
    into.tag(match direction {
        Direction::Ingress => 1,
        Direction::Egress => 2,
    });
    RuleId(into.number(u64::from(index)).digest())
}
