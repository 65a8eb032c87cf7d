//! Keeps the programs on the right devices, and tells them which devices and addresses are the node's. Compares
//! what should be with what is, so that it does not matter what was missed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use proxy_common::{Address, Cidr, DeviceKind, NodeConfig, limits::CIDRS};
use proxy_model::NodeFacts;

use super::{
    clsact,
    error::Error,
    family::{IN_RANGE, MapFamily, Maps},
    filters::Filters,
    hook::{Anchor, Hook, Side},
    links,
    load::Programs,
    map::Table,
    pins::{Pinned, PinnedLink, Target},
    settings::PodDevices,
    sources,
    sys::{LinkFacts, Place},
    topology::{IfIndex, Role, Topology},
};

/// By what programs hang on devices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fastening {
    /// Links (tcx).
    Links,
    /// Filters of the clsact qdisc.
    Filters,
}

impl Fastening {
    /// What this kernel has.
    #[must_use]
    pub fn of_kernel() -> Self {
        if clsact::needed() { Self::Filters } else { Self::Links }
    }
}

/// What is attached where.
#[derive(Debug)]
pub struct Devices {
    fastening: Fastening,
    /// Devices may have filters of ours that nobody here has put there: an earlier run, for which they were something else.
    is_swept: bool,
    attached: BTreeSet<(Hook, IfIndex)>,
    /// What each device is, without [`DeviceKind::POLICED`].
    kinds: BTreeMap<u32, DeviceKind>,
    /// Devices of pods under a policy; none until somebody says: then what is there stays.
    guarded: Option<BTreeSet<u32>>,
}

impl Devices {
    /// Nothing is attached yet.
    #[must_use]
    pub fn fastened(fastening: Fastening) -> Self {
        let (attached, kinds) = (BTreeSet::new(), BTreeMap::new());
        Self { fastening, is_swept: false, attached, kinds, guarded: None }
    }

    /// Attaches to the devices with a role, detaches from all others, writes the `devices` map. Gives what failed.
    pub fn follow(
        &mut self,
        roles: &BTreeMap<IfIndex, Role>,
        topology: &Topology,
        pods: &PodDevices,
        maps: &Pinned,
        programs: &mut Programs,
    ) -> Vec<Error> {
        let wanted: BTreeSet<_> = roles
            .iter()
            .flat_map(|(index, role)| Hook::of_device(*role).map(|(hook, _)| (hook, *index)))
            .filter(|(hook, _)| programs.hooks().any(|needed| needed == *hook))
            .collect();
        // Before any of them goes, and once all are there.
        self.write_hooked(|one| wanted.contains(one) && self.is_there(*one, maps), maps);
        let mut errors = Vec::new();
        // A program that may put packets into a device must find it known; one that is known must be served.
        let kind = |index: IfIndex, role| match topology.is_pods(index, pods) {
            true => kind(role).with(DeviceKind::PODS_ONLY),
            false => kind(role),
        };
        self.kinds = roles.iter().map(|(index, role)| (index.0, kind(*index, *role))).collect();
        errors.extend(self.write_kinds(maps).err());
        for (hook, index) in &wanted {
            if self.attached.contains(&(*hook, *index)) && self.is_there((*hook, *index), maps) {
                continue;
            }
            let name = topology.devices.get(index).map_or("", |device| device.name.as_str());
            match attach(self.fastening, *hook, (*index, name), maps, programs) {
                Ok(()) => {
                    tracing::debug!(%hook, device = name, "attached");
                    self.attached.insert((*hook, *index));
                }
                // It went away again; the next snapshot says so.
                Err(Error::Attach { source, .. }) if source.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => errors.push(error),
            }
        }
        errors.extend(self.detach_others(&wanted, topology, maps).err());
        self.write_hooked(|_| true, maps);
        errors
    }

    /// Tells the programs by which devices no packet comes in unseen, of those that are attached.
    fn write_hooked(&self, is_there: impl Fn(&(Hook, IfIndex)) -> bool, maps: &Pinned) {
        let sees = |(hook, _): &&(Hook, IfIndex)| matches!(hook, Hook::FromPod | Hook::FromWire);
        let there = self.attached.iter().filter(sees).filter(|one| is_there(one));
        maps.hooked.set(there.map(|(_, index)| index.0));
    }

