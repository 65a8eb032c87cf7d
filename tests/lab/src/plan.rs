//! From a topology to what has to be written in each namespace: sysctls and lines for `ip -batch`. Pure text; nothing here
//! touches the machine.
//!
//! ```text
//!            segment (bridge br0, holds the gateway nobody forwards for)
//!     p1 ┌──────────┬──────────┐ p3
//!       eth0       eth0       eth0
//!      node-1     node-2     client         each a network namespace
//!       │ pod1     │ cni0
//!      eth0       eth0
//!      pod        pod
//! ```

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::sysctl::{Forwarding, sysctls};
use crate::topology::{Family, Link, NodeSpec, OutsideSpec, PodSpec, Topology};

/// What has to be done in one namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpacePlan {
    /// Path below `/proc/sys/net` and value; written before any link exists.
    pub sysctls: Vec<(String, &'static str)>,
    /// Lines for `ip -batch`.
    pub lines: Vec<String>,
}

/// What has to be done for a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodPlan {
    /// Lines for the node's namespace; the veth pair is made there.
    pub node_lines: Vec<String>,
    /// The pod's own namespace.
    pub space: SpacePlan,
    /// Line for the node's namespace that takes the pod away again.
    pub undo: String,
}

/// The segment: a bridge with one port per node and outside client, in their order. `netns` gives their namespaces' names.
#[must_use]
pub fn segment(topology: &Topology, netns: impl Fn(&str) -> String) -> SpacePlan {
    let mut lines = vec![
        "link set lo up".to_owned(),
        // A port that had to learn, or a snooper that had not seen a report yet, would lose first packets.
        "link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0".to_owned(),
    ];
    for family in topology.families() {
        if let Some((gateway, network)) = segment_gateway(topology, family) {
            lines.push(address_line(gateway, network.prefix_len(), "br0"));
        }
    }
    lines.push("link set br0 up".to_owned());
    let names = topology.nodes.iter().map(|node| &node.name).chain(topology.outside.iter().map(|o| &o.name));
    for (index, name) in names.enumerate() {
        let port = index + 1;
        lines.push(format!("link add p{port} type veth peer name eth0 netns {}", netns(name)));
        lines.push(format!("link set p{port} master br0 up"));
    }
    SpacePlan { sysctls: sysctls(topology, Forwarding::Off), lines }
}

/// A node, without its pods.
#[must_use]
pub fn node(topology: &Topology, node: &NodeSpec) -> SpacePlan {
    let mut lines = vec!["link set lo up".to_owned()];
    lines.extend(uplink(topology, &node.addresses));
    for family in topology.families() {
        if let Some((gateway, _)) = segment_gateway(topology, family) {
            lines.push(format!("route add default via {gateway} dev eth0{}", source(node.primary(family))));
        }
    }
    for other in topology.nodes.iter().filter(|other| other.name != node.name) {
        lines.extend(pod_ranges(other, |family| node.primary(family)));
    }
    if node.link.unwrap_or(topology.link) == Link::Bridge {
        lines.push("link add cni0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0".to_owned());
        for cidr in &node.pod_cidrs {
            if let Some(gateway) = node.gateway(Family::of(cidr.addr())) {
                lines.push(format!("{} noprefixroute", address_line(gateway, cidr.prefix_len(), "cni0")));
            }
        }
        lines.push("link set cni0 up".to_owned());
        for cidr in &node.pod_cidrs {
            lines.push(format!("route add {cidr} dev cni0{}", source(node.primary(Family::of(cidr.addr())))));
        }
    }
    SpacePlan { sysctls: sysctls(topology, Forwarding::On), lines }
}

