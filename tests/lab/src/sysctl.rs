//! What a namespace of a lab is set to, and why. Pure data.

use crate::topology::{Family, Topology};

const V4: &str = "ipv4/conf";
const V6: &str = "ipv6/conf";

/// Whether a namespace passes packets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forwarding {
    /// It is a router: a node.
    On,
    /// It is a host.
    Off,
}

/// Paths below `/proc/sys/net` with their values, in the order in which they are to be written.
#[must_use]
pub fn sysctls(topology: &Topology, forwarding: Forwarding) -> Vec<(String, &'static str)> {
    let mut list = Vec::new();
    let mut set = |name: &str, value: &'static str| list.push((name.to_owned(), value));
    // First, because it resets the per-device settings that follow.
    set("ipv4/ip_forward", if forwarding == Forwarding::On { "1" } else { "0" });
    for scope in ["all", "default"] {
        // Replies may take another way than requests (direct server return, hairpins).
        set(&format!("{V4}/{scope}/rp_filter"), "0");
        // A redirect would teach a client to go round the node that the case wants it to use.
        set(&format!("{V4}/{scope}/send_redirects"), "0");
        set(&format!("{V4}/{scope}/accept_redirects"), "0");
    }
    // A case counts refusals; the kernel would send one per second.
    set("ipv4/icmp_ratelimit", "0");
    set("ipv4/ping_group_range", "0 2147483647");
    // Loads open more connections than there are ports.
    set("ipv4/tcp_tw_reuse", "1");
    if !topology.families().contains(&Family::Ipv6) {
        set(&format!("{V6}/all/disable_ipv6"), "1");
        set(&format!("{V6}/default/disable_ipv6"), "1");
        return list;
    }
    if forwarding == Forwarding::On {
        set(&format!("{V6}/all/forwarding"), "1");
    }
    for scope in ["all", "default"] {
        set(&format!("{V6}/{scope}/accept_dad"), "0");
        set(&format!("{V6}/{scope}/accept_ra"), "0");
        set(&format!("{V6}/{scope}/accept_redirects"), "0");
        set(&format!("{V6}/{scope}/router_solicitations"), "0");
    }
    set("ipv6/icmp/ratelimit", "0");
    list
}
