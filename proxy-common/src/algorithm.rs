//! How a backend is chosen among those that a client may use, and the numbers that the choice is made of. Both roads
//! and the planner read the same names; the planner lays a segment out as its algorithm wants it, so that the kernel
//! needs one number below the segment's length.
//!
//! Knows no map: counters and loads are read where the maps are.

use core::fmt;
use core::str::FromStr;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Port, Proto};
use crate::frontend::{Segment, ServiceId};

word! {
    /// An algorithm, by the names that IPVS has for them.
    pub struct Algorithm(pub u8);
}

impl Algorithm {
    /// Each connection for itself, in proportion to the weights (item 35).
    pub const RANDOM: Self = Self(0);
    /// A Maglev table asked with the hash of the connection's addresses and ports: nodes that agree on the set of
    /// backends agree on the backend, and a change of the set moves few other connections.
    pub const MAGLEV: Self = Self(1);
    /// One after the other; weights do not count.
    pub const ROUND_ROBIN: Self = Self(2);
    /// One after the other, each as often as its weight says, evenly spread.
    pub const WEIGHTED_ROUND_ROBIN: Self = Self(3);
    /// Of two taken at random the one with fewer connections.
    pub const LEAST_CONNECTIONS: Self = Self(4);
    /// Of two taken at random the one with fewer connections for its weight.
    pub const WEIGHTED_LEAST_CONNECTIONS: Self = Self(5);
    /// A Maglev table asked with the hash of the client: one client, one backend.
    pub const SOURCE_HASH: Self = Self(6);

    /// Every algorithm with its name.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::RANDOM, "random"),
        (Self::MAGLEV, "maglev"),
        (Self::ROUND_ROBIN, "rr"),
        (Self::WEIGHTED_ROUND_ROBIN, "wrr"),
        (Self::LEAST_CONNECTIONS, "lc"),
        (Self::WEIGHTED_LEAST_CONNECTIONS, "wlc"),
        (Self::SOURCE_HASH, "sh"),
    ];

    /// The name, if this version knows the algorithm.
    pub fn name(self) -> Option<&'static str> {
        Self::ALL.iter().find(|(algorithm, _)| *algorithm == self).map(|(_, name)| *name)
    }

    /// It asks how many connections a backend has, so they are counted.
    #[inline(always)]
    pub const fn counts_connections(self) -> bool {
        self.0 == Self::LEAST_CONNECTIONS.0 || self.0 == Self::WEIGHTED_LEAST_CONNECTIONS.0
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "algorithm {}", self.0),
        }
    }
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that names no algorithm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotAnAlgorithm;

impl FromStr for Algorithm {
    type Err = NotAnAlgorithm;

    /// The names of [`Algorithm::ALL`], and `mh`, as IPVS calls Maglev.
    fn from_str(text: &str) -> Result<Self, NotAnAlgorithm> {
        if text == "mh" {
            return Ok(Self::MAGLEV);
        }
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(algorithm, _)| *algorithm).ok_or(NotAnAlgorithm)
    }
}

word! {
    /// How packets reach the backend.
    #[derive(Debug)]
    pub struct ForwardingMode(pub u8);
}

impl ForwardingMode {
    /// Addresses are translated, and the replies translated back here.
    pub const NAT: Self = Self(0);
    /// Packets of clients from outside go to a backend on another node as they are, inside of another IP header; that node
    /// translates them and answers the client itself.
    pub const TUNNEL: Self = Self(1);
}

/// How much a backend should get in proportion to the others. Zero: nothing new, unless all have zero.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Weight(pub u8);

impl Weight {
    /// No new connections.
    pub const DRAINED: Self = Self(0);
    /// What a backend has about which nothing is said.
    pub const ONE: Self = Self(1);
}

impl Default for Weight {
    fn default() -> Self {
        Self::ONE
    }
}

word! {
    /// Which connections a [`LoadKey`] counts.
    #[derive(Debug)]
    pub struct LoadKind(pub u16);
}

impl LoadKind {
    /// Flows of the packet road: counted up by the kernel, set right by the agent's count.
    pub const FLOWS: Self = Self(0);
    /// Connected sockets: counted up and down by the kernel.
    pub const SOCKETS: Self = Self(1);
}

/// Key of the `loads` map: one backend of one Service port. The value is the number of its connections.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct LoadKey {
    /// Whose backend; ids differ between families.
    pub service: ServiceId,
    /// Its address, padded with zero words.
    pub addr: [u32; 4],
    /// Its port.
    pub port: Port,
    /// Which connections.
    pub kind: LoadKind,
}