/// An outside client. Besides its main routes it has one table per node, chosen by the node's mark, whose only route is
/// that node: so one client can send any address through any node, also at the same time.
#[must_use]
pub fn outside(topology: &Topology, client: &OutsideSpec) -> SpacePlan {
    let mut lines = vec!["link set lo up".to_owned()];
    lines.extend(uplink(topology, &client.ips));
    let own = |family: Family| client.ips.iter().copied().find(|ip| Family::of(*ip) == family);
    let has = |family: Family| own(family).is_some();
    for node in &topology.nodes {
        lines.extend(pod_ranges(node, own));
        let Some(mark) = topology.mark(&node.name) else { continue };
        for gateway in [Family::Ipv4, Family::Ipv6]
            .into_iter()
            .filter(|family| has(*family))
            .filter_map(|f| node.primary(f))
        {
            let version = if gateway.is_ipv4() { "" } else { "-6 " };
            lines.push(format!("{version}rule add fwmark {mark} table {mark} priority {mark}"));
            lines.push(format!("route add default via {gateway} dev eth0 table {mark}"));
        }
    }
    for family in topology.families().into_iter().filter(|family| has(*family)) {
        let via =
            client.via.as_ref().and_then(|via| topology.node(via)).and_then(|node| node.primary(family));
        let gateway = via.or_else(|| segment_gateway(topology, family).map(|(gateway, _)| gateway));
        lines.extend(gateway.map(|gateway| format!("route add default via {gateway} dev eth0")));
    }
    SpacePlan { sysctls: sysctls(topology, Forwarding::Off), lines }
}

/// A pod. `link` is the name of its device on the node, `netns` of its namespace.
#[must_use]
pub fn pod(topology: &Topology, node: &NodeSpec, pod: &PodSpec, link: &str, netns: &str) -> PodPlan {
    let mut node_lines = vec![format!("link add {link} type veth peer name eth0 netns {netns}")];
    let mut lines = vec!["link set lo up".to_owned()];
    match node.link.unwrap_or(topology.link) {
        Link::Ptp => ptp(node, pod, link, &mut node_lines, &mut lines),
        Link::Bridge => bridged(node, pod, link, &mut node_lines, &mut lines),
    }
    let space = SpacePlan { sysctls: sysctls(topology, Forwarding::Off), lines };
    PodPlan { node_lines, space, undo: format!("link del {link}") }
}

/// The node's end holds the gateway address, the pod knows nothing but the way there. Routes name the node's primary
/// address, which is what a process of the node uses towards its pods.
fn ptp(node: &NodeSpec, pod: &PodSpec, link: &str, node_lines: &mut Vec<String>, lines: &mut Vec<String>) {
    for ip in &pod.ips {
        match (ip, node.gateway(Family::of(*ip))) {
            (IpAddr::V4(_), Some(gateway)) => node_lines.push(address_line(gateway, 32, link)),
            (IpAddr::V6(_), _) => node_lines.push(format!("addr add fe80::1/64 dev {link} nodad")),
            (IpAddr::V4(_), None) => {}
        }
        lines.push(address_line(*ip, ip_bits(*ip), "eth0"));
    }
    node_lines.push(format!("link set {link} up"));
    lines.push("link set eth0 up".to_owned());
    for ip in &pod.ips {
        let family = Family::of(*ip);
        node_lines.push(format!(
            "route add {ip}/{} dev {link}{}",
            ip_bits(*ip),
            source(node.primary(family))
        ));
        match (family, node.gateway(family)) {
            (Family::Ipv4, Some(gateway)) => {
                lines.push(format!("route add {gateway}/32 dev eth0 scope link"));
                lines.push(format!("route add default via {gateway} dev eth0"));
            }
            (Family::Ipv6, _) => lines.push("route add default via fe80::1 dev eth0".to_owned()),
            (Family::Ipv4, None) => {}
        }
    }
}

fn bridged(
    node: &NodeSpec,
    pod: &PodSpec,
    link: &str,
    node_lines: &mut Vec<String>,
    lines: &mut Vec<String>,
) {
    node_lines.push(format!("link set {link} master cni0 up"));
    for ip in &pod.ips {
        let cidr = node.pod_cidrs.iter().find(|cidr| cidr.contains(ip));
        lines.push(address_line(*ip, cidr.map_or(ip_bits(*ip), IpNet::prefix_len), "eth0"));
    }
    lines.push("link set eth0 up".to_owned());
    for ip in &pod.ips {
        let gateway = node.gateway(Family::of(*ip));
        lines.extend(gateway.map(|gateway| format!("route add default via {gateway} dev eth0")));
    }
}

