//! What a device is to us. Knows nothing of packets.

use proxy_common::DeviceKind;

use super::replaced;
use crate::maps::DEVICES;

/// The kind of a device; `None` for one that is none of ours. One hash lookup.
#[inline(always)]
pub fn kind(device: u32) -> Option<DeviceKind> {
    // SAFETY: an element without preallocation is freed only after the program is done; a word is read in one piece.
    replaced::find(&DEVICES, &device).map(|kind| unsafe { *kind })
}
