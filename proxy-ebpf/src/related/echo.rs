//! Answers pings of a Service's address (item 54): by an echo reply where its entry says so, else by an error, which is
//! what nftables makes of them, and not at all where no Service owns the address. Addresses of nodes answer for
//! themselves.

use proxy_common::{FrontendFlags, FrontendKey, Reason, checksum};

use crate::action::{Action, Verdict};
use crate::family::related::Unusual;
use crate::lookup::owner;
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::ethernet::{self, Ethernet};
use crate::packet::icmp::IcmpError;
use crate::reject;
use crate::road::{Direction, Hook};

/// Judges an echo request. Pods and outsiders are answered wherever they come in, whoever translates their connections:
/// a ping has no socket that would. At egress hooks only the node's own requests are, the others have come in somewhere.
#[inline(always)]
pub fn answer<F: Unusual>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    request: IcmpError,
    hook: Hook,
) -> Verdict {
    let stranger = Verdict::of(Reason::NoPorts);
    if hook.direction == Direction::Egress && !frame.is_from_here() {
        return stranger;
    }
    let asked = packet.key.dst;
    // SAFETY: an element without preallocation is freed only after the program is done.
    if let Some(owner) = unsafe { F::frontends().get(FrontendKey::wildcard(asked)) }
        && owner.flags.has(FrontendFlags::ECHO)
    {
        return match reply::<F>(frame, packet, request) {
            Some(()) => Verdict::new(Reason::Echo, reject::back(frame, Some(()), hook.direction)),
            None => Verdict::new(Reason::RewriteFailed, Action::DROP),
        };
    }
    match owner::unserved::<F>(asked) {
        Reason::UnknownPort => {
            Verdict::new(Reason::UnknownPort, reject::unreachable::<F>(frame, packet, hook.direction))
        }
        Reason::UnallocatedAddress => Verdict::of(Reason::UnallocatedAddress),
        _ => stranger,
    }
}

/// Turns the request into its reply: the ends change places, and the type is another.
#[inline(always)]
fn reply<F: Unusual>(frame: &mut Frame, packet: &Packet<F::Addr>, request: IcmpError) -> Option<()> {
    let outer = frame.read::<Ethernet>(0)?;
    let (asked, client) = (packet.key.dst, packet.key.src);
    if outer.destination.is_group() || !F::is_one_host(client) {
        return None;
    }
    let (old, new) = (u16::from_ne_bytes([F::ECHO.0, 0]), u16::from_ne_bytes([F::ECHO.1, 0]));
    let difference = checksum::add((!old) as u32, new as u32);
    let reply = IcmpError {
        kind: [F::ECHO.1, 0],
        checksum: checksum::apply(request.checksum, difference),
        ..request
    };
    frame.store(packet.transport, &reply).ok()?;
    let mut header = frame.read::<F::Header>(ethernet::LENGTH)?;
    // Addresses that change places leave every sum as it is.
    F::readdress(&mut header, asked, client, 0, crate::family::Hop::Uncounted);
    frame.store(ethernet::LENGTH, &header).ok()?;
    *frame.edit::<Ethernet>(0)? =
        Ethernet { destination: outer.source, source: outer.destination, protocol: F::ETHERTYPE };
    Some(())
}
