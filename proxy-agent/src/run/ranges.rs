//! Ranges of ClusterIPs from ServiceCIDR objects (item 53), beside those of the flags.

use std::collections::BTreeMap;

use ipnet::IpNet;
use proxy_common::{Address, Cidr};
use proxy_model::Changed;

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

    /// Puts the ranges of the family into the slots that are free.
    pub(super) fn add_to<A: Address>(&self, slots: &mut [Cidr<A>]) {
        self.of.values().flatten().for_each(|range| add_range(slots, range));
    }
}

/// Puts a range of the family into a free slot, if there is one and the range is not there yet.
fn add_range<A: Address>(slots: &mut [Cidr<A>], range: &IpNet) {
    let Some(addr) = A::from_ip(range.network()) else { return };
    let range = Cidr::new(addr, range.prefix_len());
    if slots.contains(&range) {
        return;
    }
    match slots.iter_mut().find(|slot| **slot == Cidr::unused()) {
        Some(slot) => *slot = range,
        None => tracing::warn!(
            ?range,
            "no room for another range of ClusterIPs; its unused addresses are not dropped"
        ),
    }
}
