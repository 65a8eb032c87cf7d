//! What is known about policies and whom they are about, and what changed in it since it was planned last.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::change::{One, each, store};
use super::{Changed, World};
use crate::fact::{
    Change, ClusterPolicy, Kind, Name, Namespace, NetworkPolicy, Node, Object, ObjectKey, Pod,
};
use crate::sorted::Sorted;

/// Facts that only policies are made of, and which of all facts that they depend on were touched.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    network: Sorted<ObjectKey, NetworkPolicy>,
    cluster: Sorted<ObjectKey, ClusterPolicy>,
    devices: BTreeMap<IpAddr, u32>,
    touched: Touched,
}

/// What a plan of policies must look at again.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Touched {
    /// Everything: a kind was forgotten.
    pub(crate) whole: bool,
    pub(crate) pods: BTreeSet<ObjectKey>,
    pub(crate) namespaces: BTreeSet<Name>,
    /// Namespaces in which a NetworkPolicy changed.
    pub(crate) network: BTreeSet<Name>,
    /// Some ClusterNetworkPolicy, some node, or some device of a pod.
    pub(crate) others: Others,
}

/// Facts of which there are so few that all are looked at again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Others {
    pub(crate) cluster: bool,
    pub(crate) nodes: bool,
    pub(crate) devices: bool,
}

impl World {
    /// All NetworkPolicies.
    pub fn network_policies(&self) -> impl Iterator<Item = &NetworkPolicy> {
        self.guarded.network.values()
    }

    /// All ClusterNetworkPolicies in the order of their names.
    pub fn cluster_policies(&self) -> impl Iterator<Item = &ClusterPolicy> {
        self.guarded.cluster.values()
    }

    /// NetworkPolicies of a namespace in the order of their names.
    pub(crate) fn network_policies_in(&self, namespace: &Name) -> impl Iterator<Item = &NetworkPolicy> {
        within(&self.guarded.network, namespace)
    }

    /// Pods of a namespace in the order of their names.
    pub(crate) fn pods_in(&self, namespace: &Name) -> impl Iterator<Item = &Pod> {
        within(&self.pods, namespace)
    }

    /// One Pod.
    pub fn pod_at(&self, key: &ObjectKey) -> Option<&Pod> {
        self.pods.get(key)
    }

    /// One Node.
    pub fn node_at(&self, name: &Name) -> Option<&Node> {
        self.nodes.get(&ObjectKey::cluster_wide(name.clone()))
    }

    /// One Namespace.
    pub fn namespace_at(&self, name: &Name) -> Option<&Namespace> {
        self.namespaces.get(&ObjectKey::cluster_wide(name.clone()))
    }

    /// Which address is behind which device of this node.
    pub fn pod_devices(&self) -> &BTreeMap<IpAddr, u32> {
        &self.guarded.devices
    }

    /// There is a policy of either kind, so Pods and Namespaces matter.
    pub fn has_policies(&self) -> bool {
        !self.guarded.network.is_empty() || !self.guarded.cluster.is_empty()
    }

    /// Everything that a plan of policies needs has been listed once: the policies, and if there is one, whom they may
    /// be about.
    pub fn is_guarded(&self) -> bool {
        let all = |kinds: &[Kind]| kinds.iter().all(|kind| self.synced.contains(kind));
        all(&[Kind::NetworkPolicy, Kind::ClusterPolicy])
            && (!self.has_policies() || all(&[Kind::Pod, Kind::Namespace, Kind::Node]))
    }

    pub(crate) fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.guarded.touched)
    }

    pub(super) fn pod_change(&mut self, change: Change<Pod>) -> Changed {
        let keys = changed_keys(&mut self.pods, change);
        self.note(news(&keys), |touched| touched.pods.extend(keys))
    }

    pub(super) fn namespace_change(&mut self, change: Change<Namespace>) -> Changed {
        let keys = changed_keys(&mut self.namespaces, change);
        let names = keys.into_iter().map(|key| key.name).collect::<Vec<_>>();
        self.note(news(&names), |touched| touched.namespaces.extend(names))
    }

    pub(super) fn network_change(&mut self, change: Change<NetworkPolicy>) -> Changed {
        let keys = changed_keys(&mut self.guarded.network, change);
        let changed = if keys.is_empty() { Changed::No } else { Changed::Yes };
        let _ = self
            .note(Changed::Yes, |touched| touched.network.extend(keys.into_iter().map(|key| key.namespace)));
        changed
    }

    pub(super) fn cluster_change(&mut self, change: Change<ClusterPolicy>) -> Changed {
        let keys = changed_keys(&mut self.guarded.cluster, change);
        if keys.is_empty() {
            return Changed::No;
        }
        self.guarded.touched.others.cluster = true;
        Changed::Yes
    }

    pub(super) fn device_change(&mut self, devices: BTreeMap<IpAddr, u32>) -> Changed {
        let news = if self.guarded.devices == devices { Changed::No } else { Changed::Yes };
        self.guarded.devices = devices;
        self.note(news, |touched| touched.others.devices = true)
    }

    /// A node's addresses or labels may be in a policy's peers; its ranges say whose addresses are pods' here.
    pub(super) fn nodes_changed(&mut self) -> Changed {
        self.note(Changed::Yes, |touched| touched.others.nodes = true)
    }

    /// A kind is not watched any more.
    pub(super) fn lose(&mut self, kind: Kind) -> Changed {
        self.synced.remove(&kind);
        self.guarded.touched.whole = true;
        match kind {
            Kind::Pod => self.pods = Sorted::new(),
            Kind::Namespace => self.namespaces = Sorted::new(),
            Kind::NetworkPolicy => self.guarded.network = Sorted::new(),
            Kind::ClusterPolicy => self.guarded.cluster = Sorted::new(),
            // Services cannot be planned without them; what is known stays.
            Kind::Service | Kind::Slice | Kind::Node => {}
        }
        Changed::No
    }

    /// A change counts only while there is a policy; it is noted in any case.
    fn note(&mut self, news: Changed, touch: impl FnOnce(&mut Touched)) -> Changed {
        match news {
            Changed::No => return Changed::No,
            Changed::Yes => touch(&mut self.guarded.touched),
        }
        if self.has_policies() { Changed::Yes } else { Changed::No }
    }
}

/// Some have changed.
fn news<T>(changed: &[T]) -> Changed {
    if changed.is_empty() { Changed::No } else { Changed::Yes }
}

/// Objects of a namespace: they are neighbours.
fn within<'a, T>(objects: &'a Sorted<ObjectKey, T>, namespace: &Name) -> impl Iterator<Item = &'a T> {
    let (first, namespace) = (namespace.clone(), namespace.clone());
    objects
        .skip_while(move |key| key.namespace < first)
        .take_while(move |(key, _)| key.namespace == namespace)
        .map(|(_, object)| object)
}

/// Takes a change in, and names the objects that are others now.
fn changed_keys<T: Object>(known: &mut Sorted<ObjectKey, T>, change: Change<T>) -> Vec<ObjectKey> {
    let mut keys = Vec::new();
    for one in each(change, known) {
        let key = One::key(&one);
        if store(known, one) == Changed::Yes {
            keys.push(key);
        }
    }
    keys
}
