//! What the operator configured, as far as planning depends on it. Fixed while the agent runs.

use std::net::IpAddr;

use proxy_common::Algorithm;

use crate::fact::{Name, Prefix};
use crate::roster::TableSize;

/// The settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// This node's name; endpoints with it are local (item 15).
    pub node_name: Name,
    /// How pods are told from other clients (item 62).
    pub detector: DetectLocal,
    /// Pod ranges of the cluster, both families, for [`DetectLocal::ClusterCidr`].
    pub cluster_cidrs: Vec<Prefix>,
    /// Ranges of ClusterIPs, both families (item 53).
    pub service_cidrs: Vec<Prefix>,
    /// Whether pods' traffic to ClusterIPs is masqueraded too (item 48).
    pub masquerade: Masquerade,
    /// Whether external clients of a Cluster policy are masqueraded for backends of this node, too.
    pub local_source: LocalSource,
    /// Whether packets may go to backends' nodes in tunnels, so that these answer the clients directly, for Services that
    /// do not say; off: for none.
    pub direct_return: Serving,
    /// How backends are chosen for a Service that does not say.
    pub algorithm: Algorithm,
    /// How long Maglev tables are.
    pub table_size: TableSize,
    /// Which of the node's addresses answer node ports.
    pub node_port_addresses: NodePortAddresses,
    /// The node's primary address in its family, instead of the first in the Node's status (item 122).
    pub primary_address: Option<IpAddr>,
    /// Whether node ports are served at the loopback address, to the node's own processes (item 68).
    pub localhost_node_ports: Serving,
    /// Whether `externalIPs` of Services are served: whoever may write a Service names them, whosoever they are.
    pub external_ips: Serving,
    /// Whether IPv4 is served.
    pub ipv4: Serving,
    /// Whether IPv6 is served.
    pub ipv6: Serving,
    /// Only Services with this `service-proxy-name` are ours; `None`: only those without (item 1).
    pub service_proxy_name: Option<Name>,
}

impl Settings {
    /// Of a node of this name that was told nothing else: both families, no range, no detector, as little as possible.
    pub fn of_node(name: impl Into<Name>) -> Self {
        Self {
            node_name: name.into(),
            detector: DetectLocal::ClusterCidr,
            cluster_cidrs: Vec::new(),
            service_cidrs: Vec::new(),
            masquerade: Masquerade::Needed,
            local_source: LocalSource::Masqueraded,
            direct_return: Serving::Off,
            algorithm: Algorithm::RANDOM,
            table_size: TableSize::Fitting,
            node_port_addresses: NodePortAddresses::Primary,
            primary_address: None,
            localhost_node_ports: Serving::Off,
            external_ips: Serving::On,
            ipv4: Serving::On,
            ipv6: Serving::On,
            service_proxy_name: None,
        }
    }
}

/// How pods are told from other clients (item 62). A family in which nothing tells them has no detector.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DetectLocal {
    /// Their addresses are in [`Settings::cluster_cidrs`]: pods of the whole cluster count.
    ClusterCidr,
    /// Their addresses are in this node's `spec.podCIDRs`, as far as they are known: pods of this node count.
    NodeCidr,
    /// They send through a device that the operator named: pods of this node count, in both families.
    Devices,
}

/// Whose connections to ClusterIPs get a node address as their source.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Masquerade {
    /// Those that do not come from pods, if a detector tells (item 49).
    Needed,
    /// All (item 48).
    All,
}

/// What a backend of this node sees of an external client under a Cluster policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LocalSource {
    /// The node (item 57).
    Masqueraded,
    /// The client: the answers pass this node anyway.
    Preserved,
}

/// Whether a family is served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Serving {
    /// Nothing is planned for it.
    Off,
    /// It is served.
    On,
}

/// Which of the node's addresses answer node ports (items 64–67). Loopback addresses never do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NodePortAddresses {
    /// The first address per family in the Node's status, else the first local one.
    Primary,
    /// Local addresses in these ranges; a family that no range is of matches all its local addresses.
    Within(Vec<Prefix>),
}
