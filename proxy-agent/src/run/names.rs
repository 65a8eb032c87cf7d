//! What the numbers in the maps of policies stand for, and whose the addresses are, for `proxyctl`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use proxy_common::RuleSetId;
use proxy_model::World;
use proxy_model::fact::{self, ClusterPolicy, Pod, PodPhase, Tier};
use proxy_model::policy::{PolicyName, PolicyPlanner, RuleName};

use crate::observe::policy_names::{
    self as names, Direction, PodLine, PolicyKind, PolicyLine, PolicyNames, RuleLine, RuleSetLine, VERSION,
};

/// All of it.
pub(super) fn of(world: &World, planner: &PolicyPlanner, now: SystemTime) -> PolicyNames {
    let known = planner.names();
    let directions = directions(planner);
    let rules: Vec<RuleLine> =
        known.rules.iter().map(|(id, rule)| line(names::Digest::from(*id), rule)).collect();
    let set = |(id, policies): &(RuleSetId, Vec<PolicyName>)| {
        // One that no pod is under any more rests in the maps for a moment: nobody asks for its name.
        let direction = *directions.get(id)?;
        let policies: Vec<_> = policies.iter().map(name).collect();
        let of_policy =
            |policy| rules.iter().filter(move |rule| rule.policy == policy && rule.direction == direction);
        let mut rules = Vec::new();
        for policy in &policies {
            let mut own: Vec<_> = of_policy(policy.clone()).collect();
            own.sort_by_key(|rule| rule.index);
            rules.extend(own.into_iter().map(|rule| rule.id));
        }
        Some(RuleSetLine { id: (*id).into(), direction, policies, rules })
    };
    PolicyNames {
        version: VERSION,
        at: now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        node: world.settings().node_name.to_string(),
        policies: policies(world, planner, known.rule_sets.iter().flat_map(|(_, policies)| policies)),
        rule_sets: known.rule_sets.iter().filter_map(set).collect(),
        rules,
        pods: pods(world),
        nodes: world.nodes().map(|node| (node.name.to_string(), node.addresses.clone())).collect(),
    }
}

/// About which direction each rule set is that a pod is under.
fn directions(planner: &PolicyPlanner) -> BTreeMap<RuleSetId, Direction> {
    let both =
        |pod: &proxy_common::Policed| [(pod.egress, Direction::Egress), (pod.ingress, Direction::Ingress)];
    planner.policed().values().flat_map(both).collect()
}

fn line(id: names::Digest, rule: &RuleName) -> RuleLine {
    let direction = match rule.direction {
        fact::Direction::Egress => Direction::Egress,
        fact::Direction::Ingress => Direction::Ingress,
    };
    RuleLine { id, policy: name(&rule.policy), direction, index: rule.index.into(), text: rule.text.clone() }
}

fn name(policy: &PolicyName) -> names::PolicyName {
    match policy {
        PolicyName::Network(key) => names::PolicyName {
            kind: PolicyKind::NetworkPolicy,
            namespace: Some(key.namespace.to_string()),
            name: key.name.to_string(),
        },
        PolicyName::Cluster(name) => names::PolicyName {
            kind: PolicyKind::ClusterNetworkPolicy,
            namespace: None,
            name: name.to_string(),
        },
    }
}

/// Those in use, and those that are refused.
fn policies<'a>(
    world: &World,
    planner: &'a PolicyPlanner,
    used: impl Iterator<Item = &'a PolicyName>,
) -> Vec<PolicyLine> {
    let refused: BTreeMap<&PolicyName, String> =
        planner.refusals().map(|refusal| (&refusal.policy, refusal.reason.to_string())).collect();
    let all: BTreeSet<&PolicyName> = used.chain(refused.keys().copied()).collect();
    let cluster: BTreeMap<_, &ClusterPolicy> =
        world.cluster_policies().map(|policy| (&policy.name, policy)).collect();
    let line = |policy: &&PolicyName| {
        let found = match policy {
            PolicyName::Cluster(name) => cluster.get(name),
            PolicyName::Network(_) => None,
        };
        let tier = found.map(|policy| match policy.tier {
            Tier::Admin => "Admin".to_owned(),
            Tier::Baseline => "Baseline".to_owned(),
        });
        let priority = found.map(|policy| policy.priority.into());
        PolicyLine { policy: name(policy), tier, priority, refused: refused.get(policy).cloned() }
    };
    let mut lines: Vec<_> = all.iter().map(line).collect();
    lines.sort_by(|one, other| one.policy.cmp(&other.policy));
    lines
}

/// Pods with addresses of their own; of two that claim one, the running one has it (item 44).
fn pods(world: &World) -> Vec<PodLine> {
    let is_over = |pod: &&Pod| matches!(pod.phase, PodPhase::Succeeded | PodPhase::Failed);
    let own: Vec<&Pod> = world.pods().filter(|pod| !pod.host_network && !is_over(pod)).collect();
    let mut owners: BTreeMap<IpAddr, &Pod> = BTreeMap::new();
    for pod in &own {
        for ip in &pod.ips {
            let owner = owners.entry(*ip).or_insert(pod);
            if owner.phase != PodPhase::Running && pod.phase == PodPhase::Running {
                *owner = pod;
            }
        }
    }
    let has = |pod: &Pod, ip: &&IpAddr| owners.get(ip).is_some_and(|owner| owner.key == pod.key);
    own.iter()
        .map(|pod| PodLine {
            pod: pod.key.to_string(),
            node: pod.node.as_deref().map(str::to_owned),
            addresses: pod.ips.iter().filter(|ip| has(pod, ip)).copied().collect(),
        })
        .filter(|line| !line.addresses.is_empty())
        .collect()
}
