//! How the address of a socket call is read and written. The family file of the socket road: an IPv6 socket
//! that talks to a v4-mapped address (`::ffff:a.b.c.d`) is served as IPv4, so there are three views of two
//! families.

use core::mem::offset_of;

use aya_ebpf::{bindings::bpf_sock_addr, programs::SockAddrContext};
use proxy_common::{Addr4, Addr6, Address, Family, Port, V4, V6};

use crate::lookup::backend::Considered;
use crate::maps::Tables;

/// An address and a port of one family.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Endpoint<A> {
    /// The address.
    pub addr: A,
    /// The port.
    pub port: Port,
}

/// The address of the endpoints that a view shows.
pub type AddrOf<V> = <<V as View>::Family as Family>::Addr;

/// One way to read and write a call's address.
pub trait View {
    /// Whose maps are asked.
    type Family: Tables + Considered;
    /// The address in the call.
    fn addr(ctx: &SockAddrContext) -> AddrOf<Self>;
    /// The address that the socket is bound to; unspecified if it is not.
    fn source(ctx: &SockAddrContext) -> AddrOf<Self>;
    /// Replaces the address in the call.
    fn set_addr(ctx: &SockAddrContext, addr: AddrOf<Self>);
}

/// The endpoint in the call.
#[inline(always)]
pub fn endpoint<V: View>(ctx: &SockAddrContext) -> Endpoint<AddrOf<V>> {
    // SAFETY: the kernel passes a valid context; the verifier bounds the access. The port is in network order in
    // the low half of the word.
    let port = unsafe { (*ctx.sock_addr).user_port };
    Endpoint { addr: V::addr(ctx), port: Port::from_wire(port as u16) }
}

/// Replaces the endpoint in the call.
#[inline(always)]
pub fn set_endpoint<V: View>(ctx: &SockAddrContext, to: Endpoint<AddrOf<V>>) {
    V::set_addr(ctx, to.addr);
    // SAFETY: this field may be written in every hook of the socket road.
    unsafe { write::<{ offset_of!(bpf_sock_addr, user_port) }>(ctx, to.port.wire() as u32) };
}

