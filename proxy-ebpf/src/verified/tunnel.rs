//! The parts of tunnels that the verifier looks at on their own: no packet of an answered connection needs them.

use aya_ebpf::{bindings::__sk_buff, programs::TcContext};
use proxy_common::{Addr4, Addr6, Flow, Reason, V4, V6};

use super::{opaque, own, pack_verdict, unpack_reason, unpack_verdict};
use crate::action::Verdict;
use crate::family::tunnel::Wrapped;
use crate::packet::Packet;
use crate::packet::cursor::Frame;
use crate::tunnel;

/// Tunnels of a family.
pub trait Tunnels: Wrapped {
    /// [`tunnel::wrap`].
    fn wrap(
        frame: &mut Frame,
        packet: &Packet<Self::Addr>,
        flow: &Flow<Self::Addr>,
        reason: Reason,
    ) -> Verdict;
    /// [`tunnel::unwrap`].
    fn unwrap(frame: &mut Frame, packet: &mut Packet<Self::Addr>) -> Result<Option<Reason>, Reason>;
    /// [`tunnel::shorten`].
    fn shorten(frame: &mut Frame, packet: &Packet<Self::Addr>);
    /// [`tunnel::still_leads_there`].
    fn still_leads_there(packet: &Packet<Self::Addr>, flow: &mut Flow<Self::Addr>) -> bool;
    /// [`tunnel::is_agreed_on`].
    fn is_agreed_on(packet: &Packet<Self::Addr>) -> bool;
}

macro_rules! exported {
    ($family:ty, $addr:ty, $wrap:ident, $unwrap:ident, $shorten:ident, $still:ident, $agreed:ident) => {
        impl Tunnels for $family {
            #[inline(always)]
            fn wrap(
                frame: &mut Frame,
                packet: &Packet<$addr>,
                flow: &Flow<$addr>,
                reason: Reason,
            ) -> Verdict {
                unpack_verdict($wrap(frame.skb(), packet, flow, reason.index()))
            }
            #[inline(always)]
            fn unwrap(frame: &mut Frame, packet: &mut Packet<$addr>) -> Result<Option<Reason>, Reason> {
                match opaque($unwrap(frame.skb(), packet)) {
                    WITH_PORTS => Ok(None),
                    WITHOUT_PORTS => Ok(Some(Reason::NoPorts)),
                    refused => Err(unpack_reason(refused)),
                }
            }
            #[inline(always)]
            fn shorten(frame: &mut Frame, packet: &Packet<$addr>) {
                $shorten(frame.skb(), packet);
            }
            #[inline(always)]
            fn still_leads_there(packet: &Packet<$addr>, flow: &mut Flow<$addr>) -> bool {
                opaque($still(packet, flow)) != 0
            }
            #[inline(always)]
            fn is_agreed_on(packet: &Packet<$addr>) -> bool {
                opaque($agreed(packet)) != 0
            }
        }

        #[unsafe(no_mangle)]
        extern "C" fn $wrap(
            skb: *mut __sk_buff,
            packet: *const Packet<$addr>,
            flow: *const Flow<$addr>,
            reason: u32,
        ) -> u64 {
            // SAFETY: the verifier has seen the callers: pointers to whole values on their stacks or in a map, or null
            // for all that it knows here.
            let (Some(packet), Some(flow)) = (unsafe { (packet.as_ref(), flow.as_ref()) }) else {
                return pack_verdict(Verdict::of(Reason::RewriteFailed));
            };
            let mut frame = Frame::new(TcContext::new(skb));
            pack_verdict(tunnel::wrap::<$family>(&mut frame, packet, flow, unpack_reason(reason)))
        }

        #[unsafe(no_mangle)]
        extern "C" fn $unwrap(skb: *mut __sk_buff, packet: *mut Packet<$addr>) -> u32 {
            // SAFETY: as above.
            let Some(callers) = (unsafe { packet.as_mut() }) else { return Reason::Malformed.index() };
            let Some(packet) = own(callers) else { return Reason::Malformed.index() };
            let unwrapped = tunnel::unwrap::<$family>(&mut Frame::new(TcContext::new(skb)), packet);
            *callers = *packet;
            match unwrapped {
                Ok(None) => WITH_PORTS,
                Ok(Some(_)) => WITHOUT_PORTS,
                Err(reason) => reason.index(),
            }
        }

        #[unsafe(no_mangle)]
        extern "C" fn $shorten(skb: *mut __sk_buff, packet: *const Packet<$addr>) -> u32 {
            // SAFETY: as above.
            let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
            tunnel::shorten::<$family>(&mut Frame::new(TcContext::new(skb)), packet);
            1
        }

        #[unsafe(no_mangle)]
        extern "C" fn $still(packet: *const Packet<$addr>, flow: *mut Flow<$addr>) -> u32 {
            // SAFETY: as above.
            let (Some(packet), Some(flow)) = (unsafe { (packet.as_ref(), flow.as_mut()) }) else { return 0 };
            let Some(packet) = own(packet) else { return 0 };
            tunnel::still_leads_there::<$family>(packet, flow) as u32
        }

        #[unsafe(no_mangle)]
        extern "C" fn $agreed(packet: *const Packet<$addr>) -> u32 {
            // SAFETY: as above.
            let Some(packet) = (unsafe { packet.as_ref() }) else { return 0 };
            let Some(packet) = own(packet) else { return 0 };
            tunnel::is_agreed_on::<$family>(&packet.key) as u32
        }
    };
}

exported!(V4, Addr4, wrap4, unwrap4, shorten4, still4, agreed4);
exported!(V6, Addr6, wrap6, unwrap6, shorten6, still6, agreed6);

/// Beside the numbers of reasons.
const WITH_PORTS: u32 = 0x100;
const WITHOUT_PORTS: u32 = 0x200;
