//! The memory of TCP sockets: one has its place in an array by the lower bits of its cookie, from when it is connected to a
//! Service until it is closed (`docs/decisions/0042-*`). Knows places, not what is kept there.

use proxy_common::{limits::STREAMS as PLACES, socket::ConnectedPeer, socket::Stream};

use crate::maps::STREAMS;

/// The cookie that no socket has.
pub const NOBODY: u64 = 0;

#[inline(always)]
fn place(cookie: u64) -> Option<*mut Stream> {
    STREAMS.get_ptr_mut(cookie as u32 & (PLACES - 1))
}

/// What a socket has in its place; `None` if that is not its own.
#[inline(always)]
pub fn at(cookie: u64) -> Option<&'static mut ConnectedPeer> {
    let place = place(cookie)?;
    // SAFETY: an element of an array stays one. Its owner alone changes what is in it, in calls that the kernel has one socket
    // make one after the other; others read whose it is, which is one word.
    unsafe {
        if (&raw const (*place).cookie).read_volatile() != cookie {
            return None;
        }
        Some(&mut (*place).peer)
    }
}

/// Makes the place a socket's own. False: it is another's.
#[inline(always)]
pub fn take(cookie: u64, peer: &ConnectedPeer) -> bool {
    let Some(place) = place(cookie) else { return false };
    // SAFETY: as in `at`; from the exchange on the place is this socket's.
    unsafe {
        if exchange(&raw mut (*place).cookie, NOBODY, cookie) != NOBODY {
            return false;
        }
        (*place).peer = *peer;
    }
    true
}

/// Gives the place of a socket back, which has one.
#[inline(always)]
pub fn give_back(cookie: u64) {
    if let Some(place) = place(cookie) {
        // SAFETY: as in `at`. Once the cookie is gone it may be another's.
        unsafe {
            (*place).peer = ConnectedPeer::default();
            (&raw mut (*place).cookie).write_volatile(NOBODY);
        }
    }
}

/// Puts `new` where `old` is, and says what was there: in one step, because two sockets may want a place at once.
///
/// # Safety
/// `word` is eight bytes of a map, and aligned.
#[cfg(target_arch = "bpf")]
#[inline(always)]
unsafe fn exchange(word: *mut u64, old: u64, new: u64) -> u64 {
    let mut found = old;
    // SAFETY: the caller vouches for the word.
    unsafe {
        core::arch::asm!(
            "r0 = cmpxchg_64({word} + 0, r0, {new})",
            word = in(reg) word,
            new = in(reg) new,
            inout("r0") found,
        );
    }
    found
}

#[cfg(not(target_arch = "bpf"))]
unsafe fn exchange(_word: *mut u64, _old: u64, _new: u64) -> u64 {
    unreachable!("a map lookup succeeds in the kernel only");
}
