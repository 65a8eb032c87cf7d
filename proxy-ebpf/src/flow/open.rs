//! Makes the entries of a new connection, with the source that the backend sees: the client's own address, on another
//! port if its own is taken, or an address and a free port of this node (item 59).

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_sock_tuple,
    helpers::generated::{
        bpf_get_prandom_u32, bpf_loop, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp,
    },
};
use proxy_common::{
    FlowFlags, FlowKey, Port, Proto, Reason,
    decide::{self, Translation},
    limits,
};

use super::{
    Found, Plan, Table,
    plan::{KEPT, MASQUERADED, TUNNELLED, UNWRAPPED},
    table::{self, Draft},
};
use crate::family::Wired;
use crate::lookup::source;
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::road::{is_stale, jiffies};
use crate::scratch::{self, Area};
use crate::tunnel::{self, Entered};
use crate::verified::party;

/// A connection about to be made. On the stack of the search's callers, so it holds references, not copies.
struct Connection<'a, F: Wired> {
    key: &'a FlowKey<F::Addr>,
    plan: &'a Plan<F::Addr>,
    /// Whose ports are searched: the client's own address, or one of this node to masquerade with.
    whose: &'a F::Addr,
    context: *mut c_void,
    random: u32,
    outcome: Outcome,
    found: Port,
}

/// How the search for a port is going. A number, because the kernel's helper hands it through memory.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
struct Outcome(u32);

impl Outcome {
    /// No port yet; at the end of the search: there is none.
    const NONE: Self = Self(0);
    /// There is a port.
    const FOUND: Self = Self(1);
    /// Another packet has just found that there is none.
    const KNOWN_FULL: Self = Self(2);
}

impl<'a, F: Wired> Connection<'a, F> {
    #[inline(always)]
    fn new(frame: &Frame, key: &'a FlowKey<F::Addr>, plan: &'a Plan<F::Addr>, whose: &'a F::Addr) -> Self {
        let context = frame.context();
        Self { key, plan, whose, context, random: 0, outcome: Outcome::NONE, found: Port::NONE }
    }

    /// What becomes of its packets if the backend sees this source.
    #[inline(always)]
    fn translation<'b>(&'b self, source: &'b F::Addr, source_port: Port) -> Translation<'b, F::Addr> {
        Translation {
            packet: self.key,
            backend: &self.plan.backend,
            source,
            source_port,
            service: self.plan.service,
            generation: self.plan.generation,
        }
    }
}

/// Makes both entries. A kept source whose tuple is taken gets another port and stays who it is: policies and logs go by
/// its address. Its answers come the way on which those of the taken tuple come.
///
/// Errors: [`Reason::NoNodeAddress`], [`Reason::NoSourcePort`], [`Reason::FlowTableFull`].
#[inline(always)]
pub fn open<F: Wired>(
    frame: &Frame,
    packet: &Packet<F::Addr>,
    plan: &Plan<F::Addr>,
    reason: Reason,
) -> Result<Found, Reason> {
    let key = &packet.key;
    if plan.source == TUNNELLED {
        // No answer comes by: nothing to claim.
        return match tunnel::enter::<F>(key, plan) {
            Entered::DONE => Ok(Found { table: Table::Tunnel, reason }),
            Entered::NO_ADDRESS => Err(Reason::NoNodeAddress),
            _ => Err(Reason::FlowTableFull),
        };
    }
    // Whatever source the backend sees, answers come from it, and requests from the client.
    party::name(&plan.backend.addr);
    party::name(&key.src);
    if plan.source == KEPT || plan.source == UNWRAPPED {
        let connection = Connection::<F>::new(frame, key, plan, &key.src);
        if claim(&connection, &key.src, key.sport) {
            return finish(&connection, &key.src, key.sport, reason);
        }
    }
    let mut source = key.src;
    if plan.source == MASQUERADED {
        source = F::node().get(0).ok_or(Reason::NoNodeAddress)?.address;
        source::towards::<F>(frame, key, &plan.backend, &mut source);
    }
    let mut connection = Connection::<F>::new(frame, key, plan, &source);
    let port = search(&mut connection)?;
    finish(&connection, &source, port, reason)
}

/// The answers' entry is there: makes the client's.
#[inline(always)]
fn finish<F: Wired>(
    connection: &Connection<'_, F>,
    addr: &F::Addr,
    port: Port,
    reason: Reason,
) -> Result<Found, Reason> {
    if enter(connection, addr, port) {
        Ok(Found { table: Table::Unanswered, reason })
    } else {
        Err(Reason::FlowTableFull)
    }
}

/// Tries to be the one whose answers come to this source.
#[inline(always)]
fn claim<F: Wired>(connection: &Connection<'_, F>, addr: &F::Addr, port: Port) -> bool {
    is_free(connection, addr, port) && enter_reply(connection, addr, port)
}

// Each in a stack frame of its own, which is gone when the next one is called.

#[inline(never)]
fn is_free<F: Wired>(connection: &Connection<'_, F>, addr: &F::Addr, port: Port) -> bool {
    let Some(draft) = scratch::take::<Draft<F::Addr>>(Area::Entry) else { return false };
    draft.key = connection.translation(addr, port).reply_key();
    table::is_free::<F>(connection.key, &draft.key)
}

