//! The backend of a new connection: the one this client used last if the Service has session affinity, else one by
//! the frontend's algorithm, at random if nothing is said (items 35, 96–100). Both roads ask here; it does not know
//! which one does.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_loop};
use proxy_common::{
    Address, AffinityKey, AffinityValue, Algorithm, Backend, Family, Frontend, Port, Reason, Segment, V4, V6,
    affinity::{ClientKind, PAD},
    algorithm::{LoadKind, client_hash},
    decide, limits,
};

use super::{algorithm, load};

use crate::maps::{AFFINITY, Tables};

/// Chooses a backend of `segment`, which is not empty and belongs to `frontend`.
///
/// `client` is who asks, read as `kind` says; `connection` hashes the connection. Both are looked at only by the
/// frontends that need them: most are given a random backend.
/// Errors: [`Reason::BadSegment`] if the slot is outside of the array.
#[inline(always)]
pub fn choose<F: Considered>(
    frontend: &Frontend,
    segment: Segment,
    kind: ClientKind,
    client: [u32; 4],
    connection: impl FnOnce() -> u32,
) -> Result<Backend<F::Addr>, Reason> {
    let slot = if frontend.affinity == 0 && frontend.algorithm == Algorithm::RANDOM {
        decide::slot(segment, algorithm::random())
    } else {
        let number = match frontend.algorithm {
            Algorithm::MAGLEV => connection(),
            Algorithm::SOURCE_HASH => client_hash(client),
            _ => algorithm::random(),
        };
        F::considered(frontend, segment, number, &AffinityKey { service: frontend.service, kind, client })
    };
    F::backends().get(slot).copied().ok_or(Reason::BadSegment)
}

/// What costs more than a random number: the affinity, or the algorithm, and the count of the connection if that is
/// asked for. Gives a number and not the backend, because what a function returns through memory is copied half word
/// by half word. Verified on its own, because four programs ask.
pub trait Considered: Tables {
    /// The slot of the segment.
    fn considered(frontend: &Frontend, segment: Segment, number: u32, key: &AffinityKey) -> u32;
}

macro_rules! considered {
    ($family:ty, $name:ident) => {
        impl Considered for $family {
            #[inline(always)]
            fn considered(frontend: &Frontend, segment: Segment, number: u32, key: &AffinityKey) -> u32 {
                $name(frontend, segment.start, segment.len, number, key)
            }
        }

        #[unsafe(no_mangle)]
        extern "C" fn $name(
            frontend: *const Frontend,
            start: u32,
            len: u32,
            number: u32,
            key: *const AffinityKey,
        ) -> u32 {
            // SAFETY: the verifier has seen the callers: pointers to whole values on their stacks or in a map, or null
            // for all that it knows here.
            let (Some(frontend), Some(key)) = (unsafe { (frontend.as_ref(), key.as_ref()) }) else {
                return start;
            };
            consider::<$family>(frontend, Segment { start, len }, number, key)
        }
    };
}

considered!(V4, considered4);
considered!(V6, considered6);

#[inline(always)]
fn consider<F: Tables>(frontend: &Frontend, segment: Segment, number: u32, key: &AffinityKey) -> u32 {
    let slot = if frontend.affinity == 0 {
        algorithm::slot::<F>(frontend.algorithm, key.service, segment, number)
    } else {
        remembered::<F>(frontend, segment, number, key)
    };
    if key.kind == ClientKind::ADDRESS
        && frontend.algorithm.counts_connections()
        && let Some(backend) = F::backends().get(slot)
    {
        // A flow that comes to nothing counts until the agent counts again.
        load::enter(key.service, backend.addr, backend.port, LoadKind::FLOWS);
    }
    slot
}

/// With affinity: a lookup in an LRU and a write, for new connections of such Services only.
#[inline(always)]
fn remembered<F: Tables>(frontend: &Frontend, segment: Segment, number: u32, key: &AffinityKey) -> u32 {
    let now = boot_seconds();
    let slot = match last::<F>(frontend.affinity, segment, key, now) {
        NOWHERE => algorithm::slot::<F>(frontend.algorithm, key.service, segment, number),
        offset => segment.start.wrapping_add(offset),
    };
    remember::<F>(segment.start, slot, key, now);
    slot
}

/// Writes down which backend the client got. In a frame of its own, with a copy of the key: kernels before 6.2 take none
/// from memory that [`Considered`] has from its caller.
#[inline(never)]
fn remember<F: Tables>(start: u32, slot: u32, key: &AffinityKey, now: u32) {
    let key = *key;
    // The caller finds out that the segment is broken.
    let Some(backend) = F::backends().get(slot) else { return };
    let (hint, port) = (slot.wrapping_sub(start), backend.port);
    if let Some(known) = AFFINITY.get_ptr_mut(&key) {
        // Written where it lies: one that is replaced may not be found by whoever asks just then, and would be given another
        // backend (`docs/decisions/0049-*`). Both are plain words.
        // SAFETY: as in `last`.
        let known = unsafe { &mut *known };
        if known.port == port && known.addr == backend.addr.to_words() {
            (known.hint, known.seen) = (hint, now);
            return;
        }
    }
    let value = AffinityValue { addr: backend.addr.to_words(), hint, seen: now, port, pad: [0; PAD] };
    // Refused only when the LRU finds nothing to evict: the connection is served all the same.
    let _ = AFFINITY.insert(&key, value, 0);
}

