//! What can be wrong with an object. A value, not a log line: whoever gets it decides whether it is news.

use std::fmt;
use std::net::IpAddr;

use crate::source::Key;

/// Part of an object that was left out.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// The object.
    pub object: Key,
    /// Path of the field, such as `spec.clusterIPs[0]`.
    pub field: String,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.object, self.field, self.fault)
    }
}

/// What is wrong with a field, and what follows from it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Fault {
    /// Not an address.
    #[error("{0:?} is not an IP address; it is left out")]
    NotAnAddress(String),
    /// An address that means something else on every host, or no host at all.
    #[error("{0} is a loopback, link-local or multicast address, which no Service can have; it is left out")]
    SpecialAddress(IpAddr),
    /// Not a range.
    #[error("{0:?} is not an address range; it is left out")]
    NotARange(String),
    /// Not a port number.
    #[error("{0} is not a port number; the port is left out")]
    NotAPort(i32),
    /// Not a protocol that Services can have.
    #[error("{0:?} is not TCP, UDP or SCTP; the port is left out")]
    NotAProtocol(String),
    /// Another value than the API knows.
    #[error("{value:?} is not known; {instead:?} is assumed")]
    Unknown {
        /// What stands there.
        value: String,
        /// What is assumed in its place.
        instead: &'static str,
    },
    /// Not the name of an algorithm.
    #[error("{value:?} is none of {names}; the default is used", names = algorithms())]
    NotAnAlgorithm {
        /// What stands there.
        value: String,
    },
    /// Neither of the two.
    #[error("{value:?} is neither true nor false; --dsr decides")]
    NotTrueOrFalse {
        /// What stands there.
        value: String,
    },
    /// Not a list of weights.
    #[error("{part:?} is {wrong}; all weights are one")]
    NotWeights {
        /// The part that cannot be read.
        part: String,
        /// What is wrong with it.
        wrong: &'static str,
    },
    /// A time-out beyond its bounds (item 97).
    #[error("{value} s is not between 1 and 86400; {instead} s is assumed")]
    Timeout {
        /// What stands there.
        value: i32,
        /// What is assumed in its place.
        instead: u32,
    },
    /// A slice that belongs to no Service (item 10).
    #[error("missing: the slice names no Service and is ignored")]
    NamesNoService,
    /// A slice of a kind of address that is not known.
    #[error("{0:?} is not IPv4, IPv6 or FQDN; the slice is ignored")]
    AddressType(String),
    /// A part of a policy that is not understood. Nothing passes because of it.
    #[error("{what}; {follows}")]
    Closed {
        /// What is wrong.
        what: String,
        /// What follows from it.
        follows: Closed,
    },
    /// The object does not have the shape of its kind.
    #[error("{error}; the object is left as it was told last")]
    Misshapen {
        /// What stands there, and what should.
        error: String,
    },
    /// A slice port without a name (item 9; the name of a single port is the empty string).
    #[error("missing (not empty): the port is ignored")]
    NoPortName,
}

impl Fault {
    /// What is wrong, without what follows from it elsewhere.
    pub(super) fn cause(&self) -> String {
        match self {
            Self::NotAPort(number) => format!("{number} is not a port number"),
            Self::NotAProtocol(name) => format!("{name:?} is not TCP, UDP or SCTP"),
            Self::NotAnAddress(text) => format!("{text:?} is not an IP address"),
            Self::NotARange(text) => format!("{text:?} is not an address range"),
            Self::Closed { what, .. } => what.clone(),
            Self::Unknown { .. }
            | Self::SpecialAddress(_)
            | Self::NotAnAlgorithm { .. }
            | Self::NotTrueOrFalse { .. }
            | Self::NotWeights { .. }
            | Self::Timeout { .. }
            | Self::NamesNoService
            | Self::AddressType(_)
            | Self::Misshapen { .. }
            | Self::NoPortName => self.to_string(),
        }
    }
}

/// What becomes of a policy of which a part is not understood: it fails closed (item 58).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Closed {
    /// It isolates more pods, and allows nothing.
    Policy,
    /// It isolates in both directions.
    Types,
    /// One of its peers is nobody.
    Peer,
    /// Some ports are none.
    Port,
    /// A rule of a ClusterNetworkPolicy.
    Rule,
    /// All rules of a ClusterNetworkPolicy that accept.
    Subject,
    /// The tier of a ClusterNetworkPolicy.
    Tier,
    /// Its priority.
    Priority,
}

impl Closed {
    /// The fault.
    pub(super) fn fault(self, what: impl Into<String>) -> Fault {
        Fault::Closed { what: what.into(), follows: self }
    }
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Policy => "the policy isolates every pod of its namespace and allows nothing",
            Self::Types => "the policy isolates in both directions",
            Self::Peer => "the peer matches nobody",
            Self::Port => "it matches no port",
            Self::Rule => "the rule accepts nothing, or, if it does not accept, denies everything",
            Self::Subject => "the policy is about every pod, and only what it denies counts",
            Self::Tier => "the policy counts as one of the tier Admin",
            Self::Priority => "the policy counts as the first of its tier",
        })
    }
}

fn algorithms() -> String {
    proxy_common::Algorithm::ALL.map(|(_, name)| name).join(", ")
}
