//! What a socket remembers of the Service it is connected to. A TCP socket has a place for it in an array until it is
//! closed ([`stream`]), because a memory of its own costs a microsecond to make and to free. All others, those whose
//! place is taken, and those of multipath TCP have it in the socket itself: it needs no key, no bound and no clean-up.
//! That there is such a memory at all also tells the datagram sockets that ever talked to a Service from all others,
//! which pay nothing for those.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_SK_STORAGE_GET_F_CREATE, bpf_sock_addr},
    helpers::generated::{bpf_get_socket_cookie, bpf_sk_storage_get, bpf_skc_to_mptcp_sock},
    programs::{SockAddrContext, SockContext},
};
use proxy_common::{
    Address, Frontend, LoadKey, Port, Proto, Reason, ServiceId, algorithm::LoadKind, socket::ConnectedPeer,
};

use super::choose::protocol;
use super::stream;
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
    let peer = ConnectedPeer {
        frontend: to.addr.to_words(),
        backend: backend.addr.to_words(),
        frontend_port: to.port,
        backend_port: backend.port,
        service,
        counted: 0,
    };
    match keep_peer(ctx.sock_addr, &peer, algorithm.counts_connections() as u32) {
        0 => Err(Reason::SocketPeersFull),
        _ => Ok(()),
    }
}

/// Zero: there is no room. Verified on its own: what it has found makes many states, in which the callers need not be seen.
#[unsafe(no_mangle)]
extern "C" fn keep_peer(ctx: *mut bpf_sock_addr, peer: *const ConnectedPeer, counts: u32) -> u32 {
    // SAFETY: the verifier has seen the callers: a pointer to a whole value on their stack, or null for all that it knows
    // here. A copy, because kernels before 6.2 take no value for a map from memory that a function has from its caller.
    let Some(mut shown) = (unsafe { peer.as_ref() }).copied() else { return 0 };
    let ctx = &SockAddrContext { sock_addr: ctx };
    let cookie = stream_cookie(ctx);
    let old = known(ctx, cookie);
    if let Some(old) = &old {
        leave(old);
    }
    // Where there is no room for it, the application is shown the backend, and served all the same.
    let owned = of_application(ctx, &raw mut shown, BPF_SK_STORAGE_GET_F_CREATE.into());
    let is_owned = owned.is_some();
    if let Some(peer) = owned {
        *peer = shown;
    }
    if counts != 0 && load::count_up(&load_key(&shown)) {
        shown.counted = 1;
    }
    if let Some(old) = old {
        *old = shown;
        return 1;
    }
    // Nobody tells when the socket of an application's first connection is closed, of multipath TCP.
    if cookie != stream::NOBODY && !is_owned && stream::take(cookie, &shown) {
        return 1;
    }
    store(ctx, shown).is_ok() as u32
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
    forget_peer(ctx.sock_addr);
}

/// Verified on its own, because it is asked for whatever the reason.
#[unsafe(no_mangle)]
extern "C" fn forget_peer(ctx: *mut bpf_sock_addr) -> u32 {
    let ctx = &SockAddrContext { sock_addr: ctx };
    let Some(peer) = known(ctx, stream_cookie(ctx)) else { return 0 };
    leave(peer);
    peer.counted = 0;
    peer.service = ServiceId::NONE;
    // Only a socket that ever talked to a Service has an application that was told so.
    if let Some(peer) = of_application(ctx, ptr::null_mut(), 0) {
        peer.service = ServiceId::NONE;
    }
    1
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
        load::leave(&load_key(peer));
    }
}

#[inline(always)]
fn load_key(peer: &ConnectedPeer) -> LoadKey {
    LoadKey { service: peer.service, addr: peer.backend, port: peer.backend_port, kind: LoadKind::SOCKETS }
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
        return;
    }
    // SAFETY: the program's own context, whose field may be read at this hook.
    if (unsafe { (*ctx.sock).protocol }) != Proto::TCP.0 as u32 {
        return;
    }
    // SAFETY: the helper takes the context of this hook.
    let cookie = unsafe { bpf_get_socket_cookie(ctx.as_ptr()) };
    if let Some(peer) = stream::at(cookie) {
        leave(peer);
        stream::give_back(cookie);
    }
}

/// The cookie of a TCP socket; [`stream::NOBODY`] for every other. No option: the compiler may keep the payload of one that
/// has none in a register that was never written, which the verifier refuses.
#[inline(always)]
fn stream_cookie(ctx: &SockAddrContext) -> u64 {
    if protocol(ctx) != Some(Proto::TCP) {
        return stream::NOBODY;
    }
    // SAFETY: the helper takes the context of this hook, which is valid while the program runs.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// What the socket remembers, wherever that is.
#[inline(always)]
#[expect(clippy::mut_from_ref, reason = "the memory is the kernel's: the context only says whose")]
fn known(ctx: &SockAddrContext, cookie: u64) -> Option<&mut ConnectedPeer> {
    if cookie != stream::NOBODY
        && let Some(peer) = stream::at(cookie)
    {
        return Some(peer);
    }
    // SAFETY: the program's own context: its socket is valid, and so is its storage while the program runs.
    unsafe { CONNECTED.get_ptr_mut(ctx).as_mut() }
}

/// What a datagram socket remembers; `None` if it never talked to a Service.
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
    let Some(peer) = known(ctx, stream_cookie(ctx)) else { return };
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
