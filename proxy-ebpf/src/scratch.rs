//! Memory for what does not fit on the stack: 512 bytes must do there for a whole chain of functions. An area is a
//! place in a per-CPU map, found by one cheap lookup, and for packets that open a connection or are out of the
//! ordinary only: a packet of an answered connection needs none.
//!
//! The programs of packets run with soft interrupts disabled, one after the other on each processor, so none finds
//! another's work in an area, and what the last packet left there is rubbish. **Not for the socket road:** its programs
//! can be interrupted by a packet or by another task.

use proxy_common::{limits, scratch::AREA};

use crate::maps::SCRATCH;

/// What an area is for. Whoever takes one calls nothing that takes the same, so that there are never two references.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// What a new connection is to become.
    Plan,
    /// The flow entry being made, and its key.
    Entry,
    /// The key of a connection's other entry, while one is looked at.
    OtherKey,
    /// What an ICMP error quotes.
    Quote,
    /// The name of a datagram in fragments.
    Fragment,
    /// What came in by a tunnel, and where that led.
    Tunnel,
    /// What policies are asked about.
    Case,
    /// The packet, for functions that are verified on their own.
    Packet,
}

// An area that the map does not have is never found.
const _: () = assert!((Area::Packet as u32) < limits::SCRATCH_AREAS);

/// Plain numbers of whole words or smaller: every bit pattern is a value.
///
/// # Safety
/// It must be so, and padding must not matter.
pub unsafe trait Plain {}

/// The area, as the type that it has for its user. Never `None`, which the verifier does not know.
#[inline(always)]
pub fn take<T: Plain>(area: Area) -> Option<&'static mut T> {
    take_numbered(area as u32)
}

/// As [`take`], for who was given an area's number.
#[inline(always)]
pub fn take_numbered<T: Plain>(area: u32) -> Option<&'static mut T> {
    const { assert!(size_of::<T>() <= AREA && align_of::<T>() <= 8) };
    // SAFETY: an element of an array lives as long as the map, is aligned to eight bytes and large enough, and any bytes
    // are a `T`. Nobody else has a reference: see the file's head and [`Area`].
    SCRATCH.get_ptr_mut(area).map(|place| unsafe { &mut *place.cast::<T>() })
}
