//! Whether a packet has passed a program of ours where it came in to the node.

use proxy_common::limits;

use crate::maps::HOOKED;
use crate::packet::cursor::Frame;

/// It has come in by a device at which it was translated, if it was to be. False: nobody knows, or it is the node's own.
#[inline(always)]
pub fn was_seen(frame: &Frame) -> bool {
    let device = frame.arrived_by();
    device != 0 && HOOKED.get(device & (limits::HOOKED - 1)) == Some(&device)
}
