//! Doubt: what the kernel holds is compared with what it should.

use std::time::{Duration, Instant};

use super::{Engine, Next, Pending};
use crate::observe::metrics::Extent;
use crate::run::dataplane::Dataplane;

impl<D: Dataplane> Engine<D> {
    /// Compares the kernel with what it should hold, unless something was written so lately that slots still
    /// rest. What is missing is written by the next [`Engine::sync`]; this one does that, too.
    pub(in crate::run) fn audit(&mut self, now: Instant) -> Next {
        let rests = Duration::from_millis(2 * proxy_model::plan::GRACE_MILLIS);
        let policies = self.audit_policies(now, now.checked_sub(rests).unwrap_or(now));
        self.audit_services(now, rests).or(policies)
    }

    fn audit_services(&mut self, now: Instant, rests: Duration) -> Next {
        if self.last_write.is_some_and(|at| now.duration_since(at) < rests) || self.pending == Pending::Yes {
            return Next::OnUpdate;
        }
        match self.dataplane.actual() {
            Ok(actual) => drop(self.planner.adopt(actual)),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the maps cannot be compared");
                return Next::OnUpdate;
            }
        }
        let tick = self.tick(now);
        let began = Instant::now();
        let plan = self.planner.plan(&mut self.world, tick);
        let repairs = plan.v4.len() + plan.v6.len();
        self.metrics.audited(repairs);
        if repairs > 0 {
            tracing::warn!(writes = repairs, "the maps did not hold what they should; repairing them");
        }
        self.node = None;
        let behind = self.write(&plan, began, Extent::Full);
        if behind.is_empty() && self.tell_node().is_ok() { Next::OnUpdate } else { self.later(now) }
    }
}
