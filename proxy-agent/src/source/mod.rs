//! Sources of Kubernetes objects: files of a directory, or an API server. Each yields the same [`Update`]s over
//! one channel, with the objects already reduced to facts by `parse`.
//!
//! ```text
//! manifests ─┐
//!            ├─► parse ─► Update ─► (channel) ─► run
//! kube ──────┘
//! ```
//!
//! A source tells what is, not what to do: which objects exist, when every object of a kind has been told once
//! ([`Update::Synced`]), and whether it can still be believed to be current ([`Update::Contact`]). A relist that
//! lacks an object is a delete; nobody downstream knows of relists.

pub mod kube;
pub mod manifests;

use std::fmt;
use std::time::SystemTime;

use ::kube::api::DynamicObject;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicySpec, ServiceCIDR};
use proxy_model::Name;
use tokio::sync::mpsc;

use crate::parse::{self, Parsed, Problem};

/// Updates that may wait for the planner before a source is held back.
const CHANNEL: usize = 16_384;

/// A kind of object that the agent reads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `v1 Service`.
    Service,
    /// `discovery.k8s.io/v1 EndpointSlice`.
    EndpointSlice,
    /// `v1 Node`.
    Node,
    /// `v1 Namespace`.
    Namespace,
    /// `v1 Pod`.
    Pod,
    /// `networking.k8s.io/v1 ServiceCIDR`.
    ServiceCidr,
    /// `networking.k8s.io/v1 NetworkPolicy`.
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2 ClusterNetworkPolicy`.
    ClusterNetworkPolicy,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Service,
        Self::EndpointSlice,
        Self::Node,
        Self::Namespace,
        Self::Pod,
        Self::ServiceCidr,
        Self::NetworkPolicy,
        Self::ClusterNetworkPolicy,
    ];

    /// Whether what clients find follows from objects of this kind: without one of them, a Service or a part of one is unknown.
    pub const fn makes_frontends(self) -> bool {
        match self {
            Self::Service | Self::EndpointSlice | Self::Node => true,
            Self::Namespace
            | Self::Pod
            | Self::ServiceCidr
            | Self::NetworkPolicy
            | Self::ClusterNetworkPolicy => false,
        }
    }

    /// The name in `kind:`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Node => "Node",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::ServiceCidr => "ServiceCIDR",
            Self::NetworkPolicy => "NetworkPolicy",
            Self::ClusterNetworkPolicy => "ClusterNetworkPolicy",
        }
    }

    /// The text in `apiVersion:`.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::Service | Self::Node | Self::Namespace | Self::Pod => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::ServiceCidr | Self::NetworkPolicy => "networking.k8s.io/v1",
            Self::ClusterNetworkPolicy => "policy.networking.k8s.io/v1alpha2",
        }
    }

    /// Whether objects of this kind live in a namespace.
    pub const fn is_namespaced(self) -> bool {
        match self {
            Self::Service | Self::EndpointSlice | Self::Pod | Self::NetworkPolicy => true,
            Self::Node | Self::Namespace | Self::ServiceCidr | Self::ClusterNetworkPolicy => false,
        }
    }
}

/// Names one object. Printed as `Service default/web` or `Node n1`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, empty for kinds without.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        // Debug escapes control characters: a name from a file may hold anything, and this text reaches terminals.
        let (namespace, name) = (namespace.escape_debug(), name.escape_debug());
        if kind.is_namespaced() {
            write!(f, "{} {namespace}/{name}", kind.name())
        } else {
            write!(f, "{} {name}", kind.name())
        }
    }
}

/// One decoded object.
#[derive(Clone, PartialEq, Debug)]
pub enum Object {
    /// A Service.
    Service(Box<Service>),
    /// An EndpointSlice.
    EndpointSlice(Box<EndpointSlice>),
    /// A Node.
    Node(Box<Node>),
    /// A Namespace.
    Namespace(Box<Namespace>),
    /// A Pod.
    Pod(Box<Pod>),
    /// A ServiceCIDR.
    ServiceCidr(Box<ServiceCIDR>),
    /// A NetworkPolicy.
    NetworkPolicy(Box<NetworkPolicy>),
    /// A ClusterNetworkPolicy, as it stands there: what it has that nobody knows must be seen.
    ClusterNetworkPolicy(Box<DynamicObject>),
}

impl Object {
    /// In place of a NetworkPolicy that cannot be decoded and was never told: isolates every pod of its namespace, and
    /// allows nothing (policy item 58).
    pub(crate) fn closed_policy() -> Self {
        let types = ["Ingress", "Egress"].map(str::to_owned);
        let spec = NetworkPolicySpec { policy_types: Some(types.into()), ..NetworkPolicySpec::default() };
        Self::NetworkPolicy(Box::new(NetworkPolicy { spec: Some(spec), ..NetworkPolicy::default() }))
    }

    /// Its name; `None` without `metadata.name`. A namespaced object without a namespace is in `default`.
    pub fn key(&self) -> Option<Key> {
        let (kind, metadata) = match self {
            Self::Service(object) => (Kind::Service, &object.metadata),
            Self::EndpointSlice(object) => (Kind::EndpointSlice, &object.metadata),
            Self::Node(object) => (Kind::Node, &object.metadata),
            Self::Namespace(object) => (Kind::Namespace, &object.metadata),
            Self::Pod(object) => (Kind::Pod, &object.metadata),
            Self::ServiceCidr(object) => (Kind::ServiceCidr, &object.metadata),
            Self::NetworkPolicy(object) => (Kind::NetworkPolicy, &object.metadata),
            Self::ClusterNetworkPolicy(object) => (Kind::ClusterNetworkPolicy, &object.metadata),
        };
        let name = metadata.name.clone().filter(|name| !name.is_empty())?;
        let namespace = match (kind.is_namespaced(), &metadata.namespace) {
            (false, _) => "",
            (true, Some(namespace)) if !namespace.is_empty() => namespace,
            (true, _) => "default",
        };
        Some(Key { kind, namespace: namespace.into(), name: name.into() })
    }
}

/// What a source has to say.
#[derive(Debug)]
pub enum Update {
    /// The object exists, and this is what it says now.
    Put(Key, Box<Parsed>),
    /// The object has not the shape of its kind: what was told of it last stays in force.
    Misshapen(Box<Problem>),
    /// The object is gone.
    Delete(Key),
    /// Every object of the kind has been told at least once.
    Synced(Kind),
    /// Whether the source can still be asked.
    Contact(Contact),
    /// So many files cannot be read in full now.
    UnreadableFiles(usize),
    /// How much of what makes frontends could be told since the start; all, unless it says otherwise before it has synced.
    Extent(Extent),
}

/// How much of what makes frontends could be told since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// Some objects may exist that could never be told.
    Part,
    /// All of it.
    Whole,
}

/// Whether a source can still be asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Contact {
    /// What it told is current.
    Current,
    /// It has not answered since then; what it told last stays in force.
    LostSince(SystemTime),
}

/// The sending end of the channel.
#[derive(Clone, Debug)]
pub struct Feed {
    sender: mpsc::Sender<Update>,
}

/// Nobody listens any more: the agent is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the agent is stopping")]
pub struct Closed;

/// The channel from the sources to the run loop.
pub fn channel() -> (Feed, mpsc::Receiver<Update>) {
    let (sender, receiver) = mpsc::channel(CHANNEL);
    (Feed { sender }, receiver)
}

impl Feed {
    /// Hands one update on, waiting while the planner is behind.
    pub async fn send(&self, update: Update) -> Result<(), Closed> {
        self.sender.send(update).await.map_err(|_| Closed)
    }

    /// Reduces an object to its facts and hands them on.
    pub async fn put(&self, key: Key, object: &Object) -> Result<(), Closed> {
        let parsed = parse::object(&key, object);
        self.send(Update::Put(key, Box::new(parsed))).await
    }
}
