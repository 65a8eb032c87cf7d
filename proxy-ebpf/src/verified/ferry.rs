//! The parts of a crossing that the verifier looks at on their own: each copies entries byte by byte, and is asked for in a dozen
//! places.

use proxy_common::{V4, V6, ferry::Stage};

use super::opaque;
use crate::family::Wired;
use crate::ferry::{
    self,
    bank::{self, Side, Slot},
};

/// Crossings of a family.
pub trait Ferrying: Wired {
    /// [`bank::look`].
    fn look(side: Side, slot: Slot) -> Stage;
    /// [`bank::enter`].
    fn enter(side: Side, slot: Slot, stage: Stage);
    /// [`bank::erase`].
    fn erase(side: Side, slot: Slot);
    /// [`ferry::gives_way`].
    fn gives_way(side: Side, slot: Slot, stage: Stage) -> bool;
    /// [`ferry::carry`].
    fn carry(from: Side, slot: Slot, stage: Stage);
    /// [`ferry::share_ends`].
    fn share_ends();
}

macro_rules! exported {
    ($family:ty, $look:ident, $enter:ident, $erase:ident, $gives_way:ident, $carry:ident, $share_ends:ident) => {
        impl Ferrying for $family {
            #[inline(always)]
            fn look(side: Side, slot: Slot) -> Stage {
                Stage::of(opaque($look(side.0, slot.0)))
            }
            #[inline(always)]
            fn enter(side: Side, slot: Slot, stage: Stage) {
                $enter(side.0, slot.0, stage.number());
            }
            #[inline(always)]
            fn erase(side: Side, slot: Slot) {
                $erase(side.0, slot.0);
            }
            #[inline(always)]
            fn gives_way(side: Side, slot: Slot, stage: Stage) -> bool {
                opaque($gives_way(side.0, slot.0, stage.number())) != 0
            }
            #[inline(always)]
            fn carry(from: Side, slot: Slot, stage: Stage) {
                $carry(from.0, slot.0, stage.number());
            }
            #[inline(always)]
            fn share_ends() {
                $share_ends();
            }
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $look(side: u32, slot: u32) -> u32 {
            bank::look::<$family>(Side(side), Slot(slot)).unwrap_or(Stage::NONE).number()
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $enter(side: u32, slot: u32, stage: u32) -> u32 {
            bank::enter::<$family>(Side(side), Slot(slot), Stage::of(stage)).is_some() as u32
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $erase(side: u32, slot: u32) -> u32 {
            bank::erase::<$family>(Side(side), Slot(slot)).is_some() as u32
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $gives_way(side: u32, slot: u32, stage: u32) -> u32 {
            ferry::gives_way::<$family>(Side(side), Slot(slot), Stage::of(stage)).is_some() as u32
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $carry(from: u32, slot: u32, stage: u32) -> u32 {
            ferry::carry::<$family>(Side(from), Slot(slot), Stage::of(stage)).is_some() as u32
        }

        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $share_ends() -> u32 {
            ferry::share_ends::<$family>().is_some() as u32
        }
    };
}

exported!(V4, ferry_look4, ferry_enter4, ferry_erase4, ferry_gives_way4, ferry_carry4, ferry_share_ends4);
exported!(V6, ferry_look6, ferry_enter6, ferry_erase6, ferry_gives_way6, ferry_carry6, ferry_share_ends6);
