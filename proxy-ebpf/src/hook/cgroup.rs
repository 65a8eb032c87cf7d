//! The hooks of the socket road.

use aya_ebpf::{macros::cgroup_sock_addr, programs::SockAddrContext};
use proxy_common::Reason;

use crate::count::count;

/// `connect(2)` of an IPv4 socket.
#[cgroup_sock_addr(connect4)]
pub fn connect4(_ctx: SockAddrContext) -> i32 {
    count(Reason::NotAService);
    1
}
