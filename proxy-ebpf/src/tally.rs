//! Counts new connections by Service port and what became of them: one lookup for each, none for their packets.

use proxy_common::{Reason, ServiceId, Tally, reason::Outcome};

use crate::count::add;
use crate::maps::{TALLIES, constant};

/// A new connection to this Service port was given a backend, refused, or dropped; anything else does not count.
#[inline(always)]
pub fn tally(service: ServiceId, reason: Reason) {
    if constant!(tallies) != 0 && service != ServiceId::NONE {
        tally_up(
            service.0,
            match reason.outcome() {
                Outcome::Translate => OPENED,
                Outcome::Reject => REFUSED,
                Outcome::Drop => DROPPED,
                Outcome::Pass => return,
            },
        );
    }
}

const OPENED: u32 = 0;
const REFUSED: u32 = 1;
const DROPPED: u32 = 2;

/// Verified on its own, because every program asks.
#[unsafe(no_mangle)]
extern "C" fn tally_up(service: u32, counter: u32) -> u32 {
    let service = ServiceId(service);
    /// `BPF_NOEXIST`: another processor may be the one that makes the entry.
    const NOEXIST: u64 = 1;
    let mut found = TALLIES.get_ptr_mut(service);
    if found.is_none() {
        let _ = TALLIES.insert(service, Tally::default(), NOEXIST);
        found = TALLIES.get_ptr_mut(service);
    }
    let Some(tally) = found else { return 0 };
    // SAFETY: an element of this map, which stays its memory while the program runs.
    let counter = unsafe {
        match counter {
            OPENED => &raw mut (*tally).opened,
            REFUSED => &raw mut (*tally).refused,
            _ => &raw mut (*tally).dropped,
        }
    };
    add(counter, 1);
    1
}
