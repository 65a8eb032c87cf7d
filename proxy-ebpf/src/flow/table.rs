//! The two tables of flows and the moves between them. Deleting one direction deletes both.
//!
//! Both tables are preallocated: an element that is deleted while another processor works on it stays valid
//! memory and may come to hold another flow. The window is a few hundred nanoseconds, the packet then goes to
//! the wrong place like any stray packet; RCU-freed elements would cost each new connection an allocation.
//!
//! While the answered ones move to a table of another size, an entry that is not in `flows` may be in `spareflows`; new
//! ones go to `flows`. Without a move the second look is no code.
//!
//! Whoever has an entry written names its source before ([`crate::party`]).
//!
//! Functions with keys of their own have a stack frame of their own: 512 bytes must do for the whole chain.

use proxy_common::{Address, Flow, FlowFlags, FlowKey, Proto, tcp};

use crate::family::Wired;
use crate::maps::constant;
use crate::scratch::{self, Area, Plain};

/// `BPF_ANY` and `BPF_NOEXIST`.
const ANY: u64 = 0;
const NOEXIST: u64 = 1;

/// Where entries and their keys are made: two of them would fill most of the stack.
#[repr(C)]
pub struct Draft<A> {
    /// The key.
    pub key: FlowKey<A>,
    /// The entry.
    pub flow: Flow<A>,
}

// SAFETY: addresses, ports and numbers.
unsafe impl<A: Address> Plain for Draft<A> {}
// SAFETY: as above.
unsafe impl<A: Address> Plain for FlowKey<A> {}
// SAFETY: as above.
unsafe impl<A: Address> Plain for Flow<A> {}

/// The entry of an answered connection.
#[inline(always)]
pub fn answered<F: Wired>(key: &FlowKey<F::Addr>) -> Option<&'static mut Flow<F::Addr>> {
    let mut flow = F::flows().get_ptr_mut(key);
    if flow.is_none() && constant!(two_tables) != 0 {
        flow = F::spare_flows().get_ptr_mut(key);
    }
    // SAFETY: elements live as long as the map; see the file's head for those that are deleted meanwhile. The
    // fields are plain words, written by any processor, the last one wins.
    flow.map(|flow| unsafe { &mut *flow })
}

/// Deletes the entry of an answered connection; gone already, if another packet was faster.
#[inline(always)]
pub fn forget<F: Wired>(key: &FlowKey<F::Addr>) {
    let _ = F::flows().remove(key);
    if constant!(two_tables) != 0 {
        let _ = F::spare_flows().remove(key);
    }
}

/// The entry of a connection without an answer.
#[inline(always)]
pub fn unanswered<F: Wired>(key: &FlowKey<F::Addr>) -> Option<&'static mut Flow<F::Addr>> {
    // SAFETY: as in `answered`.
    F::half_open().get_ptr_mut(key).map(|flow| unsafe { &mut *flow })
}

/// Deletes both entries if the connection is over; true: they are gone.
#[inline(never)]
pub fn forget_if_over<F: Wired>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>) -> bool {
    let Some(other_key) = scratch::take::<FlowKey<F::Addr>>(Area::OtherKey) else { return false };
    *other_key = flow.other(key.proto);
    let other_key = &*other_key;
    // An entry without its other half is of no use either.
    let other = match answered::<F>(other_key) {
        Some(other) => other.flags,
        None => FlowFlags::RST,
    };
    if !tcp::is_over(flow.flags, other) {
        return false;
    }
    forget::<F>(other_key);
    forget::<F>(key);
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
#[inline(never)]
pub fn forget_unanswered<F: Wired>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>) {
    // Gone already, if the table needed room.
    let _ = F::half_open().remove(flow.other(key.proto));
    let _ = F::half_open().remove(key);
}

/// The backend refused: the client's next try chooses anew.
#[inline(never)]
pub fn abort_unanswered<F: Wired>(key: &FlowKey<F::Addr>, flow: &mut Flow<F::Addr>) {
    flow.flags = flow.flags.with(FlowFlags::RST);
    if let Some(forward) = unanswered::<F>(&flow.other(key.proto)) {
        forward.flags = forward.flags.with(FlowFlags::RST);
    }
}

/// The backend has another connection of these ports, which is not to be disturbed: the client's next try gets others.
#[inline(never)]
pub fn give_up<F: Wired>(key: &FlowKey<F::Addr>, flow: &mut Flow<F::Addr>) {
    flow.flags = flow.flags.with(FlowFlags::FIN);
    if let Some(forward) = unanswered::<F>(&flow.other(key.proto)) {
        forward.flags = forward.flags.with(FlowFlags::FIN);
    }
}

