//! Flows: finds the entry of a packet, or makes one for a packet that opens a connection.

mod open;
mod source;
mod table;

use aya_ebpf::helpers::generated::bpf_get_socket_cookie;
use proxy_common::{Flow, FlowFlags, FrontendKey, Proto, Reason, ServiceId, tcp::TcpFlags};

use crate::family::Wired;
use crate::packet::Packet;
use crate::packet::cursor::Frame;
use crate::road::{Direction, Place};

/// A packet's entry, and what to count it as.
pub struct Entry<A: 'static> {
    /// What to translate to. In the map: a change to it stays.
    pub flow: &'static mut Flow<A>,
    /// [`Reason::FlowForward`], [`Reason::FlowReply`], or why the flow is new.
    pub reason: Reason,
}

impl<A> Entry<A> {
    #[inline(always)]
    fn known(flow: &'static mut Flow<A>) -> Self {
        let reason =
            if flow.flags.has(FlowFlags::REPLY) { Reason::FlowReply } else { Reason::FlowForward };
        Self { flow, reason }
    }
}

/// The entry that says what becomes of the packet, or the reason why there is none.
#[inline(always)]
pub fn find<F: Wired, P: Place>(
    frame: &Frame,
    packet: &Packet<F::Addr>,
) -> Result<Entry<F::Addr>, Reason> {
    if let Some(flow) = table::answered::<F>(&packet.key) {
        if !applies::<F, P>(frame, flow) {
            return Err(Reason::NotAService);
        }
        if !packet.tcp.opens() || !table::forget_if_over::<F>(&packet.key, flow) {
            return Ok(Entry::known(flow));
        }
    }
    if packet.key.proto == Proto::TCP && !packet.tcp.concerns_setup() {
        return Err(Reason::MidStream);
    }
    set_up::<F, P>(frame, packet).into()
}

/// Packets that were translated where they came in pass an egress hook, too, and may then look like the node's
/// own requests: only what has a socket here is one.
#[inline(always)]
fn applies<F: Wired, P: Place>(frame: &Frame, flow: &Flow<F::Addr>) -> bool {
    match P::DIRECTION {
        Direction::Ingress => true,
        Direction::Egress => flow.flags.has(FlowFlags::REPLY) || has_socket(frame),
    }
}

/// A process in this namespace sent the packet: the stack orphans what it forwards.
#[inline(always)]
fn has_socket(frame: &Frame) -> bool {
    // SAFETY: the context is live.
    (unsafe { bpf_get_socket_cookie(frame.context()) }) != 0
}

/// What a function of its own gives back: the kernel's type format has no place for `Result<Entry, Reason>`, whose
/// discriminant lies inside of the entry.
pub struct Found<A: 'static> {
    flow: Option<&'static mut Flow<A>>,
    reason: Reason,
}

impl<A> From<Result<Entry<A>, Reason>> for Found<A> {
    #[inline(always)]
    fn from(result: Result<Entry<A>, Reason>) -> Self {
        match result {
            Ok(Entry { flow, reason }) => Self { flow: Some(flow), reason },
            Err(reason) => Self { flow: None, reason },
        }
    }
}

impl<A> From<Found<A>> for Result<Entry<A>, Reason> {
    #[inline(always)]
    fn from(Found { flow, reason }: Found<A>) -> Self {
        match flow {
            Some(flow) => Ok(Entry { flow, reason }),
            None => Err(reason),
        }
    }
}

/// The rare packets: a stack frame of its own.
#[inline(never)]
fn set_up<F: Wired, P: Place>(frame: &Frame, packet: &Packet<F::Addr>) -> Found<F::Addr> {
    begin::<F, P>(frame, packet).into()
}

/// No answer was seen yet: a half-open connection, or none at all.
#[inline(always)]
fn begin<F: Wired, P: Place>(
    frame: &Frame,
    packet: &Packet<F::Addr>,
) -> Result<Entry<F::Addr>, Reason> {
    if let Some(flow) = table::unanswered::<F>(&packet.key) {
        if flow.flags.has(FlowFlags::REPLY) {
            return answer::<F>(packet, flow);
        }
        if applies::<F, P>(frame, flow) {
            if still_right::<F>(packet, flow) {
                return Ok(Entry::known(flow));
            }
            table::forget_unanswered::<F>(&packet.key, flow);
        }
    }
    if packet.key.proto == Proto::TCP && !packet.tcp.opens() {
        return Err(Reason::MidStream);
    }
    if P::DIRECTION == Direction::Egress && !has_socket(frame) {
        return Err(Reason::NotAService);
    }
    open::open::<F, P>(frame, packet)
}

/// The backend's first packet: the connection is answered, unless it says no.
#[inline(always)]
fn answer<F: Wired>(
    packet: &Packet<F::Addr>,
    flow: &'static mut Flow<F::Addr>,
) -> Result<Entry<F::Addr>, Reason> {
    if packet.tcp.any(TcpFlags::RST) {
        table::abort_unanswered::<F>(&packet.key, flow);
        return Ok(Entry::known(flow));
    }
    let flow = table::promote::<F>(&packet.key, flow)?;
    Ok(Entry::known(flow))
}

/// A client that tries again gets the same backend, unless it was refused or the backends have changed since.
#[inline(always)]
fn still_right<F: Wired>(packet: &Packet<F::Addr>, flow: &Flow<F::Addr>) -> bool {
    if flow.flags.has(FlowFlags::RST) {
        return !packet.tcp.opens();
    }
    if flow.service == ServiceId::NONE {
        return true;
    }
    let key = FrontendKey::new(packet.key.dst, packet.key.dport, packet.key.proto);
    // SAFETY: an element without preallocation is freed only after the program is done.
    match unsafe { F::frontends().get(key) } {
        Some(frontend) => frontend.generation == flow.generation && frontend.service == flow.service,
        None => false,
    }
}
