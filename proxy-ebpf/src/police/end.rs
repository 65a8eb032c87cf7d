//! What was found about an address a moment ago, one array lookup away (`docs/decisions/0039-*`). What is not known is looked
//! up, and known afterwards.
//!
//! Each processor has its own, and a packet's program is interrupted by no other packet's: see [`crate::scratch`].

use aya_ebpf::maps::lpm_trie::Key;
use proxy_common::{
    End, PeerClass, PrefixKey,
    end::{Facts, Spread},
    mentioned::Mark,
};

use super::state;
use crate::maps::{
    Prefix,
    policy::{ENDS, MENTIONED, PolicyTables},
};

/// The end with this address, its rules looked up; `writes` is what the count was before anything was. Whoever has one lets it
/// go before taking another, which may share its place.
#[inline(always)]
pub fn of<F: PolicyTables>(addr: &F::Addr, writes: u32) -> Option<&'static mut End> {
    let spread = Spread::of(addr);
    let end = ENDS.get_ptr_mut(spread.place())?;
    // SAFETY: an element of an array lives as long as the map, any bytes are a value of it, and nobody else on this processor
    // has a reference: see above.
    let end = unsafe { &mut *end };
    end.turn_to(addr, writes);
    if !end.facts.has(Facts::RULES) {
        if is_mentioned(Mark::at(spread)) {
            // SAFETY: an element without preallocation is freed only after the program is done.
            end.note_rules(unsafe { F::policed().get(addr) });
        } else {
            end.note_unmentioned((!has_blocks::<F>()).then_some(PeerClass::WORLD));
        }
    }
    Some(end)
}

/// What the end with this address is to the rules: a pod or a node of its own, a part of a prefix that a rule names, or the
/// world.
#[inline(always)]
pub fn class_of<F: PolicyTables>(end: &mut End, addr: &F::Addr) -> PeerClass {
    if !end.facts.has(Facts::CLASS) {
        find_class::<F>(end, addr);
    }
    end.class
}

/// Looks it up. In a frame of its own: what it needs is gone when the verdict is looked up.
#[inline(never)]
fn find_class<F: PolicyTables>(end: &mut End, addr: &F::Addr) {
    end.note_class(if end.facts.has(Facts::UNMENTIONED) { of_range::<F>(addr) } else { look_up::<F>(addr) });
}

/// Whether the tables by address may have it: most strangers are in none, and one word in the processor's cache says so.
#[inline(always)]
fn is_mentioned(mark: Mark) -> bool {
    match MENTIONED.get_ptr(mark.word) {
        // SAFETY: an element of an array lives as long as the map. Volatile, because the agent sets bits meanwhile.
        Some(word) => mark.is_in(unsafe { word.read_volatile() }),
        None => true,
    }
}

#[inline(always)]
fn has_blocks<F: PolicyTables>() -> bool {
    state().flags.has(F::BLOCKS)
}

#[inline(always)]
fn look_up<F: PolicyTables>(addr: &F::Addr) -> PeerClass {
    // SAFETY: an element without preallocation is freed only after the program is done.
    match unsafe { F::peers().get(addr) } {
        Some(class) => *class,
        None => of_range::<F>(addr),
    }
}

/// The class of whoever has none of its own.
#[inline(always)]
fn of_range<F: PolicyTables>(addr: &F::Addr) -> PeerClass {
    if !has_blocks::<F>() {
        return PeerClass::WORLD;
    }
    let PrefixKey { bits, scope, addr } = PrefixKey::exactly(0, *addr);
    match F::blocks().get(Key::new(bits, Prefix { scope, addr })) {
        Some(class) => *class,
        None => PeerClass::WORLD,
    }
}
