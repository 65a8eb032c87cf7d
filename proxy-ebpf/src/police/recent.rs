//! Judgements of a moment ago, one array lookup away: a pod that connects again and again to the same port of the same peer
//! is judged once, until the agent writes to a map of policies (`docs/decisions/0034-*`).
//!
//! Each processor has its own, and a packet's program is interrupted by no other packet's: see [`crate::scratch`].

use proxy_common::{
    Address, FlowKey, Reason, Recent,
    recent::{Finding, Judge, slot},
};

use crate::count::barrier;
use crate::maps::policy::{POLICY_WRITES, PolicyTables};

/// Where the judgement about a connection stands, and how many writes there were when this was asked.
pub struct Place<A: 'static> {
    recent: &'static mut Recent<A>,
    judge: Judge,
    writes: u32,
}

impl<A: Address> Place<A> {
    /// Of the connection of `key`.
    #[inline(always)]
    pub fn of<F: PolicyTables<Addr = A>>(key: &FlowKey<A>, judge: Judge) -> Option<Self> {
        let recent = F::recent().get_ptr_mut(slot(key))?;
        // SAFETY: an element of an array lives as long as the map, any bytes are a value of it, and nobody else on this
        // processor has a reference: one connection is judged at a time. It is longer than eight bytes, and the kernel aligns
        // elements to them.
        unsafe {
            let writes = writes(recent.cast())?;
            Some(Self { recent: &mut *recent, judge, writes })
        }
    }

    /// What was found, if nothing was written since.
    #[inline(always)]
    pub fn recall(&self, key: &FlowKey<A>) -> Option<Reason> {
        match self.recent.recall(key, self.judge, self.writes) {
            Finding::ALLOWED => Some(Reason::Judged),
            Finding::FREE => Some(Reason::NotAService),
            _ => None,
        }
    }

    /// Notes what passes, by maps that had so many writes before they were asked.
    #[inline(always)]
    pub fn note(self, key: &FlowKey<A>, writes: u32, reason: Reason) {
        let finding = match reason {
            Reason::Judged => Finding::ALLOWED,
            Reason::NotAService => Finding::FREE,
            _ => return,
        };
        self.recent.note(key, self.judge, writes, finding);
    }
}

/// Counted by the agent in its memory. Read after whatever was read before, most of all the epoch, and before whatever is read
/// afterwards: an old finding under a new number would hold until the next write.
///
/// # Safety
/// `place` is as [`barrier`] wants it.
#[inline(always)]
pub unsafe fn writes(place: *mut u64) -> Option<u32> {
    let writes = POLICY_WRITES.get_ptr(0)?;
    // SAFETY: the caller vouches for the place; the array's only element lives as long as the map. Volatile, because others write
    // it; a word is read in one piece.
    unsafe {
        barrier(place);
        let writes = writes.read_volatile();
        barrier(place);
        Some(writes)
    }
}
