//! The hooks of the socket road: calls of the sockets of one control group.
//!
//! An IPv6 socket may talk to a v4-mapped address; the kernel shows it to the IPv6 hooks, except in `sendmsg(2)`,
//! where it is an IPv4 call already.
//! <https://github.com/torvalds/linux/blob/v6.12/net/ipv6/udp.c#L1404>

use aya_ebpf::{
    helpers::generated::bpf_set_retval,
    macros::{cgroup_sock, cgroup_sock_addr},
    programs::{SockAddrContext, SockContext},
};
use proxy_common::{Reason, reason::Outcome};

use crate::{
    count::count,
    socket::{
        connect::connect,
        datagram::{receive, send},
        peer::{release, show},
        view::{Mapped4, Plain4, Plain6, is_mapped},
    },
};

/// `connect(2)` to an IPv4 address.
#[cgroup_sock_addr(connect4)]
pub fn connect4(ctx: SockAddrContext) -> i32 {
    answer(connect::<Plain4>(&ctx))
}

/// `connect(2)` to an IPv6 address.
#[cgroup_sock_addr(connect6)]
pub fn connect6(ctx: SockAddrContext) -> i32 {
    answer(if is_mapped(&ctx) { connect::<Mapped4>(&ctx) } else { connect::<Plain6>(&ctx) })
}

/// `sendmsg(2)` of a datagram to an IPv4 address.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(ctx: SockAddrContext) -> i32 {
    answer(send::<Plain4>(&ctx))
}

/// `sendmsg(2)` of a datagram to an IPv6 address.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(ctx: SockAddrContext) -> i32 {
    answer(send::<Plain6>(&ctx))
}

/// `recvmsg(2)` of a datagram by an IPv4 socket.
#[cgroup_sock_addr(recvmsg4)]
pub fn recvmsg4(ctx: SockAddrContext) -> i32 {
    shown(receive::<Plain4>(&ctx))
}

/// `recvmsg(2)` of a datagram by an IPv6 socket.
#[cgroup_sock_addr(recvmsg6)]
pub fn recvmsg6(ctx: SockAddrContext) -> i32 {
    shown(if is_mapped(&ctx) { receive::<Mapped4>(&ctx) } else { receive::<Plain6>(&ctx) })
}

/// `getpeername(2)` of an IPv4 socket.
#[cgroup_sock_addr(getpeername4)]
pub fn getpeername4(ctx: SockAddrContext) -> i32 {
    show::<Plain4>(&ctx);
    ALLOW
}

/// `getpeername(2)` of an IPv6 socket.
#[cgroup_sock_addr(getpeername6)]
pub fn getpeername6(ctx: SockAddrContext) -> i32 {
    if is_mapped(&ctx) {
        show::<Mapped4>(&ctx)
    } else {
        show::<Plain6>(&ctx)
    }
    ALLOW
}

/// A socket is closed.
#[cgroup_sock(sock_release)]
pub fn sock_release(ctx: SockContext) -> i32 {
    release(&ctx);
    ALLOW
}

/// The call goes on.
const ALLOW: i32 = 1;
/// The call fails: with `EPERM`, unless the program set another error.
const DENY: i32 = 0;
/// `include/uapi/asm-generic/errno.h`.
const ECONNREFUSED: i32 = 111;
/// Where a packet would be dropped. Not `EPERM`, which nobody expects of `connect`: the kernel's own NFS client takes it
/// for something to try again at once, and holds the processor until it succeeds (`xs_tcp_setup_socket` in
/// <https://github.com/torvalds/linux/blob/v6.9/net/sunrpc/xprtsock.c>).
const EHOSTUNREACH: i32 = 113;

#[inline(always)]
fn answer(reason: Reason) -> i32 {
    count(reason);
    match reason.outcome() {
        Outcome::Pass | Outcome::Translate => ALLOW,
        Outcome::Reject => fail(ECONNREFUSED),
        Outcome::Drop => fail(EHOSTUNREACH),
    }
}

#[inline(always)]
fn fail(error: i32) -> i32 {
    // SAFETY: the helper takes a number; the hooks of `connect` and `sendmsg` may set the call's error.
    unsafe { bpf_set_retval(-error) };
    DENY
}

/// Receiving never fails; senders that are nobody's backends are not counted, they did not ask for anything.
#[inline(always)]
fn shown(reason: Option<Reason>) -> i32 {
    if let Some(reason) = reason {
        count(reason);
    }
    ALLOW
}
