//! The engine's part in policies: when they are planned, and who is told.

use std::time::{Duration, Instant, SystemTime};

use super::audit::Owed;
use super::{Engine, Next};
use crate::observe::metrics::KernelStep;
use crate::run::dataplane::Dataplane;
use crate::run::policy::{Look, Step};

/// Least time between two writings of the names.
const NAMES: Duration = Duration::from_secs(1);
/// What takes long to write is written less often: at most one part in so many of the agent's time.
const SHARE: u32 = 20;

/// When the names were written down, and whether they are what they were.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Not before then.
    next: Option<Instant>,
    is_stale: bool,
}

impl<D: Dataplane> Engine<D> {
    /// Brings the kernel to judge by the world.
    pub(super) fn sync_policies(&mut self, now: Instant) -> Next {
        match self.policies.sync(&mut self.world, &mut self.dataplane, now, self.clock) {
            Step::None => {}
            Step::Planned { writes, failed } => {
                self.version += 1;
                self.named.is_stale = true;
                let refused = self.policies.refusals().count();
                self.metrics.policies(self.policies.usage(), refused, writes, failed);
                let guard = self.policies.guard();
                self.status.update(|status| (status.refused_policies, status.guard) = (refused, guard));
            }
        }
        self.policies.next(&self.world).map_or(Next::OnUpdate, Next::At)
    }

    /// Looks whether the maps of policies hold what they should, and repairs them.
    pub(super) fn audit_policies(&mut self, now: Instant) -> Next {
        self.owed.policies = Owed::Nothing;
        match self.policies.audit(&self.dataplane, now) {
            Ok(Look::Taken) => {
                let next = self.sync_policies(now);
                let repairs = self.policies.take_places();
                self.repaired(&repairs);
                next
            }
            Ok(Look::Later) => {
                self.owed.policies = Owed::Comparison;
                Next::OnUpdate
            }
            Ok(Look::Needless) => Next::OnUpdate,
            Err(error) => {
                self.metrics.kernel_refused(KernelStep::Audit, 1);
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the maps of policies cannot be compared"
                );
                Next::OnUpdate
            }
        }
    }

    /// Writes down what the numbers in the maps stand for, if there was a plan since. It is a convenience, and not worth a
    /// retry.
    pub(super) fn write_policy_names(&mut self, now: Instant) {
        if !self.named.is_stale || self.named.next.is_some_and(|next| now < next) {
            return;
        }
        let began = Instant::now();
        if let Some(names) = self.policies.names(&self.world, SystemTime::now())
            && let Err(error) = self.dataplane.write_policy_names(&names)
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the names of policies could not be written down"
            );
        }
        self.named = Named { next: Some(now + NAMES.max(SHARE * began.elapsed())), is_stale: false };
    }
}
