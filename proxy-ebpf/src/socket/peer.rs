//! What a socket remembers of the Service it is connected to, kept in the socket itself: it needs no key, no
//! bound and no clean-up. That there is such a memory at all also tells the sockets that ever talked to a
//! Service from all others, which pay nothing for those.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    EbpfContext,
    bindings::BPF_SK_STORAGE_GET_F_CREATE,
    helpers::generated::{bpf_sk_storage_get, bpf_skc_to_mptcp_sock},
    programs::{SockAddrContext, SockContext},
};
use proxy_common::{
    Address, Frontend, LoadKey, Port, Reason, ServiceId, algorithm::LoadKind, socket::ConnectedPeer,
};

use super::view::{AddrOf, Endpoint, View, endpoint, set_endpoint};
use crate::lookup::load;
use crate::maps::{CONNECTED, Tables, constant};

/// The socket is now connected to `backend`, its application believes to `frontend`.
#[inline(always)]
pub fn remember<A: Address>(
    ctx: &SockAddrContext,
    to: Endpoint<A>,
    backend: Endpoint<A>,
    frontend: &Frontend,
) -> Result<(), Reason> {
    let Frontend { service, algorithm, .. } = *frontend;
    if let Some(old) = recall(ctx) {
        leave(old);
    }
    let counted =
        algorithm.counts_connections() && load::enter(service, backend.addr, backend.port, LoadKind::SOCKETS);
    let mut shown = ConnectedPeer {
        frontend: to.addr.to_words(),
        backend: backend.addr.to_words(),
        frontend_port: to.port,
        backend_port: backend.port,
        service,
        counted: 0,
    };
    // Where there is no room for it, the application is shown the backend, and served all the same.
    if let Some(peer) = of_application(ctx, &raw mut shown, BPF_SK_STORAGE_GET_F_CREATE.into()) {
        *peer = shown;
    }
    store(ctx, ConnectedPeer { counted: counted as u32, ..shown })
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
        leave(peer);
        peer.counted = 0;
        peer.service = ServiceId::NONE;
        // Only a socket that ever talked to a Service has an application that was told so.
        if let Some(peer) = of_application(ctx, ptr::null_mut(), 0) {
            peer.service = ServiceId::NONE;
        }
    }
}

/// The same memory in the multipath TCP socket whose first connection this socket makes: the application holds that
/// one, and asks it for its peer. `None` for every other socket: a call without a lookup.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "the storage is the kernel's: the context only says whose")]
fn of_application(
    ctx: &SockAddrContext,
    value: *mut ConnectedPeer,
    flags: u64,
) -> Option<&mut ConnectedPeer> {
    if constant!(mptcp) == 0 {
        return None;
    }
    // SAFETY: the socket of the program's own context, to helpers that take any socket; the one that owns it is found
    // or null, and outlives it. The kernel copies `value`. The storage is valid while the program runs.
    unsafe {
        let owner = bpf_skc_to_mptcp_sock((*ctx.sock_addr).__bindgen_anon_1.sk.cast());
        if owner.is_null() {
            return None;
        }
        let map = (&raw const CONNECTED).cast_mut().cast::<c_void>();
        bpf_sk_storage_get(map, owner.cast(), value.cast(), flags).cast::<ConnectedPeer>().as_mut()
    }
}

/// Its connection is over, if it counts as one of its backend's.
#[inline(always)]
fn leave(peer: &ConnectedPeer) {
    if peer.counted != 0 {
        load::leave(&LoadKey {
            service: peer.service,
            addr: peer.backend,
            port: peer.backend_port,
            kind: LoadKind::SOCKETS,
        });
    }
}

/// The socket is closed. (Its storage outlives its descriptor by as much as its connection does.)
#[inline(always)]
pub fn release(ctx: &SockContext) {
    // SAFETY: the program's own context, whose socket is valid; the map is socket storage, and a value is not made
    // where there is none, so that no pointer to one is needed. What is found lives while the program runs.
    let peer = unsafe {
        let map = (&raw const CONNECTED).cast_mut().cast();
        let found = bpf_sk_storage_get(map, ctx.as_ptr(), core::ptr::null_mut(), 0);
        found.cast::<ConnectedPeer>().as_mut()
    };
    if let Some(peer) = peer {
        leave(peer);
        peer.counted = 0;
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