/// Reads one word of the context; spelled out for the reason that [`write`] gives.
///
/// # Safety
/// `OFFSET` is that of a word of `bpf_sock_addr` that the hook lets programs read.
#[inline(always)]
unsafe fn read<const OFFSET: usize>(ctx: &SockAddrContext) -> u32 {
    #[cfg(target_arch = "bpf")]
    // SAFETY: the kernel passes a valid context, and the caller vouches for the offset. It is not pure: `write`
    // changes what is read.
    unsafe {
        let word: u64;
        core::arch::asm!(
            "{word} = *(u32 *)({ctx} + {offset})",
            word = out(reg) word,
            ctx = in(reg) ctx.sock_addr,
            offset = const OFFSET,
            options(nostack),
        );
        word as u32
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller vouches for the context and the offset.
    unsafe {
        ctx.sock_addr.byte_add(OFFSET).cast::<u32>().read()
    }
}

/// Writes one word of the context.
///
/// # Safety
/// `OFFSET` is that of a word of `bpf_sock_addr` that the hook lets programs write.
#[inline(always)]
unsafe fn write<const OFFSET: usize>(ctx: &SockAddrContext, word: u32) {
    // The verifier wants the offset in the instruction itself ("dereference of modified ctx ptr"), and the
    // compiler likes to share an address between writes to neighbouring words; so the instruction is spelled out.
    #[cfg(target_arch = "bpf")]
    // SAFETY: the kernel passes a valid context, and the caller vouches for the offset.
    unsafe {
        core::arch::asm!(
            "*(u32 *)({ctx} + {offset}) = {word}",
            ctx = in(reg) ctx.sock_addr,
            offset = const OFFSET,
            word = in(reg) word as u64,
        );
    }
    #[cfg(not(target_arch = "bpf"))]
    // SAFETY: the caller vouches for the context and the offset.
    unsafe {
        ctx.sock_addr.byte_add(OFFSET).cast::<u32>().write(word);
    }
}

/// An IPv4 call.
pub enum Plain4 {}

/// An IPv6 call to an IPv6 address.
pub enum Plain6 {}

/// An IPv6 call to a v4-mapped address.
pub enum Mapped4 {}

impl View for Plain4 {
    type Family = V4;

    #[inline(always)]
    fn addr(ctx: &SockAddrContext) -> Addr4 {
        // SAFETY: the kernel passes a valid context, and the hooks for IPv4 show this field.
        Addr4::from_word(unsafe { (*ctx.sock_addr).user_ip4 })
    }

    #[inline(always)]
    fn source(ctx: &SockAddrContext) -> Addr4 {
        // SAFETY: the context of a hook for socket addresses always has a socket, and its source may be read.
        Addr4::from_word(unsafe { (*(*ctx.sock_addr).__bindgen_anon_1.sk).src_ip4 })
    }

    #[inline(always)]
    fn set_addr(ctx: &SockAddrContext, addr: Addr4) {
        // SAFETY: the hooks for IPv4 let this field be written.
        unsafe { write::<{ offset_of!(bpf_sock_addr, user_ip4) }>(ctx, addr.word()) };
    }
}

impl View for Plain6 {
    type Family = V6;

    #[inline(always)]
    fn addr(ctx: &SockAddrContext) -> Addr6 {
        const OFFSET: usize = offset_of!(bpf_sock_addr, user_ip6);
        // SAFETY: the hooks for IPv6 show this field, four words.
        Addr6::from_words(unsafe {
            [
                read::<OFFSET>(ctx),
                read::<{ OFFSET + 4 }>(ctx),
                read::<{ OFFSET + 8 }>(ctx),
                read::<{ OFFSET + 12 }>(ctx),
            ]
        })
    }

    #[inline(always)]
    fn source(ctx: &SockAddrContext) -> Addr6 {
        // SAFETY: the context of a hook for socket addresses always has a socket, and its source may be read.
        Addr6::from_words(unsafe { (*(*ctx.sock_addr).__bindgen_anon_1.sk).src_ip6 })
    }

    #[inline(always)]
    fn set_addr(ctx: &SockAddrContext, addr: Addr6) {
        const OFFSET: usize = offset_of!(bpf_sock_addr, user_ip6);
        let [a, b, c, d] = addr.words();
        // SAFETY: the hooks for IPv6 let this field, four words, be written.
        unsafe {
            write::<OFFSET>(ctx, a);
            write::<{ OFFSET + 4 }>(ctx, b);
            write::<{ OFFSET + 8 }>(ctx, c);
            write::<{ OFFSET + 12 }>(ctx, d);
        }
    }
}

impl View for Mapped4 {
    type Family = V4;

    #[inline(always)]
    fn addr(ctx: &SockAddrContext) -> Addr4 {
        Addr4::from_word(Plain6::addr(ctx).words()[3])
    }

    #[inline(always)]
    fn source(ctx: &SockAddrContext) -> Addr4 {
        // An IPv6 socket bound to a v4-mapped address has its IPv4 half, too.
        Plain4::source(ctx)
    }

    #[inline(always)]
    fn set_addr(ctx: &SockAddrContext, addr: Addr4) {
        Plain6::set_addr(ctx, Addr6::from_words([0, 0, 0xffff_u32.to_be(), addr.word()]));
    }
}

/// The address of an IPv6 call is a v4-mapped one: [`Mapped4`] sees it, else [`Plain6`] does.
#[inline(always)]
pub fn is_mapped(ctx: &SockAddrContext) -> bool {
    Plain6::addr(ctx).mapped().is_some()
}

/// An endpoint as it lies in the storage of a socket, padded to the widest family.
impl<A: Address> Endpoint<A> {
    /// True if the padded words and the port are this endpoint.
    #[inline(always)]
    pub fn is(&self, words: [u32; 4], port: Port) -> bool {
        Addr6::from_words(self.addr.to_words()) == Addr6::from_words(words) && self.port == port
    }
}
