//! What was found about an address a moment ago, one array lookup away (`docs/decisions/0039-*`). What is not known is looked
//! up, and known afterwards.
//!
//! Each processor has its own, and a packet's program is interrupted by no other packet's: see [`crate::scratch`].

use proxy_common::{
    Address, End, PeerClass, Policed, PrefixKey,
    end::{Facts, Spread},
    mentioned::Mark,
};

use super::{group, state};
use crate::lookup::replaced;
use crate::maps::policy::{ENDS, MENTIONED, PolicyTables};
use crate::verified::police::Judging;

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
            end.note_rules(policed::<F>(addr));
        } else {
            end.note_unmentioned((!has_blocks::<F>()).then_some(PeerClass::WORLD));
        }
    }
    Some(end)
}

/// What the end with this address is to the rules: a pod or a node of its own, a part of a prefix that a rule names, or the
/// world.
#[inline(always)]
pub fn class_of<F: Judging>(end: &mut End) -> PeerClass {
    if !end.facts.has(Facts::CLASS) {
        F::find_class(end);
    }
    end.class
}

/// Looks it up.
#[inline(always)]
pub fn find_class<F: PolicyTables>(end: &mut End) {
    // The only copy of the address: the stack is full.
    let mut key = PrefixKey::exactly(0, F::Addr::from_padded(end.addr));
    let own = if end.facts.has(Facts::UNMENTIONED) { None } else { own_class::<F>(&key.addr) };
    end.note_class(match own {
        Some(class) => class,
        None => group::class_of::<F>(&mut key, end.writes),
    });
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

/// Rules name prefixes.
#[inline(always)]
pub fn has_blocks<F: PolicyTables>() -> bool {
    state().flags.has(F::BLOCKS)
}

/// The rules that the address is under, if it is a local pod's.
#[inline(always)]
pub fn policed<F: PolicyTables>(addr: &F::Addr) -> Option<&'static Policed> {
    // SAFETY: an element without preallocation is freed only after the program is done.
    replaced::find(F::policed(), addr).map(|policed| unsafe { &*policed })
}

#[inline(always)]
fn own_class<F: PolicyTables>(addr: &F::Addr) -> Option<PeerClass> {
    // SAFETY: as above; a word is read in one piece.
    replaced::find(F::peers(), addr).map(|class| unsafe { *class })
}
