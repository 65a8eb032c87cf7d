//! What the programs must know of the node: constants given at load time and the few facts that change live.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Addr4, Addr6, Address};
use crate::limits::CIDRS;

/// Constants of the loaded object (`.rodata`): branches on them vanish in the verifier.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct DatapathConfig {
    /// Network namespace cookie of the node (`SO_NETNS_COOKIE` of the agent).
    pub host_netns: u64,
    /// Nonzero: IPv4 is served.
    pub ipv4: u8,
    /// Nonzero: IPv6 is served.
    pub ipv6: u8,
    /// Nonzero: the socket road serves sockets of the node's own namespace only.
    pub host_sockets_only: u8,
    /// Nonzero: pods' packets are looked up in `frontends` by the program on their veth.
    pub pod_packets: u8,
    /// Nonzero: the node's own packets are looked up in `frontends` where they leave by an uplink, because no
    /// hook translates its sockets.
    pub node_packets: u8,
    /// Nonzero: what becomes of new connections is counted by Service port.
    pub tallies: u8,
    /// Nonzero: the kernel has multipath TCP. Without it the helper that finds such a socket has no type to give.
    pub mptcp: u8,
    /// Nonzero while connections move to a table of another size: a flow that is not in `flows` may be in `spareflows`.
    pub two_tables: u8,
    /// Nonzero: packets are sent to backends' nodes in tunnels, and taken from them.
    pub tunnels: u8,
    /// Nonzero: processors of this kind read memory in the order of the program; see [`READS_IN_ORDER`].
    pub in_order: u8,
    /// Nonzero: what strangers send passes by a program ahead of that of pods' packets, which need not ask again.
    pub ahead: u8,
    /// Always zero.
    pub pad: [u8; 5],
}

/// [`DatapathConfig::in_order`] for the processor that this is compiled for: no read passes an earlier one on x86 ("Intel 64 and IA-32
/// Architectures Software Developer's Manual", volume 3, section 10.2.2). On others the programs put barriers between.
pub const READS_IN_ORDER: u8 = cfg!(target_arch = "x86_64") as u8;

word! {
    /// What a device of the node is. Value of the `devices` map; a device that is not in it is nobody's business,
    /// and packets for it go through the stack.
    #[derive(Debug)]
    pub struct DeviceKind(pub u32);
}

impl DeviceKind {
    /// The host side of a pod's veth, the pod in a network namespace of its own: packets may be put straight
    /// into the peer.
    pub const POD: Self = Self(1);
    /// An Ethernet device that leads out of the node: packets may be sent straight out of it.
    pub const UPLINK: Self = Self(2);
    /// A bridge with pods behind its ports: packets may be sent straight out of it. No program hangs on it, those of
    /// the pods hang on the ports.
    pub const BRIDGE: Self = Self(3);
    /// Set beside one of the above: whoever sends through it is a pod, whatever its address, because the operator
    /// tells pods by their devices (item 62).
    pub const PODS_ONLY: Self = Self(1 << 8);
    /// Set beside [`Self::POD`]: the pod is under a policy, so what comes by the device has one of the pod's addresses as
    /// its source, or is forged.
    pub const POLICED: Self = Self(1 << 9);

    /// What the device is, without what is said of its clients.
    #[inline(always)]
    #[must_use]
    pub const fn role(self) -> Self {
        Self(self.0 & !(Self::PODS_ONLY.0 | Self::POLICED.0))
    }
}

/// What a prefix of the `nets` map is. A newtype and not an enum: a pinned map may hold a number we never wrote.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NetKind(pub u32);

impl NetKind {
    /// Range of pods.
    pub const PODS: Self = Self(1);
    /// Range of ClusterIPs.
    pub const SERVICES: Self = Self(2);
}

word! {
    /// Facts about the node that are true or not.
    #[derive(Debug)]
    pub struct NodeFlags(pub u32);
}

impl NodeFlags {
    /// There are more ranges of pods, in the `nets` map.
    pub const MORE_PODS: Self = Self(1);
    /// There are more ranges of ClusterIPs, in the `nets` map.
    pub const MORE_SERVICES: Self = Self(2);
    /// Pods are told by the device they send through ([`DeviceKind::PODS_ONLY`]), not by their address.
    pub const PODS_BY_DEVICE: Self = Self(4);
}

bits!(DeviceKind, NodeFlags);

/// An address range: `addr & mask == net`. An unused slot has `net` all ones and `mask` zero: it matches nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Cidr<A> {
    /// Network address.
    pub net: A,
    /// Network mask.
    pub mask: A,
}

impl<A: Address> Cidr<A> {
    /// A range of prefix length `len`; host bits of `addr` are cleared.
    pub fn new(addr: A, len: u8) -> Self {
        let mask = A::prefix_mask(len);
        Self { net: addr.and(mask), mask }
    }

    /// The unused slot.
    pub fn unused() -> Self {
        Self { net: A::prefix_mask(u8::MAX), mask: A::default() }
    }

    /// The range holds `addr`.
    #[inline(always)]
    pub fn contains(&self, addr: A) -> bool {
        addr.and(self.mask) == self.net
    }
}

impl<A: Address> Default for Cidr<A> {
    fn default() -> Self {
        Self::unused()
    }
}

/// The one entry of the `node` arrays: facts that change while the programs run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct NodeConfig<A: Address> {
    /// The node's primary address: the source of masqueraded connections that leave by a device without an address of
    /// its own. Unspecified: none known.
    pub address: A,
    /// Pod ranges of the cluster (items 62, 63); all unused: no detector.
    pub cluster_cidrs: [Cidr<A>; CIDRS],
    /// Ranges that ClusterIPs are taken from: an address in them that nobody owns drops (item 53).
    pub service_cidrs: [Cidr<A>; CIDRS],
    /// Nonzero: frontends with [`crate::FrontendFlags::RANGES`] may exist. Pods' packets are looked up for their
    /// sake even where sockets are translated, because a socket's source is not known before it has a packet.
    pub ranges: u32,
    /// What else is so.
    pub flags: NodeFlags,
}

impl<A: Address> NodeConfig<A> {
    /// Somebody has said what the ranges of ClusterIPs are.
    #[inline(always)]
    pub fn knows_services(&self) -> bool {
        self.service_cidrs[0] != Cidr::unused()
    }
}

/// Any of the ranges holds `addr`.
#[inline(always)]
pub fn any_contains<A: Address>(cidrs: &[Cidr<A>; CIDRS], addr: A) -> bool {
    let [a, b, c, d] = cidrs;
    a.contains(addr) || b.contains(addr) || c.contains(addr) || d.contains(addr)
}

const _: () = assert!(size_of::<DatapathConfig>() == 24);
const _: () = assert!(size_of::<NodeConfig<Addr4>>() == 76);
const _: () = assert!(size_of::<NodeConfig<Addr6>>() == 280);

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::Ipv4Addr;

    #[test]
    fn a_range_holds_its_addresses_and_no_other() {
        let range = Cidr::new(Addr4::from(Ipv4Addr::new(10, 96, 3, 4)), 16);
        assert!(range.contains(Ipv4Addr::new(10, 96, 255, 255).into()));
        assert!(!range.contains(Ipv4Addr::new(10, 97, 0, 0).into()));
        let all = Cidr::new(Addr4::default(), 0);
        assert!(all.contains(Ipv4Addr::new(203, 0, 113, 1).into()));
    }

    #[test]
    fn an_unused_slot_matches_nothing() {
        let none = [Cidr::<Addr4>::unused(); CIDRS];
        for ip in [Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 0, 0, 1)] {
            assert!(!any_contains(&none, ip.into()));
        }
    }
}
