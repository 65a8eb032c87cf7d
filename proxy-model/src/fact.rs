//! Facts about the cluster as small structs: what parsing leaves of the Kubernetes objects.
//!
//! A fact cannot be wrong by itself: addresses, ports and enums are parsed, entries that cannot be parsed are gone. It may
//! still be odd (an IPv6 address in an IPv4 slice); the rooms behind decide what that means. Knows no JSON, defaults or API.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use proxy_common::{Address, Algorithm, Port, Proto};

use crate::settings::Serving;
use crate::weight::Weights;

mod policy;

pub use policy::{
    Action, ClusterPeer, ClusterPolicy, ClusterRule, Direction, NamedPort, NetworkPeer, NetworkPolicy,
    NetworkRule, Operator, PortMatch, Requirement, Selector, Subject, Tier, Understood,
};

/// A name; shared, because one name stands in many places.
pub type Name = Arc<str>;

/// Namespace and name of an object; the namespace of a cluster-wide object is empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: Name,
    /// Name.
    pub name: Name,
}

impl ObjectKey {
    /// The key of a namespaced object.
    pub fn new(namespace: impl Into<Name>, name: impl Into<Name>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of a cluster-wide object: a Node, a Namespace.
    pub fn cluster_wide(name: impl Into<Name>) -> Self {
        Self::new("", name)
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address range.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Prefix {
    /// Any address in it; bits beyond `len` do not count.
    pub addr: IpAddr,
    /// Length in bits; more than the family has counts as the whole address.
    pub len: u8,
}

impl Prefix {
    /// The range holds `addr`; never one of the other family.
    pub fn contains(&self, addr: IpAddr) -> bool {
        fn inside<A: Address>(prefix: &Prefix, addr: IpAddr) -> Option<bool> {
            let mask = A::prefix_mask(prefix.len);
            Some(A::from_ip(prefix.addr)?.and(mask) == A::from_ip(addr)?.and(mask))
        }
        inside::<proxy_common::Addr4>(self, addr).or_else(|| inside::<proxy_common::Addr6>(self, addr))
            == Some(true)
    }
}

/// A Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Service {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp`, seconds since 1970; zero if unknown. Decides who keeps an address that
    /// two Services claim.
    pub created: u64,
    /// `spec.type`.
    pub kind: ServiceKind,
    /// `spec.clusterIPs` (or `clusterIP`), without `None`; empty in a headless Service.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` whose `ipMode` is unset or `VIP` (items 78, 79).
    pub load_balancer: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`; empty: everybody.
    pub source_ranges: Vec<Prefix>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// `ClientIP` affinity: time-out in seconds.
    pub affinity: Option<u32>,
    /// Annotation `sluice.dev/algorithm`.
    pub algorithm: Option<Algorithm>,
    /// Annotation `sluice.dev/dsr`.
    pub direct_return: Option<Serving>,
    /// Annotation `sluice.dev/weights`.
    pub weights: Weights,
    /// Value of the label `service.kubernetes.io/service-proxy-name` (item 1).
    pub proxy_name: Option<Name>,
    /// Whether the label `service.kubernetes.io/headless` is there (item 2).
    pub headless_label: Label,
    /// `spec.healthCheckNodePort`, never zero.
    pub health_check_node_port: Option<Port>,
}

impl Service {
    /// A ClusterIP Service that says nothing else.
    pub fn cluster_ip(key: ObjectKey, cluster_ip: IpAddr, ports: Vec<ServicePort>) -> Self {
        Self { cluster_ips: vec![cluster_ip], ports, ..Self::without_ports(key) }
    }

    /// A Service that says nothing, not even where it is.
    pub fn without_ports(key: ObjectKey) -> Self {
        Self {
            key,
            created: 0,
            kind: ServiceKind::ClusterIp,
            cluster_ips: Vec::new(),
            ports: Vec::new(),
            external_ips: Vec::new(),
            load_balancer: Vec::new(),
            source_ranges: Vec::new(),
            internal_policy: TrafficPolicy::Cluster,
            external_policy: TrafficPolicy::Cluster,
            affinity: None,
            algorithm: None,
            direct_return: None,
            weights: Weights::default(),
            proxy_name: None,
            headless_label: Label::Absent,
            health_check_node_port: None,
        }
    }
}

/// `spec.type` of a Service. Frontends follow from the addresses and ports that are filled in, as upstream;
/// only `ExternalName` overrides them (item 4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ServiceKind {
    /// `ClusterIP`.
    ClusterIp,
    /// `NodePort`.
    NodePort,
    /// `LoadBalancer`.
    LoadBalancer,
    /// `ExternalName`.
    ExternalName,
}

/// A traffic policy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TrafficPolicy {
    /// All endpoints.
    Cluster,
    /// Endpoints of this node.
    Local,
}

/// Whether a label is present; its value does not matter.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Label {
    /// Not there.
    Absent,
    /// There.
    Present,
}

/// One of `spec.ports`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// Name; empty for a single unnamed port.
    pub name: Name,
    /// Protocol: TCP, UDP or SCTP.
    pub proto: Proto,
    /// Port of the ClusterIP, the external IPs and the load balancer.
    pub port: Port,
    /// Node port, never zero.
    pub node_port: Option<Port>,
}

/// An EndpointSlice.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointSlice {
    /// Namespace and name of the slice itself.
    pub key: ObjectKey,
    /// Label `kubernetes.io/service-name`; without it the slice is of nobody (item 10).
    pub service: Option<Name>,
    /// `addressType`.
    pub family: SliceFamily,
    /// Whether the label `service.kubernetes.io/headless` is there (item 2).
    pub headless_label: Label,
    /// `ports`.
    pub ports: Vec<SlicePort>,
    /// `endpoints`.
    pub endpoints: Vec<Endpoint>,
}

/// `addressType` of a slice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SliceFamily {
    /// `IPv4`.
    Ipv4,
    /// `IPv6`.
    Ipv6,
    /// `FQDN`: ignored (item 11).
    Fqdn,
}

/// One of a slice's `ports`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlicePort {
    /// Name; `None` (not: empty) is skipped (item 9).
    pub name: Option<Name>,
    /// Protocol.
    pub proto: Proto,
    /// Number, never zero; `None` gives no endpoint (item 9).
    pub port: Option<Port>,
}

/// One of a slice's `endpoints`. Conditions stay optional: their defaults are semantics (item 13).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Endpoint {
    /// First of `addresses` (item 12).
    pub address: Option<IpAddr>,
    /// `conditions.ready`; unset is true.
    pub ready: Option<bool>,
    /// `conditions.serving`; unset is true.
    pub serving: Option<bool>,
    /// `conditions.terminating`; unset is false.
    pub terminating: Option<bool>,
    /// `nodeName`.
    pub node: Option<Name>,
    /// `zone`.
    pub zone: Option<Name>,
    /// `hints.forZones[].name`.
    pub hint_zones: Vec<Name>,
    /// `hints.forNodes[].name`.
    pub hint_nodes: Vec<Name>,
}

/// A Node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Node {
    /// Name.
    pub name: Name,
    /// Label `topology.kubernetes.io/zone`, never empty.
    pub zone: Option<Name>,
    /// `status.addresses`: `InternalIP`s in their order, then `ExternalIP`s.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs`.
    pub pod_cidrs: Vec<Prefix>,
    /// `metadata.deletionTimestamp` is set (item 123).
    pub deleting: bool,
    /// The taint `ToBeDeletedByClusterAutoscaler` is there (item 123).
    pub tainted_for_deletion: bool,
    /// Labels.
    pub labels: BTreeMap<Name, Name>,
}

/// A Pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `status.podIPs`.
    pub ips: Vec<IpAddr>,
    /// `spec.nodeName`.
    pub node: Option<Name>,
    /// `spec.hostNetwork`.
    pub host_network: bool,
    /// `status.phase`.
    pub phase: PodPhase,
    /// Labels.
    pub labels: BTreeMap<Name, Name>,
    /// Ports that have a name: of its containers in their order, then of its init containers that keep running. Of
    /// two with one name and protocol the first counts.
    pub ports: Vec<NamedPort>,
}

/// `status.phase` of a Pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PodPhase {
    /// `Pending`, or not said.
    Pending,
    /// `Running`.
    Running,
    /// `Succeeded`.
    Succeeded,
    /// `Failed`.
    Failed,
}

