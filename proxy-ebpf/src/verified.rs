//! Functions that the verifier takes on their own, once, and not again for each state that a caller may be in:
//! exported, with plain numbers as results. Without them the programs would be a hundred times dearer to load.
//!
//! Nothing is decided here: each function unpacks its arguments and calls the one that does the work.

pub mod device;
pub mod ferry;
pub mod foreign;
pub mod party;
pub mod police;
mod tunnel;

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use proxy_common::{Addr4, Addr6, Address, Family as _, Flow, FlowKey, Proto, Reason, V4, V6};

use crate::action::{Action, Verdict};
use crate::family::{self, related::Unusual};
use crate::flow::{self, Found, Plan, Table};
use crate::packet::Packet;
use crate::packet::cursor::Frame;
use crate::reject;
use crate::related::{self, Outcome, Size};
use crate::road::{Direction, Hook, Service, Side};
use crate::scratch::{self, Area};
pub use tunnel::Tunnels;

/// The parts of the packet road that are verified on their own.
pub trait Verified: Unusual + Tunnels + police::Judging + ferry::Ferrying {
    /// [`related::judge_unusual`]: what the parser has given `why` for.
    fn judge_unusual(frame: &mut Frame, packet: &mut Packet<Self::Addr>, why: Reason, hook: Hook) -> Outcome;
    /// [`related::judge`].
    fn judge_size(
        frame: &mut Frame,
        packet: &Packet<Self::Addr>,
        flow: &Flow<Self::Addr>,
        direction: Direction,
    ) -> (Size, Verdict);
    /// [`flow::set_up`].
    fn set_up(
        frame: &mut Frame,
        packet: &Packet<Self::Addr>,
        hook: Hook,
        plan: &mut Plan<Self::Addr>,
    ) -> Result<Found, Reason>;
    /// [`flow::open`].
    fn open(
        frame: &mut Frame,
        packet: &Packet<Self::Addr>,
        plan: &Plan<Self::Addr>,
        reason: Reason,
    ) -> Result<Found, Reason>;
    /// [`reject::answer`].
    fn reject(frame: &mut Frame, packet: &Packet<Self::Addr>, direction: Direction) -> Action;
}

