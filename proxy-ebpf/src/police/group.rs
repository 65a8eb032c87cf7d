//! The class of whoever has none of its own: that of the longest prefix around it. What was found about an address holds for
//! all that no prefix divides from it (`docs/decisions/0041-*`).
//!
//! Each processor has its own, and a packet's program is interrupted by no other packet's: see [`crate::scratch`].

use proxy_common::{
    PeerClass, PrefixKey,
    group::{Division, Grain, Group, Span, Tier},
};

use super::end::has_blocks;
use crate::count::barrier;
use crate::lookup::replaced;
use crate::maps::{
    as_key,
    policy::{GROUPS, PolicyTables, SPANS, WHOLES},
};

/// The class of the address in `key`, which is looked for with it; `writes` is what the count was before anything was looked up.
#[inline(always)]
pub fn class_of<F: PolicyTables>(key: &mut PrefixKey<F::Addr>, writes: u32) -> PeerClass {
    if !has_blocks::<F>() {
        return PeerClass::WORLD;
    }
    let span = Span::of(&key.addr);
    let division = division(span);
    let grain = division.grain();
    let wanted = Group::of(&key.addr, grain, writes);
    let mut known = place_of(&wanted, grain);
    if let Some(group) = &known
        && group.is_about(&wanted)
    {
        return group.class;
    }
    let class = look_up::<F>(key, division, &wanted);
    if let Some(group) = &mut known {
        // SAFETY: the place is longer than eight bytes, and the kernel aligns elements to them.
        unsafe { barrier(core::ptr::from_mut::<Group>(group).cast()) };
        // The agent says that a prefix divides the neighbourhood before it writes it: if one was found that does, this says
        // so now.
        if self::division(span) == division {
            **group = Group { class, ..wanted };
        }
    }
    class
}

/// Where the group stands; nowhere if it has one address.
#[inline(always)]
fn place_of(group: &Group, grain: Grain) -> Option<&'static mut Group> {
    if grain == Grain::FINEST {
        return None;
    }
    // SAFETY: an element of an array lives as long as the map, any bytes are a value of it, and nobody else on this processor
    // has a reference: see above.
    GROUPS.get_ptr_mut(group.place()).map(|place| unsafe { &mut *place })
}

/// How the neighbourhood is divided.
#[inline(always)]
fn division(span: Span) -> Division {
    match SPANS.get_ptr(span.word) {
        // SAFETY: an element of an array lives as long as the map. Volatile, because the agent sets bits meanwhile.
        Some(word) => span.division(unsafe { word.read_volatile() }),
        None => Division::UNKNOWN,
    }
}

#[inline(always)]
fn look_up<F: PolicyTables>(key: &mut PrefixKey<F::Addr>, division: Division, group: &Group) -> PeerClass {
    if division.has_wholes::<F::Addr>() {
        // No prefix in the neighbourhood is longer than its groups: if this one is a prefix itself, that is the longest.
        if let Some(class) = replaced::find(&WHOLES, &group.whole) {
            // SAFETY: an element without preallocation is freed only after the program is done.
            return unsafe { *class };
        }
    }
    if division.grain() != Grain::COARSEST && !division.is_even() {
        key.scope = Tier::NARROW.0;
        if let Some(class) = longest::<F>(key) {
            return class;
        }
    }
    key.scope = Tier::WIDE.0;
    longest::<F>(key).unwrap_or(PeerClass::WORLD)
}

#[inline(always)]
fn longest<F: PolicyTables>(key: &PrefixKey<F::Addr>) -> Option<PeerClass> {
    F::blocks().get(as_key(key)).copied()
}
