//! The engine's part in policies: when they are planned, and who is told.

use std::time::Instant;

use super::{Engine, Next};
use crate::run::dataplane::Dataplane;
use crate::run::policy::Step;

impl<D: Dataplane> Engine<D> {
    /// Brings the kernel to judge by the world.
    pub(super) fn sync_policies(&mut self, now: Instant) -> Next {
        let started = self.started;
        let tick = |at| super::tick(started, at);
        match self.policies.sync(&mut self.world, &mut self.dataplane, now, tick) {
            Step::None => {}
            Step::Planned { writes } => {
                self.version += 1;
                let refused = self.policies.refusals().count();
                self.metrics.policies(self.policies.usage(), refused, writes);
                self.status.update(|status| status.refused_policies = refused);
            }
        }
        self.policies.next(&self.world).map_or(Next::OnUpdate, Next::At)
    }

    /// Looks whether the maps of policies hold what they should, and repairs them.
    pub(super) fn audit_policies(&mut self, now: Instant, before: Instant) -> Next {
        match self.policies.audit(&self.dataplane, before) {
            Ok(true) => self.sync_policies(now),
            Ok(false) => Next::OnUpdate,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the maps of policies cannot be compared"
                );
                Next::OnUpdate
            }
        }
    }
}
