//! The slot of a new connection by the frontend's algorithm, where a random number is not all of it. Knows what lies in
//! a segment only by its algorithm; who lays it out is the agent.

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use proxy_common::{Algorithm, Segment, ServiceId, algorithm, decide};

use super::load;
use crate::count::take_number;
use crate::maps::{TURNS, Tables};

/// The slot. `number` is the hash that a table is asked with, or a random number.
#[inline(always)]
pub fn slot<F: Tables>(algorithm: Algorithm, service: ServiceId, segment: Segment, number: u32) -> u32 {
    match algorithm {
        Algorithm::ROUND_ROBIN | Algorithm::WEIGHTED_ROUND_ROBIN => {
            algorithm::turn(segment, next_turn(service, number))
        }
        Algorithm::LEAST_CONNECTIONS | Algorithm::WEIGHTED_LEAST_CONNECTIONS => {
            less_loaded::<F>(service, segment.start, segment.len, number)
        }
        _ => decide::slot(segment, number),
    }
}

/// A random number.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: the helper has no arguments and is allowed in every program type.
    unsafe { bpf_get_prandom_u32() }
}

/// The number of this turn; a random one if there is no room to count.
#[inline(never)]
fn next_turn(service: ServiceId, random: u32) -> u64 {
    /// `BPF_NOEXIST`: another processor may be the one that makes the entry.
    const NOEXIST: u64 = 1;
    if let Some(turn) = TURNS.get_ptr_mut(service) {
        return take_number(turn);
    }
    let _ = TURNS.insert(service, 0_u64, NOEXIST);
    match TURNS.get_ptr_mut(service) {
        Some(turn) => take_number(turn),
        None => random as u64,
    }
}

/// Of two slots taken at random, which are never the same one if there are two, the less loaded one.
#[inline(never)]
fn less_loaded<F: Tables>(service: ServiceId, start: u32, len: u32, number: u32) -> u32 {
    let segment = Segment { start, len };
    let first = decide::slot(segment, number);
    // The others, round the segment from the first one.
    let Some(others) = len.checked_sub(2) else { return first };
    let ahead = 1 + ((random() as u64 * (others as u64 + 1)) >> 32) as u32;
    let offset = first.wrapping_sub(start).wrapping_add(ahead);
    let second = start.wrapping_add(if offset >= len { offset.wrapping_sub(len) } else { offset });
    let (Some(a), Some(b)) = (F::backends().get(first), F::backends().get(second)) else { return first };
    let a_load = load::of(service, a.addr, a.port);
    let b_load = load::of(service, b.addr, b.port);
    if algorithm::prefers_second((a_load, a.weight), (b_load, b.weight)) { second } else { first }
}
