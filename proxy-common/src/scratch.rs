//! Working memory of the packet programs: what would not fit on their stack of 512 bytes. Nothing in it lives longer
//! than one run of a program, so its layout is a number of bytes and no more.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of one area.
pub const AREA: usize = 512;

/// Value of the `scratch` map: one area of one processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(transparent)]
pub struct Scratch(pub [u64; AREA / 8]);

const _: () = assert!(size_of::<Scratch>() == AREA);
