//! The order in which writes reach the kernel, and the only place that knows it.
//!
//! ```text
//! slots ─► ranges ─► frontends ─► wildcards ─► deletions of wildcards ─► deletions of frontends
//!                                                                         ─► deletions of ranges
//! ```
//!
//! New segments lie in free slots, so nobody sees them until a frontend points there; a frontend switches in one
//! atomic update; what is deleted goes last, so a Service that moves to another port answers throughout. A wildcard
//! comes after and goes before its frontends, so its refusal never shadows a port that is about to be served.
//! A range comes before and goes after the frontends that ask for it: while two sets of ranges change places both
//! count, so nobody is shut out whom both let in, and nobody gets in whom neither does. (A Service's ranges are one set:
//! an address that it gets in the same change knows the set of before, too, until the last write of the plan.)

use proxy_common::{Backend, Family, Frontend, FrontendFlags, FrontendKey, RangeKey};

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
    /// Inserts an entry of `ranges`.
    PutRange {
        /// Key.
        key: RangeKey<F::Addr>,
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
    /// Deletes an entry of `ranges`; that it is not there is no error.
    DeleteRange {
        /// Key.
        key: RangeKey<F::Addr>,
    },
}

/// When a write is due.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Phase {
    Slots,
    Ranges,
    Frontends,
    Wildcards,
    WildcardDeletions,
    FrontendDeletions,
    RangeDeletions,
}

fn phase<F: Family>(write: &Write<F>) -> Phase {
    match write {
        Write::Slots { .. } => Phase::Slots,
        Write::PutRange { .. } => Phase::Ranges,
        Write::PutFrontend { value, .. } if value.flags.has(FrontendFlags::WILDCARD) => Phase::Wildcards,
        Write::PutFrontend { .. } => Phase::Frontends,
        Write::DeleteFrontend { key } if *key == FrontendKey::wildcard(key.addr) => Phase::WildcardDeletions,
        Write::DeleteFrontend { .. } => Phase::FrontendDeletions,
        Write::DeleteRange { .. } => Phase::RangeDeletions,
    }
}

/// Puts writes in the order in which they must be made; equal phases keep their order.
pub(crate) fn order<F: Family>(writes: &mut [Write<F>]) {
    writes.sort_by_key(phase);
}
