//! The order in which writes reach the kernel, and the only place that knows it.
//!
//! ```text
//! slots ─► frontends ─► wildcards ─► deletions of wildcards ─► deletions of frontends
//! ```
//!
//! New segments lie in free slots, so nobody sees them until a frontend points there; a frontend switches in one
//! atomic update; what is deleted goes last, so a Service that moves to another port answers throughout. A wildcard
//! comes after and goes before its frontends, so its refusal never shadows a port that is about to be served.

use proxy_common::{Backend, Family, Frontend, FrontendFlags, FrontendKey};

/// One write to the maps of a family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Write<F: Family> {
    /// Fills slots of the `backends` array. No frontend points at them yet.
    Slots {
        /// Index of the first.
        start: u32,
        /// Their values.
        slots: Vec<Backend<F::Addr>>,
    },
    /// Inserts or replaces an entry of `frontends`.
    PutFrontend {
        /// Key.
        key: FrontendKey<F::Addr>,
        /// Value.
        value: Frontend,
    },
    /// Deletes an entry of `frontends`; that it is not there is no error.
    DeleteFrontend {
        /// Key.
        key: FrontendKey<F::Addr>,
    },
}

/// When a write is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Slots,
    Frontends,
    Wildcards,
    WildcardDeletions,
    FrontendDeletions,
}

fn phase<F: Family>(write: &Write<F>) -> Phase {
    match write {
        Write::Slots { .. } => Phase::Slots,
        Write::PutFrontend { value, .. } if value.flags.has(FrontendFlags::WILDCARD) => Phase::Wildcards,
        Write::PutFrontend { .. } => Phase::Frontends,
        Write::DeleteFrontend { key } if *key == FrontendKey::wildcard(key.addr) => Phase::WildcardDeletions,
        Write::DeleteFrontend { .. } => Phase::FrontendDeletions,
    }
}

/// Puts writes in the order in which they must be made; equal phases keep their order.
pub(crate) fn order<F: Family>(writes: &mut [Write<F>]) {
    writes.sort_by_key(phase);
}
