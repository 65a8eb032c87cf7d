//! The cluster as it is known now, and which Services must be planned again.
//!
//! Events in, "may a plan differ" out. Objects may refer to objects that are not there yet. Knows nothing of
//! maps; the planner takes the set of changed Services from here.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proxy_common::Address;

use crate::fact::{
    EndpointSlice, Event, Kind, Label, Name, Namespace, Node, Object, ObjectKey, Pod, Prefix, Service,
};
use crate::family::Served;
use crate::settings::{NodePortAddresses, Settings};
use crate::sorted::Sorted;
use change::{One, each, owner, store};
use guarded::Guarded;
use names::Names;

mod change;
mod guarded;
mod names;
mod others;

pub(crate) use guarded::Touched;

/// Whether a plan made now may differ from one made before.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use = "a change that nobody plans never reaches the kernel"]
pub enum Changed {
    /// Nothing that a plan depends on.
    No,
    /// Plan again.
    Yes,
}

impl Changed {
    /// Yes if either is.
    pub const fn or(self, other: Self) -> Self {
        match self {
            Self::Yes => Self::Yes,
            Self::No => other,
        }
    }
}

/// Services that must be planned again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Dirty {
    /// Every one, and whatever the kernel holds besides.
    All,
    /// These.
    Some(BTreeSet<ObjectKey>),
}

/// All facts.
#[derive(Debug)]
pub struct World {
    settings: Settings,
    services: Sorted<ObjectKey, Service>,
    slices: Sorted<ObjectKey, EndpointSlice>,
    /// Each Service with the name of one of its slices, whatever came first.
    slices_of: Sorted<(ObjectKey, Name), ()>,
    names: Names,
    nodes: Sorted<ObjectKey, Node>,
    pods: Sorted<ObjectKey, Pod>,
    namespaces: Sorted<ObjectKey, Namespace>,
    guarded: Guarded,
    local_addresses: Vec<IpAddr>,
    /// Services with source ranges.
    ranged: BTreeSet<ObjectKey>,
    /// Services of other proxies, reduced to their addresses.
    others: BTreeSet<ObjectKey>,
    synced: BTreeSet<Kind>,
    dirty: Dirty,
}

