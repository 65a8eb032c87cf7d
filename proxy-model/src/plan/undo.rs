//! What entries were before the last plan, in case one of its writes fails. Sorted lists and not maps: they are
//! thrown away by the next plan, and that must cost nothing, however large they are.

use proxy_common::{Family, Frontend, FrontendKey};

/// An entry before the last plan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Before {
    pub(crate) value: Option<Frontend>,
    pub(crate) soundness: Soundness,
}

/// Whether an entry's segments are what they should be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Soundness {
    Sound,
    Broken,
}

/// Entries that the last plan wrote, each list in the order of the keys.
#[derive(Debug)]
pub(crate) struct Undo<F: Family> {
    pub(crate) put: Vec<(FrontendKey<F::Addr>, Before)>,
    pub(crate) deleted: Vec<(FrontendKey<F::Addr>, Before)>,
}

impl<F: Family> Undo<F> {
    pub(crate) const NOTHING: Self = Self { put: Vec::new(), deleted: Vec::new() };

    pub(crate) fn find(&self, key: &FrontendKey<F::Addr>) -> Option<Before> {
        let within = |list: &[(FrontendKey<F::Addr>, Before)]| {
            list.binary_search_by(|(k, _)| k.cmp(key)).ok().and_then(|at| Some(list.get(at)?.1))
        };
        within(&self.put).or_else(|| within(&self.deleted))
    }
}
