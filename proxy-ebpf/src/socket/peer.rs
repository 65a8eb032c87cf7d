//! What a socket remembers of the Service it is connected to, kept in the socket itself: it needs no key, no
//! bound and no clean-up. That there is such a memory at all also tells the sockets that ever talked to a
//! Service from all others, which pay nothing for those.

use aya_ebpf::programs::SockAddrContext;
use proxy_common::{Address, Port, Reason, ServiceId, socket::ConnectedPeer};

use super::view::{AddrOf, Endpoint, View, endpoint, set_endpoint};
use crate::maps::{CONNECTED, Tables};

/// The socket is now connected to `backend`, its application believes to `frontend`.
#[inline(always)]
pub fn remember<A: Address>(
    ctx: &SockAddrContext,
    frontend: Endpoint<A>,
    backend: Endpoint<A>,
    service: ServiceId,
) -> Result<(), Reason> {
    store(
        ctx,
        ConnectedPeer {
            frontend: frontend.addr.to_words(),
            backend: backend.addr.to_words(),
            frontend_port: frontend.port,
            backend_port: backend.port,
            service,
            counted: 0,
        },
    )
}

/// The socket talks to Services without being connected to one.
#[inline(always)]
pub fn mark(ctx: &SockAddrContext) -> Result<(), Reason> {
    if recall(ctx).is_some() {
        return Ok(());
    }
    const UNCONNECTED: ConnectedPeer = ConnectedPeer {
        frontend: [0; 4],
        backend: [0; 4],
        frontend_port: Port::NONE,
        backend_port: Port::NONE,
        service: ServiceId::NONE,
        counted: 0,
    };
    store(ctx, UNCONNECTED)
}

/// The socket is connected to an address of nobody.
#[inline(always)]
pub fn forget(ctx: &SockAddrContext) {
    // SAFETY: the program's own context: its socket is valid, and so is its storage while the program runs.
    if let Some(peer) = unsafe { CONNECTED.get_ptr_mut(ctx).as_mut() } {
        peer.service = ServiceId::NONE;
    }
}

/// What the socket remembers; `None` if it never talked to a Service.
#[inline(always)]
pub fn recall(ctx: &SockAddrContext) -> Option<&ConnectedPeer> {
    // SAFETY: the program's own context: its socket is valid, and so is its storage while the program runs.
    unsafe { CONNECTED.get_ptr_mut(ctx).as_ref() }
}

/// `getpeername(2)`: an application that asks for its peer sees the address it asked for.
#[inline(always)]
pub fn show<V: View>(ctx: &SockAddrContext) {
    if !V::Family::served() {
        return;
    }
    let Some(peer) = recall(ctx) else { return };
    if peer.service != ServiceId::NONE && endpoint::<V>(ctx).is(peer.backend, peer.backend_port) {
        set_endpoint::<V>(ctx, frontend::<V>(peer));
    }
}

/// The frontend that the application asked for.
#[inline(always)]
pub fn frontend<V: View>(peer: &ConnectedPeer) -> Endpoint<AddrOf<V>> {
    Endpoint { addr: AddrOf::<V>::from_padded(peer.frontend), port: peer.frontend_port }
}

/// The backend that the kernel connected to.
#[inline(always)]
pub fn backend<V: View>(peer: &ConnectedPeer) -> Endpoint<AddrOf<V>> {
    Endpoint { addr: AddrOf::<V>::from_padded(peer.backend), port: peer.backend_port }
}

#[inline(always)]
fn store(ctx: &SockAddrContext, mut value: ConnectedPeer) -> Result<(), Reason> {
    // SAFETY: the program's own context: its socket is valid, and so is its storage while the program runs.
    if let Some(peer) = unsafe { CONNECTED.get_ptr_mut(ctx).as_mut() } {
        *peer = value;
        return Ok(());
    }
    // SAFETY: as above; the kernel copies `value`, it keeps no pointer to it.
    let stored = unsafe { CONNECTED.get_or_insert_ptr_mut(ctx, Some(&mut value)) };
    if stored.is_null() { Err(Reason::SocketPeersFull) } else { Ok(()) }
}
