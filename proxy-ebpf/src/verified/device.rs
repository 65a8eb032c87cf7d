//! The kind of a device, verified on its own: it is asked for in the middle of a packet's way, and what is behind would be
//! seen once for each way to the answer.

use proxy_common::DeviceKind;

use super::opaque;
use crate::lookup::device;

/// It is none of ours.
const NONE: u32 = u32::MAX;

/// [`device::kind`].
#[inline(always)]
pub fn kind(device: u32) -> Option<DeviceKind> {
    match opaque(device_kind(device)) {
        NONE => None,
        kind => Some(DeviceKind(kind)),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn device_kind(device: u32) -> u32 {
    device::kind(device).map_or(NONE, |kind| kind.0)
}
