//! The parts of [`crate::police`] that are verified on their own.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use proxy_common::{
    Addr4, Addr6, End, PeerClass, Proto, Reason, RuleId, RuleSetId, V4, V6, policy::Effect, precedent::Matter,
};

use super::{opaque, own, pack_found, pack_hook, unpack_found, unpack_hook, unpack_reason};
use crate::family::related::Unusual;
use crate::flow::{Found, Plan};
use crate::packet::Packet;
use crate::packet::cursor::Frame;
use crate::police::{self, Case, Question, Role, Whence};
use crate::road::Hook;
use crate::scratch::{self, Area};

/// The parts of the packet road that ask policies.
pub trait Judging: Unusual {
    /// [`police::police`].
    fn police(
        frame: &mut Frame,
        packet: &Packet<Self::Addr>,
        hook: Hook,
        plan: &Plan<Self::Addr>,
        found: Result<Found, Reason>,
    ) -> Result<Found, Reason>;
    /// [`police::judge_again`].
    fn judge_again(frame: &mut Frame, packet: &Packet<Self::Addr>, hook: Hook) -> Option<Reason>;
    /// [`police::judge_portless`].
    fn judge_portless(frame: &mut Frame, packet: &mut Packet<Self::Addr>, hook: Hook, why: Reason) -> Reason;
    /// [`police::end`].
    fn tell_end(frame: &mut Frame, packet: &Packet<Self::Addr>, reason: Reason);
    /// [`police::answer`].
    fn answer(case: &mut Case<Self::Addr>, device: u32, question: Question) -> Reason;
    /// [`police::find_class`].
    fn find_class(end: &mut End);
    /// [`police::whence`]: of the packet that the case is about.
    fn whence(frame: &Frame, packet: &Packet<Self::Addr>) -> Whence;
    /// [`police::is_forged`].
    #[inline(always)]
    fn is_forged(case: &mut Case<Self::Addr>, device: u32, sender: Role) -> bool {
        Self::answer(case, device, Question::source(sender)) == Reason::ForgedSource
    }
    /// [`police::judge`].
    #[inline(always)]
    fn judge(case: &mut Case<Self::Addr>) -> Reason {
        Self::answer(case, 0, Question::RULES)
    }
    /// [`police::weigh`]: what the rules say about the case's port, if its other end is of this class. They are noted in
    /// the case.
    #[inline(always)]
    fn weigh(case: &mut Case<Self::Addr>, rules: RuleSetId, peer: PeerClass) -> Effect {
        case.rules = rules;
        let what =
            (case.writes as u64) << 32 | (case.key.proto.0 as u64) << 16 | case.key.dport.number() as u64;
        Effect(opaque(weigh(rules.0, peer.0, what, &mut case.by)) as u8)
    }
}

/// No reason.
const NONE: u32 = u32::MAX;
const NODE: u32 = Whence::Node as u32;
const TURNED: u32 = Whence::Turned as u32;

