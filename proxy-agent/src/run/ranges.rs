//! Ranges of ClusterIPs from ServiceCIDR objects (item 53), beside those of the flags.

use std::collections::BTreeMap;

use ipnet::IpNet;
use proxy_common::{Address, NetKind};
use proxy_model::fact::Prefix;
use proxy_model::{Changed, NodeFacts, Planner, Served, World};

use crate::source::Key;

/// What every ServiceCIDR says.
#[derive(Debug, Default)]
pub(super) struct ServiceRanges {
    of: BTreeMap<Key, Vec<IpNet>>,
}

impl ServiceRanges {
    /// Takes in what an object says now; nothing when it is gone.
    pub(super) fn learn(&mut self, object: Key, ranges: Vec<IpNet>) -> Changed {
        let before = self.of.remove(&object).unwrap_or_default();
        let changed = if before == ranges { Changed::No } else { Changed::Yes };
        if !ranges.is_empty() {
            self.of.insert(object, ranges);
        }
        changed
    }

    /// What the programs of one family must know about the node.
    pub(super) fn facts<F: Served>(&self, world: &World, planner: &Planner) -> NodeFacts<F::Addr> {
        let (mut facts, added) = world.node_facts::<F>();
        if let Err(error) = added {
            tracing::error!(%error, "ranges of pods or Services are left out");
        }
        self.add_to(&mut facts);
        // As long as a frontend with source ranges may be in the kernel, not only while one is wanted.
        facts.config.ranges |= u32::from(planner.usage::<F>().ranges > 0);
        facts
    }

    /// Adds the ranges of the family to what the programs are told. What finds no room is named and left out: unused
    /// addresses of such a range are not dropped.
    fn add_to<A: Address>(&self, facts: &mut NodeFacts<A>) {
        for (object, range) in self.of.iter().flat_map(|(key, ranges)| ranges.iter().map(move |r| (key, r))) {
            let prefix = Prefix { addr: range.network(), len: range.prefix_len() };
            if let Err(error) = facts.add(NetKind::SERVICES, prefix) {
                tracing::error!(%error, object = &*object.name, %range, "a range of a ServiceCIDR is left out");
            }
        }
    }
}
