//! Where a program finds the one behind it. It holds no data: each generation of programs has one of its own, and it is none of the
//! maps that outlive them.

use aya_ebpf::{macros::map, maps::ProgramArray};

/// One slot: the program of pods' packets, for the one ahead of it.
#[map(name = "onward")]
pub static ONWARD: ProgramArray = ProgramArray::with_max_entries(1, 0);
