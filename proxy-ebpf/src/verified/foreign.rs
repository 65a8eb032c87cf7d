//! What no hook can read, verified on its own: it is asked on a way that hardly a packet takes, and needs no place on the stack of all
//! others.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use proxy_common::Reason;

use super::{opaque, unpack_reason};
use crate::packet::cursor::Frame;
use crate::police;

/// [`police::judge_foreign`].
#[inline(always)]
pub fn judge(frame: &Frame) -> Reason {
    unpack_reason(opaque(foreign(frame.skb())))
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn foreign(skb: *mut __sk_buff) -> u32 {
    police::judge_foreign(&Frame::new(TcContext::new(skb))).index()
}
