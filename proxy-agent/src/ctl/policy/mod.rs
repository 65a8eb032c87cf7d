//! Policies: what the local pods are under by the maps, under the names that the agent wrote down; and in `get` one of
//! them with its rules.

#[cfg(test)]
pub(super) mod fake;
pub(super) mod names;
mod page;
pub(super) mod tables;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::bail;
use proxy_common::policy::DenialKey;
use proxy_common::{Address as _, Policed, RuleId, RuleSetId, V4, V6};

use self::names::Names;
use self::page::{Pod, PolicyPage, PolicyRow, RuleRow};
use super::reader::Reader;
use crate::kernel::{MapFamily, Maps};
use crate::observe::policy_names::{Direction, PolicyLine, PolicyName, RuleLine};

/// What the maps say of policies, all of it.
#[derive(Default)]
struct InForce {
    policed: BTreeMap<IpAddr, Policed>,
    denials: BTreeMap<DenialKey, u64>,
}

impl InForce {
    fn read(reader: &Reader) -> anyhow::Result<Self> {
        let mut policed = of_family::<V4>(&reader.pinned.v4)?;
        policed.extend(of_family::<V6>(&reader.pinned.v6)?);
        Ok(Self { policed, denials: reader.pinned.policy.denials.sums()?.into_iter().collect() })
    }

    /// Addresses of the pods that are under a set of rules that takes `part`, and in which directions.
    fn pods(&self, names: &Names, part: impl Fn(RuleSetId) -> bool) -> Vec<Pod> {
        let pod = |(address, policed): (&IpAddr, &Policed)| {
            let egress = part(policed.egress);
            let ingress = part(policed.ingress);
            let directions = [(egress, Direction::Egress), (ingress, Direction::Ingress)];
            let directions: Vec<_> =
                directions.into_iter().filter_map(|(is, direction)| is.then_some(direction)).collect();
            (!directions.is_empty()).then(|| Pod {
                name: names.label(*address),
                address: *address,
                directions,
            })
        };
        let mut pods: Vec<_> = self.policed.iter().filter_map(pod).collect();
        pods.sort_by(|a, b| (&a.name, a.address).cmp(&(&b.name, b.address)));
        pods
    }

    /// Packets that a rule denied, whatever set it was asked in.
    fn denied_by(&self, id: RuleId) -> u64 {
        self.denials.iter().filter(|(key, _)| key.by == id).map(|(_, count)| count).sum()
    }

    /// Packets that the isolation by a set denied: no rule of it let them pass.
    fn isolated_by(&self, set: RuleSetId) -> u64 {
        self.denials.get(&DenialKey { rules: set, by: RuleId::NONE }).copied().unwrap_or(0)
    }
}

fn of_family<F: MapFamily>(maps: &Maps<F>) -> anyhow::Result<BTreeMap<IpAddr, Policed>> {
    let entries = maps.policed.entries()?;
    Ok(entries.into_iter().map(|(addr, policed)| (addr.to_ip(), policed)).collect())
}

/// Every policy, in the order of kind and name; sets of rules without a name stand for themselves.
pub(super) fn list(reader: &Reader) -> anyhow::Result<Vec<PolicyRow>> {
    Ok(rows(&InForce::read(reader)?, &Names::of(reader.record.policy_names())))
}

/// One policy.
pub(super) fn get(reader: &Reader, name: &str) -> anyhow::Result<PolicyPage> {
    page(&InForce::read(reader)?, &Names::of(reader.record.policy_names()), name)
}

fn rows(maps: &InForce, names: &Names) -> Vec<PolicyRow> {
    let mut rows: Vec<_> = names.policies.iter().map(|line| row(maps, names, line)).collect();
    rows.sort_by(|a, b| a.order().cmp(&b.order()));
    let closed = maps.pods(names, |set| set == RuleSetId::CLOSED);
    if !closed.is_empty() {
        rows.push(PolicyRow::closed(&closed, maps.isolated_by(RuleSetId::CLOSED)));
    }
    let sets: BTreeSet<_> =
        maps.policed.values().flat_map(|policed| [policed.egress, policed.ingress]).collect();
    let nameless = sets
        .into_iter()
        .filter(|set| ![RuleSetId::OPEN, RuleSetId::CLOSED].contains(set) && names.set(*set).is_none());
    rows.extend(nameless.map(|set| {
        let denied = maps.denials.iter().filter(|(key, _)| key.rules == set).map(|(_, count)| count).sum();
        PolicyRow::nameless(set, &maps.pods(names, |other| other == set), denied)
    }));
    rows
}

fn row(maps: &InForce, names: &Names, line: &PolicyLine) -> PolicyRow {
    let (pods, rules) = (pods(maps, names, &line.policy), rules(maps, names, &line.policy));
    let denied = rules.iter().map(|rule| rule.denied).sum::<u64>() + isolated(maps, names, &line.policy);
    PolicyRow::new(line, &pods, rules.len(), denied)
}

fn pods(maps: &InForce, names: &Names, policy: &PolicyName) -> Vec<Pod> {
    maps.pods(names, |set| names.set(set).is_some_and(|line| line.policies.contains(policy)))
}

/// Packets denied because no rule let them pass, in the sets that the policy is part of.
fn isolated(maps: &InForce, names: &Names, policy: &PolicyName) -> u64 {
    let sets = maps.denials.keys().map(|key| key.rules).collect::<BTreeSet<_>>();
    let of_policy = |set: &RuleSetId| names.set(*set).is_some_and(|line| line.policies.contains(policy));
    sets.into_iter().filter(of_policy).map(|set| maps.isolated_by(set)).sum()
}

fn rules(maps: &InForce, names: &Names, policy: &PolicyName) -> Vec<RuleRow> {
    let row = |line: &RuleLine| RuleRow {
        direction: line.direction,
        index: line.index,
        id: line.id,
        text: line.text.clone(),
        denied: maps.denied_by(RuleId(line.id.0)),
    };
    let mut rows: Vec<_> = names.rules().filter(|line| line.policy == *policy).map(row).collect();
    rows.sort_by_key(|row| (row.direction, row.index));
    rows
}

fn page(maps: &InForce, names: &Names, name: &str) -> anyhow::Result<PolicyPage> {
    // A name alone is of a ClusterNetworkPolicy first, and then of a policy in `default`.
    let mut called: Vec<_> = names.policies.iter().filter(|line| line.policy.is_called(name)).collect();
    called.sort_by_key(|line| line.policy.namespace.is_some());
    let found = called.first().copied();
    let Some(line) = found else {
        if names.node.is_none() {
            bail!(
                "no agent has written down names of policies; `proxyctl policy list` shows what is in force"
            );
        }
        bail!("no policy {name} is about a pod of this node; `proxyctl policy list` shows those that are");
    };
    Ok(PolicyPage {
        policy: line.policy.clone(),
        tier: line.tier.clone(),
        priority: line.priority,
        refused: line.refused.clone(),
        pods: pods(maps, names, &line.policy),
        rules: rules(maps, names, &line.policy),
        denied_by_isolation: isolated(maps, names, &line.policy),
    })
}
