//! The node's network as far as Sluice cares: devices, addresses, default routes, and what follows from them.
//! Pure: filled by `netlink`, read by `devices`. Knows no program and no map.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::settings::{Families, PodDevices, Uplinks};

/// A device's number in this network namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IfIndex(pub u32);

/// What a device is, as far as it decides whether a pod may be behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceKind {
    /// `lo`.
    Loopback,
    /// One end of a veth pair whose other end is in another network namespace.
    VethAcross,
    /// A bridge.
    Bridge,
    /// A tunnel that carries Ethernet frames to other nodes: VXLAN, Geneve, GRE.
    Overlay,
    /// A device whose frames have no Ethernet header, as of WireGuard and IP tunnels: no program of ours reads them.
    Bare,
    /// Anything else: Ethernet, VLANs, bonds.
    Other,
}

/// A device.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Device {
    /// Its name; may change.
    pub name: String,
    /// What it is.
    pub kind: DeviceKind,
    /// The bridge, or other device, that it is a port of.
    pub master: Option<IfIndex>,
    /// The other end of a veth pair, if that is in another network namespace.
    pub peer: Option<Peer>,
}

/// A device in another network namespace.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Peer {
    /// The number that this namespace has for the other one.
    pub namespace: i32,
    /// The device's number there.
    pub index: u32,
}

/// What is known of an address beside itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Assigned {
    /// Bits of its network.
    pub prefix: u8,
    /// Place in the kernel's list: the first of equals is the kernel's own choice.
    pub order: u32,
    /// Whether it may be the source of what the node sends.
    pub standing: Standing,
}

/// Whether an address may be the source of what the node sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Standing {
    /// It may.
    Primary,
    /// Only if there is no other: another address of the same IPv4 network came first, or an IPv6 address is
    /// temporary or deprecated.
    Spare,
    /// Never: it holds on one link only, or is not known to be unique yet.
    Unfit,
}

/// What a device is to us.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// A local pod is behind it.
    Pod,
    /// Other nodes and outside clients are behind it.
    Uplink,
    /// Its ports lead to local pods.
    Bridge,
}

/// A snapshot of the node's network. Each change gives a new one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Topology {
    /// Every device.
    pub devices: BTreeMap<IfIndex, Device>,
    /// Every address of the node and the devices that carry it.
    pub addresses: BTreeMap<(IpAddr, IfIndex), Assigned>,
    /// Default routes of the main table: IP version and device.
    pub defaults: BTreeSet<(Version, IfIndex)>,
    /// What the other ends of veth pairs have for addresses, by this end's device.
    pub across: BTreeMap<IfIndex, BTreeSet<IpAddr>>,
    /// Devices that went away so far: one that is replaced by its double between two readings is a change.
    pub removals: u64,
}

