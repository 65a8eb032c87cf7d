//! `connect(2)`, of stream and datagram sockets: the socket is connected to a backend, and nothing is left to do
//! for its packets.

use aya_ebpf::programs::SockAddrContext;
use proxy_common::{Frontend, Proto, Reason};

use super::{
    choose, datagram, peer,
    view::{AddrOf, Endpoint, View, endpoint, set_endpoint},
};
use crate::tally::tally;

/// Puts a backend in the place of a frontend.
#[inline(always)]
pub fn connect<V: View>(ctx: &SockAddrContext) -> Reason {
    match translate::<V>(ctx) {
        Ok(()) => Reason::SocketConnect,
        Err(reason) => {
            // Whatever becomes of the call, the socket leaves the peer it had. (A call with AF_UNSPEC, which only
            // disconnects, reaches no hook: readers look at the socket's state too.)
            peer::forget(ctx);
            reason
        }
    }
}

#[inline(always)]
fn translate<V: View>(ctx: &SockAddrContext) -> Result<(), Reason> {
    let to = endpoint::<V>(ctx);
    let frontend = choose::frontend::<V>(ctx, to)?;
    let result = connect_to::<V>(ctx, to, &frontend);
    tally(
        frontend.service,
        match result {
            Ok(()) => Reason::SocketConnect,
            Err(reason) => reason,
        },
    );
    result
}

#[inline(always)]
fn connect_to<V: View>(
    ctx: &SockAddrContext,
    to: Endpoint<AddrOf<V>>,
    frontend: &Frontend,
) -> Result<(), Reason> {
    let segment = choose::eligible::<V>(ctx, frontend)?;
    let backend = choose::backend::<V>(ctx, frontend, segment)?;
    choose::admit_source::<V>(ctx, backend)?;
    peer::remember(ctx, to, backend, frontend)?;
    if choose::protocol(ctx) == Some(Proto::UDP) {
        datagram::note_connection::<V>(ctx, to, backend, frontend);
    }
    set_endpoint::<V>(ctx, backend);
    Ok(())
}
