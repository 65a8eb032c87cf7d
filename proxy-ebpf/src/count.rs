//! Counts what was done, by [`Reason`]: one slot per processor, summed by the reader.

use proxy_common::Reason;

use crate::maps::COUNTERS;

/// One more packet or call that ended for this reason.
#[inline(always)]
pub fn count(reason: Reason) {
    if let Some(slot) = COUNTERS.get_ptr_mut(reason.index()) {
        increment(slot);
    }
}

/// A program of a packet may interrupt one of a socket call on the same processor: a load and a store would
/// lose counts, so this is one instruction.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn increment(slot: *mut u64) {
    // SAFETY: `slot` came from a successful lookup in `count`, is eight bytes and aligned, and the elements of
    // an array live as long as the map.
    unsafe {
        core::arch::asm!("lock *(u64 *)({slot} + 0) += {one}", slot = in(reg) slot, one = in(reg) 1_u64);
    }
}

#[cfg(not(target_arch = "bpf"))]
fn increment(_slot: *mut u64) {
    unreachable!("a map lookup succeeds in the kernel only");
}
