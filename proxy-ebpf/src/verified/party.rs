//! The parts of [`crate::party`] that are verified on their own: a packet is looked at ahead of everything else, and sources are named
//! in half a dozen places, so what either adds would count for each path behind it.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use proxy_common::{Address, Reason, party::Party};

use super::{opaque, unpack_reason};
use crate::family::dispatch;
use crate::packet::cursor::Frame;
use crate::party::{self, Strangers};

/// It is none.
const NONE: u32 = u32::MAX;

/// [`Strangers`].
#[inline(always)]
pub fn stranger(frame: &Frame) -> Option<Reason> {
    match opaque(why_passes(frame.skb())) {
        NONE => None,
        reason => Some(unpack_reason(reason)),
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn why_passes(skb: *mut __sk_buff) -> u32 {
    match dispatch::<Strangers>(&mut Frame::new(TcContext::new(skb))) {
        Some(reason) => reason.index(),
        None => NONE,
    }
}

/// [`party::name`], of an address.
#[inline(always)]
pub fn name<A: Address>(addr: &A) {
    let Party { word, bit } = Party::of(addr);
    name_party(word, bit);
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn name_party(word: u32, bit: u64) -> u32 {
    party::name(Party { word, bit });
    1
}
