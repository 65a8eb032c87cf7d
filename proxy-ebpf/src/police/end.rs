//! What was found about an address a moment ago, one array lookup away (`docs/decisions/0039-*`). What is not known is looked
//! up, and known afterwards.
//!
//! Each processor has its own, and a packet's program is interrupted by no other packet's: see [`crate::scratch`].

use aya_ebpf::maps::lpm_trie::Key;
use proxy_common::{
    End, PeerClass, PrefixKey,
    end::{Facts, place},
};

use super::state;
use crate::maps::{
    Prefix,
    policy::{ENDS, PolicyTables},
};

/// The end with this address, its rules looked up; `writes` is what the count was before anything was. Whoever has one lets it
/// go before taking another, which may share its place.
#[inline(always)]
pub fn of<F: PolicyTables>(addr: &F::Addr, writes: u32) -> Option<&'static mut End> {
    let end = taken::<F>(addr, writes)?;
    if !end.facts.has(Facts::RULES) {
        // SAFETY: an element without preallocation is freed only after the program is done.
        end.note_rules(unsafe { F::policed().get(addr) });
    }
    Some(end)
}

/// What an address is to the rules: a pod or a node of its own, a part of a prefix that a rule names, or the world. In a frame
/// of its own: what it needs is gone when the verdict is looked up.
#[inline(never)]
pub fn class_of<F: PolicyTables>(addr: &F::Addr, writes: u32) -> PeerClass {
    let Some(end) = taken::<F>(addr, writes) else { return look_up::<F>(addr) };
    if !end.facts.has(Facts::CLASS) {
        end.note_class(look_up::<F>(addr));
    }
    end.class
}

#[inline(always)]
fn taken<F: PolicyTables>(addr: &F::Addr, writes: u32) -> Option<&'static mut End> {
    let end = ENDS.get_ptr_mut(place(addr))?;
    // SAFETY: an element of an array lives as long as the map, any bytes are a value of it, and nobody else on this processor
    // has a reference: see `of`.
    let end = unsafe { &mut *end };
    end.turn_to(addr, writes);
    Some(end)
}

#[inline(always)]
fn look_up<F: PolicyTables>(addr: &F::Addr) -> PeerClass {
    // SAFETY: an element without preallocation is freed only after the program is done.
    if let Some(class) = unsafe { F::peers().get(addr) } {
        return *class;
    }
    if !state().flags.has(F::BLOCKS) {
        return PeerClass::WORLD;
    }
    let PrefixKey { bits, scope, addr } = PrefixKey::exactly(0, *addr);
    match F::blocks().get(Key::new(bits, Prefix { scope, addr })) {
        Some(class) => *class,
        None => PeerClass::WORLD,
    }
}
