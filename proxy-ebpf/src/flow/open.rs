//! Makes the entries of a new connection, with the source that the backend sees: the client's own, or an address
//! and a free port of this node (item 59).

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_sock_tuple,
    helpers::generated::{
        bpf_get_prandom_u32, bpf_loop, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp,
    },
};
use proxy_common::{
    FlowKey, Port, Proto, Reason,
    decide::{self, Translation},
    limits,
};

use super::{
    Found, Plan, Table,
    table::{self, Draft},
};
use crate::family::Wired;
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::road::jiffies;
use crate::scratch::{self, Area};

/// A connection about to be made. On the stack of the search's callers, so it holds references, not copies.
struct Connection<'a, F: Wired> {
    key: &'a FlowKey<F::Addr>,
    plan: &'a Plan<F::Addr>,
    /// Address of this node to masquerade with.
    node: &'a F::Addr,
    context: *mut c_void,
    random: u32,
    found: Option<Port>,
}

impl<F: Wired> Connection<'_, F> {
    /// What becomes of its packets if the backend sees this source.
    #[inline(always)]
    fn translation<'a>(&'a self, source: &'a F::Addr, source_port: Port) -> Translation<'a, F::Addr> {
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

/// Makes both entries. A kept source whose tuple is taken is masqueraded.
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
    let node = &F::node().get(0).ok_or(Reason::NoNodeAddress)?.address;
    let mut connection =
        Connection::<F> { key, plan, node, context: frame.context(), random: 0, found: None };
    let kept = plan.masqueraded == 0 && claim(&connection, &key.src, key.sport);
    let (addr, port) = if kept { (&key.src, key.sport) } else { (node, search(&mut connection)?) };
    if enter(&connection, addr, port) {
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
    flow.seen = jiffies();
    table::enter_reply::<F>(connection.key, key, flow)
}

#[inline(never)]
fn enter<F: Wired>(connection: &Connection<'_, F>, addr: &F::Addr, port: Port) -> bool {
    let Some(Draft { flow, .. }) = scratch::take::<Draft<F::Addr>>(Area::Entry) else { return false };
    *flow = connection.translation(addr, port).forward();
    flow.seen = jiffies();
    table::enter_forward::<F>(connection.key, flow)
}

/// Finds a port of the node's address.
#[inline(always)]
fn search<F: Wired>(connection: &mut Connection<'_, F>) -> Result<Port, Reason> {
    if *connection.node == F::Addr::default() {
        return Err(Reason::NoNodeAddress);
    }
    // SAFETY: the first has no arguments. The callback has the signature that the helper wants, and `connection`
    // outlives the call.
    unsafe {
        connection.random = bpf_get_prandom_u32();
        bpf_loop(limits::SNAT_TRIES, attempt::<F> as *mut c_void, (&raw mut *connection).cast(), 0);
    }
    connection.found.ok_or(Reason::NoSourcePort)
}

/// One step of the search; returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn attempt<F: Wired>(number: u64, connection: *mut c_void) -> i64 {
    // SAFETY: the helper hands on the pointer that `search` gave it, to a live `Connection` that nobody else uses.
    let connection = unsafe { &mut *connection.cast::<Connection<'_, F>>() };
    let port = decide::source_port(connection.key.sport, connection.random, number as u32);
    let own = port == connection.key.sport && *connection.node == connection.key.src;
    if !own && is_used_by_socket(connection, port) || !claim(connection, connection.node, port) {
        return 0;
    }
    connection.found = Some(port);
    1
}

/// A socket of this node would get the answers, were they not translated: one of ours must not take them away.
#[inline(always)]
fn is_used_by_socket<F: Wired>(connection: &Connection<'_, F>, port: Port) -> bool {
    const CURRENT_NETNS: u64 = u64::MAX;
    let remote = (connection.plan.backend.addr, connection.plan.backend.port);
    let mut tuple = F::ask_socket(remote, (*connection.node, port));
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