/// IP version.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Version {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Version {
    /// Version of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl Topology {
    /// What each device is to us; `node` are the addresses that the cluster knows this node by. A veth that
    /// leads to another namespace is a pod's unless it is an uplink: a node may be a namespace itself.
    #[must_use]
    pub fn roles(&self, uplinks: &Uplinks, node: &[IpAddr]) -> BTreeMap<IfIndex, Role> {
        let is_uplink = |index: IfIndex, device: &Device| match uplinks {
            Uplinks::Named(names) => names.contains(&device.name),
            Uplinks::Auto => self.leads_out(index, device, node),
        };
        let role = |(index, device): (&IfIndex, &Device)| match device.kind {
            DeviceKind::Loopback => None,
            _ if is_uplink(*index, device) => Some((*index, Role::Uplink)),
            DeviceKind::VethAcross => Some((*index, Role::Pod)),
            DeviceKind::Bridge if self.has_pods(*index) => Some((*index, Role::Bridge)),
            DeviceKind::Bridge | DeviceKind::Overlay | DeviceKind::Bare | DeviceKind::Other => None,
        };
        self.devices.iter().filter_map(role).collect()
    }

    /// Nothing differs but who is behind the devices.
    #[must_use]
    pub fn has_same_devices(&self, other: &Self) -> bool {
        let Self { devices, addresses, defaults, across: _, removals } = self;
        (devices, addresses, defaults, removals)
            == (&other.devices, &other.addresses, &other.defaults, &other.removals)
    }

    /// Behind which device each address of a pod is. Of two that claim one, the device that was there first has it.
    #[must_use]
    pub fn pod_devices(&self) -> BTreeMap<IpAddr, u32> {
        let mut devices = BTreeMap::new();
        for (IfIndex(index), addresses) in &self.across {
            for ip in addresses {
                devices.entry(*ip).or_insert(*index);
            }
        }
        devices
    }

    /// Devices with a default route or with an address that the cluster knows the node by, overlays with an address,
    /// and every other Ethernet device with a network of its own, on which other hosts may be. What leads to pods has a
    /// network only as a bridge; the host's end of a pod's veth has at most addresses without one.
    fn leads_out(&self, index: IfIndex, device: &Device, node: &[IpAddr]) -> bool {
        let is_named = self.defaults.iter().any(|(_, via)| *via == index)
            || node.iter().any(|ip| self.addresses.contains_key(&(*ip, index)));
        let is_network =
            |ip: IpAddr, assigned: &Assigned| assigned.prefix < if ip.is_ipv4() { 32 } else { 128 };
        let leads_to_hosts = |ip: IpAddr, assigned: &Assigned| match device.kind {
            DeviceKind::Overlay => true,
            DeviceKind::VethAcross | DeviceKind::Other => is_network(ip, assigned),
            DeviceKind::Loopback | DeviceKind::Bridge | DeviceKind::Bare => false,
        };
        let mut own = self.addresses.iter().filter(|((ip, at), _)| *at == index && is_global(*ip));
        is_named || device.master.is_none() && own.any(|((ip, _), assigned)| leads_to_hosts(*ip, assigned))
    }

    /// A pod's veth is a port of the bridge.
    fn has_pods(&self, bridge: IfIndex) -> bool {
        self.devices
            .values()
            .any(|device| device.master == Some(bridge) && device.kind == DeviceKind::VethAcross)
    }

    /// Who sends through the device is a pod, as the operator tells them (item 62).
    #[must_use]
    pub fn is_pods(&self, index: IfIndex, pods: &PodDevices) -> bool {
        let Some(device) = self.devices.get(&index) else { return false };
        let master = device.master.and_then(|master| self.devices.get(&master));
        let mut names = master.into_iter().chain([device]).map(|device| device.name.as_str());
        match pods {
            PodDevices::Unnamed => false,
            PodDevices::Bridge(bridge) => names.any(|name| name == bridge),
            PodDevices::Prefix(prefix) => names.any(|name| name.starts_with(prefix.as_str())),
        }
    }

    /// Addresses by which this node can be reached: all but loopback ones. Those of devices with a default route
    /// come first, then those of other devices that no pod is behind, each by number: the first global one of a
    /// family stands for the node where the cluster does not say.
    #[must_use]
    pub fn local_addresses(&self) -> Vec<IpAddr> {
        let rank = |ip: IpAddr, index: IfIndex| {
            let across = self.devices.get(&index).is_some_and(|device| device.kind == DeviceKind::VethAcross);
            match () {
                () if !is_global(ip) => 3,
                () if self.defaults.contains(&(Version::of(ip), index)) => 0,
                () if !across => 1,
                () => 2,
            }
        };
        let reachable = self.addresses.keys().filter(|(ip, _)| !ip.is_loopback());
        let mut ranked: BTreeMap<IpAddr, u8> = BTreeMap::new();
        for (ip, index) in reachable {
            let rank = rank(*ip, *index);
            ranked.entry(*ip).and_modify(|best| *best = rank.min(*best)).or_insert(rank);
        }
        let mut sorted: Vec<_> = ranked.into_iter().map(|(ip, rank)| (rank, ip)).collect();
        sorted.sort_unstable();
        sorted.into_iter().map(|(_, ip)| ip).collect()
    }

    /// The families this node has global addresses of; `None` without any.
    #[must_use]
    pub fn families(&self) -> Option<Families> {
        let has =
            |version| self.addresses.keys().any(|(ip, _)| Version::of(*ip) == version && is_global(*ip));
        match (has(Version::V4), has(Version::V6)) {
            (true, true) => Some(Families::Dual),
            (true, false) => Some(Families::Ipv4),
            (false, true) => Some(Families::Ipv6),
            (false, false) => None,
        }
    }
}

