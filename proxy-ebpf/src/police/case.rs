//! What is judged, and who decided: outside of the stack, because it passes several functions.

use proxy_common::{
    Address, End, FlowKey, Reason, RuleId, RuleSetId,
    end::Facts,
    policy::{DenialKey, Notice},
};

use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;

use super::{is_watched, recent};
use crate::count::add;
use crate::family::Wired;
use crate::maps::policy::{DENIALS, NOTICES};
use crate::packet::cursor::{Access as _, Frame};
use crate::scratch::{self, Area, Plain};

/// A connection as the rules see it.
#[repr(C)]
pub struct Case<A> {
    /// From the client, to the backend that serves it, with the port that the backend listens on.
    pub key: FlowKey<A>,
    /// The rules that decided; [`RuleSetId::OPEN`] if none were asked.
    pub rules: RuleSetId,
    /// The rule.
    pub by: RuleId,
    /// The sender's rules, if `sender` is [`Sender::POLICED`].
    pub egress: RuleSetId,
    /// What is known of the sender already.
    pub sender: Sender,
    /// Writes to the maps of policies before anything was looked up for this case; see [`begin`].
    pub writes: u32,
}

/// Whether the sender's rules were looked up. A number, because it lies in memory that holds anything.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Sender(u32);

impl Sender {
    /// Not yet.
    pub const UNKNOWN: Self = Self(0);
    /// It is under no policy.
    pub const FREE: Self = Self(1);
    /// They are in [`Case::egress`].
    pub const POLICED: Self = Self(2);
}

impl<A> Case<A> {
    /// Makes it about another connection.
    #[inline(always)]
    pub fn turn_to(&mut self, key: FlowKey<A>) {
        self.key = key;
        self.sender = Sender::UNKNOWN;
    }

    /// Keeps what was found of the sender, so that it is not looked up again.
    #[inline(always)]
    pub fn note_sender(&mut self, end: &End) {
        if end.facts.has(Facts::POLICED) {
            (self.sender, self.egress) = (Sender::POLICED, end.egress);
        } else {
            self.sender = Sender::FREE;
        }
    }
}

// SAFETY: addresses, ports and numbers.
unsafe impl<A: Address> Plain for Case<A> {}

/// The place where a case is made.
#[inline(always)]
pub fn take<F: Wired>() -> Option<&'static mut Case<F::Addr>> {
    let case = scratch::take::<Case<F::Addr>>(Area::Case)?;
    (case.rules, case.by, case.sender) = (RuleSetId::OPEN, RuleId::NONE, Sender::UNKNOWN);
    Some(case)
}

/// To be called before anything is looked up for the case. What is found while the agent writes then counts as found before.
#[inline(always)]
pub fn begin<A>(case: &mut Case<A>) {
    // SAFETY: a case lies in the scratch map, which nobody else on this processor uses meanwhile; it is longer than eight
    // bytes and aligned to them.
    case.writes = unsafe { recent::writes(core::ptr::from_mut(case).cast()) }.unwrap_or_default();
}

/// Counts a denial under its rule, and tells whoever listens. Gives the reason back.
#[inline(always)]
pub fn deny<F: Wired>(frame: &Frame, case: &Case<F::Addr>, reason: Reason) -> Reason {
    count_denial(case);
    tell::<F>(frame, case, reason);
    reason
}

#[inline(always)]
fn count_denial<A>(case: &Case<A>) {
    /// `BPF_NOEXIST`: another processor may be the one that makes the entry.
    const NOEXIST: u64 = 1;
    let key = DenialKey { rules: case.rules, by: case.by };
    let mut slot = DENIALS.get_ptr_mut(key);
    if slot.is_none() {
        let _ = DENIALS.insert(key, 0, NOEXIST);
        slot = DENIALS.get_ptr_mut(key);
    }
    if let Some(slot) = slot {
        add(slot, 1);
    }
}

/// Tells whoever listens.
#[inline(always)]
pub fn tell<F: Wired>(frame: &Frame, case: &Case<F::Addr>, reason: Reason) {
    if !is_watched() {
        return;
    }
    // Without room nobody is told; the ring counts nothing, its reader sees the gap in the counters.
    let Some(mut entry) = NOTICES.reserve::<Notice>(0) else { return };
    entry.write(Notice {
        // SAFETY: a helper without arguments.
        at: unsafe { bpf_ktime_get_boot_ns() },
        rules: case.rules,
        by: case.by,
        src: case.key.src.to_words(),
        dst: case.key.dst.to_words(),
        device: frame.device(),
        sport: case.key.sport,
        dport: case.key.dport,
        proto: case.key.proto,
        reason: reason.index() as u8,
        family: if F::Addr::WORDS == 1 { 4 } else { 6 },
        pad: 0,
        length: frame.length() as u32,
    });
    entry.submit(0);
}
