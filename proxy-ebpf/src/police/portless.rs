//! Packets without ports at a pod's hook: what the network needs passes, what belongs to a known connection goes with it,
//! a ping is a connection of its own, and everything else is judged packet by packet, by the rules that name no port
//! (policy items 31, 57, 59).

use proxy_common::{Port, Proto, Reason, decide};

use super::{
    Case,
    case::{self, deny, tell},
    connection::is_translated,
    source::{Role, Whence},
};
use crate::family::related::Unusual;
use crate::flow::{self, Begin};
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::icmp::IcmpError;
use crate::packet::l4::Ports;
use crate::packet::{self, Packet};
use crate::road::{Direction, Hook};
use crate::scratch::{self, Area};
use crate::verified::police::Judging;

/// Judges a packet that is of no translated flow; `why` is [`Reason::NoPorts`] or [`Reason::Fragment`], and comes back if
/// policies have nothing to say. Of a fragment the ports stand in the tuple if its datagram's first has come.
#[inline(always)]
pub fn judge_portless<F: Judging>(
    frame: &mut Frame,
    packet: &mut Packet<F::Addr>,
    hook: Hook,
    why: Reason,
) -> Reason {
    let mut icmp = Kind::Other;
    if why == Reason::NoPorts && packet.key.proto == F::ICMP {
        // What the message quotes may lie in fragments of memory.
        frame.linearise();
        icmp = kind::<F>(frame, packet);
        if icmp == Kind::Vital {
            return why;
        }
    }
    let Some(case) = case::take::<F>() else { return Reason::FlowTableFull };
    case.key = packet.key;
    case::begin(case);
    if hook.is_from_pod() && F::is_forged(case, frame.device(), Role::Client) {
        tell::<F>(frame, case, Reason::ForgedSource);
        return Reason::ForgedSource;
    }
    if icmp == Kind::Error && quotes_known::<F>(frame, packet, case) {
        return Reason::JudgedFlow;
    }
    if icmp == Kind::Request || icmp == Kind::Reply {
        if let Some(reason) = known::<F>(frame, packet, hook) {
            return reason;
        }
        case.key = packet.key;
    } else if why == Reason::Fragment && decide::has_ports(packet.key.proto) {
        // The first of them was judged with its ports; without it only rules about all ports can let the others pass.
        if flow::known::<F>(&packet.key).is_some() {
            return Reason::JudgedFlow;
        }
        if is_translated::<F>(&packet.key, packet.tcp) {
            return why;
        }
    }
    let reason = judge::<F>(frame, packet, case, hook);
    if reason == Reason::NotAService {
        return why;
    }
    if reason != Reason::Judged {
        return deny::<F>(frame, case, reason);
    }
    tell::<F>(frame, case, reason);
    if icmp == Kind::Request && packet::is_whole::<F>(frame, packet) {
        // Without room its reply is judged on its own.
        flow::remember::<F>(&packet.key, Begin::Unanswered, super::epoch(), hook.origin(frame.device()));
    }
    reason
}

/// What the rules that name no port say.
#[inline(always)]
fn judge<F: Judging>(
    frame: &Frame,
    packet: &Packet<F::Addr>,
    case: &mut Case<F::Addr>,
    hook: Hook,
) -> Reason {
    if hook.direction == Direction::Egress {
        match F::whence(frame, packet) {
            Whence::Turned => return Reason::NotAService,
            // No pod refuses it (policy item 34): it passes for one reason or the other, so one lookup will do.
            // SAFETY: an element without preallocation is freed only after the program is done.
            Whence::Node => match unsafe { F::policed().get(&case.key.dst) } {
                Some(_) => return Reason::Judged,
                None => return Reason::NotAService,
            },
            Whence::Elsewhere => {}
        }
    }
    case.key.dport = Port::NONE;
    F::judge(case)
}

/// What an ICMP message is to policies.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
enum Kind {
    Other,
    /// Neighbours and multicast groups are found by it: never blocked.
    Vital,
    Error,
    Request,
    Reply,
}

/// Reads the kind of message; of a ping the identifier, too, as the port of whoever asks.
#[inline(always)]
fn kind<F: Unusual>(frame: &Frame, packet: &mut Packet<F::Addr>) -> Kind {
    let Some(header) = frame.read::<IcmpError>(packet.transport) else { return Kind::Other };
    if F::is_vital(header.kind[0]) {
        return Kind::Vital;
    }
    if F::is_error(header.kind[0]) {
        return Kind::Error;
    }
    if header.kind[0] == F::ECHO.0 {
        packet.key.sport = identifier(header);
        return Kind::Request;
    }
    if header.kind[0] == F::ECHO.1 {
        packet.key.dport = identifier(header);
        return Kind::Reply;
    }
    Kind::Other
}

/// What tells the pings of one host apart (RFC 792, RFC 4443 section 4.1).
#[inline(always)]
fn identifier(header: IcmpError) -> Port {
    let [a, b, _, _] = header.size.to_ne_bytes();
    Port::from_wire(u16::from_ne_bytes([a, b]))
}

/// The entry of a ping, if there is one: it is brought up to date, and the first reply answers it.
#[inline(always)]
fn known<F: Judging>(frame: &mut Frame, packet: &Packet<F::Addr>, hook: Hook) -> Option<Reason> {
    let found = flow::note_answer::<F>(&packet.key)?;
    if super::is_due(found, super::epoch(), frame, hook)
        && let Some(reason) = F::judge_again(frame, packet, hook)
    {
        return Some(reason);
    }
    Some(Reason::JudgedFlow)
}

/// An error quotes a packet of a connection that passes, as either end knows it; or of TCP one that would: its first packet
/// makes no entry. The case is about the error again afterwards, if not.
#[inline(always)]
fn quotes_known<F: Judging>(frame: &Frame, packet: &Packet<F::Addr>, case: &mut Case<F::Addr>) -> bool {
    let Some(quote) = scratch::take::<Packet<F::Addr>>(Area::Quote) else { return false };
    *quote = Packet::default();
    if F::quoted(frame, packet.transport + size_of::<IcmpError>(), quote).is_none() {
        return false;
    }
    // Who did not send the quoted packet has no business with the error.
    if quote.key.src != packet.key.dst {
        return false;
    }
    let at = quote.transport;
    if quote.key.proto == F::ICMP {
        let Some(header) = frame.read::<IcmpError>(at) else { return false };
        quote.key.sport = identifier(header);
    } else if decide::has_ports(quote.key.proto) {
        let Some(ports) = frame.read::<Ports>(at) else { return false };
        (quote.key.sport, quote.key.dport) = (ports.source, ports.destination);
    } else {
        return false;
    }
    if flow::known::<F>(&quote.key).is_some() || is_translated::<F>(&quote.key, quote.tcp) {
        return true;
    }
    if quote.key.proto != Proto::TCP {
        return false;
    }
    case.turn_to(quote.key);
    let passes = F::judge(case) == Reason::Judged;
    case.turn_to(packet.key);
    passes
}