    /// Forgets what is not attached any more, or has somebody else's program; [`Devices::follow`] makes it anew. Gives how many.
    ///
    /// # Errors
    /// [`Error::Netlink`] when filters cannot be listed; then nothing is forgotten.
    pub fn doubt(&mut self, maps: &Pinned, programs: &Programs) -> Result<usize, Error> {
        let ours: BTreeSet<_> = match self.fastening {
            Fastening::Links => {
                let is_ours = |(hook, index): &(Hook, IfIndex)| {
                    let facts = facts(*hook, *index, maps);
                    facts.is_some_and(|facts| {
                        facts.ifindex == index.0 && Some(facts.program) == programs.id(*hook)
                    })
                };
                self.attached.iter().copied().filter(is_ours).collect()
            }
            Fastening::Filters => {
                self.is_swept = false;
                let found = found(self.attached.iter().map(|(_, index)| *index))?;
                let is_ours =
                    |((hook, _), program): &((Hook, IfIndex), Option<u32>)| *program == programs.id(*hook);
                found.into_iter().filter(is_ours).map(|(one, _)| one).collect()
            }
        };
        let before = self.attached.len();
        self.attached.retain(|one| ours.contains(one));
        self.write_hooked(|_| true, maps);
        Ok(before - self.attached.len())
    }

    /// A link still hangs on its device: one that went away and came back under the same number took it along. Of a filter that
    /// is asked by [`Devices::doubt`] only; the number of its device is not used again in practice.
    fn is_there(&self, (hook, index): (Hook, IfIndex), maps: &Pinned) -> bool {
        match self.fastening {
            Fastening::Links => is_alive(hook, index, maps),
            Fastening::Filters => true,
        }
    }

    /// These are the devices of pods under a policy.
    pub fn guard(&mut self, devices: &BTreeSet<u32>, maps: &Pinned) -> Result<(), Error> {
        if self.guarded.as_ref() == Some(devices) {
            return Ok(());
        }
        self.guarded = Some(devices.clone());
        let written = self.write_kinds(maps);
        if written.is_err() {
            self.guarded = None;
        }
        written
    }

    fn write_kinds(&self, maps: &Pinned) -> Result<(), Error> {
        let failed = |source| Error::Map { verb: "read", map: "devices", source };
        let guarded: BTreeSet<u32> = match &self.guarded {
            Some(guarded) => guarded.clone(),
            None => {
                let found = maps.devices.entries().map_err(failed)?.into_iter();
                found.filter(|(_, kind)| kind.has(DeviceKind::POLICED)).map(|(index, _)| index).collect()
            }
        };
        let kind = |(index, kind): (&u32, &DeviceKind)| match guarded.contains(index) {
            true if kind.role() == DeviceKind::POD => (*index, kind.with(DeviceKind::POLICED)),
            true | false => (*index, *kind),
        };
        let written = sync(&maps.devices, "devices", &self.kinds.iter().map(kind).collect());
        // What a pod may send with depends on it.
        maps.policy.note_write();
        written
    }

    /// Lets the programs of all other devices go, and those of another role.
    fn detach_others(
        &mut self,
        wanted: &BTreeSet<(Hook, IfIndex)>,
        topology: &Topology,
        maps: &Pinned,
    ) -> Result<(), Error> {
        if self.fastening == Fastening::Filters {
            let mut there = self.attached.clone();
            if !self.is_swept {
                there.extend(found(topology.devices.keys().copied())?.into_keys());
            }
            for (hook, index) in there.difference(wanted) {
                if let Some(device) = topology.devices.get(index) {
                    clsact::detach(*hook, &device.name);
                }
            }
            self.is_swept = true;
        }
        for link in maps.pins.links()? {
            let PinnedLink { hook, target, path: _ } = &link;
            // Those in drivers are the business of `drivers`.
            if let Target::Device(index) = target
                && hook.anchor() != Anchor::Driver
                && !wanted.contains(&(*hook, *index))
            {
                links::detach(&link)?;
            }
        }
        self.attached.retain(|one| wanted.contains(one));
        Ok(())
    }
}

fn attach(
    fastening: Fastening,
    hook: Hook,
    (index, name): (IfIndex, &str),
    maps: &Pinned,
    programs: &mut Programs,
) -> Result<(), Error> {
    match fastening {
        Fastening::Filters => clsact::attach(hook, name, programs),
        Fastening::Links => {
            links::attach(&maps.pins, programs, hook, Target::Device(index), index.0, Place::First).map(drop)
        }
    }
}

/// The filters of ours on these devices, and the program of each.
fn found(devices: impl Iterator<Item = IfIndex>) -> Result<BTreeMap<(Hook, IfIndex), Option<u32>>, Error> {
    let list = || -> io::Result<_> {
        let mut filters = Filters::open()?;
        let mut found = BTreeMap::new();
        for index in devices.collect::<BTreeSet<_>>() {
            for side in [Side::Ingress, Side::Egress] {
                found.extend(filters.at(index, side)?.map(|filter| ((filter.hook, index), filter.program)));
            }
        }
        Ok(found)
    };
    list().map_err(|source| Error::Netlink { verb: "list filters", source })
}

/// What the kernel says of a link.
fn facts(hook: Hook, index: IfIndex, maps: &Pinned) -> Option<LinkFacts> {
    let target = Target::Device(index);
    super::pins::link_facts(&PinnedLink { hook, target, path: maps.pins.link(hook, target) }).ok()
}

