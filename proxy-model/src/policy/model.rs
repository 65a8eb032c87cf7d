//! What the maps should hold, kept true to the facts by looking only at what was touched.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proxy_common::policy::{PeerClass, Policed, RuleSetId};

use super::class::Class;
use super::compile::DIRECTIONS;
use super::digest::Register;
use super::maps::Maps;
use super::member::{Members, Questions};
use super::rules::RuleSet;
use super::subject::{Library, is_local, over, ranked};
use super::write::PolicyName;
use crate::fact::{Name, Object, ObjectKey, Pod, Prefix};
use crate::plan::Tick;
use crate::world::{Touched, World};

/// The rules over a local pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Bound {
    ingress: RuleSetId,
    egress: RuleSetId,
}

impl Bound {
    const CLOSED: Self = Self { ingress: RuleSetId::CLOSED, egress: RuleSetId::CLOSED };

    fn is_open(self) -> bool {
        self == Self { ingress: RuleSetId::OPEN, egress: RuleSetId::OPEN }
    }
}

/// The desired state.
#[derive(Debug, Default)]
pub(super) struct Model {
    library: Library,
    /// Pods of this node that are under a policy.
    bound: BTreeMap<ObjectKey, Bound>,
    /// Pods of this node that may be.
    locals: BTreeSet<ObjectKey>,
    members: Members,
    /// Rule sets that pods are bound to, and those that rest.
    pub(super) sets: Register<Arc<RuleSet>>,
    /// Classes that addresses are in, and those that rest.
    pub(super) classes: Register<Class>,
    /// Policies whose pods are closed.
    pub(super) refused: BTreeSet<PolicyName>,
    /// But for the pages.
    pub(super) maps: Maps,
    /// How many entries have a class.
    uses: BTreeMap<PeerClass, usize>,
    /// Addresses whose class may be another than at the last plan.
    pub(super) moved: BTreeSet<IpAddr>,
    /// Those of them that have another holder, or one with other labels: not only other questions are asked.
    pub(super) relabelled: BTreeSet<IpAddr>,
}

impl Model {
    /// Takes in what was touched; what these rule sets ask wants an answer, too.
    pub(super) fn update(&mut self, world: &World, touched: &Touched, known: &BTreeSet<RuleSetId>) {
        self.learn_pods(world, touched);
        if !touched.whole {
            self.relabelled.extend(&self.moved);
        }
        self.bind(world, touched);
        self.ask(world, touched, known);
        self.maps.policed = self.policed(world);
    }

    fn learn_pods(&mut self, world: &World, touched: &Touched) {
        let node = world.settings().node_name.clone();
        let mut keys = touched.pods.clone();
        if touched.whole {
            keys.extend(world.pods().map(Object::key));
            keys.extend(self.members.pods().cloned());
            keys.extend(self.locals.iter().cloned());
        }
        for key in keys {
            self.moved.extend(self.members.pod(world, &key));
            if world.pod_at(&key).is_some_and(|pod| is_local(pod, &node)) {
                self.locals.insert(key);
            } else {
                self.locals.remove(&key);
                self.bound.remove(&key);
            }
        }
        if touched.whole || touched.others.nodes {
            self.moved.extend(self.members.all_nodes(world));
        }
        let names: BTreeSet<Name> = if touched.whole {
            world.namespaces().map(|namespace| namespace.name.clone()).collect()
        } else {
            touched.namespaces.clone()
        };
        for name in names {
            self.moved.extend(self.members.namespace(world, &name));
        }
    }

    /// Finds the rule sets of the local pods that were touched, or whose policies or namespace were.
    fn bind(&mut self, world: &World, touched: &Touched) {
        let everything = touched.whole || touched.others.cluster;
        self.library.forget(|policy| match policy {
            PolicyName::Cluster(_) => everything,
            PolicyName::Network(key) => touched.whole || touched.network.contains(&key.namespace),
        });
        let is_touched = |key: &ObjectKey| {
            everything
                || touched.pods.contains(key)
                || touched.network.contains(&key.namespace)
                || touched.namespaces.contains(&key.namespace)
        };
        let ranked = ranked(world);
        let keys: Vec<_> = self.locals.iter().filter(|key| is_touched(key)).cloned().collect();
        for pod in keys.iter().filter_map(|key| world.pod_at(key)) {
            let over = over(world, &ranked, pod);
            let [ingress, egress] = DIRECTIONS.map(|direction| {
                let set = self.library.rule_set(&over, (direction, &pod.ports), &self.refused);
                set.map_or(RuleSetId::CLOSED, |set| self.register(set))
            });
            let bound = Bound { ingress, egress };
            if bound.is_open() {
                self.bound.remove(&pod.key);
            } else {
                self.bound.insert(pod.key.clone(), bound);
            }
        }
    }

    fn register(&mut self, set: RuleSet) -> RuleSetId {
        if set.is_open() {
            return RuleSetId::OPEN;
        }
        RuleSetId(self.sets.name(set.digest(), Arc::new(set)))
    }

    /// Rule sets that a pod is bound to.
    pub(super) fn live_sets(&self) -> BTreeSet<RuleSetId> {
        let all = self.bound.values().flat_map(|bound| [bound.ingress, bound.egress]);
        all.filter(|id| ![RuleSetId::OPEN, RuleSetId::CLOSED].contains(id)).collect()
    }

