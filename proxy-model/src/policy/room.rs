//! Which policies there is no room for: the newest that do not fit beside the older ones.
//!
//! Found by compiling the whole world again with fewer policies, so it depends on nothing but the facts. It costs as many
//! compilations as halvings find one policy, for each that is refused; only a node that lacks room pays that.

use std::collections::BTreeSet;

use super::model::Model;
use super::pages::demand;
use super::write::{PolicyCapacity, PolicyName, PolicyRefusal, PolicyRefused};
use crate::world::{Touched, World};

/// Policies that are looked for one by one; the others behind them are all refused.
const ONE_BY_ONE: usize = 16;

/// What there is no room for, but for pages.
pub(super) fn lacking_entries(model: &Model, capacity: PolicyCapacity) -> Option<PolicyRefused> {
    let [_, peers, blocks] = model.maps.sizes().map(|size| u32::try_from(size).unwrap_or(u32::MAX));
    if peers > capacity.peers {
        return Some(PolicyRefused::Peers { needed: peers, capacity: capacity.peers });
    }
    (blocks > capacity.blocks).then_some(PolicyRefused::Blocks { needed: blocks, capacity: capacity.blocks })
}

fn lacking(model: &Model, capacity: PolicyCapacity) -> Option<PolicyRefused> {
    let needed = u32::try_from(demand(model)).unwrap_or(u32::MAX);
    lacking_entries(model, capacity).or_else(|| {
        (needed > capacity.verdicts)
            .then_some(PolicyRefused::Verdicts { needed, capacity: capacity.verdicts })
    })
}

/// All policies, the oldest first.
fn by_age(world: &World) -> Vec<PolicyName> {
    let network = world.network_policies().map(|p| (p.created, PolicyName::Network(p.key.clone())));
    let cluster = world.cluster_policies().map(|p| (p.created, PolicyName::Cluster(p.name.clone())));
    let mut all: Vec<_> = network.chain(cluster).collect();
    all.sort();
    all.into_iter().map(|(_, name)| name).collect()
}

/// The policies that do not fit.
pub(super) fn refusals(world: &World, capacity: PolicyCapacity) -> Vec<PolicyRefusal> {
    let all = by_age(world);
    let everything = Touched { whole: true, ..Touched::default() };
    let mut refusals: Vec<PolicyRefusal> = Vec::new();
    let mut begin = 0;
    loop {
        // What is missing if only the first `number` policies count, without those that are refused already.
        let try_first = |number: usize| {
            let mut model = Model::default();
            let refused = refusals.iter().map(|refusal| refusal.policy.clone());
            model.refused = refused.chain(all.iter().skip(number).cloned()).collect::<BTreeSet<_>>();
            model.update(world, &everything, &BTreeSet::new());
            lacking(&model, capacity)
        };
        let Some(mut reason) = try_first(all.len()) else { return refusals };
        let (mut fits, mut fails) = (begin, all.len());
        while fits + 1 < fails {
            let middle = fits + (fails - fits) / 2;
            match try_first(middle) {
                Some(lack) => (fails, reason) = (middle, lack),
                None => fits = middle,
            }
        }
        let Some(policy) = fails.checked_sub(1).and_then(|at| all.get(at)) else { return refusals };
        let is_last = refusals.len() >= ONE_BY_ONE || fails <= begin;
        refusals.push(PolicyRefusal { policy: policy.clone(), reason: reason.clone() });
        begin = fails;
        if is_last {
            let rest = all.iter().skip(fails);
            refusals
                .extend(rest.map(|policy| PolicyRefusal { policy: policy.clone(), reason: reason.clone() }));
            return refusals;
        }
    }
}
