//! Backends: one slot of a segment. A slot is never changed while a frontend points at its segment.

use core::fmt;

use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::addr::{Addr4, Addr6, Port};
use crate::algorithm::Weight;

word! {
    /// Where a backend is, as far as the packet road cares.
    pub struct BackendFlags(pub u8);
}

impl BackendFlags {
    /// On another node, or nobody knows where.
    pub const REMOTE: Self = Self(0);
    /// On this node (item 15).
    pub const LOCAL: Self = Self(1);
    /// Terminating: chosen only because nothing ready is left (item 29).
    pub const TERMINATING: Self = Self(2);
    /// On another node, which unwraps packets for it ([`crate::ForwardingMode::TUNNEL`]).
    pub const UNWRAPS: Self = Self(4);
}

bits!(BackendFlags);

impl fmt::Debug for BackendFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.has(Self::LOCAL) { "local" } else { "remote" })?;
        if self.has(Self::TERMINATING) {
            f.write_str("+terminating")?;
        }
        if self.has(Self::UNWRAPS) { f.write_str("+unwraps") } else { Ok(()) }
    }
}

/// Value of the `backends` arrays: where a connection goes.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, FromBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Backend<A> {
    /// Endpoint address.
    pub addr: A,
    /// Endpoint port.
    pub port: Port,
    /// Where it is.
    pub flags: BackendFlags,
    /// How much it should get.
    pub weight: Weight,
}

impl<A> Backend<A> {
    /// A slot with the weight of one.
    pub const fn new(addr: A, port: Port, flags: BackendFlags) -> Self {
        Self { addr, port, flags, weight: Weight::ONE }
    }
}

// An mmapable array rounds its values up to eight bytes; `maps::stride` gives the distance between slots.
const _: () = assert!(size_of::<Backend<Addr4>>() == 8);
const _: () = assert!(size_of::<Backend<Addr6>>() == 20);