/// Addresses on the segment, and the segment's other networks as neighbours.
fn uplink(topology: &Topology, addresses: &[IpAddr]) -> Vec<String> {
    let mut lines: Vec<String> = addresses
        .iter()
        .map(|address| address_line(*address, segment_network(*address).prefix_len(), "eth0"))
        .collect();
    lines.push("link set eth0 up".to_owned());
    let own: BTreeSet<IpNet> = addresses.iter().map(|address| segment_network(*address)).collect();
    for network in segment_networks(topology).difference(&own) {
        let family = Family::of(network.addr());
        let primary = addresses.iter().copied().find(|address| Family::of(*address) == family);
        if primary.is_some() {
            lines.push(format!("route add {network} dev eth0{}", source(primary)));
        }
    }
    lines
}

/// Routes to a node's pods through that node, for a host whose own address of a family is `own`.
fn pod_ranges(node: &NodeSpec, own: impl Fn(Family) -> Option<IpAddr>) -> Vec<String> {
    let route = |cidr: &IpNet| {
        let family = Family::of(cidr.addr());
        let (via, own) = (node.primary(family)?, own(family)?);
        Some(format!("route add {cidr} via {via} dev eth0 src {own}"))
    };
    node.pod_cidrs.iter().filter_map(route).collect()
}

/// The network that an address on the segment is in. Topologies give addresses only; a /24 and a /64 are the usual ones.
fn segment_network(address: IpAddr) -> IpNet {
    let prefix = if address.is_ipv4() { 24 } else { 64 };
    IpNet::new_assert(address, prefix).trunc()
}

fn segment_networks(topology: &Topology) -> BTreeSet<IpNet> {
    let nodes = topology.nodes.iter().flat_map(|node| &node.addresses);
    let outside = topology.outside.iter().flat_map(|client| &client.ips);
    nodes.chain(outside).map(|address| segment_network(*address)).collect()
}

/// An address of the first node's network that nobody has: the default gateway, where packets for nobody disappear. It
/// answers to its own address.
#[must_use]
pub fn segment_gateway(topology: &Topology, family: Family) -> Option<(IpAddr, IpNet)> {
    let network = segment_network(topology.nodes.iter().find_map(|node| node.primary(family))?);
    let nodes = topology.nodes.iter().flat_map(|node| &node.addresses);
    let taken: BTreeSet<&IpAddr> =
        nodes.chain(topology.outside.iter().flat_map(|client| &client.ips)).collect();
    let candidates = (1..=254).rev().map(|last: u8| match network.network() {
        IpAddr::V4(first) => IpAddr::from((u32::from(first) + u32::from(last)).to_be_bytes()),
        IpAddr::V6(first) => IpAddr::from((u128::from(first) + 0xff00 + u128::from(last)).to_be_bytes()),
    });
    let gateway = candidates.into_iter().find(|candidate| !taken.contains(candidate))?;
    Some((gateway, network))
}

fn address_line(address: IpAddr, prefix: u8, device: &str) -> String {
    let nodad = if address.is_ipv6() { " nodad" } else { "" };
    format!("addr add {address}/{prefix} dev {device}{nodad}")
}

fn source(address: Option<IpAddr>) -> String {
    address.map(|address| format!(" src {address}")).unwrap_or_default()
}

