//! Direct server return: a client's packet goes to its backend's node untranslated, inside of another IP header to the
//! backend's own address; that node unwraps it, translates it, and answers the client itself.
//!
//! ```text
//! client ─► node with the frontend ══ wrapped ══► node of the backend ─► backend
//!   ▲                                                    │
//!   └────────────── answers, from the frontend ◄─────────┘
//! ```
//!
//! The first node remembers which backend it chose (`tunnels`), and sees no answers. What the second one must know is in
//! the packet and in its own maps: the frontend is the inner destination, the backend the outer one. From there on the
//! connection is one like any other with a local backend.

mod entry;
mod mss;
mod unwrap;
mod wrap;

pub use entry::{Entered, enter, entry, going, is_agreed_on, is_known, still_leads_there};
pub use mss::shorten;
pub use unwrap::{is_one, plan, unwrap};
pub use wrap::wrap;

use crate::maps::constant;
use crate::road::{Hook, Service};

/// Connections may leave in tunnels from this hook. Elsewhere, and without tunnels, the question is no code.
#[inline(always)]
pub fn begins(hook: Hook) -> bool {
    constant!(tunnels) != 0 && hook.service == Service::Gateway
}
