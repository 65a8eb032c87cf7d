//! The frontend at an address, and whether what was read of it was its own. Both roads ask here.
//!
//! The kernel gives an element that was replaced to the next key that is written, at once, while a program may still be
//! reading it. Nobody ever writes into an element that is in the map, so a program that finds the same element under its
//! key once more, after it has read, has read nothing else (`docs/decisions/0012-*`). That a key is not found while its
//! frontend is replaced is taken care of in [`replaced`].

use proxy_common::{Frontend, FrontendKey};

use super::replaced;
use crate::maps::Tables;

/// How often a frontend is read before the last reading is taken as it is.
pub const READINGS: u32 = 2;

/// The frontend of `key`: one hash lookup, and another one if there is none and the agent writes.
#[inline(always)]
pub fn at<F: Tables>(key: FrontendKey<F::Addr>) -> Option<&'static Frontend> {
    let found = replaced::find(F::frontends(), &key);
    // SAFETY: what was an element of this map stays memory of an element while the program runs; whether it is still
    // this key's is what `is_still` says.
    found.map(|frontend| unsafe { &*frontend })
}

/// What was read of `frontend` since [`at`] gave it was the key's own: one hash lookup.
#[inline(always)]
pub fn is_still<F: Tables>(key: &FrontendKey<F::Addr>, frontend: &Frontend) -> bool {
    F::frontends().get_ptr(key).is_some_and(|now| core::ptr::eq(now, frontend))
}

/// A copy of the frontend of `key`: two hash lookups, one if there is none.
#[inline(always)]
pub fn read<F: Tables>(key: &FrontendKey<F::Addr>) -> Option<Frontend> {
    let mut readings = 0;
    loop {
        let frontend = at::<F>(*key)?;
        let copy = *frontend;
        readings += 1;
        if readings == READINGS || is_still::<F>(key, frontend) {
            return Some(copy);
        }
    }
}
