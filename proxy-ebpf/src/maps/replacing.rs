//! Whether the agent replaces elements of other maps. Knows its layout, nothing of those.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};

#[map(name = "replacing")]
static REPLACING: Array<u32> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// It does, or has done so while this program was running.
#[inline(always)]
pub fn is_replacing() -> bool {
    match REPLACING.get_ptr(0) {
        // SAFETY: the array's only element lives as long as the map. Volatile, because the agent writes it; a word is read in one
        // piece.
        Some(word) => unsafe { word.read_volatile() != 0 },
        None => true,
    }
}
