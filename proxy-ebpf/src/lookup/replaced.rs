//! Lookups in hashes whose elements the agent replaces while packets ask. The kernel puts the new element in before it takes the
//! old one out, and a lookup that is past the one and not yet at the other finds neither: what is there is not found, and a
//! connection would be refused (`docs/decisions/0049-*`). Knows no map by name.
//!
//! One that found nothing is made again if the agent replaces something. It may miss again only if the same key is replaced
//! again just then.

use aya_ebpf::maps::HashMap;

use crate::maps::replacing::is_replacing;

/// The value of `key`: one hash lookup, and one more if nothing is found while the agent writes.
///
/// What it points at stays memory of an element while the program runs, of which the map may make another key's.
#[inline(always)]
pub fn find<K, V>(map: &HashMap<K, V>, key: &K) -> Option<*const V> {
    match map.get_ptr(key) {
        None if is_replacing() => map.get_ptr(key),
        found => found,
    }
}
