//! ICMP errors about a translated packet. Whoever sent it must see the packet that it knows, in the quote and in the
//! addresses, or it believes nothing of it: no path MTU would be found (item 110, RFC 5508 section 4.2, RFC 6146
//! section 3.5.3).
//!
//! An error travels as the flow's packets of that direction do, so it is the entry of the quoted packet's answers that
//! says what becomes of it. As with netfilter, the address of a router in between is replaced, too, where the flow
//! replaces the source: the sender may have no way back to it.

use proxy_common::{Address, Flow, FlowFlags, FlowKey, Proto, Reason, Route, checksum, decide};

use super::{Outcome, entry, way};
use crate::action::{Action, Verdict};
use crate::family::related::Unusual;
use crate::family::{Hop, Wired};
use crate::flow::Entry;
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::ethernet::{self, Ethernet, Mac};
use crate::packet::icmp::IcmpError;
use crate::packet::l4::{self, Ports};
use crate::road::Hook;
use crate::route;
use crate::scratch::{self, Area, Plain};
use crate::tunnel;
use crate::verified;

/// What an error quotes, outside of the stack.
#[repr(C)]
struct Work<A> {
    /// The packet that did not arrive, and where the quote's transport header is.
    quote: Packet<A>,
    /// The tuple of its answers.
    key: FlowKey<A>,
}

// SAFETY: addresses, ports and numbers; both parts are written before they are read.
unsafe impl<A: Address> Plain for Work<A> {}

/// Translates an error if what it quotes is of a flow, and sends it on the flow's way; else it is not ours.
#[inline(always)]
pub fn translate<F: Unusual>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    error: IcmpError,
    hook: Hook,
) -> Outcome {
    let stranger = Outcome::Ends(Verdict::of(Reason::NoPorts));
    let Some(Work { quote, key }) = scratch::take::<Work<F::Addr>>(Area::Quote) else { return stranger };
    let at = packet.transport + size_of::<IcmpError>();
    *quote = Packet::default();
    if F::quoted(frame, at, quote).is_none() || !decide::has_ports(quote.key.proto) {
        return stranger;
    }
    let Some(ports) = frame.read::<Ports>(verified::apart(quote.transport)) else { return stranger };
    (quote.key.sport, quote.key.dport) = (ports.source, ports.destination);
    *key = quote.key.reversed();
    // Who did not send the quoted packet has no business with the error.
    if packet.key.dst != key.dst {
        return stranger;
    }
    let Some(flow) = entry::<F>(frame, key, hook) else {
        return if tunnel::begins(hook) && tunnel::is_known::<F>(key) { Outcome::ByTunnel } else { stranger };
    };
    // Nothing is to be translated: policies find the packet that it quotes.
    if flow.flags.has(FlowFlags::PLAIN) {
        return stranger;
    }
    let route = way::<F>(frame, quote.key.proto, flow, hook);
    let source = if flow.src == key.src { packet.key.src } else { flow.src };
    Outcome::Ends(match rewrite::<F>(frame, packet, quote, at, error, flow, source, route) {
        Some(()) => Verdict::new(Reason::RelatedError, route::leave(route, flow.ifindex)),
        None => Verdict::new(Reason::RewriteFailed, Action::DROP),
    })
}

/// The entry of the flow whose answer the last error quoted, if its packets leave in a tunnel: the error takes the same
/// way, and is translated where the tunnel ends.
#[inline(always)]
pub fn quoted<F: Unusual>() -> Option<Entry<F::Addr>> {
    let Work { key, .. } = scratch::take::<Work<F::Addr>>(Area::Quote)?;
    let flow = tunnel::entry::<F>(key)?;
    Some(Entry { flow, reason: Reason::RelatedError })
}

#[expect(clippy::too_many_arguments, reason = "one caller, which has each of them apart")]
#[inline(always)]
fn rewrite<F: Unusual>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    quote: &Packet<F::Addr>,
    at: usize,
    error: IcmpError,
    flow: &Flow<F::Addr>,
    source: F::Addr,
    route: Route,
) -> Option<()> {
    // The quoted packet went the other way: its source is what the flow's packets have as their destination.
    let mut header = frame.read::<F::Header>(verified::apart(at))?;
    F::readdress(&mut header, flow.dst, flow.src, flow.addr_delta, Hop::Uncounted);
    frame.store(at, &header).ok()?;
    frame.store(quote.transport, &Ports { source: flow.dport, destination: flow.sport }).ok()?;
    let transport = sum::<F>(frame, quote, flow)?;

    let outer = checksum::add(
        checksum::address_difference(packet.key.src, source),
        checksum::address_difference(packet.key.dst, flow.dst),
    );
    let inner = checksum::add(flow.port_delta, transport);
    let difference = checksum::add(inner, F::icmp_difference(flow.addr_delta, outer));
    let error = IcmpError { checksum: checksum::apply(error.checksum, difference), ..error };
    frame.store(packet.transport, &error).ok()?;

    let hop = if route == Route::STACK { Hop::Uncounted } else { Hop::Counted };
    let mut header = frame.read::<F::Header>(ethernet::LENGTH)?;
    F::readdress(&mut header, source, flow.dst, outer, hop);
    frame.store(ethernet::LENGTH, &header).ok()?;
    if route == Route::PEER || route == Route::DEVICE {
        let header = frame.edit::<Ethernet>(0)?;
        header.destination = Mac::new(flow.eth_dst);
        header.source = Mac::new(flow.eth_src);
    }
    Some(())
}

/// Brings the quoted transport checksum in line, if so much is quoted; gives what the sum over it changes by.
#[inline(always)]
fn sum<F: Wired>(frame: &mut Frame, quote: &Packet<F::Addr>, flow: &Flow<F::Addr>) -> Option<u32> {
    let proto = quote.key.proto;
    let Some(offset) = l4::checksum_offset(proto) else { return Some(0) };
    let at = quote.transport + offset;
    let Some(old) = frame.read::<u16>(verified::apart(at)) else { return Some(0) };
    if old == 0 && proto == Proto::UDP {
        return Some(0);
    }
    let new = match checksum::apply(old, checksum::add(flow.addr_delta, flow.port_delta)) {
        0 if proto == Proto::UDP => u16::MAX,
        sum => sum,
    };
    frame.store(at, &new).ok()?;
    Some(checksum::add((!old) as u32, new as u32))
}
