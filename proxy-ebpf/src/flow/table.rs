//! The two tables of flows and the moves between them. Deleting one direction deletes both.
//!
//! Both tables are preallocated: an element that is deleted while another processor works on it stays valid
//! memory and may come to hold another flow. The window is a few hundred nanoseconds, the packet then goes to
//! the wrong place like any stray packet; RCU-freed elements would cost each new connection an allocation.

use proxy_common::{Flow, FlowFlags, FlowKey, Reason, tcp};

use crate::family::Wired;

/// `BPF_ANY` and `BPF_NOEXIST`.
const ANY: u64 = 0;
const NOEXIST: u64 = 1;

/// The entry of an answered connection.
#[inline(always)]
pub fn answered<F: Wired>(key: &FlowKey<F::Addr>) -> Option<&'static mut Flow<F::Addr>> {
    // SAFETY: elements live as long as the map; see the file's head for those that are deleted meanwhile. The
    // fields are plain words, written by any processor, the last one wins.
    F::flows().get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
}

/// The entry of a connection without an answer.
#[inline(always)]
pub fn unanswered<F: Wired>(key: &FlowKey<F::Addr>) -> Option<&'static mut Flow<F::Addr>> {
    // SAFETY: as in `answered`.
    F::half_open().get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
}

/// Deletes both entries if the connection is over; true: they are gone.
#[inline(always)]
pub fn forget_if_over<F: Wired>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>) -> bool {
    let other_key = flow.other(key.proto);
    // An entry without its other half is of no use either.
    let other = match answered::<F>(&other_key) {
        Some(other) => other.flags,
        None => FlowFlags::RST,
    };
    if !tcp::is_over(flow.flags, other) {
        return false;
    }
    // Gone already, if another packet was faster.
    let _ = F::flows().remove(other_key);
    let _ = F::flows().remove(key);
    true
}

/// The same for a connection without an answer: over once it was refused.
#[inline(always)]
pub fn forget_if_refused<F: Wired>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>) -> bool {
    if !flow.flags.has(FlowFlags::RST) {
        return false;
    }
    forget_unanswered::<F>(key, flow);
    true
}

/// Deletes both entries of a connection without an answer.
#[inline(always)]
pub fn forget_unanswered<F: Wired>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>) {
    // Gone already, if the table needed room.
    let _ = F::half_open().remove(flow.other(key.proto));
    let _ = F::half_open().remove(key);
}

/// The backend refused: the client's next try chooses anew.
#[inline(always)]
pub fn abort_unanswered<F: Wired>(key: &FlowKey<F::Addr>, flow: &mut Flow<F::Addr>) {
    flow.flags = flow.flags.with(FlowFlags::RST);
    if let Some(forward) = unanswered::<F>(&flow.other(key.proto)) {
        forward.flags = forward.flags.with(FlowFlags::RST);
    }
}

/// Moves both entries to the table that is never evicted; `reply` is the one of `key`. The forward entry is
/// made anew from it: the LRU may have dropped it.
///
/// Errors: [`Reason::FlowTableFull`]; then nothing has changed.
#[inline(always)]
pub fn promote<F: Wired>(
    key: &FlowKey<F::Addr>,
    reply: &Flow<F::Addr>,
) -> Result<&'static mut Flow<F::Addr>, Reason> {
    let forward_key = reply.other(key.proto);
    F::flows().insert(forward_key, reply.twin(key), ANY).map_err(|_| Reason::FlowTableFull)?;
    if F::flows().insert(key, reply, ANY).is_err() {
        let _ = F::flows().remove(forward_key);
        return Err(Reason::FlowTableFull);
    }
    let _ = F::half_open().remove(forward_key);
    let _ = F::half_open().remove(key);
    answered::<F>(key).ok_or(Reason::FlowTableFull)
}

/// Claims the tuple of the answers for a new connection whose client sends `packet`. False: another one has it.
#[inline(always)]
pub fn claim<F: Wired>(packet: &FlowKey<F::Addr>, key: &FlowKey<F::Addr>, reply: &Flow<F::Addr>) -> bool {
    if let Some(old) = answered::<F>(key)
        && old.other(key.proto) != *packet
        && !forget_if_over::<F>(key, old)
    {
        return false;
    }
    // What the backend will get must not look like a packet that is to be translated again.
    if F::flows().get_ptr(key.reversed()).is_some() {
        return false;
    }
    if F::half_open().insert(key, reply, NOEXIST).is_ok() {
        return true;
    }
    // Left over from an earlier try of this very client, or refused, or somebody else's.
    match unanswered::<F>(key) {
        Some(old) if old.other(key.proto) != *packet && !old.flags.has(FlowFlags::RST) => false,
        _ => F::half_open().insert(key, reply, ANY).is_ok(),
    }
}

/// Writes the entry of the client's packets and gives it back as it lies in the table.
///
/// Errors: [`Reason::FlowTableFull`]; then the claim is undone.
#[inline(always)]
pub fn enter<F: Wired>(
    key: &FlowKey<F::Addr>,
    forward: &Flow<F::Addr>,
) -> Result<&'static mut Flow<F::Addr>, Reason> {
    if F::half_open().insert(key, forward, ANY).is_ok()
        && let Some(flow) = unanswered::<F>(key)
    {
        return Ok(flow);
    }
    let _ = F::half_open().remove(forward.other(key.proto));
    Err(Reason::FlowTableFull)
}
