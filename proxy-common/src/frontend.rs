//! Frontends: the address, port and protocol that clients use, and what is behind them.
//!
//! The kernel learns here which backends may be used by whom; it never learns why (Service types, traffic
//! policies and readiness are resolved by the planner).

use core::fmt;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Addr4, Addr6, Port, Proto};
use crate::algorithm::{Algorithm, ForwardingMode};
use crate::layout;

word! {
    /// Stable number of a Service port (one namespace/name, port name and protocol, in one family), adopted
    /// after a restart. Zero is nobody.
    #[derive(Debug)]
    pub struct ServiceId(pub u32);
}

impl ServiceId {
    /// No Service: the wildcard entry of a cluster address.
    pub const NONE: Self = Self(0);
}

/// Key of the `frontends` maps. `port` 0 with protocol 0 is the wildcard entry of a cluster address: it says
/// that the address is ours, so that an unknown port rejects (item 52).
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FrontendKey<A> {
    /// Destination address.
    pub addr: A,
    /// Destination port, [`Port::NONE`] in a wildcard.
    pub port: Port,
    /// Protocol, [`Proto::ANY`] in a wildcard.
    pub proto: Proto,
    /// Always zero.
    pub pad: u8,
}

impl<A> FrontendKey<A> {
    /// The key of one frontend.
    #[inline(always)]
    pub const fn new(addr: A, port: Port, proto: Proto) -> Self {
        Self { addr, port, proto, pad: 0 }
    }

    /// The wildcard entry of an address.
    #[inline(always)]
    pub const fn wildcard(addr: A) -> Self {
        Self::new(addr, Port::NONE, Proto::ANY)
    }
}

/// A run of slots in the `backends` array, immutable while a frontend points at it.
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
pub struct Segment {
    /// Index of the first slot.
    pub start: u32,
    /// Number of slots; zero is the empty segment, its `start` is zero too.
    pub len: u32,
}

impl Segment {
    /// No backends.
    pub const EMPTY: Self = Self { start: 0, len: 0 };

    /// True without any slot.
    #[inline(always)]
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// Who the client is, as far as the choice of backends and the masquerade matrix care (section 2.2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum ClientClass {
    /// Its address is in the cluster's pod ranges (item 63: any pod, not only one of this node).
    Pod = 0,
    /// This node itself.
    Node = 1,
    /// Everybody else; with no detector configured also pods (item 62).
    Outside = 2,
}

impl ClientClass {
    /// Every class, in the order of [`Frontend::rules`].
    pub const ALL: [Self; 3] = [Self::Pod, Self::Node, Self::Outside];
}

word! {
    /// What one class of clients gets from a frontend: a byte of flags.
    pub struct ClientRule(pub u8);
}

impl ClientRule {
    /// Backends of the whole cluster, source kept, empty rejects.
    pub const CLUSTER: Self = Self(0);
    /// Use the local segment instead of the cluster one.
    pub const LOCAL: Self = Self(1);
    /// Replace the source by an address of this node.
    pub const MASQUERADE: Self = Self(2);
    /// An empty segment drops silently instead of rejecting (items 50, 94).
    pub const DROP_IF_EMPTY: Self = Self(4);
    /// A backend of this node sees the client's own address all the same (a choice that item 57 does not leave).
    pub const KEEP_IF_LOCAL: Self = Self(8);
}

impl fmt::Debug for ClientRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.has(Self::LOCAL) { "local" } else { "cluster" })?;
        if self.has(Self::MASQUERADE) {
            f.write_str("+masquerade")?;
        }
        if self.has(Self::DROP_IF_EMPTY) {
            f.write_str("+drop-if-empty")?;
        }
        if self.has(Self::KEEP_IF_LOCAL) {
            f.write_str("+keep-if-local")?;
        }
        Ok(())
    }
}

word! {
    /// What a frontend is and needs, beyond its segments.
    #[derive(Debug)]
    pub struct FrontendFlags(pub u8);
}

impl FrontendFlags {
    /// The wildcard entry of a cluster address: its unknown ports reject.
    pub const WILDCARD: Self = Self(1);
    /// A cluster-internal address (ClusterIP).
    pub const CLUSTER_IP: Self = Self(2);
    /// A node address with a node port.
    pub const NODE_PORT: Self = Self(4);
    /// An external IP or a load balancer address.
    pub const EXTERNAL: Self = Self(8);
    /// Only clients in the Service's ranges of the `ranges` maps are served (item 81). Nobody else pays for the
    /// lookup.
    pub const RANGES: Self = Self(16);
    /// Only sockets of the node itself are served: the address is another one in each network namespace (item 68).
    pub const NODE_ONLY: Self = Self(32);
    /// In the entry of an address without a port: pings of it are answered, because somebody is behind it (item 54).
    pub const ECHO: Self = Self(64);
}

bits!(ClientRule, FrontendFlags);

/// Value of the `frontends` maps. Replaced as a whole by one atomic hash update.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Frontend {
    /// Backends for Cluster policy.
    pub cluster: Segment,
    /// Backends for Local policy.
    pub local: Segment,
    /// Whose frontend it is.
    pub service: ServiceId,
    /// Session affinity time-out in seconds; zero is no affinity (items 96, 97).
    pub affinity: u32,
    /// Counts the changes of the segments: a half-open flow of an older generation chooses anew.
    pub generation: u32,
    /// One rule per [`ClientClass`], indexed by it.
    pub rules: [ClientRule; 3],
    /// Kind of frontend.
    pub flags: FrontendFlags,
    /// How one of the backends is chosen; the segments are laid out for it.
    pub algorithm: Algorithm,
    /// How packets reach it.
    pub mode: ForwardingMode,
    /// Always zero.
    pub pad: [u8; 2 + layout::NEXT * 4],
}

impl Frontend {
    /// The rule for a class of clients.
    #[inline(always)]
    pub const fn rule(&self, class: ClientClass) -> ClientRule {
        // Matched and not indexed: an index would be a panic path to the verifier.
        match class {
            ClientClass::Pod => self.rules[0],
            ClientClass::Node => self.rules[1],
            ClientClass::Outside => self.rules[2],
        }
    }
}

const _: () = assert!(size_of::<FrontendKey<Addr4>>() == 8);
const _: () = assert!(size_of::<FrontendKey<Addr6>>() == 20);
const _: () = assert!(size_of::<Frontend>() == 36 + layout::NEXT * 4);
