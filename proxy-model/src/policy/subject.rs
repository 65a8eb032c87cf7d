//! Which policies a pod of this node is under, and the rules that come of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compile::{self, Compiled, PeersRegister};
use super::peers::{PeersId, labelled};
use super::rules::{Rule, RuleSet, Whom};
use super::write::PolicyName;
use crate::fact::{ClusterPolicy, Direction, Name, NamedPort, NetworkPolicy, Pod, PodPhase, Subject, Tier};
use crate::world::World;

/// It has, or will have, addresses of its own that policies can speak of (items 24, 44, 53). A pod that is being deleted
/// has them until it is gone (item 43).
pub(super) fn is_addressed(pod: &Pod) -> bool {
    !pod.host_network && !matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed)
}

/// It is judged here.
pub(super) fn is_local(pod: &Pod, node: &Name) -> bool {
    pod.node.as_ref() == Some(node) && is_addressed(pod)
}

/// The policies that select a pod, each kind in its order.
#[derive(Debug)]
pub(super) struct Over<'a> {
    pub(super) network: Vec<&'a NetworkPolicy>,
    pub(super) cluster: Vec<&'a ClusterPolicy>,
}

/// ClusterNetworkPolicies in the order in which they are asked: tier, priority, name (items 51, 52).
pub(super) fn ranked(world: &World) -> Vec<&ClusterPolicy> {
    let mut all: Vec<_> = world.cluster_policies().collect();
    all.sort_by_key(|policy| (policy.tier, policy.priority, &policy.name));
    all
}

/// The policies that select a pod; `ranked` are all ClusterNetworkPolicies in order.
pub(super) fn over<'a>(world: &'a World, ranked: &[&'a ClusterPolicy], pod: &Pod) -> Over<'a> {
    let namespace = &pod.key.namespace;
    let is_in = |selector| labelled(selector, namespace, world.namespace_at(namespace));
    // Item 7: of the pod's own namespace.
    let network = world.network_policies_in(namespace).filter(|policy| policy.pods.matches(&pod.labels));
    let cluster = ranked.iter().copied().filter(|policy| match &policy.subject {
        Subject::Namespaces(namespaces) => is_in(namespaces),
        Subject::Pods { namespaces, pods } => pods.matches(&pod.labels) && is_in(namespaces),
        Subject::Unknown => true,
    });
    Over { network: network.collect(), cluster: cluster.collect() }
}

/// Rules of policies that select pods of this node, so that each is read once.
#[derive(Debug, Default)]
pub(super) struct Library {
    known: BTreeMap<PolicyName, Arc<Compiled>>,
    pub(super) peers: PeersRegister,
}

impl Library {
    /// Policies have changed: all ClusterNetworkPolicies, and the NetworkPolicies of some namespaces.
    pub(super) fn forget(&mut self, is_stale: impl Fn(&PolicyName) -> bool) {
        self.known.retain(|policy, _| !is_stale(policy));
    }

    /// Only these are still asked for.
    pub(super) fn retain(&mut self, used: &BTreeSet<PolicyName>) {
        self.known.retain(|policy, _| used.contains(policy));
    }

    /// The sets of peers that the rules are about.
    pub(super) fn ids(&self) -> impl Iterator<Item = PeersId> {
        let lists = self.known.values().flat_map(|compiled| [&compiled.ingress, &compiled.egress]);
        lists.flatten().flatten().filter_map(|rule| match rule.whom {
            Whom::Everybody => None,
            Whom::Of(id) => Some(id),
        })
    }

    fn network(&mut self, policy: &NetworkPolicy) -> Arc<Compiled> {
        let Self { known, peers } = self;
        let name = PolicyName::Network(policy.key.clone());
        Arc::clone(known.entry(name).or_insert_with(|| Arc::new(compile::network(policy, peers))))
    }

    fn cluster(&mut self, policy: &ClusterPolicy) -> Arc<Compiled> {
        let Self { known, peers } = self;
        let name = PolicyName::Cluster(policy.name.clone());
        Arc::clone(known.entry(name).or_insert_with(|| Arc::new(compile::cluster(policy, peers))))
    }

    /// All rules over a pod in one direction; none if one of their policies is refused.
    pub(super) fn rule_set(
        &mut self,
        over: &Over<'_>,
        (direction, own): (Direction, &[NamedPort]),
        refused: &BTreeSet<PolicyName>,
    ) -> Option<RuleSet> {
        let mut set = RuleSet::default();
        let at_pod = |rule: &Arc<Rule>| match direction {
            // Item 26: of the destination, which is the pod itself.
            Direction::Ingress => rule.at(own),
            Direction::Egress => Arc::clone(rule),
        };
        for tier in [Tier::Admin, Tier::Baseline] {
            for policy in over.cluster.iter().filter(|policy| policy.tier == tier) {
                let compiled = self.cluster(policy);
                let Some(rules) = compiled.rules(direction) else { continue };
                let into = match tier {
                    Tier::Admin => &mut set.admin,
                    Tier::Baseline => &mut set.baseline,
                };
                into.extend(rules.iter().map(at_pod));
                set.policies.push(PolicyName::Cluster(policy.name.clone()));
            }
            // Between the two tiers.
            for policy in over.network.iter().filter(|_| tier == Tier::Admin) {
                let compiled = self.network(policy);
                let Some(rules) = compiled.rules(direction) else { continue };
                set.network.get_or_insert_default().extend(rules.iter().map(at_pod));
                set.policies.push(PolicyName::Network(policy.key.clone()));
            }
        }
        let fits = !set.policies.iter().any(|policy| refused.contains(policy));
        fits.then_some(set)
    }
}