macro_rules! judging {
    ($family:ty, $addr:ty, $police:ident, $again:ident, $portless:ident, $end:ident, $answer:ident, $class:ident, $whence:ident) => {
        impl Judging for $family {
            #[inline(always)]
            fn police(
                frame: &mut Frame,
                packet: &Packet<$addr>,
                hook: Hook,
                plan: &Plan<$addr>,
                found: Result<Found, Reason>,
            ) -> Result<Found, Reason> {
                unpack_found(opaque($police(frame.skb(), packet, pack_hook(hook), plan, pack_found(found))))
            }
            #[inline(always)]
            fn judge_again(frame: &mut Frame, packet: &Packet<$addr>, hook: Hook) -> Option<Reason> {
                match opaque($again(frame.skb(), packet, pack_hook(hook))) {
                    NONE => None,
                    reason => Some(unpack_reason(reason)),
                }
            }
            #[inline(always)]
            fn judge_portless(
                frame: &mut Frame,
                packet: &mut Packet<$addr>,
                hook: Hook,
                why: Reason,
            ) -> Reason {
                unpack_reason($portless(frame.skb(), packet, pack_hook(hook), why.index()))
            }
            #[inline(always)]
            fn tell_end(frame: &mut Frame, packet: &Packet<$addr>, reason: Reason) {
                $end(frame.skb(), packet, reason.index());
            }
            #[inline(always)]
            fn answer(case: &mut Case<$addr>, device: u32, question: Question) -> Reason {
                unpack_reason($answer(case, device, question.0))
            }
            #[inline(always)]
            fn find_class(end: &mut End) {
                $class(end);
            }
            #[inline(always)]
            fn whence(frame: &Frame, packet: &Packet<$addr>) -> Whence {
                match opaque($whence(frame.skb(), packet.transport as u32)) {
                    NODE => Whence::Node,
                    TURNED => Whence::Turned,
                    _ => Whence::Elsewhere,
                }
            }
        }

        #[unsafe(no_mangle)]
        extern "C" fn $whence(skb: *mut __sk_buff, transport: u32) -> u32 {
            // As for the answer.
            match scratch::take::<Case<$addr>>(Area::Case) {
                Some(case) => {
                    let frame = Frame::new(TcContext::new(skb));
                    police::whence::<$family>(&frame, transport, case) as u32
                }
                None => Whence::Elsewhere as u32,
            }
        }

        #[unsafe(no_mangle)]
        extern "C" fn $police(
            skb: *mut __sk_buff,
            packet: *const Packet<$addr>,
            hook: u32,
            plan: *const Plan<$addr>,
            found: u32,
        ) -> u32 {
            // SAFETY: the verifier has seen the callers: pointers to whole values, each of its own, or null for all that
            // it knows here.
            let (Some(packet), Some(plan)) = (unsafe { (packet.as_ref(), plan.as_ref()) }) else {
                return pack_found(Err(Reason::Malformed));
            };
            let Some(packet) = own(packet) else { return pack_found(Err(Reason::Malformed)) };
            let frame = Frame::new(TcContext::new(skb));
            pack_found(police::police::<$family>(
                &frame,
                packet,
                unpack_hook(hook),
                plan,
                unpack_found(found),
            ))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $again(skb: *mut __sk_buff, packet: *const Packet<$addr>, hook: u32) -> u32 {
            // SAFETY: as above.
            let Some(packet) = (unsafe { packet.as_ref() }) else { return Reason::Malformed.index() };
            let Some(packet) = own(packet) else { return Reason::Malformed.index() };
            let frame = Frame::new(TcContext::new(skb));
            match police::judge_again::<$family>(&frame, &packet.key, unpack_hook(hook)) {
                Some(reason) => reason.index(),
                None => NONE,
            }
        }

        #[unsafe(no_mangle)]
        extern "C" fn $portless(skb: *mut __sk_buff, packet: *mut Packet<$addr>, hook: u32, why: u32) -> u32 {
            // SAFETY: as above.
            let Some(callers) = (unsafe { packet.as_mut() }) else { return Reason::Malformed.index() };
            let Some(packet) = own(callers) else { return Reason::Malformed.index() };
            let mut frame = Frame::new(TcContext::new(skb));
            let (hook, why) = (unpack_hook(hook), unpack_reason(why));
            let reason = police::judge_portless::<$family>(&mut frame, packet, hook, why);
            *callers = *packet;
            reason.index()
        }

        #[unsafe(no_mangle)]
        extern "C" fn $end(skb: *mut __sk_buff, packet: *const Packet<$addr>, reason: u32) -> u32 {
            // SAFETY: as above.
            let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
            let frame = Frame::new(TcContext::new(skb));
            police::end::<$family>(&frame, &packet.key, unpack_reason(reason));
            1
        }

        #[unsafe(no_mangle)]
        extern "C" fn $class(end: *mut End) -> u32 {
            // SAFETY: as above.
            let Some(end) = (unsafe { end.as_mut() }) else { return 0 };
            police::find_class::<$family>(end);
            1
        }

        #[unsafe(no_mangle)]
        extern "C" fn $answer(case: *mut Case<$addr>, device: u32, question: u32) -> u32 {
            // All cases are made in one place. It is looked up again, because its addresses are keys: see `own`.
            match scratch::take::<Case<$addr>>(Area::Case) {
                Some(place) if !case.is_null() => {
                    police::answer::<$family>(place, device, Question(question)).index()
                }
                // Whatever was asked, this does not pass.
                Some(_) | None => Reason::ForgedSource.index(),
            }
        }
    };
}

judging!(V4, Addr4, police4, again4, portless4, end4, answer4, class4, whence4);
judging!(V6, Addr6, police6, again6, portless6, end6, answer6, class6, whence6);

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weigh(rules: u64, peer: u64, what: u64, by: *mut RuleId) -> u32 {
    // SAFETY: the verifier has seen the callers: a whole value in the scratch map, or null for all that it knows here.
    let Some(by) = (unsafe { by.as_mut() }) else { return Effect::DENY.0 as u32 };
    let matter = Matter { proto: Proto((what >> 16) as u8), port: what as u16, writes: (what >> 32) as u32 };
    police::weigh(RuleSetId(rules), PeerClass(peer), matter, by).0 as u32
}