/// The link still hangs on a device.
pub(super) fn is_alive(hook: Hook, index: IfIndex, maps: &Pinned) -> bool {
    facts(hook, index, maps).is_some_and(|facts| facts.ifindex == index.0)
}

const fn kind(role: Role) -> DeviceKind {
    match role {
        Role::Pod => DeviceKind::POD,
        Role::Uplink => DeviceKind::UPLINK,
        Role::Bridge => DeviceKind::BRIDGE,
    }
}

/// Writes the node's addresses of one family into its map. Gives what failed.
pub fn local_addresses<F: MapFamily>(maps: &Maps<F>, topology: &Topology) -> Option<Error> {
    let here = topology.addresses.keys().filter(|(ip, _)| !ip.is_loopback());
    let wanted: BTreeMap<F::Addr, u32> =
        here.filter_map(|(ip, IfIndex(index))| Some((F::Addr::from_ip(*ip)?, *index))).collect();
    // A family that is not served has room for one entry, and no program that would read it.
    if maps.local_addrs.raw().max_entries() <= 1 {
        return None;
    }
    sync(&maps.local_addrs, F::NAMES.local_addrs, &wanted).err()
}

/// Writes which addresses masqueraded packets of one family come from. Gives what failed.
pub fn sources<F: MapFamily>(
    maps: &Maps<F>,
    roles: &BTreeMap<IfIndex, Role>,
    topology: &Topology,
) -> Option<Error> {
    if maps.sources.raw().max_entries() <= 1 {
        return None;
    }
    let wanted = sources::of::<F::Addr>(topology, roles);
    sync(&maps.sources, F::NAMES.sources, &wanted).err()
}

/// Says that nothing is known about the node where nobody has said anything yet: the kernel makes the map with zeros,
/// and a range of zeros holds every address, so that every connection would be taken for one to a Service.
pub fn first_nodes(maps: &Pinned) -> Result<(), Error> {
    first_node(&maps.v4)?;
    first_node(&maps.v6)
}

fn first_node<F: MapFamily>(maps: &Maps<F>) -> Result<(), Error> {
    let all = Cidr { net: F::Addr::default(), mask: F::Addr::default() };
    let unwritten = NodeConfig {
        address: all.net,
        cluster_cidrs: [all; CIDRS],
        service_cidrs: [all; CIDRS],
        ..NodeConfig::default()
    };
    let found =
        maps.node.get(&0).map_err(|source| Error::Map { verb: "read", map: F::NAMES.node, source })?;
    if found == Some(unwritten) { put_node(maps, &NodeConfig::default()) } else { Ok(()) }
}

/// Writes the facts about the node of one family, where they differ. The entry says whether the ranges beside it are
/// looked up at all, so what is new there is written before it.
pub fn set_node<F: MapFamily>(maps: &Maps<F>, wanted: &NodeFacts<F::Addr>) -> Result<(), Error> {
    let failed = |source| Error::Map { verb: "write", map: F::NAMES.nets, source };
    if maps.nets.raw().max_entries() <= 1 {
        return put_node(maps, &wanted.config);
    }
    sync(&maps.nodes, F::NAMES.nodes, &wanted.nodes.iter().map(|addr| (*addr, IN_RANGE)).collect())?;
    let known: BTreeSet<_> = maps.nets.entries().map_err(failed)?.into_iter().map(|(key, _)| key).collect();
    for key in wanted.nets.difference(&known) {
        maps.nets.put(key, &IN_RANGE).map_err(failed)?;
    }
    put_node(maps, &wanted.config)?;
    for key in known.difference(&wanted.nets) {
        maps.nets.remove(key).map_err(failed)?;
    }
    Ok(())
}

fn put_node<F: MapFamily>(maps: &Maps<F>, wanted: &NodeConfig<F::Addr>) -> Result<(), Error> {
    let failed = |source| Error::Map { verb: "write", map: F::NAMES.node, source };
    if maps.node.get(&0).map_err(failed)?.as_ref() == Some(wanted) {
        return Ok(());
    }
    maps.node.put(&0, wanted).map_err(failed)
}

/// Makes a small map equal to `wanted`: first what is missing or wrong, then what is too much.
fn sync<K, V>(table: &Table<K, V>, map: &'static str, wanted: &BTreeMap<K, V>) -> Result<(), Error>
where
    K: Copy + Ord,
    V: Copy + PartialEq,
{
    let write = || -> io::Result<()> {
        let actual: BTreeMap<K, V> = table.entries()?.into_iter().collect();
        for (key, value) in wanted.iter().filter(|(key, value)| actual.get(key) != Some(value)) {
            table.put(key, value)?;
        }
        for key in actual.keys().filter(|key| !wanted.contains_key(key)) {
            table.remove(key)?;
        }
        Ok(())
    };
    write().map_err(|source| Error::Map { verb: "write", map, source })
}
