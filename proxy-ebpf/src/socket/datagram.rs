//! Datagram sockets that name the peer in each call. One socket may talk to many Services: the map
//! `socketpeers` holds, per socket, frontend → backend for sending and backend → frontend for receiving.
//!
//! Two frontends with the same backend on one socket cannot be told apart when it answers. So the second one is given
//! another backend; where there is none, the frontend that the socket sent to last is shown.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_prandom_u32, bpf_get_socket_cookie, bpf_loop},
    programs::SockAddrContext,
};
use proxy_common::{
    Frontend, Reason, Segment, ServiceId, SocketPeer, SocketPeerKey, decide, limits,
    socket::{ConnectedPeer, PeerDirection},
};

use super::{
    choose, peer,
    view::{AddrOf, Endpoint, View, endpoint, set_endpoint},
};
use crate::{lookup, maps::Tables, tally::tally};

/// `sendmsg(2)` with an address: sends to a backend in the place of a frontend.
#[inline(always)]
pub fn send<V: View>(ctx: &SockAddrContext) -> Reason {
    match translate::<V>(ctx) {
        Ok(()) => Reason::SocketSend,
        Err(reason) => reason,
    }
}

/// `recvmsg(2)` that asks for the sender: shows the frontend in the place of the backend. `None` if the sender
/// stays who it is.
#[inline(always)]
pub fn receive<V: View>(ctx: &SockAddrContext) -> Option<Reason> {
    if !V::Family::served() {
        return None;
    }
    let connected = peer::recall(ctx)?;
    let sender = endpoint::<V>(ctx);
    let frontend = if is_connected(ctx, connected) && sender.is(connected.backend, connected.backend_port) {
        peer::frontend::<V>(connected)
    } else {
        place(&stored::<V>(&key::<V>(ctx, sender, PeerDirection::RECEIVE))?)
    };
    set_endpoint::<V>(ctx, frontend);
    Some(Reason::SocketReceive)
}

#[inline(always)]
fn translate<V: View>(ctx: &SockAddrContext) -> Result<(), Reason> {
    let to = endpoint::<V>(ctx);
    let frontend = choose::frontend::<V>(ctx, to)?;
    let segment = match choose::eligible::<V>(ctx, &frontend) {
        Ok(segment) => segment,
        Err(reason) => {
            tally(frontend.service, reason);
            return Err(reason);
        }
    };
    if let Some(connected) = peer::recall(ctx)
        && is_connected(ctx, connected)
        && to.is(connected.frontend, connected.frontend_port)
    {
        // The kernel hands a connected socket only what its one peer sends, so no other backend will do.
        set_endpoint::<V>(ctx, peer::backend::<V>(connected));
        return Ok(());
    }
    set_endpoint::<V>(ctx, lasting_backend::<V>(ctx, to, &frontend, segment)?);
    Ok(())
}

/// The backend that this socket sends to at this frontend: the same as the last time while it is eligible.
#[inline(always)]
fn lasting_backend<V: View>(
    ctx: &SockAddrContext,
    to: Endpoint<AddrOf<V>>,
    frontend: &Frontend,
    segment: Segment,
) -> Result<Endpoint<AddrOf<V>>, Reason> {
    let send = key::<V>(ctx, to, PeerDirection::SEND);
    let known = match stored::<V>(&send) {
        Some(peer) if peer.service == frontend.service => {
            let backend = place(&peer);
            if peer.generation == frontend.generation {
                // Segments do not change within a generation, so it is eligible without looking.
                remember_reply::<V>(ctx, to, backend, frontend)?;
                return Ok(backend);
            }
            lookup::backend::find::<V::Family>(segment, backend.addr, backend.port, 0).map(|_| backend)
        }
        Some(_) | None => None,
    };
    let backend = match known {
        Some(backend) => backend,
        None => {
            let backend = distinct::<V>(ctx, to, frontend, segment)?;
            tally(frontend.service, Reason::SocketSend);
            backend
        }
    };
    choose::admit_source::<V>(ctx, backend)?;
    peer::mark(ctx)?;
    remember_reply::<V>(ctx, to, backend, frontend)?;
    renew::<V>(&send, backend, frontend)?;
    Ok(backend)
}

/// A backend whose answers can be told from those to other frontends: if this socket already talks to the chosen one by
/// another name, the next in the segment that it does not. A Service with no other backend, or with session affinity,
/// shares it.
#[inline(always)]
fn distinct<V: View>(
    ctx: &SockAddrContext,
    to: Endpoint<AddrOf<V>>,
    frontend: &Frontend,
    segment: Segment,
) -> Result<Endpoint<AddrOf<V>>, Reason> {
    let backend = choose::backend::<V>(ctx, frontend, segment)?;
    let mut scan =
        Scan::<V> { key: key::<V>(ctx, backend, PeerDirection::RECEIVE), segment, from: 0, chosen: backend };
    if frontend.affinity != 0 || !is_taken::<V>(&scan.key, to) {
        return Ok(backend);
    }
    // SAFETY: the first has no arguments. `compare` has the signature that the helper wants, and `scan` outlives the
    // call.
    unsafe {
        scan.from = decide::slot(Segment { start: 0, len: segment.len }, bpf_get_prandom_u32());
        let tries = segment.len.min(limits::DISTINCT_SCAN);
        bpf_loop(tries, compare::<V> as *mut c_void, (&raw mut scan).cast(), 0);
    }
    Ok(scan.chosen)
}

