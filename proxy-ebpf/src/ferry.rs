//! Takes connections across from the tables of one map layout to those of another, and back. While the links of a node
//! get programs of another layout, one after the other, a packet may meet programs of either; this one runs ahead of both
//! and sees to it that a connection that one side knows is known to the other, before anybody looks for it.
//!
//! It never takes away the only entry of a connection that lives: where both sides have a key for connections of their own, the
//! earlier one is over, and both of its halves go. What is in both tables afterwards is settled by the agent when all links
//! have been changed. It is loaded for that time only, and pays for it with a copy byte by byte.

pub mod bank;

use proxy_common::{
    FlowKey,
    ferry::{ENDS, Stage, is_later, is_one, leads_back},
};

use crate::family::Road;
use crate::packet::cursor::Frame;
use crate::packet::{self, Packet};
use crate::verified::Verified;
use crate::verified::ferry::Ferrying;
use bank::{Side, Slot, half};

/// Looks whether the packet's connection has to come across.
pub struct Crossing;

impl Road for Crossing {
    type Frame = Frame;
    type Verdict = ();

    #[inline(always)]
    fn foreign(_frame: &Frame) {}

    #[inline(always)]
    fn travel<F: Verified>(frame: &mut Frame) {
        let mut packet = Packet::default();
        if frame.is_tagged() || packet::parse::<F>(frame, &mut packet).is_some() {
            return;
        }
        let _ = cross::<F>(&packet.key);
    }
}

/// What one side knows alone, the other learns: the entry of this packet, and its other half. `None` only where there is
/// nothing to do.
#[inline(always)]
fn cross<F: Ferrying>(key: &FlowKey<F::Addr>) -> Option<()> {
    half::<F>(Slot::OURS)?.key = *key;
    half::<F>(Slot::THEIRS)?.key = *key;
    let (here, there) = (F::look(Side::OURS, Slot::OURS), F::look(Side::THEIRS, Slot::THEIRS));
    if here == Stage::NONE && there == Stage::NONE {
        return None;
    }
    let (ours, theirs) = (half::<F>(Slot::OURS)?, half::<F>(Slot::THEIRS)?);
    let are_known = here != Stage::NONE && there != Stage::NONE;
    let mut is_ours = there == Stage::NONE;
    if are_known && is_one((&ours.flow, here), (&theirs.flow, there)) {
        if ours.flow.flags.with(theirs.flow.flags).0 & ENDS.0 != 0 {
            F::share_ends();
        }
        // Also where only they have seen the answer: what comes after it is not of a connection without one.
        if here == there {
            return None;
        }
        is_ours = here == Stage::ANSWERED;
    } else if are_known {
        is_ours = is_later((ours.flow.seen, here), (theirs.flow.seen, there));
    }
    if is_ours {
        F::carry(Side::OURS, Slot::OURS, here)
    } else {
        F::carry(Side::THEIRS, Slot::THEIRS, there)
    }
    Some(())
}

/// Enters both halves of a connection of this side on the other one, unless a later one has either key there.
#[inline(always)]
pub fn carry<F: Ferrying>(from: Side, slot: Slot, stage: Stage) -> Option<()> {
    let to = from.other();
    let one = half::<F>(slot)?;
    half::<F>(Slot::REST)?.key = one.flow.other(one.key.proto);
    let mut rest = F::look(from, Slot::REST);
    if !leads_back(&half::<F>(Slot::REST)?.flow, &half::<F>(slot)?.key) {
        rest = Stage::NONE;
    }
    if !F::gives_way(to, slot, stage) {
        return None;
    }
    if rest != Stage::NONE {
        if !F::gives_way(to, Slot::REST, rest) {
            return None;
        }
        F::enter(to, Slot::REST, rest);
    }
    F::enter(to, slot, stage);
    Some(())
}

/// A side has nothing under this key, or the same connection, or one that was over before this one began: both halves of
/// that one are gone then. `None`: it has not.
#[inline(always)]
pub fn gives_way<F: Ferrying>(side: Side, slot: Slot, stage: Stage) -> Option<()> {
    half::<F>(Slot::OLD)?.key = half::<F>(slot)?.key;
    let found = F::look(side, Slot::OLD);
    if found == Stage::NONE {
        return Some(());
    }
    let (one, old) = (half::<F>(slot)?, half::<F>(Slot::OLD)?);
    if is_one((&old.flow, found), (&one.flow, stage)) {
        return Some(());
    }
    if is_later((old.flow.seen, found), (one.flow.seen, stage)) {
        return None;
    }
    old.key = old.flow.other(one.key.proto);
    if F::look(side, Slot::OLD) != Stage::NONE
        && leads_back(&half::<F>(Slot::OLD)?.flow, &half::<F>(slot)?.key)
    {
        F::erase(side, Slot::OLD);
    }
    F::erase(side, slot);
    Some(())
}

/// What either side has seen of the end of a connection that both know, of each of its halves, the other learns: whether its ports
/// are free is asked on either.
#[inline(always)]
pub fn share_ends<F: Ferrying>() -> Option<()> {
    bank::share_ends::<F>(Slot::OURS);
    let ours = half::<F>(Slot::OURS)?;
    half::<F>(Slot::REST)?.key = ours.flow.other(ours.key.proto);
    if F::look(Side::OURS, Slot::REST) != Stage::NONE
        && leads_back(&half::<F>(Slot::REST)?.flow, &half::<F>(Slot::OURS)?.key)
    {
        bank::share_ends::<F>(Slot::REST);
    }
    Some(())
}
