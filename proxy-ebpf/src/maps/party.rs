//! The map of whose packets connections may have. Knows its layout, nothing of connections.

use aya_ebpf::{bindings::BPF_F_MMAPABLE, macros::map, maps::Array};
use proxy_common::party::Parties;

/// A bit for each address that packets of a connection may come from; see [`crate::party`].
#[map(name = "parties")]
pub static PARTIES: Array<u64> = Array::with_max_entries(Parties::WORDS, BPF_F_MMAPABLE);
