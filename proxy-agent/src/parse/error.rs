//! What can be wrong with an object. A value, not a log line: whoever gets it decides whether it is news.

use std::fmt;

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
    /// A slice port without a name (item 9; the name of a single port is the empty string).
    #[error("missing (not empty): the port is ignored")]
    NoPortName,
}

fn algorithms() -> String {
    proxy_common::Algorithm::ALL.map(|(_, name)| name).join(", ")
}
