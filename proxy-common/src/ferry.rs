//! Where the bytes of an entry lie in the entry of another layout: what the program needs to know that takes connections
//! from the tables of one layout to those of another. Knows no layout itself.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{Addr4, Addr6};
use crate::flow::{Flow, FlowKey};

/// The byte has no place in the other layout.
pub const NOWHERE: u8 = u8::MAX;
/// Most bytes of a key of the other layout.
pub const FOREIGN_KEY: usize = 64;
/// Most bytes of a value of the other layout.
pub const FOREIGN_VALUE: usize = 192;

/// For each byte of ours its place in theirs, or [`NOWHERE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Places {
    /// Of the keys of `flows4`.
    pub key4: [u8; size_of::<FlowKey<Addr4>>()],
    /// Of the values of `flows4`.
    pub flow4: [u8; size_of::<Flow<Addr4>>()],
    /// Of the keys of `flows6`.
    pub key6: [u8; size_of::<FlowKey<Addr6>>()],
    /// Of the values of `flows6`.
    pub flow6: [u8; size_of::<Flow<Addr6>>()],
}

impl Places {
    /// Nothing is known of the other layout.
    pub const NONE: Self = Self {
        key4: [NOWHERE; size_of::<FlowKey<Addr4>>()],
        flow4: [NOWHERE; size_of::<Flow<Addr4>>()],
        key6: [NOWHERE; size_of::<FlowKey<Addr6>>()],
        flow6: [NOWHERE; size_of::<Flow<Addr6>>()],
    };
}
