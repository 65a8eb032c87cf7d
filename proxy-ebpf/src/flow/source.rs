//! The source that a backend sees: the client's own, or an address and a free port of this node (item 59).

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_sock_tuple,
    helpers::generated::{
        bpf_get_prandom_u32, bpf_loop, bpf_sk_lookup_udp, bpf_sk_release, bpf_skc_lookup_tcp,
    },
};
use proxy_common::{
    Backend, FlowKey, Port, Proto, Reason, ServiceId,
    decide::{self, Source, Translation},
    limits,
};

use super::table;
use crate::family::Wired;

/// A connection about to be made. On the stack of the search's callers: it holds references, not copies.
pub struct Connection<'a, F: Wired> {
    /// The client's packet.
    pub key: &'a FlowKey<F::Addr>,
    /// Where it goes.
    pub backend: Backend<F::Addr>,
    /// Whose it is.
    pub service: ServiceId,
    /// Generation of the frontend that chose the backend.
    pub generation: u32,
    /// Address of this node to masquerade with.
    pub node: &'a F::Addr,
    /// The kernel's tick.
    pub now: u32,
    /// The hook's context.
    pub context: *mut c_void,
}

/// A search for a port.
struct Search<'a, F: Wired> {
    connection: &'a Connection<'a, F>,
    random: u32,
    found: Option<Port>,
}

impl<F: Wired> Connection<'_, F> {
    /// What becomes of its packets if the backend sees `source`.
    #[inline(always)]
    pub fn translation(&self, source: (F::Addr, Port)) -> Translation<F::Addr> {
        Translation {
            packet: *self.key,
            backend: self.backend,
            source,
            service: self.service,
            generation: self.generation,
        }
    }
}

/// Tries to be the one whose answers come to this source.
#[inline(never)]
fn claim<F: Wired>(connection: &Connection<'_, F>, addr: &F::Addr, port: Port) -> bool {
    let translation = connection.translation((*addr, port));
    let mut reply = translation.reply();
    reply.seen = connection.now;
    table::claim::<F>(connection.key, &translation.reply_key(), &reply)
}

/// Finds the source and claims the tuple of the answers. A kept source whose tuple is taken is masqueraded.
///
/// Errors: [`Reason::NoNodeAddress`], [`Reason::NoSourcePort`].
#[inline(always)]
pub fn find<F: Wired>(connection: &Connection<'_, F>, source: Source) -> Result<(F::Addr, Port), Reason> {
    let (addr, port) = (connection.key.src, connection.key.sport);
    if source == Source::Kept && claim(connection, &connection.key.src, port) {
        return Ok((addr, port));
    }
    if *connection.node == F::Addr::default() {
        return Err(Reason::NoNodeAddress);
    }
    // SAFETY: no arguments.
    let random = unsafe { bpf_get_prandom_u32() };
    let mut search = Search { connection, random, found: None };
    // SAFETY: the callback has the signature that the helper wants, and `search` outlives the call.
    unsafe { bpf_loop(limits::SNAT_TRIES, attempt::<F> as *mut c_void, (&raw mut search).cast(), 0) };
    match search.found {
        Some(port) => Ok((*connection.node, port)),
        None => Err(Reason::NoSourcePort),
    }
}

/// One step of the search; returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn attempt<F: Wired>(number: u64, search: *mut c_void) -> i64 {
    // SAFETY: the helper hands on the pointer that `find` gave it, to a live `Search` that nobody else uses.
    let search = unsafe { &mut *search.cast::<Search<'_, F>>() };
    let connection = search.connection;
    let port = decide::source_port(connection.key.sport, search.random, number as u32);
    let own = port == connection.key.sport && *connection.node == connection.key.src;
    if !own && is_used_by_socket(connection, port) || !claim(connection, connection.node, port) {
        return 0;
    }
    search.found = Some(port);
    1
}

/// A socket of this node would get the answers, were they not translated: one of ours must not take them away.
#[inline(always)]
fn is_used_by_socket<F: Wired>(connection: &Connection<'_, F>, port: Port) -> bool {
    const CURRENT_NETNS: u64 = u64::MAX;
    let remote = (connection.backend.addr, connection.backend.port);
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
