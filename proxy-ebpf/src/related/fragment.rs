//! Fragments of translated datagrams (item 111). The first one has the ports: it is noted under the datagram's name, and
//! the others are translated as it is.
//!
//! A fragment that comes before the first is held: its bytes are kept in a map. The first goes its way at once, so that its
//! flow is there for whatever comes behind it, and leaves a copy of itself in the device that it came by. When the copy
//! comes around, all that were held are put back into the device in its stead. Whether a datagram is of a flow cannot be
//! known before its first fragment, so this happens to every datagram, but only where one comes out of order.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{
    bpf_clone_redirect, bpf_loop, bpf_skb_change_tail, bpf_skb_load_bytes, bpf_skb_store_bytes,
};
use proxy_common::{
    Address, FlowFlags, FragmentKey, FragmentPorts, HeldFrame, Proto, Reason, Route, checksum, decide,
    fragment::HELD, limits,
};

use super::{Cutter, Outcome, entry, way};
use crate::action::Verdict;
use crate::family::related::{Piece, Unusual};
use crate::family::{Hop, Wired};
use crate::flow;
use crate::maps::HELD_SCRATCH;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::ethernet::{self, Ethernet, Mac};
use crate::packet::{Packet, l4};
use crate::road::{Direction, Hook, Service, jiffies};
use crate::route;
use crate::scratch::{self, Area, Plain};
use crate::verified;

/// `BPF_ANY` and `BPF_NOEXIST`.
const ANY: u64 = 0;
const NOEXIST: u64 = 1;
/// No frame is shorter.
const LEAST: u32 = size_of::<Ethernet>() as u32;

// SAFETY: addresses and numbers.
unsafe impl<A: Address> Plain for FragmentKey<A> {}

/// Judges a fragment. Of the first the ports are read, and the caller goes on with it as with any packet.
#[inline(always)]
pub fn handle<F: Unusual>(frame: &mut Frame, packet: &mut Packet<F::Addr>, hook: Hook) -> Outcome {
    // The transport header may lie in a fragment of memory, too.
    frame.linearise();
    let stranger = Outcome::Ends(Verdict::of(Reason::Fragment));
    let Some(key) = scratch::take::<FragmentKey<F::Addr>>(Area::Fragment) else { return stranger };
    let mut piece = Piece::default();
    if F::piece(frame, &mut piece).is_none() {
        return stranger;
    }
    let Piece { id, offset, proto, start } = piece;
    packet.key.proto = proto;
    // SCTP's checksum is over the whole packet, of which nobody has the length before the last fragment; its senders
    // cut messages and not packets.
    if !decide::has_ports(proto) || proto == Proto::SCTP {
        return stranger;
    }
    *key = FragmentKey { src: packet.key.src, dst: packet.key.dst, id, proto, number: 0, pad: [0; 2] };
    packet.transport = start;
    if offset == 0 {
        return first::<F>(frame, packet, key, hook);
    }
    // It would overwrite the flags of a header that was judged without them (RFC 1858 section 3, RFC 3128).
    if proto == Proto::TCP && offset == 1 {
        return Outcome::Ends(Verdict::of(Reason::Malformed));
    }
    Outcome::Ends(later::<F>(frame, packet, key, hook))
}

/// The first one goes on as any packet with ports; once more it comes for the sake of those that are held.
#[inline(always)]
fn first<F: Unusual>(
    frame: &mut Frame,
    packet: &mut Packet<F::Addr>,
    key: &mut FragmentKey<F::Addr>,
    hook: Hook,
) -> Outcome {
    if !l4::read(frame, packet) {
        return Outcome::Ends(Verdict::of(Reason::Malformed));
    }
    let came_before = ports::<F>(key).is_some();
    let ports = FragmentPorts { sport: packet.key.sport, dport: packet.key.dport, seen: jiffies() };
    let shared: &FragmentKey<F::Addr> = key;
    // Noted before those that are held are looked for: who holds one looks at the note afterwards. It is refused only
    // when the LRU finds nothing to evict: then the others are lost, as without a note.
    let is_noted = F::fragments().insert(shared, ports, ANY).is_ok();
    if !is_noted || !holds(hook) || F::held().get_ptr(shared).is_none() {
        return Outcome::HasPorts;
    }
    if came_before {
        release::<F>(frame, key);
        return Outcome::Ends(Verdict::of(Reason::FragmentHeld));
    }
    // What waits in the device's queue is judged before the copy, and finds the flow that this one makes now.
    // SAFETY: the context is the one that the kernel gave the program.
    unsafe { bpf_clone_redirect(frame.skb(), frame.device(), INGRESS) };
    Outcome::HasPorts
}