fn ip_bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(link: &str) -> Topology {
        Topology::parse(&format!(
            "
link: {link}
nodes:
- {{name: a, addresses: [172.18.0.11, 172.18.9.11, 'fd00:18::11'], podCIDRs: [10.244.1.0/24, 'fd00:244:1::/64']}}
- {{name: b, addresses: [172.18.0.12, 'fd00:18::12'], podCIDRs: [10.244.2.0/24, 'fd00:244:2::/64']}}
pods:
- {{name: web, node: b, ips: [10.244.2.10, 'fd00:244:2::10']}}
outside:
- {{name: laptop, ips: [172.18.0.200], via: b}}
"
        ))
        .unwrap()
    }

    #[test]
    fn the_segment_has_a_port_per_host_and_a_gateway_that_nobody_is() {
        let plan = segment(&topology("ptp"), |name| format!("ns-{name}"));
        assert_eq!(
            plan.lines,
            [
                "link set lo up",
                "link add br0 type bridge forward_delay 0 stp_state 0 mcast_snooping 0",
                "addr add 172.18.0.254/24 dev br0",
                "addr add fd00:18::fffe/64 dev br0 nodad",
                "link set br0 up",
                "link add p1 type veth peer name eth0 netns ns-a",
                "link set p1 master br0 up",
                "link add p2 type veth peer name eth0 netns ns-b",
                "link set p2 master br0 up",
                "link add p3 type veth peer name eth0 netns ns-laptop",
                "link set p3 master br0 up",
            ]
        );
    }

    #[test]
    fn a_node_reaches_every_network_of_the_segment_and_the_pods_of_others() {
        let topology = topology("ptp");
        assert_eq!(
            node(&topology, &topology.nodes[1]).lines,
            [
                "link set lo up",
                "addr add 172.18.0.12/24 dev eth0",
                "addr add fd00:18::12/64 dev eth0 nodad",
                "link set eth0 up",
                "route add 172.18.9.0/24 dev eth0 src 172.18.0.12",
                "route add default via 172.18.0.254 dev eth0 src 172.18.0.12",
                "route add default via fd00:18::fffe dev eth0 src fd00:18::12",
                "route add 10.244.1.0/24 via 172.18.0.11 dev eth0 src 172.18.0.12",
                "route add fd00:244:1::/64 via fd00:18::11 dev eth0 src fd00:18::12",
            ]
        );
    }

    #[test]
    fn an_outside_client_can_choose_any_node_by_mark_in_its_own_families() {
        let topology = topology("ptp");
        assert_eq!(
            outside(&topology, &topology.outside[0]).lines,
            [
                "link set lo up",
                "addr add 172.18.0.200/24 dev eth0",
                "link set eth0 up",
                "route add 172.18.9.0/24 dev eth0 src 172.18.0.200",
                "route add 10.244.1.0/24 via 172.18.0.11 dev eth0 src 172.18.0.200",
                "rule add fwmark 1 table 1 priority 1",
                "route add default via 172.18.0.11 dev eth0 table 1",
                "route add 10.244.2.0/24 via 172.18.0.12 dev eth0 src 172.18.0.200",
                "rule add fwmark 2 table 2 priority 2",
                "route add default via 172.18.0.12 dev eth0 table 2",
                "route add default via 172.18.0.12 dev eth0",
            ]
        );
    }

    #[test]
    fn a_pod_hangs_on_a_veth_with_host_routes() {
        let topology = topology("ptp");
        let plan = pod(&topology, &topology.nodes[1], &topology.pods[0], "pod1", "ns-web");
        assert_eq!(
            plan.node_lines,
            [
                "link add pod1 type veth peer name eth0 netns ns-web",
                "addr add 10.244.2.1/32 dev pod1",
                "addr add fe80::1/64 dev pod1 nodad",
                "link set pod1 up",
                "route add 10.244.2.10/32 dev pod1 src 172.18.0.12",
                "route add fd00:244:2::10/128 dev pod1 src fd00:18::12",
            ]
        );
        assert_eq!(
            plan.space.lines,
            [
                "link set lo up",
                "addr add 10.244.2.10/32 dev eth0",
                "addr add fd00:244:2::10/128 dev eth0 nodad",
                "link set eth0 up",
                "route add 10.244.2.1/32 dev eth0 scope link",
                "route add default via 10.244.2.1 dev eth0",
                "route add default via fe80::1 dev eth0",
            ]
        );
    }

    #[test]
    fn a_bridged_pod_is_a_port_of_cni0() {
        let topology = topology("bridge");
        let plan = pod(&topology, &topology.nodes[1], &topology.pods[0], "pod1", "ns-web");
        assert_eq!(
            plan.node_lines,
            ["link add pod1 type veth peer name eth0 netns ns-web", "link set pod1 master cni0 up"]
        );
        assert_eq!(
            plan.space.lines,
            [
                "link set lo up",
                "addr add 10.244.2.10/24 dev eth0",
                "addr add fd00:244:2::10/64 dev eth0 nodad",
                "link set eth0 up",
                "route add default via 10.244.2.1 dev eth0",
                "route add default via fd00:244:2::1 dev eth0",
            ]
        );
    }

    #[test]
    fn a_lab_of_one_family_switches_the_other_off() {
        let mut topology = topology("ptp");
        topology.families = vec![Family::Ipv4];
        let topology = topology.checked().unwrap();
        let plan = node(&topology, &topology.nodes[0]);
        assert!(plan.sysctls.contains(&("ipv6/conf/all/disable_ipv6".to_owned(), "1")));
        assert!(plan.lines.iter().all(|line| !line.contains("fd00")), "{:?}", plan.lines);
    }
}
