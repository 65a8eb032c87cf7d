//! How many connections each backend has, of Services that choose the least loaded. Both roads count here, each under a
//! kind of its own: sockets say when they are over, flows do not, so the agent counts those again now and then.

use proxy_common::{Address, LoadKey, Port, ServiceId, algorithm::LoadKind};

use crate::count::add;
use crate::maps::LOADS;

/// One more connection. False: there is no room, and the connection does not count.
#[inline(always)]
pub fn enter<A: Address>(service: ServiceId, addr: A, port: Port, kind: LoadKind) -> bool {
    count_up(&LoadKey { service, addr: addr.to_words(), port, kind })
}

/// The same, by the key of the backend.
#[inline(never)]
pub fn count_up(key: &LoadKey) -> bool {
    /// `BPF_NOEXIST`: another processor may be the one that makes the entry.
    const NOEXIST: u64 = 1;
    if let Some(count) = LOADS.get_ptr_mut(key) {
        add(count, 1);
        return true;
    }
    if LOADS.insert(key, 1_u64, NOEXIST).is_ok() {
        return true;
    }
    match LOADS.get_ptr_mut(key) {
        Some(count) => {
            add(count, 1);
            true
        }
        None => false,
    }
}

/// A connection that was counted is over.
#[inline(never)]
pub fn leave(key: &LoadKey) {
    if let Some(count) = LOADS.get_ptr_mut(key) {
        // Minus one.
        add(count, u64::MAX);
    }
}

/// Connections of both kinds.
#[inline(never)]
pub fn of<A: Address>(service: ServiceId, addr: A, port: Port) -> u32 {
    let mut key = LoadKey { service, addr: addr.to_words(), port, kind: LoadKind::FLOWS };
    let flows = read(&key);
    key.kind = LoadKind::SOCKETS;
    flows.saturating_add(read(&key))
}

#[inline(always)]
fn read(key: &LoadKey) -> u32 {
    match LOADS.get_ptr(key) {
        // SAFETY: elements of this map are eight bytes, aligned, and stay memory of the map while the program runs;
        // volatile, because other processors count meanwhile.
        Some(count) => match unsafe { core::ptr::read_volatile(count) } as i64 {
            // An entry that was taken away while it counted comes back too low.
            count if count < 0 => 0,
            count => count as u32,
        },
        None => 0,
    }
}