macro_rules! exported {
    ($family:ty, $addr:ty, $unusual:ident, $size:ident, $set_up:ident, $open:ident, $reject:ident) => {
        impl Verified for $family {
            #[inline(always)]
            fn judge_unusual(
                frame: &mut Frame,
                packet: &mut Packet<$addr>,
                why: Reason,
                hook: Hook,
            ) -> Outcome {
                // Most packets without ports are nobody's, and pay for no call.
                if why != Reason::Fragment && packet.key.proto != <$family>::ICMP {
                    return Outcome::Ends(Verdict::of(why));
                }
                unpack_outcome($unusual(frame.skb(), packet, why.index(), pack_hook(hook)))
            }
            #[inline(always)]
            fn judge_size(
                frame: &mut Frame,
                packet: &Packet<$addr>,
                flow: &Flow<$addr>,
                direction: Direction,
            ) -> (Size, Verdict) {
                let word = $size(frame.skb(), packet, flow, pack_direction(direction));
                match word {
                    FITS => (Size::Fits, Verdict::of(Reason::NotAService)),
                    IN_FRAGMENTS => (Size::InFragments, Verdict::of(Reason::NotAService)),
                    verdict => (Size::Refused, unpack_verdict(verdict)),
                }
            }
            #[inline(always)]
            fn set_up(
                frame: &mut Frame,
                packet: &Packet<$addr>,
                hook: Hook,
                plan: &mut Plan<$addr>,
            ) -> Result<Found, Reason> {
                unpack_found(opaque($set_up(frame.skb(), packet, pack_hook(hook), plan)))
            }
            #[inline(always)]
            fn open(
                frame: &mut Frame,
                packet: &Packet<$addr>,
                plan: &Plan<$addr>,
                reason: Reason,
            ) -> Result<Found, Reason> {
                unpack_found(opaque($open(frame.skb(), packet, plan, reason.index())))
            }
            #[inline(always)]
            fn reject(frame: &mut Frame, packet: &Packet<$addr>, direction: Direction) -> Action {
                Action::from_code($reject(frame.skb(), packet, pack_direction(direction)))
            }
        }

        #[unsafe(no_mangle)]
        extern "C" fn $unusual(skb: *mut __sk_buff, packet: *mut Packet<$addr>, why: u32, hook: u32) -> u64 {
            // SAFETY: the verifier has seen the callers: a pointer to a whole value on their stack, or null for all that it
            // knows here.
            let Some(callers) = (unsafe { packet.as_mut() }) else {
                return pack_verdict(Verdict::of(Reason::Malformed));
            };
            let Some(packet) = own(callers) else { return pack_verdict(Verdict::of(Reason::Malformed)) };
            let mut frame = Frame::new(TcContext::new(skb));
            let (why, hook) = (unpack_reason(why), unpack_hook(hook));
            let outcome = related::judge_unusual::<$family>(&mut frame, packet, why, hook);
            *callers = *packet;
            match outcome {
                Outcome::Ends(verdict) => pack_verdict(verdict),
                Outcome::HasPorts => HAS_PORTS,
                Outcome::ByTunnel => BY_TUNNEL,
            }
        }

        #[unsafe(no_mangle)]
        extern "C" fn $size(
            skb: *mut __sk_buff,
            packet: *const Packet<$addr>,
            flow: *const Flow<$addr>,
            direction: u32,
        ) -> u64 {
            // SAFETY: as above.
            let (Some(packet), Some(flow)) = (unsafe { (packet.as_ref(), flow.as_ref()) }) else {
                return FITS;
            };
            // For the same reason as in `own`.
            let Some(key) = scratch::take::<FlowKey<$addr>>(Area::OtherKey) else { return FITS };
            key.src = flow.src;
            let mut frame = Frame::new(TcContext::new(skb));
            let direction = unpack_hook(direction).direction;
            match related::judge::<$family>(&mut frame, packet, flow.mtu, direction, &key.src) {
                (Size::Fits, _) => FITS,
                (Size::InFragments, _) => IN_FRAGMENTS,
                (Size::Refused, verdict) => pack_verdict(verdict),
            }
        }

        #[unsafe(no_mangle)]
        extern "C" fn $set_up(
            skb: *mut __sk_buff,
            packet: *const Packet<$addr>,
            hook: u32,
            plan: *mut Plan<$addr>,
        ) -> u32 {
            // SAFETY: the verifier has seen the callers: pointers to whole values on their stacks, each of its own,
            // or null for all that it knows here.
            let (Some(packet), Some(plan)) = (unsafe { (packet.as_ref(), plan.as_mut()) }) else {
                return pack_found(Err(Reason::Malformed));
            };
            let Some(packet) = own(packet) else { return pack_found(Err(Reason::Malformed)) };
            let frame = Frame::new(TcContext::new(skb));
            pack_found(flow::set_up::<$family>(&frame, packet, unpack_hook(hook), plan))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $open(
            skb: *mut __sk_buff,
            packet: *const Packet<$addr>,
            plan: *const Plan<$addr>,
            reason: u32,
        ) -> u32 {
            // SAFETY: as above.
            let (Some(packet), Some(plan)) = (unsafe { (packet.as_ref(), plan.as_ref()) }) else {
                return pack_found(Err(Reason::Malformed));
            };
            let Some(packet) = own(packet) else { return pack_found(Err(Reason::Malformed)) };
            let frame = Frame::new(TcContext::new(skb));
            pack_found(flow::open::<$family>(&frame, packet, plan, unpack_reason(reason)))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $reject(skb: *mut __sk_buff, packet: *const Packet<$addr>, direction: u32) -> i32 {
            // SAFETY: as above.
            let Some(packet) = (unsafe { packet.as_ref() }) else { return Action::DROP.code() };
            let mut frame = Frame::new(TcContext::new(skb));
            reject::answer::<$family>(&mut frame, packet, unpack_hook(direction).direction).code()
        }
    };
}

exported!(V4, Addr4, unusual4, size4, set_up4, open4, reject4);
exported!(V6, Addr6, unusual6, size6, set_up6, open6, reject6);

/// A copy of the packet in memory that maps take keys from: kernels before 6.2 take none from memory that a function
/// like these has from its caller. All of them get the packet that the program is about, so one that another calls
/// copies the same again.
#[inline(always)]
fn own<A: Address>(packet: &Packet<A>) -> Option<&'static mut Packet<A>> {
    let own = scratch::take::<Packet<A>>(Area::Packet)?;
    *own = *packet;
    Some(own)
}

/// A number that the compiler knows nothing about. It sees through our own functions and drops a check that it can
/// prove superfluous; the verifier does not see as far and misses it.
#[cfg(target_arch = "bpf")]
#[inline(always)]
fn opaque(number: u32) -> u32 {
    let mut number = number as u64;
    // SAFETY: the register keeps its value. A real instruction, because the kernel refuses two source lines for one.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) number, options(pure, nomem, nostack, preserves_flags))
    };
    number as u32
}

#[cfg(not(target_arch = "bpf"))]
fn opaque(number: u32) -> u32 {
    number
}

/// A place in the packet as a number of its own. The compiler may keep one in memory that it needs again later, compare it
/// in a register and add it from memory; a kernel before 6.8 does not know then that it was compared.
#[inline(always)]
pub fn apart(offset: usize) -> usize {
    opaque(offset as u32) as usize
}

/// A number of bytes for a helper, if it is between the two. In two comparisons that the compiler cannot make one of: a
/// kernel before 6.8 learns nothing from "not zero", and one before 6.11 nothing from a difference.
#[inline(always)]
pub fn between(least: u32, number: u32, most: u32) -> Option<u32> {
    let number = opaque(number);
    if number > most {
        return None;
    }
    let number = opaque(number);
    (number >= least).then_some(number)
}

