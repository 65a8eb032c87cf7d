//! The address of this node that a masqueraded packet comes from: that of the device it will leave by, as
//! netfilter's `MASQUERADE` has it (item 59).
//! <https://github.com/torvalds/linux/blob/v6.12/net/netfilter/nf_nat_masquerade.c#L33>

use aya_ebpf::{
    bindings::{BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup},
    helpers::generated::bpf_fib_lookup as lookup_route,
    maps::lpm_trie::Key,
};
use proxy_common::{Backend, FlowKey, PrefixKey};

use crate::family::Wired;
use crate::maps::Prefix;
use crate::packet::cursor::{Access as _, Frame};

/// Puts the address into `source`, which holds the node's primary one: that stays where the way leads to no device
/// of ours, or to one without an address.
///
/// Costs a question to the routing table and a lookup, for each connection that is masqueraded. The kernel's own
/// answer (`BPF_FIB_LOOKUP_SRC`) is there from Linux 6.7 on, and is the route's preferred source and not the device's
/// address, so the agent writes down what each device has.
#[inline(never)]
pub fn towards<F: Wired>(
    frame: &Frame,
    packet: &FlowKey<F::Addr>,
    backend: &Backend<F::Addr>,
    source: &mut F::Addr,
) {
    // SAFETY: a plain struct of numbers; all zero is valid.
    let mut params: bpf_fib_lookup = unsafe { core::mem::zeroed() };
    // The client's own source: netfilter masquerades after routing.
    F::ask_route(&mut params, packet.src, backend.addr);
    params.l4_protocol = packet.proto.0;
    params.sport = packet.sport.wire();
    params.dport = backend.port.wire();
    params.ifindex = frame.device();
    let size = size_of::<bpf_fib_lookup>() as i32;
    // SAFETY: the context is live, and the size is that of the struct on our stack.
    let answer = unsafe { lookup_route(frame.context(), &raw mut params, size, 0) } as u32;
    if answer != BPF_FIB_LKUP_RET_SUCCESS && answer != BPF_FIB_LKUP_RET_NO_NEIGH {
        return;
    }
    let to = F::source_hint(&params, backend.addr);
    let PrefixKey { bits, scope, addr } = PrefixKey::exactly(params.ifindex, to);
    if let Some(found) = F::sources().get(Key::new(bits, Prefix { scope, addr })) {
        *source = *found;
    }
}
