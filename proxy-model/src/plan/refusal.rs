//! What could not be planned, and why, with the object's name for Events, logs and metrics.

use std::net::IpAddr;

use proxy_common::{Address, FrontendKey, Port, Proto};

use super::name::ServiceName;
use crate::fact::ObjectKey;

/// A frontend that a Service asks for and does not get as it should.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
#[error("Service {}: {frontend} ({name}): {reason}", name.service)]
pub struct Refusal {
    /// Whose it would be.
    pub name: ServiceName,
    /// Where.
    pub frontend: Place,
    /// Why not.
    pub reason: Refused,
}

impl Refusal {
    /// The Service.
    pub fn object(&self) -> &ObjectKey {
        &self.name.service
    }
}

/// The key of a frontend for people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// Address.
    pub addr: IpAddr,
    /// Port.
    pub port: Port,
    /// Protocol.
    pub proto: Proto,
}

impl<A: Address> From<FrontendKey<A>> for Place {
    fn from(key: FrontendKey<A>) -> Self {
        Self { addr: key.addr.to_ip(), port: key.port, proto: key.proto }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", std::net::SocketAddr::new(self.addr, self.port.number()), self.proto)
    }
}

/// Why a frontend is refused.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Refused {
    /// A Service with an older claim serves it. Cluster addresses come before external ones, those before node
    /// ports (item 69); then the older Service wins, then the lower name.
    #[error("it belongs to Service {by}")]
    Taken {
        /// Whose it is.
        by: ObjectKey,
    },
    /// The `frontends` map is full. It enters once another one leaves.
    #[error("no room among {capacity} frontends (--frontend-table-size)")]
    Frontends {
        /// Size of the map.
        capacity: u32,
    },
    /// The `backends` array has no free run of slots; a frontend that was there before keeps its old backends.
    #[error("no room for {needed} more backends among {capacity} (--backend-table-size)")]
    Backends {
        /// Length of the run.
        needed: u32,
        /// Size of the array.
        capacity: u32,
    },
    /// The `ranges` map is full. The frontend serves the ranges that are in it and no others.
    #[error("no room for {needed} more source ranges among {capacity}; clients in them are dropped")]
    Ranges {
        /// Ranges of this port that found no room.
        needed: u32,
        /// Size of the map.
        capacity: u32,
    },
}
