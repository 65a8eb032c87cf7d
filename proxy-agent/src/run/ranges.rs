//! Ranges of ClusterIPs from ServiceCIDR objects (item 53), beside those of the flags.

use std::collections::BTreeMap;

use ipnet::IpNet;
use proxy_model::fact::Prefix;
use proxy_model::{Changed, NodeFacts, Planner, Served, Settings, World};

use crate::source::Key;

/// Says once that no ranges are told, if that is so: the rest of them belongs to others (items 1, 53).
pub(super) fn say(settings: &Settings) {
    if let Some(name) = &settings.service_proxy_name {
        tracing::info!(
            service_proxy_name = &**name,
            "other Services are other proxies': no address is dropped for being nobody's, whatever --service-cidr and ServiceCIDRs say"
        );
    }
}

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

    /// What the programs of one family must know about the node. What finds no room is left out: unused addresses of such a
    /// range are not dropped.
    pub(super) fn facts<F: Served>(&self, world: &World, planner: &Planner) -> NodeFacts<F::Addr> {
        let ranges = self.of.values().flatten();
        let ranges = ranges.map(|range| Prefix { addr: range.network(), len: range.prefix_len() });
        let (mut facts, added) = world.node_facts::<F>(&ranges.collect::<Vec<_>>());
        if let Err(error) = added {
            tracing::error!(%error, "ranges of pods or Services are left out");
        }
        // As long as a frontend with source ranges may be in the kernel, not only while one is wanted.
        facts.config.ranges |= u32::from(planner.usage::<F>().ranges > 0);
        facts
    }
}
