//! The order in which writes reach the kernel, and the only place that knows it.
//!
//! ```text
//! slots ─► frontends ─► wildcards ─► deletions of wildcards ─► deletions of frontends
//! ```
//!
//! New segments lie in free slots, so nobody sees them until a frontend points there; a frontend switches in one
//! atomic update; what is deleted goes last, so a Service that moves to another port answers throughout. A wildcard
//! comes after and goes before its frontends, so its refusal never shadows a port that is about to be served.

use std::collections::BTreeSet;

use proxy_common::{Backend, Family, Frontend, FrontendFlags, FrontendKey, Segment};

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

/// Makes the writes one by one, and goes on after a failure. A frontend whose slots could not be written is not
/// tried: it would show packets old slots. Returns the index of every write that was not made, with its error;
/// `None` is a write that was not tried. Each must be told to [`super::Planner::failed`].
pub fn execute<F: Family, E>(
    writes: &[Write<F>],
    mut make: impl FnMut(&Write<F>) -> Result<(), E>,
) -> Vec<(usize, Option<E>)> {
    let mut broken = BTreeSet::new();
    let mut failures = Vec::new();
    for (index, write) in writes.iter().enumerate() {
        let depends_on_broken = match write {
            Write::PutFrontend { value, key: _ } => [value.cluster, value.local]
                .iter()
                .any(|s: &Segment| !s.is_empty() && broken.contains(&s.start)),
            Write::Slots { .. } | Write::DeleteFrontend { .. } => false,
        };
        if depends_on_broken {
            failures.push((index, None));
            continue;
        }
        if let Err(error) = make(write) {
            if let Write::Slots { start, slots: _ } = write {
                broken.insert(*start);
            }
            failures.push((index, Some(error)));
        }
    }
    failures
}
