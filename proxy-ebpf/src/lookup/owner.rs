//! Whose an address is: this node's, or that of a Service without this port (items 52, 53). Both roads ask here.

use proxy_common::{
    FrontendFlags, FrontendKey, Reason,
    decide::{self, Ownership, Place},
};

use super::net;
use crate::maps::Tables;

/// Whether an address is one of this node's. One hash lookup.
#[inline(always)]
pub fn ownership<F: Tables>(addr: F::Addr) -> Ownership {
    if F::local_addrs().get_ptr(addr).is_some() { Ownership::Node } else { Ownership::Other }
}

/// [`Reason::UnknownPort`] for a cluster address, [`Reason::UnallocatedAddress`] for what nobody owns in the ranges
/// of cluster addresses, [`Reason::NotAService`] for everybody else: that costs an array lookup and a few
/// comparisons where the ranges are known, a second hash lookup where they are not.
#[inline(always)]
pub fn unserved<F: Tables>(addr: F::Addr) -> Reason {
    let Some(node) = F::node().get(0) else { return Reason::NotAService };
    let services = net::services::<F>(node, addr);
    if services == Place::Outside && node.knows_services() {
        return Reason::NotAService;
    }
    // One byte is read, and that at once. A miss of one that is replaced just then refuses in another way what is refused.
    // SAFETY: an element without preallocation is freed only after the program is done.
    match unsafe { F::frontends().get(FrontendKey::wildcard(addr)) } {
        Some(owner) if owner.flags.has(FrontendFlags::WILDCARD) => Reason::UnknownPort,
        Some(_) | None => decide::unowned(services),
    }
}
