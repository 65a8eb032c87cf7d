//! Kubernetes objects → facts of the model. The last place that sees `k8s_openapi`.
//!
//! Parsing never fails as a whole: what cannot be read is left out, and said in a [`Problem`] that names the object
//! and the field (item 20). Knows no other object, no order of events and no configuration.

mod address;
mod annotation;
mod cluster_policy;
mod error;
mod namespace;
mod network_policy;
mod node;
mod pod;
mod port;
mod range;
mod selector;
mod service;
mod slice;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proxy_model::{Change, Event, ObjectKey, fact};

pub use error::{Closed, Fault, Problem};

use crate::source::{Key, Kind, Object};

/// What one object says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// The fact.
    pub fact: Fact,
    /// What had to be left out.
    pub problems: Vec<Problem>,
    /// When the pods changed that this object tells of (item 135).
    pub triggered: Option<SystemTime>,
}

/// What can be learnt from an object.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are events, and none lives longer than until it is applied"
)]
pub enum Fact {
    /// Something for the model.
    Model(Event),
    /// Ranges that ClusterIPs are taken from (item 53).
    ServiceRanges(Vec<IpNet>),
}

impl From<Event> for Fact {
    fn from(event: Event) -> Self {
        Self::Model(event)
    }
}

/// Reduces an object to its fact.
pub fn object(key: &Key, object: &Object) -> Parsed {
    let mut report = Report { key, problems: Vec::new() };
    let mut triggered = None;
    let fact = match object {
        Object::Service(object) => Event::Service(Change::Put(service::parse(object, &mut report))).into(),
        Object::EndpointSlice(object) => {
            triggered = slice::triggered(object);
            Event::Slice(Change::Put(slice::parse(object, &mut report))).into()
        }
        Object::Node(object) => Event::Node(Change::Put(node::parse(object, &mut report))).into(),
        Object::Namespace(object) => Event::Namespace(Change::Put(namespace::parse(object, &report))).into(),
        Object::Pod(object) => Event::Pod(Change::Put(pod::parse(object, &mut report))).into(),
        Object::ServiceCidr(object) => Fact::ServiceRanges(range::parse(object, &mut report)),
        Object::NetworkPolicy(object) => {
            Event::NetworkPolicy(Change::Put(network_policy::parse(object, &mut report))).into()
        }
        Object::ClusterNetworkPolicy(object) => {
            Event::ClusterPolicy(Change::Put(cluster_policy::parse(object, &mut report))).into()
        }
    };
    Parsed { fact, problems: report.problems, triggered }
}

/// What it means that an object is gone.
pub fn gone(key: &Key) -> Fact {
    let object = object_key(key);
    match key.kind {
        Kind::Service => Event::Service(Change::Delete(object)).into(),
        Kind::EndpointSlice => Event::Slice(Change::Delete(object)).into(),
        Kind::Node => Event::Node(Change::Delete(object)).into(),
        Kind::Namespace => Event::Namespace(Change::Delete(object)).into(),
        Kind::Pod => Event::Pod(Change::Delete(object)).into(),
        Kind::ServiceCidr => Fact::ServiceRanges(Vec::new()),
        Kind::NetworkPolicy => Event::NetworkPolicy(Change::Delete(object)).into(),
        Kind::ClusterNetworkPolicy => Event::ClusterPolicy(Change::Delete(object)).into(),
    }
}

/// What it means that every object of a kind is known; nothing for kinds that the model does not have.
pub fn synced(kind: Kind) -> Option<Event> {
    let kind = match kind {
        Kind::Service => fact::Kind::Service,
        Kind::EndpointSlice => fact::Kind::Slice,
        Kind::Node => fact::Kind::Node,
        Kind::Namespace => fact::Kind::Namespace,
        Kind::Pod => fact::Kind::Pod,
        Kind::NetworkPolicy => fact::Kind::NetworkPolicy,
        Kind::ClusterNetworkPolicy => fact::Kind::ClusterPolicy,
        Kind::ServiceCidr => return None,
    };
    Some(Event::Synced(kind))
}

/// `metadata.creationTimestamp`, seconds since 1970; zero if unknown.
fn created(metadata: &ObjectMeta) -> u64 {
    let time = metadata.creation_timestamp.as_ref();
    time.and_then(|time| u64::try_from(time.0.as_second()).ok()).unwrap_or(0)
}

fn object_key(key: &Key) -> ObjectKey {
    ObjectKey::new(key.namespace.clone(), key.name.clone())
}

/// Collects the problems of one object.
struct Report<'a> {
    key: &'a Key,
    problems: Vec<Problem>,
}

impl Report<'_> {
    fn object_key(&self) -> ObjectKey {
        object_key(self.key)
    }

    fn problem(&mut self, field: impl Into<String>, fault: Fault) {
        self.problems.push(Problem { object: self.key.clone(), field: field.into(), fault });
    }

    /// The value, or a problem in its place.
    fn keep<T>(&mut self, field: impl FnOnce() -> String, value: Result<T, Fault>) -> Option<T> {
        match value {
            Ok(value) => Some(value),
            Err(fault) => {
                self.problem(field(), fault);
                None
            }
        }
    }
}
