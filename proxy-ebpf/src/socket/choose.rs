//! From the endpoint that a call names to the frontend, and from there to a backend. Knows sockets as clients:
//! which namespace, which protocol.

use aya_ebpf::{
    EbpfContext,
    helpers::generated::{bpf_get_netns_cookie, bpf_get_socket_cookie},
    programs::SockAddrContext,
};
use proxy_common::{
    Address, ClientClass, Frontend, FrontendFlags, FrontendKey, Port, Proto, Reason, Segment,
    affinity::ClientKind, algorithm::client_hash, decide,
};

use super::view::{AddrOf, Endpoint, View};
use crate::{
    lookup,
    maps::{CONFIG, Tables},
};

/// The frontend at `to`, or why the call is none of ours, or refused.
///
/// A call to no Service costs one hash lookup, plus two array lookups while Service ranges are known; one to a Service
/// costs two hash lookups, see [`lookup::frontend`].
#[inline(always)]
pub fn frontend<V: View>(ctx: &SockAddrContext, to: Endpoint<AddrOf<V>>) -> Result<Frontend, Reason> {
    if !V::Family::served() {
        return Err(Reason::NotIp);
    }
    let proto = protocol(ctx).ok_or(Reason::NoPorts)?;
    if to.port == Port::NONE && proto == Proto::UDP {
        // getaddrinfo(3) connects datagram sockets to port 0 to learn the source address; nothing is ever sent.
        return Err(Reason::NoPorts);
    }
    let config = CONFIG.load();
    if config.host_sockets_only != 0 && netns(ctx) != config.host_netns {
        return Err(Reason::NotAService);
    }
    let key = FrontendKey::new(to.addr, to.port, proto);
    match lookup::frontend::read::<V::Family>(&key) {
        // A loopback address is another one in each namespace: only the node's own is served (item 68).
        Some(frontend) if frontend.flags.has(FrontendFlags::NODE_ONLY) && netns(ctx) != config.host_netns => {
            Err(Reason::NotAService)
        }
        Some(frontend) => Ok(frontend),
        None => Err(lookup::owner::unserved::<V::Family>(to.addr)),
    }
}

/// The backends that this socket may use.
///
/// Source ranges (item 81): a socket has no source yet. The node's will be its primary address, as far as anybody
/// can tell; a pod's is not known here, so [`Reason::NotAService`] leaves it to the hook that sees its packets.
#[inline(always)]
pub fn eligible<V: View>(ctx: &SockAddrContext, frontend: &Frontend) -> Result<Segment, Reason> {
    let class = if netns(ctx) == CONFIG.load().host_netns { ClientClass::Node } else { ClientClass::Pod };
    if frontend.flags.has(FrontendFlags::RANGES) {
        match class {
            ClientClass::Node => {
                let node = V::Family::node().get(0).ok_or(Reason::NoNodeAddress)?;
                lookup::range::admit::<V::Family>(frontend, node.address)?;
            }
            ClientClass::Pod | ClientClass::Outside => return Err(Reason::NotAService),
        }
    }
    // Whether the source is masqueraded is of no interest: the socket is bound to its source by the kernel once
    // it has the backend's address.
    decide::choose(frontend, class).map(|choice| choice.segment)
}

/// A backend for a new connection.
#[inline(always)]
pub fn backend<V: View>(
    ctx: &SockAddrContext,
    frontend: &Frontend,
    segment: Segment,
) -> Result<Endpoint<AddrOf<V>>, Reason> {
    let cookie = netns(ctx);
    let client = [cookie as u32, (cookie >> 32) as u32, 0, 0];
    // No source port is known before the connection is there: the socket itself stands for it.
    let connection = || {
        let cookie = socket(ctx);
        client_hash([cookie as u32, (cookie >> 32) as u32, frontend.service.0, 0])
    };
    let backend =
        lookup::backend::choose::<V::Family>(frontend, segment, ClientKind::NETNS, client, connection)?;
    Ok(Endpoint { addr: backend.addr, port: backend.port })
}

/// A socket bound to a loopback address takes that address along wherever it connects to, and only its own host can
/// answer there (item 55). Where `route_localnet` is set, and for IPv6 anyway, the kernel would let it, and the client
/// wait for minutes. Free for every other socket.
#[inline(always)]
pub fn admit_source<V: View>(ctx: &SockAddrContext, backend: Endpoint<AddrOf<V>>) -> Result<(), Reason> {
    if !V::source(ctx).is_loopback() || backend.addr.is_loopback() {
        return Ok(());
    }
    let is_here =
        netns(ctx) == CONFIG.load().host_netns && V::Family::local_addrs().get_ptr(backend.addr).is_some();
    if is_here { Ok(()) } else { Err(Reason::LoopbackSource) }
}

/// The protocol on the wire. (Multipath TCP connects by a TCP socket of its own, which is the one seen here.)
#[inline(always)]
pub fn protocol(ctx: &SockAddrContext) -> Option<Proto> {
    // SAFETY: the kernel passes a valid context, and every hook of the socket road shows this field.
    let number = unsafe { (*ctx.sock_addr).protocol };
    let proto = Proto(number as u8);
    (number <= u8::MAX as u32 && decide::has_ports(proto)).then_some(proto)
}

/// The cookie of the socket.
#[inline(always)]
fn socket(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes the context of this hook, which is valid while the program runs.
    unsafe { bpf_get_socket_cookie(ctx.as_ptr()) }
}

/// The cookie of the socket's network namespace.
#[inline(always)]
fn netns(ctx: &SockAddrContext) -> u64 {
    // SAFETY: the helper takes the context of this hook, which is valid while the program runs.
    unsafe { bpf_get_netns_cookie(ctx.as_ptr()) }
}