/// Whether fragments that come too early are kept here: not where packets leave.
#[inline(always)]
fn holds(hook: Hook) -> bool {
    hook.direction == Direction::Ingress && hook.service != Service::FlowsOnly
}

/// A fragment without ports goes where the first went.
#[inline(always)]
fn later<F: Unusual>(
    frame: &mut Frame,
    packet: &mut Packet<F::Addr>,
    key: &mut FragmentKey<F::Addr>,
    hook: Hook,
) -> Verdict {
    let stranger = Verdict::of(Reason::Fragment);
    if ports::<F>(key).is_none() {
        if !holds(hook) {
            return stranger;
        }
        match hold::<F>(frame, key) {
            Hold::Held => return Verdict::of(Reason::FragmentHeld),
            Hold::NoRoom => return stranger,
            Hold::FirstCame => {}
        }
    }
    let Some(ports) = ports::<F>(key) else { return stranger };
    (packet.key.sport, packet.key.dport) = (ports.sport, ports.dport);
    let Some(flow) = entry::<F>(frame, &packet.key, hook) else { return stranger };
    let reason = flow::reason_of(flow.flags);
    // Nothing is to be translated: policies find the entry.
    if flow.flags.has(FlowFlags::PLAIN) {
        return stranger;
    }
    let mut route = way::<F>(frame, packet.key.proto, flow, hook);
    if flow.mtu != 0 && frame.length() > flow.mtu as usize + ethernet::LENGTH {
        if Cutter::of::<F>(&flow.src) == Cutter::Nobody {
            // Its sender was told when the first one came.
            return Verdict::of(Reason::TooLarge);
        }
        // The stack cuts it once more.
        route = Route::STACK;
    }
    let hop = if route == Route::STACK { Hop::Uncounted } else { Hop::Counted };
    let Some(mut header) = frame.read::<F::Header>(ethernet::LENGTH) else { return stranger };
    let difference = checksum::add(
        checksum::address_difference(packet.key.src, flow.src),
        checksum::address_difference(packet.key.dst, flow.dst),
    );
    F::readdress(&mut header, flow.src, flow.dst, difference, hop);
    if frame.store(ethernet::LENGTH, &header).is_err() {
        return Verdict::of(Reason::RewriteFailed);
    }
    if route == Route::PEER || route == Route::DEVICE {
        let Some(header) = frame.edit::<Ethernet>(0) else { return Verdict::of(Reason::RewriteFailed) };
        header.destination = Mac::new(flow.eth_dst);
        header.source = Mac::new(flow.eth_src);
    }
    Verdict::new(reason, route::leave(route, flow.ifindex))
}

/// The ports of the datagram, if its first fragment came lately.
#[inline(always)]
fn ports<F: Wired>(key: &FragmentKey<F::Addr>) -> Option<&'static FragmentPorts> {
    // SAFETY: an element of an LRU stays memory of the map; a wrong pair of ports finds no flow, or another of the same
    // two hosts whose element took its place this moment.
    let ports = F::fragments().get_ptr(key).map(|ports| unsafe { &*ports })?;
    if ports.is_stale(jiffies()) { None } else { Some(ports) }
}

/// What became of a fragment that came too early.
enum Hold {
    Held,
    /// No place for it, or it is too long: it goes on as it came.
    NoRoom,
    /// Its first came this moment, on another processor.
    FirstCame,
}

