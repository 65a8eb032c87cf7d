//! What a family's Services say of this node, kept up to date Service by Service: looking at all of them after each change
//! would cost more than the change.

use std::collections::BTreeSet;

use proxy_common::Family;

use crate::fact::ObjectKey;
use crate::intent::Intent;
use crate::local::NothingHere;

/// Sums over all Services that are planned.
#[derive(Debug, Default)]
pub(super) struct Here {
    /// Those with a health check.
    pub(super) checked: BTreeSet<ObjectKey>,
    /// Ports that find nothing here.
    pub(super) nothing: NothingHere,
}

impl Here {
    /// A Service is planned anew, for the first time, or not any more.
    pub(super) fn turn<F: Family>(
        &mut self,
        service: &ObjectKey,
        old: Option<&Intent<F>>,
        new: Option<&Intent<F>>,
    ) {
        let of = |intent: Option<&Intent<F>>| intent.map(NothingHere::of).unwrap_or_default();
        let (old, now) = (of(old), of(new));
        self.nothing.internal = self.nothing.internal + now.internal - old.internal;
        self.nothing.external = self.nothing.external + now.external - old.external;
        if new.is_some_and(|intent| intent.health_check.is_some()) {
            self.checked.insert(service.clone());
        } else {
            self.checked.remove(service);
        }
    }
}
