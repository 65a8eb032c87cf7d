//! Packets that are larger than their way takes. A packet that we send out of a device ourselves passes no router that
//! would say so, and one that the stack says it of may have the node as its sender by then: so we say it here, to the
//! packet as it came.

use proxy_common::{Proto, Reason};

use crate::action::Verdict;
use crate::family::Wired;
use crate::family::related::Unusual;
use crate::packet::Packet;
use crate::packet::cursor::{Access as _, Frame};
use crate::packet::ethernet;
use crate::packet::l4::TcpHeader;
use crate::reject;
use crate::road::Direction;

/// How a large packet can go on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// The device cuts it into segments that fit.
    Fits,
    /// Only in fragments, which the stack makes.
    InFragments,
    /// Not at all: its sender was told.
    Refused,
}

/// Who can cut a packet of a flow that is too large for its way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Cutter {
    /// The node's stack.
    Stack,
    /// Nobody: the stack takes no packet that comes in with an address of the node's own, as the masqueraded have.
    Nobody,
}

impl Cutter {
    /// Of a packet that gets this source. One hash lookup.
    #[inline(always)]
    pub fn of<F: Wired>(src: &F::Addr) -> Self {
        if F::local_addrs().get_ptr(src).is_some() { Self::Nobody } else { Self::Stack }
    }
}

/// Judges a frame with more bytes behind its Ethernet header than `mtu`, that is to get the source `src`. The verdict counts if it is
/// refused.
#[inline(always)]
pub fn judge<F: Unusual>(
    frame: &mut Frame,
    packet: &Packet<F::Addr>,
    mtu: u16,
    direction: Direction,
    src: &F::Addr,
) -> (Size, Verdict) {
    let fits = Verdict::of(Reason::NotAService);
    let segment = frame.segment();
    if segment != 0 && headers(frame, packet) + segment as usize <= mtu as usize {
        return (Size::Fits, fits);
    }
    match frame.read::<F::Header>(ethernet::LENGTH) {
        Some(header) if F::may_be_cut(&header) && Cutter::of::<F>(src) == Cutter::Stack => {
            (Size::InFragments, fits)
        }
        Some(_) | None => {
            let action = reject::too_large::<F>(frame, packet, mtu, direction);
            (Size::Refused, Verdict::new(Reason::TooLarge, action))
        }
    }
}

/// Bytes of all headers behind the Ethernet header, which each segment has.
#[inline(always)]
pub fn headers<A>(frame: &Frame, packet: &Packet<A>) -> usize {
    let transport = if packet.key.proto == Proto::TCP {
        frame.read::<TcpHeader>(packet.transport).map_or(0, |tcp| tcp.length())
    } else {
        8
    };
    packet.transport - ethernet::LENGTH + transport
}