/// [`proxy_common::crc32c::difference`].
#[inline(always)]
pub fn crc_difference(old: u32, new: u32, length: u16) -> u32 {
    crc32c(old, new, length as u32)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn crc32c(old: u32, new: u32, length: u32) -> u32 {
    proxy_common::crc32c::difference(old, new, length as u16)
}

/// [`family::skip_extensions`]: the transport protocol and where it begins, into `packet`.
#[inline(always)]
pub fn extensions(frame: &Frame, packet: &mut Packet<Addr6>) -> Option<Reason> {
    match opaque(extensions6(frame.skb(), packet.key.proto.0 as u32, packet.transport as u32)) {
        MALFORMED => Some(Reason::Malformed),
        FRAGMENT => Some(Reason::Fragment),
        found => {
            packet.key.proto = Proto(found as u8);
            packet.transport = (found >> 8 & MAX_OFFSET) as usize;
            None
        }
    }
}

const MALFORMED: u32 = u32::MAX;
const FRAGMENT: u32 = u32::MAX - 1;
/// A mask that tells the verifier a bound, above what six extension headers of ours can reach.
const MAX_OFFSET: u32 = 0x3ff;

#[unsafe(no_mangle)]
extern "C" fn extensions6(skb: *mut __sk_buff, first: u32, at: u32) -> u32 {
    let frame = Frame::new(TcContext::new(skb));
    match family::skip_extensions(&frame, Proto(first as u8), (at & MAX_OFFSET) as usize) {
        Ok((proto, at)) if at <= MAX_OFFSET as usize => proto.0 as u32 | (at as u32) << 8,
        Ok(_) => MALFORMED,
        Err(Reason::Fragment) => FRAGMENT,
        Err(_) => MALFORMED,
    }
}

/// Above every code and reason.
const HAS_PORTS: u64 = u64::MAX;
const FITS: u64 = u64::MAX - 1;
const IN_FRAGMENTS: u64 = u64::MAX - 2;
const BY_TUNNEL: u64 = u64::MAX - 3;

#[inline(always)]
fn pack_verdict(verdict: Verdict) -> u64 {
    (verdict.reason.index() as u64) << 32 | verdict.action.code() as u32 as u64
}

#[inline(always)]
fn unpack_verdict(word: u64) -> Verdict {
    Verdict::new(unpack_reason((word >> 32) as u32), Action::from_code(word as i32))
}

#[inline(always)]
fn unpack_outcome(word: u64) -> Outcome {
    match word {
        HAS_PORTS => Outcome::HasPorts,
        BY_TUNNEL => Outcome::ByTunnel,
        verdict => Outcome::Ends(unpack_verdict(verdict)),
    }
}

const EGRESS: u32 = 1;
const SERVED: u32 = 2;
const GATEWAY: u32 = 4;
const UNWRAPPED: u32 = 8;
const POD: u32 = 16;

#[inline(always)]
fn pack_direction(direction: Direction) -> u32 {
    match direction {
        Direction::Ingress => 0,
        Direction::Egress => EGRESS,
    }
}

#[inline(always)]
fn pack_hook(hook: Hook) -> u32 {
    let service = match hook.service {
        Service::Served => SERVED,
        Service::Gateway => GATEWAY,
        Service::Unwrapped => UNWRAPPED,
        Service::FlowsOnly => 0,
    };
    let side = match hook.side {
        Side::Pod => POD,
        Side::Wire => 0,
    };
    pack_direction(hook.direction) | service | side
}

#[inline(always)]
fn unpack_hook(word: u32) -> Hook {
    Hook {
        side: if word & POD != 0 { Side::Pod } else { Side::Wire },
        direction: if word & EGRESS != 0 { Direction::Egress } else { Direction::Ingress },
        service: match word & (SERVED | GATEWAY | UNWRAPPED) {
            SERVED => Service::Served,
            GATEWAY => Service::Gateway,
            UNWRAPPED => Service::Unwrapped,
            _ => Service::FlowsOnly,
        },
    }
}

const ANSWERED: u32 = 1 << 8;
const UNANSWERED: u32 = 2 << 8;
const NEITHER: u32 = 3 << 8;
const TUNNEL: u32 = 4 << 8;
const TABLES: u32 = 7 << 8;

#[inline(always)]
fn pack_found(result: Result<Found, Reason>) -> u32 {
    match result {
        Ok(Found { table, reason }) => {
            reason.index()
                | match table {
                    Table::Answered => ANSWERED,
                    Table::Unanswered => UNANSWERED,
                    Table::Neither => NEITHER,
                    Table::Tunnel => TUNNEL,
                }
        }
        Err(reason) => reason.index(),
    }
}

#[inline(always)]
fn unpack_found(word: u32) -> Result<Found, Reason> {
    let reason = unpack_reason(word & 0xff);
    let table = match word & TABLES {
        ANSWERED => Table::Answered,
        UNANSWERED => Table::Unanswered,
        NEITHER => Table::Neither,
        TUNNEL => Table::Tunnel,
        _ => return Err(reason),
    };
    Ok(Found { table, reason })
}

#[inline(always)]
fn unpack_reason(number: u32) -> Reason {
    // The numbers are ours: the default is for the verifier.
    Reason::from_index(opaque(number)).unwrap_or(Reason::Malformed)
}