/// A Namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Namespace {
    /// Name.
    pub name: Name,
    /// Labels.
    pub labels: BTreeMap<Name, Name>,
}

/// A fact that has a key.
pub trait Object: Clone + PartialEq {
    /// Its key.
    fn key(&self) -> ObjectKey;
}

macro_rules! objects {
    ($($ty:ty => $key:expr;)+) => {$(
        impl Object for $ty {
            fn key(&self) -> ObjectKey {
                let key: fn(&Self) -> ObjectKey = $key;
                key(self)
            }
        }
    )+};
}
objects! {
    Service => |object| object.key.clone();
    EndpointSlice => |object| object.key.clone();
    Pod => |object| object.key.clone();
    Node => |object| ObjectKey::cluster_wide(object.name.clone());
    Namespace => |object| ObjectKey::cluster_wide(object.name.clone());
    NetworkPolicy => |object| object.key.clone();
    ClusterPolicy => |object| ObjectKey::cluster_wide(object.name.clone());
}

/// What happened to objects of one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change<T> {
    /// The object is new or changed.
    Put(T),
    /// The object is gone; unknown keys are ignored.
    Delete(ObjectKey),
    /// A whole list: objects that are not in it are gone.
    Replace(Vec<T>),
}

/// Something learnt about the cluster or the node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Services.
    Service(Change<Service>),
    /// EndpointSlices.
    Slice(Change<EndpointSlice>),
    /// Nodes.
    Node(Change<Node>),
    /// Pods.
    Pod(Change<Pod>),
    /// Namespaces.
    Namespace(Change<Namespace>),
    /// NetworkPolicies.
    NetworkPolicy(Change<NetworkPolicy>),
    /// ClusterNetworkPolicies.
    ClusterPolicy(Change<ClusterPolicy>),
    /// Which address is behind which device of this node, by the device's index: all pods that have a device.
    PodDevices(BTreeMap<IpAddr, u32>),
    /// All addresses of this node's network interfaces, in an order that the kernel keeps stable.
    LocalAddresses(Vec<IpAddr>),
    /// The first complete list of a kind has arrived.
    Synced(Kind),
    /// A kind is not watched any more: what is known of it is forgotten, and has to be listed again.
    Lost(Kind),
}

/// A kind of object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// Services.
    Service,
    /// EndpointSlices.
    Slice,
    /// Nodes.
    Node,
    /// Pods.
    Pod,
    /// Namespaces.
    Namespace,
    /// NetworkPolicies.
    NetworkPolicy,
    /// ClusterNetworkPolicies; told also if the API does not have them.
    ClusterPolicy,
}