impl World {
    /// An empty world; nothing is synced.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            services: Sorted::new(),
            slices: Sorted::new(),
            slices_of: Sorted::new(),
            names: Names::default(),
            nodes: Sorted::new(),
            pods: Sorted::new(),
            namespaces: Sorted::new(),
            guarded: Guarded::default(),
            local_addresses: Vec::new(),
            ranged: BTreeSet::new(),
            others: BTreeSet::new(),
            synced: BTreeSet::new(),
            dirty: Dirty::All,
        }
    }

    /// Takes in one event.
    pub fn apply(&mut self, event: Event) -> Changed {
        match event {
            Event::Service(change) => {
                each(change, &self.services).into_iter().fold(Changed::No, |c, one| c.or(self.service(one)))
            }
            Event::Slice(change) => {
                each(change, &self.slices).into_iter().fold(Changed::No, |c, one| c.or(self.slice(one)))
            }
            Event::Node(change) => {
                each(change, &self.nodes).into_iter().fold(Changed::No, |c, one| c.or(self.node_change(one)))
            }
            Event::Pod(change) => self.pod_change(change),
            Event::Namespace(change) => self.namespace_change(change),
            Event::NetworkPolicy(change) => self.network_change(change),
            Event::ClusterPolicy(change) => self.cluster_change(change),
            Event::PodDevices(devices) => self.device_change(devices),
            Event::Lost(kind) => self.lose(kind),
            Event::LocalAddresses(addresses) => self.node_ports_moved_by(|world| {
                world.local_addresses = addresses;
                Changed::No
            }),
            Event::Synced(kind) => {
                let before = (self.is_synced(), self.is_guarded());
                self.synced.insert(kind);
                let after = (self.is_synced(), self.is_guarded());
                if before == after { Changed::No } else { Changed::Yes }
            }
        }
    }

    /// Everything that a plan needs has been listed once (item 112).
    pub fn is_synced(&self) -> bool {
        [Kind::Service, Kind::Slice, Kind::Node].iter().all(|kind| self.synced.contains(kind))
    }

    /// What the operator configured.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All Services, also those that are not ours to serve; of those of other proxies only where they are.
    pub fn services(&self) -> impl Iterator<Item = &Service> {
        self.services.values()
    }

    /// The Services that come after one in the order of their keys, or all.
    pub fn services_after(&self, key: Option<&ObjectKey>) -> impl Iterator<Item = &Service> {
        let later = self.services.skip_while(move |known| key.is_some_and(|key| known <= key));
        later.map(|(_, service)| service)
    }

    /// One Service.
    pub fn service_at(&self, key: &ObjectKey) -> Option<&Service> {
        self.services.get(key)
    }

    /// The slices of a Service in the order of their names, without those labelled headless (item 2).
    pub fn slices_at(&self, service: &ObjectKey) -> impl Iterator<Item = &EndpointSlice> {
        self.slices_of
            .skip_while(|(owner, _)| owner < service)
            .map(|(pair, ())| pair)
            .take_while(move |(owner, _)| owner == service)
            .filter_map(|(owner, name)| {
                self.slices.get(&ObjectKey { namespace: owner.namespace.clone(), name: name.clone() })
            })
            .filter(|slice| slice.headless_label == Label::Absent)
    }

    /// This node's Node object, once it is known.
    pub fn own_node(&self) -> Option<&Node> {
        self.nodes.get(&ObjectKey::cluster_wide(self.settings.node_name.clone()))
    }

    /// All Nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// All Pods.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// All Namespaces.
    pub fn namespaces(&self) -> impl Iterator<Item = &Namespace> {
        self.namespaces.values()
    }

    /// The node's primary address of a family: the one that the operator gave, else the first in its status, else the
    /// first of its interfaces that more than one link can reach.
    pub fn primary_address<F: Served>(&self) -> Option<F::Addr> {
        let of_status = self.own_node().into_iter().flat_map(|node| node.addresses.iter());
        let of_interfaces = self.usable_local().filter(|ip| match ip {
            IpAddr::V4(ip) => !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_unicast_link_local(),
        });
        self.settings
            .primary_address
            .iter()
            .chain(of_status)
            .chain(of_interfaces)
            .find_map(|ip| F::Addr::from_ip(*ip))
    }

    /// The addresses whose node ports are served, in numeric order (items 64–67).
    pub fn node_port_addresses<F: Served>(&self) -> Vec<F::Addr> {
        let mut accepted: Vec<F::Addr> = match &self.settings.node_port_addresses {
            NodePortAddresses::Primary => self.primary_address::<F>().into_iter().collect(),
            NodePortAddresses::Within(ranges) => {
                let ranges: Vec<&Prefix> =
                    ranges.iter().filter(|range| F::Addr::from_ip(range.addr).is_some()).collect();
                let accepts =
                    |ip: &&IpAddr| ranges.is_empty() || ranges.iter().any(|range| range.contains(**ip));
                self.usable_local().filter(accepts).filter_map(|ip| F::Addr::from_ip(*ip)).collect()
            }
        };
        accepted.sort_unstable();
        accepted.dedup();
        accepted
    }

    /// Some Service has source ranges.
    pub(crate) fn has_ranges(&self) -> bool {
        !self.ranged.is_empty()
    }

    pub(crate) fn take_dirty(&mut self) -> Dirty {
        std::mem::replace(&mut self.dirty, Dirty::Some(BTreeSet::new()))
    }

    fn usable_local(&self) -> impl Iterator<Item = &IpAddr> {
        self.local_addresses
            .iter()
            .filter(|ip| !ip.is_loopback() && !ip.is_unspecified() && !ip.is_multicast())
    }

    fn touch(&mut self, service: ObjectKey) {
        match &mut self.dirty {
            Dirty::All => {}
            Dirty::Some(keys) => {
                keys.insert(service);
            }
        }
    }

    fn service(&mut self, mut change: One<Service>) -> Changed {
        if let One::Put(service) = &mut change {
            others::reduce(service, &self.settings);
            self.names.of_service(service);
        }
        let key = change.key();
        let changed = store(&mut self.services, change);
        if changed == Changed::Yes {
            let service = self.services.get(&key);
            let is_ranged = service.is_some_and(|service| !service.source_ranges.is_empty());
            let is_others = service.is_some_and(|service| !self.is_ours(service));
            for (group, belongs) in [(&mut self.ranged, is_ranged), (&mut self.others, is_others)] {
                match belongs {
                    true => group.insert(key.clone()),
                    false => group.remove(&key),
                };
            }
            self.touch(key);
        }
        changed
    }

    fn slice(&mut self, mut change: One<EndpointSlice>) -> Changed {
        if let One::Put(slice) = &mut change {
            self.names.of_slice(slice);
            let owner = owner(slice).and_then(|owner| self.services.get(&owner));
            slice.service = owner.map_or(slice.service.take(), |owner| Some(owner.key.name.clone()));
        }
        let key = change.key();
        let before = self.slices.get(&key).and_then(owner);
        let changed = store(&mut self.slices, change);
        if changed == Changed::No {
            return changed;
        }
        let after = self.slices.get(&key).and_then(owner);
        if before != after {
            if let Some(old) = &before {
                self.slices_of.remove(&(old.clone(), key.name.clone()));
            }
            if let Some(new) = &after {
                self.slices_of.insert((new.clone(), key.name), ());
            }
        }
        // Without an owner on either side the slice is of nobody, and no plan differs (item 10).
        let owners: BTreeSet<_> = before.into_iter().chain(after).collect();
        let changed = if owners.is_empty() { Changed::No } else { Changed::Yes };
        for owner in owners {
            self.touch(owner);
        }
        changed
    }

    fn node_change(&mut self, change: One<Node>) -> Changed {
        if change.key().name != self.settings.node_name {
            // Of Services, other nodes decide nothing: zones and node names stand in the slices.
            return match store(&mut self.nodes, change) {
                Changed::Yes => self.nodes_changed().or(self.tunnels_changed()),
                Changed::No => Changed::No,
            };
        }
        let zone = self.own_node().and_then(|node| node.zone.clone());
        let told = |world: &Self| {
            (
                world.pod_ranges().to_vec(),
                world.detector::<proxy_common::V4>(),
                world.detector::<proxy_common::V6>(),
            )
        };
        let before = told(self);
        let changed = self.node_ports_moved_by(|world| {
            let guarded = match store(&mut world.nodes, change) {
                Changed::Yes => world.nodes_changed(),
                Changed::No => Changed::No,
            };
            if world.own_node().and_then(|node| node.zone.clone()) == zone {
                return guarded;
            }
            // Item 44: the zone counts wherever a slice has hints.
            let hinted = |slice: &&EndpointSlice| slice.endpoints.iter().any(|e| !e.hint_zones.is_empty());
            let services: Vec<_> = world.slices.values().filter(hinted).filter_map(owner).collect();
            let changed = if services.is_empty() { guarded } else { Changed::Yes };
            services.into_iter().for_each(|service| world.touch(service));
            changed
        });
        let after = told(self);
        if (before.1, before.2) != (after.1, after.2) {
            // The rules of every Service depend on whether there is a detector.
            self.dirty = Dirty::All;
        }
        // The ranges themselves are in the node's entry only.
        if before == after { changed } else { Changed::Yes }
    }

    /// Runs a change of the node. If it moved the node's addresses, plans the Services with node ports again, and
    /// those with source ranges, which depend on whether they hold the node's own (item 82).
    fn node_ports_moved_by(&mut self, change: impl FnOnce(&mut Self) -> Changed) -> Changed {
        let addresses = |world: &Self| {
            (
                world.node_port_addresses::<proxy_common::V4>(),
                world.node_port_addresses::<proxy_common::V6>(),
                world.primary_address::<proxy_common::V4>(),
                world.primary_address::<proxy_common::V6>(),
            )
        };
        let before = addresses(self);
        let changed = change(self);
        if addresses(self) == before {
            return changed;
        }
        let with_node_port = |service: &&Service| service.ports.iter().any(|port| port.node_port.is_some());
        let with_node_port = self.services.values().filter(with_node_port).map(Object::key);
        let keys: BTreeSet<_> = with_node_port.chain(self.ranged.iter().cloned()).collect();
        keys.into_iter().for_each(|key| self.touch(key));
        // The node's entry in the kernel may differ even if no Service does.
        Changed::Yes
    }
}
