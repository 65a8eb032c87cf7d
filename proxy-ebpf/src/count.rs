//! Counts what was done, by [`Reason`]: one slot per processor, summed by the reader.

use proxy_common::Reason;

#[cfg(target_arch = "bpf")]
use crate::maps::constant;
use crate::maps::{COUNTERS, EARLY};

/// One more packet or call that ended for this reason.
#[inline(always)]
pub fn count(reason: Reason) {
    if let Some(slot) = COUNTERS.get_ptr_mut(reason.index()) {
        add(slot, 1);
    }
}

/// One more packet at a tc hook. What most packets of established connections count as is counted there alone, by programs
/// that do not interrupt each other: a load and a store do, at a fifth of the cost.
#[inline(always)]
pub fn count_packet(reason: Reason) {
    match reason {
        Reason::MidStream | Reason::FlowForward | Reason::FlowReply | Reason::JudgedFlow | Reason::Seen => {
            if let Some(slot) = COUNTERS.get_ptr_mut(reason.index()) {
                // SAFETY: eight bytes of this processor, which nobody else writes meanwhile.
                unsafe { *slot = (*slot).wrapping_add(1) };
            }
        }
        reason => count(reason),
    }
}

/// The same, of what the XDP hook ended: it counts there, too.
#[inline(always)]
pub fn count_early(reason: Reason) {
    if let Some(slot) = EARLY.get_ptr_mut(reason.index()) {
        add(slot, 1);
    }
}

/// Adds to a counter in a map. A program of a packet may interrupt one of a socket call on the same processor, and
/// other processors count at the same time: a load and a store would lose counts, so this is one instruction.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn add(slot: *mut u64, number: u64) {
    // SAFETY: every caller has `slot` from a successful lookup: it is eight bytes and aligned, and elements stay
    // memory of their map while the program runs.
    unsafe {
        core::arch::asm!("lock *(u64 *)({slot} + 0) += {number}", slot = in(reg) slot, number = in(reg) number);
    }
}

/// Sets bits of a map's word that other processors set bits of: one instruction, as [`add`].
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn set(word: *mut u64, bits: u64) {
    // SAFETY: as in `add`.
    unsafe {
        core::arch::asm!("lock *(u64 *)({word} + 0) |= {bits}", word = in(reg) word, bits = in(reg) bits);
    }
}

/// The number that is next in a map's counter.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub fn take_number(slot: *mut u64) -> u64 {
    let mut number = 1_u64;
    // SAFETY: as in `add`.
    unsafe {
        core::arch::asm!(
            "{number} = atomic_fetch_add((u64 *)({slot} + 0), {number})",
            slot = in(reg) slot,
            number = inout(reg) number,
        );
    }
    number
}

/// What is read behind this is read after what was read before it, on processors that would do it the other way round, too:
/// an atomic addition that gives the old number is a full barrier. It adds nothing, and is no code on processors that would not.
///
/// # Safety
/// `place` is eight bytes of a map that nobody else has a reference to, and aligned.
#[cfg(target_arch = "bpf")]
#[inline(always)]
pub unsafe fn barrier(place: *mut u64) {
    if constant!(in_order) != 0 {
        return;
    }
    let nothing = 0_u64;
    // SAFETY: the caller vouches for the place, which keeps its value.
    unsafe {
        core::arch::asm!(
            "{number} = atomic_fetch_add((u64 *)({place} + 0), {number})",
            place = in(reg) place,
            number = inout(reg) nothing => _,
        );
    }
}

#[cfg(not(target_arch = "bpf"))]
pub unsafe fn barrier(_place: *mut u64) {
    unreachable!("a map lookup succeeds in the kernel only");
}

#[cfg(not(target_arch = "bpf"))]
pub fn add(_slot: *mut u64, _number: u64) {
    unreachable!("a map lookup succeeds in the kernel only");
}

#[cfg(not(target_arch = "bpf"))]
pub fn set(_word: *mut u64, _bits: u64) {
    unreachable!("a map lookup succeeds in the kernel only");
}

#[cfg(not(target_arch = "bpf"))]
pub fn take_number(_slot: *mut u64) -> u64 {
    unreachable!("a map lookup succeeds in the kernel only");
}