/// Whether the unanswered connection of an entry of these flags was given up: see [`give_up`].
#[inline(always)]
pub fn is_given_up<A>(key: &FlowKey<A>, flags: FlowFlags) -> bool {
    key.proto == Proto::TCP && flags.has(FlowFlags::FIN)
}

/// The backend of the connection of this entry has refused it. That the client has sent a RST is no refusal.
#[inline(never)]
pub fn is_refused<F: Wired>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>) -> bool {
    let Some(other_key) = scratch::take::<FlowKey<F::Addr>>(Area::OtherKey) else { return true };
    *other_key = flow.other(key.proto);
    match unanswered::<F>(other_key) {
        Some(reply) => reply.flags.has(FlowFlags::RST),
        None => true,
    }
}

/// Moves both entries to the table that is never evicted; `reply` is the one of `key`. The forward entry is
/// made anew from it: the LRU may have dropped it. One of TCP is brief until its client acknowledges the answer. False: there
/// is no room, and nothing has changed.
#[inline(never)]
pub fn promote<F: Wired>(key: &FlowKey<F::Addr>, reply: &Flow<F::Addr>) -> bool {
    let Some(Draft { key: forward_key, flow: forward }) = scratch::take::<Draft<F::Addr>>(Area::Entry) else {
        return false;
    };
    *forward_key = reply.other(key.proto);
    *forward = reply.twin(key);
    if key.proto == Proto::TCP {
        forward.flags = forward.flags.with(FlowFlags::BRIEF);
    }
    let (forward_key, forward) = (&*forward_key, &*forward);
    if F::flows().insert(forward_key, forward, ANY).is_err() {
        return false;
    }
    if F::flows().insert(key, reply, ANY).is_err() {
        let _ = F::flows().remove(forward_key);
        return false;
    }
    let _ = F::half_open().remove(forward_key);
    let _ = F::half_open().remove(key);
    true
}

/// Writes an entry of a connection that needs no answer to be one. False: there is no room.
#[inline(always)]
pub fn enter_answered<F: Wired>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>) -> bool {
    F::flows().insert(key, flow, ANY).is_ok()
}

/// Whether the tuple `key` of the answers can be had by the connection whose client sends `packet`.
#[inline(always)]
pub fn is_free<F: Wired>(packet: &FlowKey<F::Addr>, key: &FlowKey<F::Addr>) -> bool {
    if let Some(old) = answered::<F>(key) {
        if is_twin(old, packet) {
            // Its client was taken away from this backend, and comes back: answers must make this connection whole.
            forget::<F>(key);
        } else if !forget_if_over::<F>(key, old) {
            return false;
        }
    }
    // What the backend will get must not look like a packet that is to be translated again.
    let Some(reversed) = scratch::take::<FlowKey<F::Addr>>(Area::OtherKey) else { return false };
    *reversed = key.reversed();
    answered::<F>(reversed).is_none() && F::half_open().get_ptr(reversed).is_none()
}

/// Claims that tuple by writing the entry of the answers. False: another connection was faster.
#[inline(always)]
pub fn enter_reply<F: Wired>(
    packet: &FlowKey<F::Addr>,
    key: &FlowKey<F::Addr>,
    reply: &Flow<F::Addr>,
) -> bool {
    if F::half_open().insert(key, reply, NOEXIST).is_ok() {
        return true;
    }
    // Left over from an earlier try of this very client, or refused, or somebody else's.
    match unanswered::<F>(key) {
        Some(old) if is_given_up(key, old.flags) => false,
        Some(old) if !is_twin(old, packet) && !old.flags.has(FlowFlags::RST) => false,
        _ => F::half_open().insert(key, reply, ANY).is_ok(),
    }
}

/// `flow` is the reply entry of the connection whose client sends `packet`; field by field, because a tuple made
/// for the comparison would take room on the stack.
#[inline(always)]
fn is_twin<A: Address>(flow: &Flow<A>, packet: &FlowKey<A>) -> bool {
    flow.dst == packet.src
        && flow.dport == packet.sport
        && flow.src == packet.dst
        && flow.sport == packet.dport
}

/// Writes the entry of the client's packets. False: there is no room; then the claim is undone.
#[inline(always)]
pub fn enter_forward<F: Wired>(key: &FlowKey<F::Addr>, forward: &Flow<F::Addr>) -> bool {
    if F::half_open().insert(key, forward, ANY).is_ok() {
        return true;
    }
    let _ = F::half_open().remove(forward.other(key.proto));
    false
}
