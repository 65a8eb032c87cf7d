//! What the agent wrote down about ids and addresses, turned round for questions. Everything may be missing: then ids and
//! addresses are shown as they are.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use proxy_common::{RuleId, RuleSetId};

use crate::observe::policy_names::{Digest, PodLine, PolicyLine, PolicyNames, RuleLine, RuleSetLine};

/// Whose an address is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ctl) enum Owner<'a> {
    /// A pod's own.
    Pod(&'a PodLine),
    /// A node's.
    Node(&'a str),
}

/// Ids and addresses with their names.
#[derive(Default)]
pub(in crate::ctl) struct Names {
    /// This node; absent without the file.
    pub(in crate::ctl) node: Option<String>,
    /// Policies that the agent knows.
    pub(in crate::ctl) policies: Vec<PolicyLine>,
    rules: HashMap<RuleId, RuleLine>,
    sets: HashMap<RuleSetId, RuleSetLine>,
    pods: BTreeMap<String, PodLine>,
    pods_by_address: HashMap<IpAddr, String>,
    nodes: BTreeMap<String, Vec<IpAddr>>,
    nodes_by_address: HashMap<IpAddr, String>,
}

impl Names {
    /// Of what was written down.
    pub(in crate::ctl) fn of(written: Option<PolicyNames>) -> Self {
        let Some(PolicyNames { version: _, at: _, node, policies, rules, rule_sets, pods, nodes }) = written
        else {
            return Self::default();
        };
        let pod_addresses =
            pods.iter().flat_map(|line| line.addresses.iter().map(|ip| (*ip, line.pod.clone())));
        let node_addresses = nodes.iter().flat_map(|(name, all)| all.iter().map(|ip| (*ip, name.clone())));
        Self {
            node: Some(node),
            policies,
            rules: rules.into_iter().map(|line| (RuleId(line.id.0), line)).collect(),
            sets: rule_sets.into_iter().map(|line| (RuleSetId(line.id.0), line)).collect(),
            pods_by_address: pod_addresses.collect(),
            nodes_by_address: node_addresses.collect(),
            pods: pods.into_iter().map(|line| (line.pod.clone(), line)).collect(),
            nodes,
        }
    }

    /// A rule, if its name is known.
    pub(in crate::ctl) fn rule(&self, id: RuleId) -> Option<&RuleLine> {
        self.rules.get(&id)
    }

    /// Every rule, in no order.
    pub(in crate::ctl) fn rules(&self) -> impl Iterator<Item = &RuleLine> {
        self.rules.values()
    }

    /// A set of rules, if its content is known.
    pub(in crate::ctl) fn set(&self, id: RuleSetId) -> Option<&RuleSetLine> {
        self.sets.get(&id)
    }

    /// The known rules of a set, in their order; without one, those that its policies have in its direction.
    pub(in crate::ctl) fn rules_of(&self, set: RuleSetId) -> Vec<&RuleLine> {
        let Some(line) = self.set(set) else { return Vec::new() };
        if !line.rules.is_empty() {
            return line.rules.iter().filter_map(|id| self.rule(RuleId(id.0))).collect();
        }
        let is_of =
            |rule: &&RuleLine| rule.direction == line.direction && line.policies.contains(&rule.policy);
        let mut rules: Vec<_> = self.rules().filter(is_of).collect();
        rules.sort_by_key(|rule| (&rule.policy, rule.index));
        rules
    }

    /// The pod of that `namespace/name`.
    pub(in crate::ctl) fn pod(&self, name: &str) -> Option<&PodLine> {
        self.pods.get(name)
    }

    /// The pods of this node, in the order of their names.
    pub(in crate::ctl) fn local_pods(&self) -> impl Iterator<Item = &PodLine> {
        self.pods.values().filter(|line| line.node.is_some() && line.node == self.node)
    }

    /// Addresses of this node.
    pub(in crate::ctl) fn own_addresses(&self) -> &[IpAddr] {
        let own = self.node.as_ref().and_then(|node| self.nodes.get(node));
        own.map(Vec::as_slice).unwrap_or_default()
    }

    /// Whose an address is.
    pub(in crate::ctl) fn owner(&self, ip: IpAddr) -> Option<Owner<'_>> {
        let pod = self.pods_by_address.get(&ip).and_then(|name| self.pods.get(name)).map(Owner::Pod);
        pod.or_else(|| self.nodes_by_address.get(&ip).map(|name| Owner::Node(name)))
    }

    /// The name of an address: `namespace/name` of a pod, `node NAME`, or nothing.
    pub(in crate::ctl) fn label(&self, ip: IpAddr) -> Option<String> {
        self.owner(ip).map(|owner| match owner {
            Owner::Pod(line) => line.pod.clone(),
            Owner::Node(name) => format!("node {name}"),
        })
    }

    /// What a rule is called: its policy and place, or its number.
    pub(in crate::ctl) fn rule_label(&self, id: RuleId) -> String {
        self.rule(id).map_or_else(|| format!("rule #{}", Digest::from(id)), ToString::to_string)
    }
}