/// Neither loopback nor link-local.
pub(super) fn is_global(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local() && !v6.is_unspecified(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Topology {
        let device = |name: &str, kind| Device { name: name.into(), kind, master: None, peer: None };
        let ip = |text: &str, index: u32| {
            let (ip, prefix) = text.split_once('/').unwrap();
            let prefix = prefix.parse().unwrap();
            (
                (ip.parse().unwrap(), IfIndex(index)),
                Assigned { prefix, order: 0, standing: Standing::Primary },
            )
        };
        Topology {
            devices: BTreeMap::from([
                (IfIndex(1), device("lo", DeviceKind::Loopback)),
                (IfIndex(2), device("eth0", DeviceKind::VethAcross)),
                (IfIndex(3), device("eth1", DeviceKind::VethAcross)),
                (IfIndex(4), device("pod", DeviceKind::VethAcross)),
                (IfIndex(5), device("cni0", DeviceKind::Bridge)),
            ]),
            addresses: BTreeMap::from([
                ip("127.0.0.1/8", 1),
                ip("192.168.1.2/24", 2),
                ip("192.168.2.2/32", 3),
                ip("10.244.0.1/32", 4),
                ip("10.244.1.1/24", 5),
                ip("fe80::1/64", 2),
            ]),
            defaults: BTreeSet::from([(Version::V4, IfIndex(2))]),
            across: BTreeMap::new(),
            removals: 0,
        }
    }

    #[test]
    fn a_veth_is_a_pods_unless_the_default_route_or_the_nodes_address_is_on_it() {
        let node_ip = ["192.168.2.2".parse().unwrap()];
        let auto = node().roles(&Uplinks::Auto, &node_ip);
        let expected = [(IfIndex(2), Role::Uplink), (IfIndex(3), Role::Uplink), (IfIndex(4), Role::Pod)];
        assert_eq!(auto, BTreeMap::from(expected));
        let unknown = node().roles(&Uplinks::Auto, &[]);
        assert_eq!(unknown.get(&IfIndex(3)), Some(&Role::Pod));
    }

    #[test]
    fn a_device_with_a_network_of_its_own_is_an_uplink_unless_pods_are_behind_it() {
        let mut node = node();
        let of = |node: &Topology, index| node.roles(&Uplinks::Auto, &[]).get(&IfIndex(index)).copied();
        node.addresses.get_mut(&("192.168.2.2".parse().unwrap(), IfIndex(3))).unwrap().prefix = 24;
        assert_eq!((of(&node, 3), of(&node, 4), of(&node, 5)), (Some(Role::Uplink), Some(Role::Pod), None));
        let pod = node.devices.get_mut(&IfIndex(4)).unwrap();
        pod.master = Some(IfIndex(5));
        assert_eq!((of(&node, 4), of(&node, 5)), (Some(Role::Pod), Some(Role::Bridge)));
        node.defaults.insert((Version::V6, IfIndex(5)));
        assert_eq!(of(&node, 5), Some(Role::Uplink), "a bridge may also lead out");
        node.devices.get_mut(&IfIndex(3)).unwrap().kind = DeviceKind::Bare;
        assert_eq!(of(&node, 3), None);
        node.addresses.get_mut(&("192.168.2.2".parse().unwrap(), IfIndex(3))).unwrap().prefix = 32;
        node.devices.get_mut(&IfIndex(3)).unwrap().kind = DeviceKind::Overlay;
        assert_eq!(of(&node, 3), Some(Role::Uplink));
    }

    #[test]
    fn item_62_pods_are_told_by_their_bridge_or_by_the_beginning_of_a_devices_name() {
        let mut node = node();
        node.devices.get_mut(&IfIndex(4)).unwrap().master = Some(IfIndex(5));
        let told = |pods: PodDevices| -> Vec<u32> {
            node.devices.keys().filter(|index| node.is_pods(**index, &pods)).map(|index| index.0).collect()
        };
        assert_eq!(told(PodDevices::Unnamed), [0; 0]);
        assert_eq!(told(PodDevices::Bridge("cni0".into())), [4, 5]);
        assert_eq!(told(PodDevices::Bridge("cni".into())), [0; 0]);
        assert_eq!(told(PodDevices::Prefix("eth".into())), [2, 3]);
        assert_eq!(told(PodDevices::Prefix("cni".into())), [4, 5], "a port is behind its bridge");
    }

    #[test]
    fn named_uplinks_replace_the_search_and_never_are_loopback() {
        let named = node().roles(&Uplinks::Named(vec!["lo".into(), "cni0".into()]), &[]);
        let pods = [IfIndex(2), IfIndex(3), IfIndex(4)].map(|index| (index, Role::Pod));
        let expected: BTreeMap<_, _> = pods.into_iter().chain([(IfIndex(5), Role::Uplink)]).collect();
        assert_eq!(named, expected);
    }

    #[test]
    fn addresses_towards_other_nodes_come_before_gateways_that_pods_see() {
        let texts =
            |node: Topology| -> Vec<_> { node.local_addresses().iter().map(IpAddr::to_string).collect() };
        let rest = ["10.244.1.1", "10.244.0.1", "192.168.2.2", "fe80::1"];
        assert_eq!(texts(node()), [["192.168.1.2"].as_slice(), &rest].concat());
        let mut lonely = node();
        lonely.defaults.clear();
        assert_eq!(texts(lonely), ["10.244.1.1", "10.244.0.1", "192.168.1.2", "192.168.2.2", "fe80::1"]);
    }

    #[test]
    fn an_address_is_behind_the_device_that_had_it_first() {
        let [ours, others, theirs] = ["10.244.1.5", "fd00:10::5", "10.244.1.6"].map(|ip| ip.parse().unwrap());
        let across = [(4, [ours, others].into()), (9, [theirs, ours].into())];
        let across = across.map(|(index, addresses)| (IfIndex(index), addresses)).into();
        let node = Topology { across, ..node() };
        assert_eq!(node.pod_devices(), BTreeMap::from([(ours, 4), (others, 4), (theirs, 9)]));
    }

    #[test]
    fn link_local_addresses_make_no_family_but_are_the_nodes() {
        assert_eq!(node().families(), Some(Families::Ipv4));
        assert!(node().local_addresses().contains(&"fe80::1".parse().unwrap()));
        assert!(!node().local_addresses().contains(&"127.0.0.1".parse().unwrap()));
    }
}
