//! Both sides of a crossing, each with its table of answered connections and that of those without an answer: entries are
//! read from either as ours, and written to either as its own. Knows nothing of which entry counts.
//!
//! What is read and written lies in slots of working memory that are named by numbers: functions that the verifier takes on their own
//! get no keys of maps from their callers ([`crate::verified`]).

use core::mem::offset_of;

use aya_ebpf::maps::{HashMap, LruHashMap};
use proxy_common::{
    Flow, FlowFlags, FlowKey,
    ferry::{ENDS, FOREIGN_KEY, FOREIGN_VALUE, Stage, leads_alike},
};

use crate::family::Wired;
use crate::flow::Draft;
use crate::maps::ferry::Place;
use crate::scratch::{self, Area, Plain};
use crate::verified::party;

const NOEXIST: u64 = 1;

/// One side.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Side(pub u32);

impl Side {
    /// That of the layout that this program is of.
    pub const OURS: Self = Self(0);
    /// That of the other one.
    pub const THEIRS: Self = Self(1);

    /// The one that is across.
    #[inline(always)]
    pub fn other(self) -> Self {
        Self(self.0 ^ 1)
    }
}

/// Where one half of a connection is held while it is looked at. Nobody keeps a reference across a call.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Slot(pub u32);

impl Slot {
    /// The packet's half as our side has it.
    pub const OURS: Self = Self(Area::Entry as u32);
    /// The packet's half as the other side has it.
    pub const THEIRS: Self = Self(Area::Tunnel as u32);
    /// The other half of one of them.
    pub const REST: Self = Self(Area::OtherKey as u32);
    /// What a side has under a key.
    pub const OLD: Self = Self(Area::Quote as u32);
}

/// An entry as the other layout has it.
#[repr(C)]
struct Foreign {
    key: [u8; FOREIGN_KEY],
    value: [u8; FOREIGN_VALUE],
}

// SAFETY: bytes.
unsafe impl Plain for Foreign {}

/// What a slot holds. Never `None`, which the verifier does not know.
#[inline(always)]
pub fn half<F: Wired>(slot: Slot) -> Option<&'static mut Draft<F::Addr>> {
    scratch::take_numbered(slot.0)
}

/// Copies the entry of a slot's key into the slot; says where it was found.
#[inline(always)]
pub fn look<F: Wired>(side: Side, slot: Slot) -> Option<Stage> {
    let Draft { key, flow: to } = half::<F>(slot)?;
    if side == Side::OURS {
        if let Some(flow) = F::flows().get_ptr(&*key) {
            // SAFETY: elements live as long as the map, see `flow::table`; plain words are read.
            *to = unsafe { *flow };
            return Some(Stage::ANSWERED);
        }
        let flow = F::half_open().get_ptr(&*key)?;
        // SAFETY: as above.
        *to = unsafe { *flow };
        return Some(Stage::HALF_OPEN);
    }
    let theirs = translated::<F>(key)?;
    let key = foreign_key::<F>(theirs);
    if let Some(flow) = F::foreign_flows().get_ptr(key) {
        import::<F>(to, flow.cast());
        return Some(Stage::ANSWERED);
    }
    import::<F>(to, F::foreign_half_open().get_ptr(key)?.cast());
    Some(Stage::HALF_OPEN)
}

/// Enters a slot's half where it is not there; what was without an answer until now is no more.
#[inline(always)]
pub fn enter<F: Wired>(side: Side, slot: Slot, stage: Stage) -> Option<()> {
    let Draft { key, flow } = half::<F>(slot)?;
    let (key, flow) = (&*key, &*flow);
    if side == Side::OURS {
        // Theirs are not trusted meanwhile, or are the same.
        party::name(&key.src);
        put(F::flows(), F::half_open(), key, flow, stage);
        return Some(());
    }
    let theirs = translated::<F>(key)?;
    theirs.value = [0; FOREIGN_VALUE];
    let (from, to) = ((&raw const *flow).cast::<u8>(), theirs.value.as_mut_ptr());
    export(size_of::<Flow<F::Addr>>(), F::flow_place, from, to);
    let key = foreign_key::<F>(theirs);
    // SAFETY: as for the key.
    let flow: &Flow<F::Addr> = unsafe { &*theirs.value.as_ptr().cast() };
    put(F::foreign_flows(), F::foreign_half_open(), key, flow, stage);
    Some(())
}