/// The socket gets answers of the key's backend for another frontend than `to`.
#[inline(always)]
fn is_taken<V: View>(key: &SocketPeerKey<AddrOf<V>>, to: Endpoint<AddrOf<V>>) -> bool {
    stored::<V>(key).is_some_and(|shown| place(&shown) != to)
}

/// What [`compare`] works on.
struct Scan<V: View> {
    /// Of the backend looked at.
    key: SocketPeerKey<AddrOf<V>>,
    segment: Segment,
    /// Offset to begin with.
    from: u32,
    chosen: Endpoint<AddrOf<V>>,
}

/// One step of the scan; returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn compare<V: View>(step: u64, scan: *mut c_void) -> i64 {
    // SAFETY: the helper hands on the pointer that `distinct` gave it, to a live `Scan` that nobody else touches.
    let scan = unsafe { &mut *scan.cast::<Scan<V>>() };
    let mut offset = scan.from.wrapping_add(step as u32);
    if offset >= scan.segment.len {
        offset = offset.wrapping_sub(scan.segment.len);
    }
    let Some(backend) = V::Family::backends().get(scan.segment.start.wrapping_add(offset)) else { return 1 };
    scan.key.addr = backend.addr;
    scan.key.port = backend.port;
    if stored::<V>(&scan.key).is_some() {
        return 0;
    }
    scan.chosen = Endpoint { addr: backend.addr, port: backend.port };
    1
}

/// Answers of `backend` are shown as those of `to`. Looked up at each datagram: the entry may have been evicted,
/// or belong to another frontend with the same backend.
#[inline(always)]
fn remember_reply<V: View>(
    ctx: &SockAddrContext,
    to: Endpoint<AddrOf<V>>,
    backend: Endpoint<AddrOf<V>>,
    frontend: &Frontend,
) -> Result<(), Reason> {
    let receive = key::<V>(ctx, backend, PeerDirection::RECEIVE);
    match stored::<V>(&receive) {
        Some(shown) if place(&shown) == to => Ok(()),
        Some(_) | None => put::<V>(&receive, to, frontend),
    }
}

/// Whom the socket is being connected to, for the agent: who removes the backend has to find the socket. Without room
/// the socket is served all the same.
#[inline(always)]
pub fn note_connection<V: View>(
    ctx: &SockAddrContext,
    to: Endpoint<AddrOf<V>>,
    backend: Endpoint<AddrOf<V>>,
    frontend: &Frontend,
) {
    let _ = put::<V>(&key::<V>(ctx, backend, PeerDirection::CONNECTED), to, frontend);
}

/// The socket is connected to a frontend, and has not been disconnected since.
#[inline(always)]
fn is_connected(ctx: &SockAddrContext, peer: &ConnectedPeer) -> bool {
    /// `TCP_ESTABLISHED`, which is also the state of a connected datagram socket.
    const ESTABLISHED: u32 = 1;
    // SAFETY: the context of a hook for socket addresses always has a socket, and its state may be read.
    let state = unsafe { (*(*ctx.sock_addr).__bindgen_anon_1.sk).state };
    peer.service != ServiceId::NONE && state == ESTABLISHED
}

#[inline(always)]
fn key<V: View>(
    ctx: &SockAddrContext,
    at: Endpoint<AddrOf<V>>,
    direction: PeerDirection,
) -> SocketPeerKey<AddrOf<V>> {
    // SAFETY: the helper takes the context of this hook, which is valid while the program runs.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    SocketPeerKey::new(cookie, at.addr, at.port, direction)
}

#[inline(always)]
fn stored<V: View>(key: &SocketPeerKey<AddrOf<V>>) -> Option<SocketPeer<AddrOf<V>>> {
    // SAFETY: elements stay elements of this map while the program runs. One that is evicted may be given to
    // another socket at once, so the value is copied here, before anything else is done.
    unsafe { V::Family::socket_peers().get(key) }.copied()
}

#[inline(always)]
fn place<A: Copy>(peer: &SocketPeer<A>) -> Endpoint<A> {
    Endpoint { addr: peer.addr, port: peer.port }
}

/// [`put`]; of an entry that differs in its generation alone, that is written where it lies: while one is replaced, another
/// thread of the socket's process may not find it, and would send to another backend (`docs/decisions/0049-*`).
#[inline(always)]
fn renew<V: View>(
    key: &SocketPeerKey<AddrOf<V>>,
    at: Endpoint<AddrOf<V>>,
    frontend: &Frontend,
) -> Result<(), Reason> {
    if let Some(known) = V::Family::socket_peers().get_ptr_mut(key) {
        // SAFETY: as in `stored`; the generation is a plain word, and one that is given to another socket meanwhile was so now.
        let known = unsafe { &mut *known };
        if place(known) == at && known.service == frontend.service {
            known.generation = frontend.generation;
            return Ok(());
        }
    }
    put::<V>(key, at, frontend)
}

#[inline(always)]
fn put<V: View>(
    key: &SocketPeerKey<AddrOf<V>>,
    at: Endpoint<AddrOf<V>>,
    frontend: &Frontend,
) -> Result<(), Reason> {
    let Frontend { service, generation, .. } = *frontend;
    let peer = SocketPeer { addr: at.addr, port: at.port, pad: [0; 2], service, generation };
    V::Family::socket_peers().insert(key, peer, 0).map_err(|_| Reason::SocketPeersFull)
}