#[inline(never)]
fn enter_reply<F: Wired>(connection: &Connection<'_, F>, addr: &F::Addr, port: Port) -> bool {
    let Some(Draft { key, flow }) = scratch::take::<Draft<F::Addr>>(Area::Entry) else { return false };
    let translation = connection.translation(addr, port);
    *key = translation.reply_key();
    *flow = translation.reply();
    // Without a branch, which would take room on the stack: the bit is the flag (see `UNWRAPPED`).
    flow.flags = FlowFlags(flow.flags.0 | connection.plan.source as u8 & FlowFlags::TUNNEL.0);
    (flow.seen, flow.epoch) = (jiffies(), connection.plan.epoch);
    table::enter_reply::<F>(connection.key, key, flow)
}

#[inline(never)]
fn enter<F: Wired>(connection: &Connection<'_, F>, addr: &F::Addr, port: Port) -> bool {
    let Some(Draft { flow, .. }) = scratch::take::<Draft<F::Addr>>(Area::Entry) else { return false };
    *flow = connection.translation(addr, port).forward();
    flow.seen = jiffies();
    (flow.epoch, flow.origin) = (connection.plan.epoch, connection.plan.origin);
    table::enter_forward::<F>(connection.key, flow)
}

/// Finds a port of the address: all are tried before the connection is refused for want of one. That takes
/// milliseconds, so that it has failed is remembered for a second or so, in which only some ports are tried.
#[inline(always)]
fn search<F: Wired>(connection: &mut Connection<'_, F>) -> Result<Port, Reason> {
    if *connection.whose == F::Addr::default() {
        return Err(Reason::NoNodeAddress);
    }
    // SAFETY: the first has no arguments. The callback has the signature that the helper wants, and `connection`
    // outlives the call.
    unsafe {
        connection.random = bpf_get_prandom_u32();
        let (step, tries) = (attempt::<F> as *mut c_void, decide::SOURCE_PORTS + 1);
        bpf_loop(tries, step, (&raw mut *connection).cast(), 0);
    }
    match connection.outcome {
        Outcome::FOUND => Ok(connection.found),
        Outcome::NONE => {
            note_full(connection);
            Err(Reason::NoSourcePort)
        }
        _ => Err(Reason::NoSourcePort),
    }
}

/// Where it is remembered that every port towards the backend is taken: the key of its answers to no port.
#[inline(always)]
fn full_key<F: Wired>(connection: &Connection<'_, F>) -> FlowKey<F::Addr> {
    let backend = &connection.plan.backend;
    FlowKey::new(backend.addr, backend.port, *connection.whose, Port::NONE, connection.key.proto)
}

#[inline(never)]
fn note_full<F: Wired>(connection: &Connection<'_, F>) {
    // Without room the next packet searches again.
    let _ = F::ports_full().insert(full_key(connection), jiffies(), 0);
}

#[inline(never)]
fn is_known_full<F: Wired>(connection: &Connection<'_, F>) -> bool {
    // SAFETY: one word is read; one that is recycled meanwhile is another such moment.
    match unsafe { F::ports_full().get(full_key(connection)) } {
        Some(noted) => !is_stale(jiffies(), *noted),
        None => false,
    }
}

/// One step of the search; returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn attempt<F: Wired>(number: u64, connection: *mut c_void) -> i64 {
    // SAFETY: the helper hands on the pointer that `search` gave it, to a live `Connection` that nobody else uses.
    let connection = unsafe { &mut *connection.cast::<Connection<'_, F>>() };
    if number == limits::SNAT_TRIES as u64 && is_known_full(connection) {
        connection.outcome = Outcome::KNOWN_FULL;
        return 1;
    }
    let port = decide::source_port(connection.key.sport, connection.random, number as u32);
    // In the order of what it costs. The client's own port on its own address is used by its own socket.
    if !is_free(connection, connection.whose, port) {
        return 0;
    }
    let own = port == connection.key.sport && *connection.whose == connection.key.src;
    if !own && is_used_by_socket(connection, port) || !enter_reply(connection, connection.whose, port) {
        return 0;
    }
    connection.found = port;
    connection.outcome = Outcome::FOUND;
    1
}

/// A socket of this node would get the answers, were they not translated: one of ours must not take them away.
#[inline(always)]
fn is_used_by_socket<F: Wired>(connection: &Connection<'_, F>, port: Port) -> bool {
    const CURRENT_NETNS: u64 = u64::MAX;
    let remote = (connection.plan.backend.addr, connection.plan.backend.port);
    let mut tuple = F::ask_socket(remote, (*connection.whose, port));
    let (context, size) = (connection.context, size_of::<F::SocketTuple>() as u32);
    let tuple = (&raw mut tuple).cast::<bpf_sock_tuple>();
    // SAFETY: the context is the hook's, the tuple is on our stack and as long as `size` says, which tells the
    // kernel the family; a socket that was found is released.
    unsafe {
        let socket = match connection.key.proto {
            Proto::TCP => bpf_skc_lookup_tcp(context, tuple, size, CURRENT_NETNS, 0),
            Proto::UDP => bpf_sk_lookup_udp(context, tuple, size, CURRENT_NETNS, 0),
            _ => return false,
        };
        if socket.is_null() {
            return false;
        }
        bpf_sk_release(socket.cast());
        true
    }
}
