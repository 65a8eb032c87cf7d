//! Session affinity: which backend a client used last (items 96–100).
//!
//! One map for both families: it is read by new connections of Services with affinity only.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::Port;
use crate::frontend::ServiceId;
use crate::layout;

word! {
    /// Where [`AffinityKey::client`] comes from.
    #[derive(Debug)]
    pub struct ClientKind(pub u32);
}

impl ClientKind {
    /// The source address of a packet, padded with zero words.
    pub const ADDRESS: Self = Self(0);
    /// The network namespace cookie of a socket, whose source address is not chosen yet.
    pub const NETNS: Self = Self(1);
}

/// Key of the `affinity` map.
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
pub struct AffinityKey {
    /// Whose affinity; ids differ between ports, protocols and families (item 96).
    pub service: ServiceId,
    /// How to read `client`.
    pub kind: ClientKind,
    /// The client.
    pub client: [u32; 4],
}

/// Bytes behind the port.
pub const PAD: usize = 2 + layout::NEXT * 4;

/// Value of the `affinity` map.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct AffinityValue {
    /// Backend address, padded with zero words.
    pub addr: [u32; 4],
    /// Offset in the segment where the backend was found last; a hint, checked before use.
    pub hint: u32,
    /// `CLOCK_BOOTTIME` seconds of the last new connection (item 97: not of the last packet).
    pub seen: u32,
    /// Backend port.
    pub port: Port,
    /// Always zero.
    pub pad: [u8; PAD],
}

const _: () = assert!(size_of::<AffinityKey>() == 24);
const _: () = assert!(size_of::<AffinityValue>() == 28 + layout::NEXT * 4);
