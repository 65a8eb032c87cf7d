//! What the kernel programs must know about the node in one family: its entry, and the ranges that the entry has no
//! room for.

use std::collections::BTreeSet;

use proxy_common::{Address, Cidr, NetKind, NodeConfig, NodeFlags, PrefixKey, limits};

use crate::fact::Prefix;
use crate::family::Served;
use crate::rule::Detector;
use crate::settings::{DetectLocal, Serving};
use crate::world::{Changed, World};

mod around;

/// The node's entry and what belongs to it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeFacts<A: Address> {
    /// Content of the `node` map.
    pub config: NodeConfig<A>,
    /// Content of the `nets` map.
    pub nets: BTreeSet<PrefixKey<A>>,
    /// Content of the `nodes` map.
    pub nodes: BTreeSet<A>,
}

/// There is no room for another range.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the {} ranges beside the first {} of each kind are taken", limits::NETS, limits::CIDRS)]
pub struct NoRoom;

impl<A: Address> NodeFacts<A> {
    /// Adds a range, if it is of this family and not there yet: into the entry, and beside it once that is full.
    ///
    /// # Errors
    /// [`NoRoom`]; everything else stays as it is.
    pub fn add(&mut self, kind: NetKind, range: Prefix) -> Result<(), NoRoom> {
        let Some(addr) = A::from_ip(range.addr) else { return Ok(()) };
        let (slots, more) = match kind {
            NetKind::PODS => (&mut self.config.cluster_cidrs, NodeFlags::MORE_PODS),
            _ => (&mut self.config.service_cidrs, NodeFlags::MORE_SERVICES),
        };
        let cidr = Cidr::new(addr, range.len);
        if slots.contains(&cidr) {
            return Ok(());
        }
        if let Some(free) = slots.iter_mut().find(|slot| **slot == Cidr::unused()) {
            *free = cidr;
            return Ok(());
        }
        let key = PrefixKey::new(kind.0, cidr.net, range.len);
        if self.nets.len() >= limits::NETS as usize && !self.nets.contains(&key) {
            return Err(NoRoom);
        }
        self.nets.insert(key);
        self.config.flags = self.config.flags.with(more);
        Ok(())
    }
}

impl World {
    /// The ranges of pods that the detector goes by.
    pub(crate) fn pod_ranges(&self) -> &[Prefix] {
        match self.settings().detector {
            DetectLocal::ClusterCidr => &self.settings().cluster_cidrs,
            DetectLocal::NodeCidr => self.own_node().map_or(&[], |node| &node.pod_cidrs),
            DetectLocal::Devices => &[],
        }
    }

    /// Whether pods can be told from other clients in this family (item 62).
    pub(crate) fn detector<F: Served>(&self) -> Detector {
        let is_told = self.settings().detector == DetectLocal::Devices
            || self.pod_ranges().iter().any(|range| F::Addr::from_ip(range.addr).is_some());
        if is_told { Detector::Present } else { Detector::Absent }
    }

    /// The addresses that tunnels are taken from: of all nodes, as they stand in their status.
    fn tunnel_sources<F: Served>(&self) -> BTreeSet<F::Addr> {
        match self.settings().direct_return {
            Serving::Off => BTreeSet::new(),
            Serving::On => {
                let addresses = self.nodes().flat_map(|node| &node.addresses);
                addresses.filter_map(|ip| F::Addr::from_ip(*ip)).collect()
            }
        }
    }

    /// Whether another node counts here.
    pub(crate) fn tunnels_changed(&self) -> Changed {
        match self.settings().direct_return {
            Serving::Off => Changed::No,
            Serving::On => Changed::Yes,
        }
    }

    /// What the kernel programs must know about the node. `more` are ranges of ClusterIPs beside those of the settings.
    ///
    /// # Errors
    /// [`NoRoom`] for the ranges that had none, which are left out.
    pub fn node_facts<F: Served>(&self, more: &[Prefix]) -> (NodeFacts<F::Addr>, Result<(), NoRoom>) {
        let mut facts = NodeFacts::default();
        facts.config.address = self.primary_address::<F>().unwrap_or_default();
        facts.config.ranges = u32::from(self.has_ranges());
        facts.nodes = self.tunnel_sources::<F>();
        if self.settings().detector == DetectLocal::Devices {
            facts.config.flags = NodeFlags::PODS_BY_DEVICE;
        }
        let mut added = Ok(());
        for range in self.pod_ranges() {
            // The first that has no room is told; those behind it may still have some.
            added = added.and(facts.add(NetKind::PODS, *range));
        }
        let room = limits::CIDRS + limits::NETS as usize - facts.nets.len();
        for (net, len) in self.dropping::<F>(more, room) {
            added = added.and(facts.add(NetKind::SERVICES, Prefix { addr: net.to_ip(), len }));
        }
        (facts, added)
    }

    /// Ranges in which an address that is no Service of ours drops (item 53): never one where another proxy serves (item 1).
    fn dropping<F: Served>(&self, more: &[Prefix], room: usize) -> Vec<(F::Addr, u8)> {
        let mut ranges = Vec::new();
        for Prefix { addr, len } in self.service_ranges(more) {
            let range = F::Addr::from_ip(addr).map(|addr| (addr.and(F::Addr::prefix_mask(len)), len));
            ranges.extend(range.filter(|range| !ranges.contains(range)));
        }
        around::around(&ranges, &self.others_addresses::<F>(), room)
    }
}

#[cfg(test)]
mod tests {
    use proxy_common::{Addr4, Addr6};

    use super::*;

    fn range(third: u8) -> Prefix {
        Prefix { addr: [10, 244, third, 0].into(), len: 24 }
    }

    #[test]
    fn the_fifth_range_of_a_kind_lies_beside_the_entry() {
        let mut facts = NodeFacts::<Addr4>::default();
        for third in [0, 1, 2, 3, 4, 4, 0] {
            facts.add(NetKind::PODS, range(third)).unwrap();
        }
        facts.add(NetKind::SERVICES, range(9)).unwrap();
        let fifth = PrefixKey::new(NetKind::PODS.0, Addr4::from_ip(range(4).addr).unwrap(), 24);
        assert_eq!(facts.nets, BTreeSet::from([fifth]));
        assert_eq!(facts.config.flags, NodeFlags::MORE_PODS);
        let nets = |facts: &NodeFacts<Addr4>| facts.config.cluster_cidrs.map(|cidr| cidr.net.to_ip());
        assert_eq!(nets(&facts), [0, 1, 2, 3].map(|third| range(third).addr));
    }

    #[test]
    fn the_other_family_and_what_exceeds_every_bound_is_not_taken() {
        let mut six = NodeFacts::<Addr6>::default();
        six.add(NetKind::PODS, range(0)).unwrap();
        assert_eq!(six, NodeFacts::default());
        let mut four = NodeFacts::<Addr4>::default();
        let number = u32::try_from(limits::CIDRS).unwrap() + limits::NETS;
        let nth = |n: u32| Prefix { addr: std::net::Ipv4Addr::from(n << 8).into(), len: 24 };
        for n in 0..number {
            four.add(NetKind::SERVICES, nth(n)).unwrap();
        }
        let full = four.clone();
        assert_eq!(four.add(NetKind::SERVICES, nth(number)), Err(NoRoom));
        assert_eq!(four, full);
        four.add(NetKind::SERVICES, nth(7)).unwrap();
    }
}
