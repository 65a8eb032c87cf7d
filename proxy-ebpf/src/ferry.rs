//! Takes connections across from the tables of one map layout to those of another, and back. While the links of a node
//! get programs of another layout, one after the other, a packet may meet programs of either; this one runs ahead of both
//! and sees to it that a connection that one side knows is known to the other, before anybody looks for it.
//!
//! It never takes away the only entry of a connection, so none is lost, and what is in both tables afterwards is settled by the agent when all links
//! have been changed. It is loaded for that time only, and pays for it with a copy byte by byte.

use proxy_common::{
    Flow, FlowKey,
    ferry::{FOREIGN_KEY, FOREIGN_VALUE},
};

use crate::family::Road;
use crate::family::Wired;
use crate::flow::Draft;
use crate::maps::ferry::Place;
use crate::packet::cursor::Frame;
use crate::packet::{self, Packet};
use crate::scratch::{self, Area, Plain};
use crate::verified::Verified;

const NOEXIST: u64 = 1;

/// Looks whether the packet's connection has to come across.
pub struct Crossing;

/// An entry as the other layout has it.
#[repr(C)]
struct Foreign {
    key: [u8; FOREIGN_KEY],
    value: [u8; FOREIGN_VALUE],
}

// SAFETY: bytes.
unsafe impl Plain for Foreign {}

/// Which of a layout's two tables.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Answered,
    HalfOpen,
}

impl Road for Crossing {
    type Frame = Frame;
    type Verdict = ();

    #[inline(always)]
    fn foreign() {}

    #[inline(always)]
    fn travel<F: Verified>(frame: &mut Frame) {
        let mut packet = Packet::default();
        if frame.is_tagged() || packet::parse::<F>(frame, &mut packet).is_some() {
            return;
        }
        cross::<F>(&packet.key);
    }
}

/// What one side knows alone, the other learns: the entry of this packet, and then its other half.
#[inline(never)]
fn cross<F: Wired>(key: &FlowKey<F::Addr>) {
    let Some(mine) = scratch::take::<Draft<F::Addr>>(Area::Entry) else { return };
    let Some(theirs) = scratch::take::<Foreign>(Area::Plan) else { return };
    mine.key = *key;
    translate_key::<F>(&mine.key, theirs);
    let (here, there) = (find_here::<F>(&mine.key), find_there::<F>(theirs));
    if let (Some((_, ours)), Some((_, other))) = (here, there)
        && ours == other
    {
        return;
    }
    if let Some((flow, _)) = there {
        import::<F>(&mut mine.flow, flow);
    }
    match (here, there) {
        // Of the same ports, and each side's own: one was over before the other began, and only one side has seen it end.
        (Some((ours, _)), Some(_)) if !leads_alike(ours, &mine.flow) => {}
        // Also where only they have seen the answer: what comes after it is not of a connection without one.
        (None, Some((_, stage))) | (Some((_, Stage::HalfOpen)), Some((_, stage @ Stage::Answered))) => {
            enter::<F>(mine, stage);
            mine.key = mine.flow.other(mine.key.proto);
            translate_key::<F>(&mine.key, theirs);
            if let Some((flow, stage)) = find_there::<F>(theirs) {
                import::<F>(&mut mine.flow, flow);
                enter::<F>(mine, stage);
            }
        }
        (Some((flow, stage)), None) | (Some((flow, stage @ Stage::Answered)), Some((_, Stage::HalfOpen))) => {
            bring::<F>(theirs, flow, stage);
            mine.key = flow.other(mine.key.proto);
            translate_key::<F>(&mine.key, theirs);
            if let Some((flow, stage)) = find_here::<F>(&mine.key) {
                bring::<F>(theirs, flow, stage);
            }
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
}

/// Both entries are of one connection, not of two that had the same ports one after the other: they lead to the same place.
#[inline(always)]
fn leads_alike<A: PartialEq>(one: &Flow<A>, other: &Flow<A>) -> bool {
    one.src == other.src && one.dst == other.dst && one.sport == other.sport && one.dport == other.dport
}

#[inline(always)]
fn find_here<F: Wired>(key: &FlowKey<F::Addr>) -> Option<(&'static Flow<F::Addr>, Stage)> {
    // SAFETY: elements live as long as the map, see `flow::table`; plain words are read.
    if let Some(flow) = F::flows().get_ptr(key) {
        return Some((unsafe { &*flow }, Stage::Answered));
    }
    // SAFETY: as above.
    F::half_open().get_ptr(key).map(|flow| (unsafe { &*flow }, Stage::HalfOpen))
}

/// The pointer is to a value of the other layout.
#[inline(always)]
fn find_there<F: Wired>(theirs: &Foreign) -> Option<(*const u8, Stage)> {
    let key = foreign_key::<F>(theirs);
    if let Some(flow) = F::foreign_flows().get_ptr(key) {
        return Some((flow.cast(), Stage::Answered));
    }
    F::foreign_half_open().get_ptr(key).map(|flow| (flow.cast(), Stage::HalfOpen))
}

/// The kernel reads as many bytes as a key of the map has, and there are enough behind the reference.
#[inline(always)]
fn foreign_key<F: Wired>(theirs: &Foreign) -> &FlowKey<F::Addr> {
    // SAFETY: words of at most four bytes, of which any bit patterns are values, in an area that is aligned to eight.
    unsafe { &*theirs.key.as_ptr().cast() }
}

#[inline(always)]
fn translate_key<F: Wired>(key: &FlowKey<F::Addr>, theirs: &mut Foreign) {
    theirs.key = [0; FOREIGN_KEY];
    let (from, to) = ((&raw const *key).cast::<u8>(), theirs.key.as_mut_ptr());
    export(size_of::<FlowKey<F::Addr>>(), F::key_place, from, to);
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

/// Into our table.
#[inline(always)]
fn enter<F: Wired>(mine: &Draft<F::Addr>, stage: Stage) {
    let _ = match stage {
        Stage::Answered => F::flows().insert(&mine.key, &mine.flow, NOEXIST),
        Stage::HalfOpen => F::half_open().insert(&mine.key, &mine.flow, NOEXIST),
    };
    if stage == Stage::Answered {
        let _ = F::half_open().remove(&mine.key);
    }
}

/// Into theirs; the key is there already.
#[inline(always)]
fn bring<F: Wired>(theirs: &mut Foreign, flow: &Flow<F::Addr>, stage: Stage) {
    theirs.value = [0; FOREIGN_VALUE];
    let (from, to) = ((&raw const *flow).cast::<u8>(), theirs.value.as_mut_ptr());
    export(size_of::<Flow<F::Addr>>(), F::flow_place, from, to);
    let key = foreign_key::<F>(theirs);
    // SAFETY: as for the key.
    let flow: &Flow<F::Addr> = unsafe { &*theirs.value.as_ptr().cast() };
    let _ = match stage {
        Stage::Answered => F::foreign_flows().insert(key, flow, NOEXIST),
        Stage::HalfOpen => F::foreign_half_open().insert(key, flow, NOEXIST),
    };
    if stage == Stage::Answered {
        let _ = F::foreign_half_open().remove(key);
    }
}

/// Copies `size` bytes, each to its place.
#[inline(always)]
fn export(size: usize, place: impl Fn(usize) -> Place, from: *const u8, to: *mut u8) {
    let mut index = 0;
    while index < size {
        if let Some(offset) = place(index).offset() {
            // SAFETY: as in `fetch`.
            unsafe { core::ptr::write_volatile(to.add(offset), core::ptr::read_volatile(from.add(index))) };
        }
        index += 1;
    }
}
