//! Policies as facts: NetworkPolicy of `networking.k8s.io/v1` and ClusterNetworkPolicy of
//! `policy.networking.k8s.io/v1alpha2`.
//!
//! Defaults that are semantics stay open (`types`), and what cannot be understood stays in its place as `Unknown`: a
//! peer that was left out would widen its rule to everybody. What an `Unknown` means is decided by the compiler, so that
//! every one fails closed (items 16, 58).

use std::collections::{BTreeMap, BTreeSet};

use proxy_common::{Port, Proto};

use super::{Name, ObjectKey, Prefix};

/// Which way a connection goes, seen from the pod that a policy selects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

/// A LabelSelector (item 17): everything in it must hold, so an empty one selects everything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Selector {
    /// `matchLabels`.
    pub labels: BTreeMap<Name, Name>,
    /// `matchExpressions`.
    pub expressions: Vec<Requirement>,
}

/// One of `matchExpressions`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Requirement {
    /// The label.
    pub key: Name,
    /// What it must be.
    pub operator: Operator,
}

/// What a label must be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Operator {
    /// There, and one of these.
    In(BTreeSet<Name>),
    /// Not there, or none of these.
    NotIn(BTreeSet<Name>),
    /// There.
    Exists,
    /// Not there.
    DoesNotExist,
}

/// Ports of a rule. A rule without any means every port and every protocol (item 10).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PortMatch {
    /// Every port of a protocol (item 25).
    Every(Proto),
    /// These ports, both included; a single number is a range of one (item 27).
    Range {
        /// Protocol.
        proto: Proto,
        /// First.
        first: Port,
        /// Last, not before the first.
        last: Port,
    },
    /// What the pod behind the connection calls so (item 26).
    Named {
        /// Protocol; none in a ClusterNetworkPolicy: the one that the pod says.
        proto: Option<Proto>,
        /// Name of a container port.
        name: Name,
    },
    /// Not understood.
    Unknown,
}

/// A NetworkPolicy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NetworkPolicy {
    /// Namespace and name.
    pub key: ObjectKey,
    /// `metadata.creationTimestamp`, seconds since 1970; zero if unknown. The newest is refused first when there is no
    /// room.
    pub created: u64,
    /// `spec.podSelector`.
    pub pods: Selector,
    /// `spec.policyTypes`; none if the list is missing or empty (item 3).
    pub types: Option<BTreeSet<Direction>>,
    /// `spec.ingress`.
    pub ingress: Vec<NetworkRule>,
    /// `spec.egress`.
    pub egress: Vec<NetworkRule>,
}

/// A rule of a NetworkPolicy. Empty lists mean everybody, and every port (item 10).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NetworkRule {
    /// `from` or `to`.
    pub peers: Vec<NetworkPeer>,
    /// `ports`.
    pub ports: Vec<PortMatch>,
}

/// A peer of a NetworkPolicy's rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NetworkPeer {
    /// `podSelector`, `namespaceSelector`, or both (items 14, 15).
    Pods {
        /// `namespaceSelector`; none: the policy's own namespace.
        namespaces: Option<Selector>,
        /// `podSelector`; none: every pod.
        pods: Option<Selector>,
    },
    /// `ipBlock` (items 20–23).
    Block {
        /// `cidr`.
        net: Prefix,
        /// `except`.
        except: Vec<Prefix>,
    },
    /// Not understood, or none of the three fields (item 16): nobody.
    Unknown,
}

/// A ClusterNetworkPolicy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterPolicy {
    /// Name.
    pub name: Name,
    /// `metadata.creationTimestamp`, seconds since 1970; zero if unknown.
    pub created: u64,
    /// `spec.tier`.
    pub tier: Tier,
    /// `spec.priority`: the lower, the earlier. At equal ones, the lower name (item 52).
    pub priority: u16,
    /// `spec.subject`.
    pub subject: Subject,
    /// `spec.ingress`.
    pub ingress: Vec<ClusterRule>,
    /// `spec.egress`.
    pub egress: Vec<ClusterRule>,
}

/// `spec.tier` (item 51). A tier that is not understood counts as `Admin`: the one that nobody overrules.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Tier {
    /// Before NetworkPolicies.
    Admin,
    /// After them.
    Baseline,
}

/// `spec.subject`: the pods that a ClusterNetworkPolicy is about (item 53).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Subject {
    /// All pods of these namespaces.
    Namespaces(Selector),
    /// These pods of these namespaces.
    Pods {
        /// `namespaceSelector`.
        namespaces: Selector,
        /// `podSelector`.
        pods: Selector,
    },
    /// Not understood: every pod; but only `Deny` rules count.
    Unknown,
}

/// A rule of a ClusterNetworkPolicy (items 54–57).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterRule {
    /// `name`; empty if there is none.
    pub name: Name,
    /// `action`.
    pub action: Action,
    /// `from` or `to`; empty: everybody.
    pub peers: Vec<ClusterPeer>,
    /// `protocols`; empty: everything, ICMP too.
    pub protocols: Vec<PortMatch>,
    /// Whether there is anything else in the rule that is not understood (item 58).
    pub rest: Understood,
}

/// Whether something is understood as a whole.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Understood {
    /// All of it.
    #[default]
    Fully,
    /// There is a field that nobody here knows.
    InPart,
}

/// What a rule does (item 55).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Action {
    /// Lets the connection pass.
    Accept,
    /// Drops it.
    Deny,
    /// Leaves it to the next tier.
    Pass,
    /// Not understood: denies everything.
    Unknown,
}

/// A peer of a ClusterNetworkPolicy's rule (item 56).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClusterPeer {
    /// All pods of these namespaces.
    Namespaces(Selector),
    /// These pods of these namespaces.
    Pods {
        /// `namespaceSelector`.
        namespaces: Selector,
        /// `podSelector`.
        pods: Selector,
    },
    /// `nodes`: the addresses of these nodes.
    Nodes(Selector),
    /// `networks`.
    Networks(Vec<Prefix>),
    /// Not understood, or not supported: `domainNames` (item 58).
    Unknown,
}

/// A port that a container gives a name (items 26, 30).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NamedPort {
    /// The name.
    pub name: Name,
    /// Protocol.
    pub proto: Proto,
    /// Number, never zero.
    pub port: Port,
}