#[inline(always)]
fn hold<F: Wired>(frame: &Frame, key: &mut FragmentKey<F::Addr>) -> Hold {
    let Some(buffer) = HELD_SCRATCH.get_ptr_mut(0) else { return Hold::NoRoom };
    let Some(length) = verified::between(LEAST, frame.length() as u32, HELD as u32) else {
        return Hold::NoRoom;
    };
    // SAFETY: an element of a per-CPU array, which nobody else uses meanwhile (see `scratch`); the length is within it.
    let buffer = unsafe {
        (*buffer).length = length;
        let to = (&raw mut (*buffer).bytes).cast::<c_void>();
        if bpf_skb_load_bytes(frame.context(), 0, to, length) != 0 {
            return Hold::NoRoom;
        }
        &*buffer
    };
    let mut search = Search::<F> { key, buffer, found: 0 };
    // SAFETY: `enter` has the signature that the helper wants, and `search` outlives the call.
    unsafe { bpf_loop(limits::HELD_EACH, enter::<F> as *mut c_void, (&raw mut search).cast(), 0) };
    if search.found == 0 {
        return Hold::NoRoom;
    }
    let number = key.number;
    key.number = 0;
    if ports::<F>(key).is_none() {
        return Hold::Held;
    }
    key.number = number;
    // Gone already, if the first has taken it along: then it travels twice, which nobody minds.
    let shared: &FragmentKey<F::Addr> = key;
    let _ = F::held().remove(shared);
    key.number = 0;
    Hold::FirstCame
}

/// What [`enter`] works on.
struct Search<'a, F: Wired> {
    key: &'a mut FragmentKey<F::Addr>,
    buffer: &'a HeldFrame,
    /// Nonzero: it has a place.
    found: u32,
}

/// One step of the search for a place; returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn enter<F: Wired>(number: u64, search: *mut c_void) -> i64 {
    // SAFETY: the helper hands on the pointer that `hold` gave it, to a live `Search` that nobody else uses.
    let search = unsafe { &mut *search.cast::<Search<'_, F>>() };
    search.key.number = number as u8;
    let key: &FragmentKey<F::Addr> = search.key;
    match F::held().insert(key, search.buffer, NOEXIST) {
        Ok(()) => {
            search.found = 1;
            1
        }
        Err(_) => 0,
    }
}

/// Puts all that were held back into the device, each as a copy of this frame with other bytes.
#[inline(always)]
fn release<F: Wired>(frame: &mut Frame, key: &mut FragmentKey<F::Addr>) {
    let device = frame.device();
    let mut resend = Resend::<F> { key, context: frame.context(), device };
    // SAFETY: `one` has the signature that the helper wants, and `resend` outlives the call.
    unsafe { bpf_loop(limits::HELD_EACH, one::<F> as *mut c_void, (&raw mut resend).cast(), 0) };
}

/// `BPF_F_INGRESS`: as if it had arrived there.
const INGRESS: u64 = 1;

/// What [`one`] works on.
struct Resend<'a, F: Wired> {
    key: &'a mut FragmentKey<F::Addr>,
    context: *mut c_void,
    device: u32,
}

/// Sends one held frame again; returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn one<F: Wired>(number: u64, resend: *mut c_void) -> i64 {
    // SAFETY: the helper hands on the pointer that `release` gave it, to a live `Resend` that nobody else uses.
    let resend = unsafe { &mut *resend.cast::<Resend<'_, F>>() };
    resend.key.number = number as u8;
    let key: &FragmentKey<F::Addr> = resend.key;
    let Some(held) = F::held().get_ptr(key) else { return 1 };
    // SAFETY: an element of an LRU stays memory of the map; its bytes are copied by the kernel, with a length that is
    // within it. The context is that of the running program.
    unsafe {
        let Some(length) = verified::between(LEAST, (*held).length, HELD as u32) else { return 1 };
        let from = (&raw const (*held).bytes).cast_mut().cast::<c_void>();
        if bpf_skb_change_tail(resend.context.cast(), length, 0) != 0
            || bpf_skb_store_bytes(resend.context.cast(), 0, from, length, 0) != 0
        {
            return 1;
        }
        bpf_clone_redirect(resend.context.cast(), resend.device, INGRESS);
    }
    let _ = F::held().remove(key);
    0
}
