//! Datagram sockets that name the peer in each call. One socket may talk to many Services: the map
//! `socketpeers` holds, per socket, frontend → backend for sending and backend → frontend for receiving.
//!
//! Two frontends with the same backend on one socket cannot be told apart when it answers: the one that the
//! socket sent to last is shown.

use aya_ebpf::{EbpfContext, helpers::generated::bpf_get_socket_cookie, programs::SockAddrContext};
use proxy_common::{
    Frontend, Reason, Segment, ServiceId, SocketPeer, SocketPeerKey,
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
            let backend = choose::backend::<V>(ctx, frontend, segment)?;
            tally(frontend.service, Reason::SocketSend);
            backend
        }
    };
    peer::mark(ctx)?;
    remember_reply::<V>(ctx, to, backend, frontend)?;
    put::<V>(&send, backend, frontend)?;
    Ok(backend)
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