    /// Classes that an address or a prefix is in; the world always is.
    pub(super) fn live_classes(&self) -> BTreeSet<PeerClass> {
        self.uses.keys().copied().chain([PeerClass::WORLD]).collect()
    }

    fn is_used(&self, class: PeerClass) -> bool {
        class == PeerClass::WORLD || self.uses.contains_key(&class)
    }

    fn put_peer(&mut self, addr: IpAddr, class: Option<PeerClass>) {
        let before = match class {
            Some(class) => self.maps.peers.insert(addr, class),
            None => self.maps.peers.remove(&addr),
        };
        self.count(before, class);
    }

    fn put_blocks(&mut self, blocks: BTreeMap<Prefix, PeerClass>) {
        let before = std::mem::replace(&mut self.maps.blocks, blocks.clone());
        blocks.into_values().for_each(|class| self.count(None, Some(class)));
        before.into_values().for_each(|class| self.count(Some(class), None));
    }

    /// One entry less and one more of these classes.
    fn count(&mut self, before: Option<PeerClass>, after: Option<PeerClass>) {
        if let Some(class) = after {
            *self.uses.entry(class).or_default() += 1;
        }
        if let Some(class) = before
            && let Some(count) = self.uses.get_mut(&class)
        {
            *count -= 1;
            if *count == 0 {
                self.uses.remove(&class);
            }
        }
    }

    /// The content of a class.
    pub(super) fn class(&self, id: PeerClass) -> Option<Class> {
        if id == PeerClass::WORLD { Some(Class::default()) } else { self.classes.get(id.0).cloned() }
    }

    /// Finds the classes of all addresses whose answers may be others.
    fn ask(&mut self, world: &World, touched: &Touched, known: &BTreeSet<RuleSetId>) {
        let mut questions = Questions::default();
        let live = self.live_sets();
        for set in live.union(known).filter_map(|id| self.sets.get(id.0)) {
            questions.add(set, |id| self.library.peers.get(id.0).cloned());
        }
        if self.members.ask(questions) || touched.whole {
            self.moved.extend(self.members.addresses());
            self.moved.extend(self.maps.peers.keys());
            let networks = self.members.networks().iter();
            let classes: Vec<_> = networks
                .map(|(prefix, peers)| (prefix, Class { peers: peers.into(), ports: vec![] }))
                .collect();
            let blocks = classes.into_iter().map(|(prefix, class)| (prefix, self.register_class(class)));
            let blocks = blocks.collect();
            self.put_blocks(blocks);
        }
        let moved: Vec<_> = self.moved.iter().copied().collect();
        for addr in moved {
            let class = self.members.class(world, addr);
            let class = class.map(|class| self.register_class(class));
            self.put_peer(addr, class);
        }
    }

    fn register_class(&mut self, class: Class) -> PeerClass {
        if class.is_world() {
            return PeerClass::WORLD;
        }
        PeerClass(self.classes.name(class.digest(), class))
    }

    /// Who is judged, by address.
    fn policed(&self, world: &World) -> BTreeMap<IpAddr, Policed> {
        let device = |addr: &IpAddr| world.pod_devices().get(addr).copied().unwrap_or_default();
        let value = |addr: &IpAddr, bound: Bound| Policed {
            egress: bound.egress,
            ingress: bound.ingress,
            device: device(addr),
            pad: 0,
        };
        let mut policed = BTreeMap::new();
        let mut is_awaited = false;
        for (key, bound) in &self.bound {
            let Some(pod) = world.pod_at(key) else { continue };
            is_awaited |= pod.ips.is_empty();
            // Item 44: an address that another pod has is not this one's.
            let own = pod.ips.iter().filter(|addr| self.members.holder(world, **addr).is_some_and(is(key)));
            policed.extend(own.map(|addr| (*addr, value(addr, *bound))));
        }
        if is_awaited {
            let ranges = world.own_node().map_or(&[][..], |node| &node.pod_cidrs);
            let strangers = world.pod_devices().keys().filter(|addr| {
                ranges.iter().any(|range| range.contains(**addr))
                    && self.members.holder(world, **addr).is_none()
            });
            policed.extend(strangers.map(|addr| (*addr, value(addr, Bound::CLOSED))));
        }
        policed
    }

    /// Forgets the contents of what neither lives nor rests.
    pub(super) fn forget(&mut self, sets: &BTreeMap<RuleSetId, Tick>, classes: &BTreeMap<PeerClass, Tick>) {
        let live_sets = self.live_sets();
        self.sets.retain(|id| live_sets.contains(&RuleSetId(id)) || sets.contains_key(&RuleSetId(id)));
        let unused: BTreeSet<_> =
            self.classes.iter().map(|(id, _)| id).filter(|id| !self.is_used(PeerClass(*id))).collect();
        self.classes.retain(|id| !unused.contains(&id) || classes.contains_key(&PeerClass(id)));
        let used = self.sets.iter().flat_map(|(_, set)| &set.policies).cloned().collect();
        self.library.retain(&used);
        let asked = self.members.questions().ids().chain(self.library.ids()).map(|id| id.0);
        let asked: BTreeSet<_> = asked.collect();
        self.library.peers.retain(|id| asked.contains(&id));
    }
}

fn is<'a>(key: &'a ObjectKey) -> impl Fn(&Pod) -> bool + 'a {
    move |pod| pod.key == *key
}