/// Offset of the backend used last, if it was lately and is still in the segment (items 97, 98), or [`NOWHERE`].
#[inline(always)]
fn last<F: Tables>(affinity: u32, segment: Segment, key: &AffinityKey, now: u32) -> u32 {
    let old = entry(key);
    // SAFETY: an LRU element stays memory of the map. It may be recycled while it is read; then it names a backend that the
    // comparison with the segment below refuses, or one that is in it: any such is a valid choice.
    let Some(seen) = (unsafe { old.as_ref() }).map(|old| old.seen) else { return NOWHERE };
    // Whole seconds: an entry lasts up to one second longer than asked, never shorter. Another processor may
    // have written a later second since `now` was read.
    if now.saturating_sub(seen) > affinity {
        return NOWHERE;
    }
    offset::<F>(segment.start, segment.len, old)
}

/// The entry of a client; null if there is none. In a frame of its own, as [`remember`].
#[inline(never)]
fn entry(key: &AffinityKey) -> *const AffinityValue {
    let key = *key;
    AFFINITY.get_ptr(&key).unwrap_or(core::ptr::null())
}

/// Where in the segment the entry's backend is. In a frame of its own: what is scanned with is gone afterwards.
#[inline(never)]
fn offset<F: Tables>(start: u32, len: u32, old: *const AffinityValue) -> u32 {
    // SAFETY: as in `last`, which has looked whether it is null.
    let Some(old) = (unsafe { old.as_ref() }) else { return NOWHERE };
    find::<F>(Segment { start, len }, F::Addr::from_padded(old.addr), old.port, old.hint).unwrap_or(NOWHERE)
}

/// Offset of a known backend, if the segment holds it. `hint` is the offset where it was last; if it moved, at
/// most [`limits::AFFINITY_SCAN`] slots are compared.
#[inline(always)]
pub fn find<F: Tables>(segment: Segment, addr: F::Addr, port: Port, hint: u32) -> Option<u32> {
    if hint < segment.len
        && let Some(backend) = F::backends().get(segment.start.wrapping_add(hint))
        && backend.addr == addr
        && backend.port == port
    {
        return Some(hint);
    }
    let mut scan = Scan::<F> { start: segment.start, addr, port, found: NOWHERE };
    let len = segment.len.min(limits::AFFINITY_SCAN);
    // SAFETY: `compare` has the signature that the helper wants, and `scan` outlives the call.
    unsafe { bpf_loop(len, compare::<F> as *mut c_void, (&raw mut scan).cast(), 0) };
    if scan.found == NOWHERE { None } else { Some(scan.found) }
}

/// Slot of a backend with this address; the first one, if it has several ports. Looks at no more than
/// [`limits::TUNNEL_SCAN`].
#[inline(always)]
pub fn at<F: Tables>(segment: Segment, addr: F::Addr) -> Option<u32> {
    let mut scan = Scan::<F> { start: segment.start, addr, port: Port::NONE, found: NOWHERE };
    let len = segment.len.min(limits::TUNNEL_SCAN);
    // SAFETY: as in `find`.
    unsafe { bpf_loop(len, compare_address::<F> as *mut c_void, (&raw mut scan).cast(), 0) };
    if scan.found == NOWHERE { None } else { Some(segment.start.wrapping_add(scan.found)) }
}

/// One step of the scan for an address; returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn compare_address<F: Tables>(offset: u64, scan: *mut c_void) -> i64 {
    // SAFETY: the helper hands on the pointer that `at` gave it, to a live `Scan` that nobody else touches.
    let scan = unsafe { &mut *scan.cast::<Scan<F>>() };
    let offset = offset as u32;
    match F::backends().get(scan.start.wrapping_add(offset)) {
        Some(backend) if backend.addr == scan.addr => {
            scan.found = offset;
            1
        }
        Some(_) => 0,
        None => 1,
    }
}

const NOWHERE: u32 = u32::MAX;

/// What [`compare`] works on.
struct Scan<F: Family> {
    start: u32,
    addr: F::Addr,
    port: Port,
    /// Offset, or [`NOWHERE`].
    found: u32,
}

/// One step of the scan; returns 1 to stop.
#[inline(never)]
unsafe extern "C" fn compare<F: Tables>(offset: u64, scan: *mut c_void) -> i64 {
    // SAFETY: the helper hands on the pointer that `find` gave it, to a live `Scan` that nobody else touches.
    let scan = unsafe { &mut *scan.cast::<Scan<F>>() };
    let offset = offset as u32;
    match F::backends().get(scan.start.wrapping_add(offset)) {
        Some(backend) if backend.addr == scan.addr && backend.port == scan.port => {
            scan.found = offset;
            1
        }
        Some(_) => 0,
        None => 1,
    }
}

/// Seconds of `CLOCK_BOOTTIME`: affinity goes on ending while the machine sleeps.
fn boot_seconds() -> u32 {
    // SAFETY: the helper has no arguments and is allowed in every program type.
    (unsafe { bpf_ktime_get_boot_ns() } / 1_000_000_000) as u32
}