/// An entry that finds no room among the answered ones stays among those without an answer.
#[inline(always)]
fn put<A>(
    flows: &HashMap<FlowKey<A>, Flow<A>>,
    half_open: &LruHashMap<FlowKey<A>, Flow<A>>,
    key: &FlowKey<A>,
    flow: &Flow<A>,
    stage: Stage,
) {
    if stage == Stage::ANSWERED {
        let _ = flows.insert(key, flow, NOEXIST);
    }
    if flows.get_ptr(key).is_some() {
        let _ = half_open.remove(key);
    } else if stage == Stage::HALF_OPEN {
        let _ = half_open.insert(key, flow, NOEXIST);
    }
}

/// Removes the entry of a slot's key from both tables of a side.
#[inline(always)]
pub fn erase<F: Wired>(side: Side, slot: Slot) -> Option<()> {
    let key = &half::<F>(slot)?.key;
    if side == Side::OURS {
        let _ = F::flows().remove(key);
        let _ = F::half_open().remove(key);
        return Some(());
    }
    let theirs = translated::<F>(key)?;
    let key = foreign_key::<F>(theirs);
    let _ = F::foreign_flows().remove(key);
    let _ = F::foreign_half_open().remove(key);
    Some(())
}

/// Gives both sides' entries of a slot's key what either has seen of the end, if they are of the slot's connection.
#[inline(always)]
pub fn share_ends<F: Wired>(slot: Slot) -> Option<()> {
    let Draft { key, flow } = half::<F>(slot)?;
    let ours = F::flows().get_ptr_mut(&*key).or_else(|| F::half_open().get_ptr_mut(&*key))?;
    let theirs = translated::<F>(key)?;
    let key = foreign_key::<F>(theirs);
    let theirs = F::foreign_flows().get_ptr_mut(key).or_else(|| F::foreign_half_open().get_ptr_mut(key))?;
    let offset = F::flow_place(offset_of!(Flow<F::Addr>, flags)).offset()?;
    // SAFETY: elements live as long as the map, see `flow::table`; what is at the offset is within theirs, see `import`. One
    // byte of each is written, by any processor.
    unsafe {
        let ours = &mut *ours;
        let flags = theirs.cast::<u8>().add(offset);
        let seen = core::ptr::read_volatile(flags);
        if leads_alike(ours, flow) {
            core::ptr::write_volatile(flags, seen | ours.flags.0 & ENDS.0);
            ours.flags = FlowFlags(ours.flags.0 | seen & ENDS.0);
        }
    }
    Some(())
}

/// The key as they have it, in memory that has room for their value, too.
#[inline(always)]
fn translated<F: Wired>(key: &FlowKey<F::Addr>) -> Option<&'static mut Foreign> {
    let theirs = scratch::take::<Foreign>(Area::Plan)?;
    theirs.key = [0; FOREIGN_KEY];
    let (from, to) = ((&raw const *key).cast::<u8>(), theirs.key.as_mut_ptr());
    export(size_of::<FlowKey<F::Addr>>(), F::key_place, from, to);
    Some(theirs)
}

/// The kernel reads as many bytes as a key of the map has, and there are enough behind the reference.
#[inline(always)]
fn foreign_key<F: Wired>(theirs: &Foreign) -> &FlowKey<F::Addr> {
    // SAFETY: words of at most four bytes, of which any bit patterns are values, in an area that is aligned to eight.
    unsafe { &*theirs.key.as_ptr().cast() }
}

/// As we have it.
#[inline(always)]
fn import<F: Wired>(to: &mut Flow<F::Addr>, flow: *const u8) {
    let to = (&raw mut *to).cast::<u8>();
    let mut index = 0;
    while index < size_of::<Flow<F::Addr>>() {
        // SAFETY: both are within their entries: the agent has written down places within the other layout's value, and
        // the verifier looks at each. Volatile, so that no wider word is read across fields.
        unsafe {
            let byte = match F::flow_place(index).offset() {
                Some(offset) => core::ptr::read_volatile(flow.add(offset)),
                None => 0,
            };
            core::ptr::write_volatile(to.add(index), byte);
        }
        index += 1;
    }
}

/// Copies `size` bytes, each to its place.
#[inline(always)]
fn export(size: usize, place: impl Fn(usize) -> Place, from: *const u8, to: *mut u8) {
    let mut index = 0;
    while index < size {
        if let Some(offset) = place(index).offset() {
            // SAFETY: as in `import`.
            unsafe { core::ptr::write_volatile(to.add(offset), core::ptr::read_volatile(from.add(index))) };
        }
        index += 1;
    }
}
