//! Whether an address is in one of the cluster's ranges (items 53, 62). Both roads ask here.

use aya_ebpf::maps::lpm_trie::Key;
use proxy_common::{
    Cidr, NetKind, NodeConfig, NodeFlags, PrefixKey, decide::Place, limits::CIDRS, node::any_contains,
};

use crate::maps::{Prefix, Tables};

/// Whether `addr` is in a range of pods. A few comparisons; one more lookup where there are more than four ranges.
#[inline(always)]
pub fn pods<F: Tables>(node: &NodeConfig<F::Addr>, addr: F::Addr) -> Place {
    place::<F>(node, &node.cluster_cidrs, (NetKind::PODS, NodeFlags::MORE_PODS), addr)
}

/// Whether `addr` is in a range of ClusterIPs; at the same cost.
#[inline(always)]
pub fn services<F: Tables>(node: &NodeConfig<F::Addr>, addr: F::Addr) -> Place {
    place::<F>(node, &node.service_cidrs, (NetKind::SERVICES, NodeFlags::MORE_SERVICES), addr)
}

#[inline(always)]
fn place<F: Tables>(
    node: &NodeConfig<F::Addr>,
    ranges: &[Cidr<F::Addr>; CIDRS],
    (kind, more): (NetKind, NodeFlags),
    addr: F::Addr,
) -> Place {
    if any_contains(ranges, addr) || node.flags.has(more) && is_listed::<F>(kind.0, &addr) {
        Place::Inside
    } else {
        Place::Outside
    }
}

/// In a frame of its own: the key is gone when the caller goes on.
#[inline(never)]
fn is_listed<F: Tables>(scope: u32, addr: &F::Addr) -> bool {
    let PrefixKey { bits, scope, addr } = PrefixKey::exactly(scope, *addr);
    F::nets().get(Key::new(bits, Prefix { scope, addr })).is_some()
}