/// Value of the `tallies` map: what became of the new connections to a Service port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Tally {
    /// Given a backend.
    pub opened: u64,
    /// Told at once that there is none.
    pub refused: u64,
    /// Gone without a word.
    pub dropped: u64,
}

/// The slot of the n-th turn. Segments have no more than four billion slots and at least one.
#[inline(always)]
pub const fn turn(segment: Segment, number: u64) -> u32 {
    match number.checked_rem(segment.len as u64) {
        Some(offset) => segment.start.wrapping_add(offset as u32),
        None => segment.start,
    }
}

/// Of two backends with their connections and weights, whether the second one is to be preferred: it has fewer for
/// its weight. (Counts are compared as they would be with one more connection, so that among idle backends the
/// heavier one comes first.)
#[inline(always)]
pub const fn prefers_second(first: (u32, Weight), second: (u32, Weight)) -> bool {
    let (a, b) = (first.0 as u64 + 1, second.0 as u64 + 1);
    // a / weight a > b / weight b, without a division.
    a * (second.1.0 as u64) > b * (first.1.0 as u64)
}

/// Mixes words into a number whose bits are all as good as random (the finalizer of MurmurHash3 after each word). No
/// secret, and the same everywhere: agents and kernels of different nodes must agree.
#[inline(always)]
pub const fn mix(state: u32, word: u32) -> u32 {
    let mut h = state ^ word;
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^= h >> 16;
    // So that a word of zeros changes the state as well.
    h.wrapping_add(0x9e37_79b9)
}

/// The hash of a client's address, or of what stands for it.
#[inline(always)]
pub const fn client_hash(client: [u32; 4]) -> u32 {
    words_hash(SEED, client)
}

/// The hash of a connection: the client, its port, the frontend and its port (the protocol's number counts as a port's
/// neighbour).
#[inline(always)]
pub const fn connection_hash(client: [u32; 4], frontend: [u32; 4], ports: (Port, Port), proto: Proto) -> u32 {
    let hash = words_hash(words_hash(SEED, client), frontend);
    let ports = (ports.0.number() as u32) << 16 | ports.1.number() as u32;
    mix(mix(hash, ports), proto.0 as u32)
}

/// Words in network order, read as the numbers that they are, so that machines of either byte order agree.
#[inline(always)]
const fn words_hash(state: u32, words: [u32; 4]) -> u32 {
    let [a, b, c, d] = words;
    mix(mix(mix(mix(state, u32::from_be(a)), u32::from_be(b)), u32::from_be(c)), u32::from_be(d))
}

const SEED: u32 = 0x51_1ce;

const _: () = assert!(size_of::<LoadKey>() == 24);
const _: () = assert!(size_of::<Tally>() == 24);

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn every_algorithm_is_read_back_by_its_name() {
        for (algorithm, name) in Algorithm::ALL {
            assert_eq!(algorithm.to_string(), name);
            assert_eq!(name.parse(), Ok(algorithm));
        }
        assert_eq!("mh".parse(), Ok(Algorithm::MAGLEV));
        for text in ["", "Random", "maglev ", "lblc"] {
            assert_eq!(text.parse::<Algorithm>(), Err(NotAnAlgorithm));
        }
    }

    #[test]
    fn turns_go_round_the_segment() {
        let segment = Segment { start: 10, len: 3 };
        let slots: Vec<_> = (0..7).map(|number| turn(segment, number)).collect();
        assert_eq!(slots, [10, 11, 12, 10, 11, 12, 10]);
        assert_eq!(turn(Segment { start: 10, len: 0 }, 5), 10);
    }

    #[test]
    fn the_backend_with_fewer_connections_for_its_weight_is_preferred() {
        let one = Weight::ONE;
        assert!(prefers_second((5, one), (4, one)));
        assert!(!prefers_second((4, one), (4, one)));
        assert!(prefers_second((0, one), (0, Weight(2))));
        assert!(!prefers_second((1, one), (3, Weight(2))));
        assert!(!prefers_second((0, one), (u32::MAX, Weight(255))));
    }

    #[test]
    fn hashes_of_neighbours_fill_all_slots_alike() {
        let mut counts = [0_u32; 16];
        for last in 0..16_000_u32 {
            let hash = client_hash([last.swap_bytes(), 0, 0, 0]);
            counts[(hash >> 28) as usize] += 1;
        }
        // The standard deviation of such a count is 31.
        assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
    }
}
