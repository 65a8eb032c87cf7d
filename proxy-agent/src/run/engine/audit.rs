//! Doubt: what the kernel holds is compared with what it should. What differs is put right, and counted by where it was.

use std::time::{Duration, Instant};

use proxy_model::plan::Write;

use super::{Engine, Next, Pending};
use crate::kernel::{MapFamily, Repairs};
use crate::observe::metrics::{Extent, KernelStep};
use crate::run::dataplane::Dataplane;

/// Least time between two comparisons of Services: with each of them, what rests begins to rest anew.
const APART: Duration = Duration::from_millis(2 * proxy_model::plan::GRACE_MILLIS);

/// What an audit could not do because something waited to be written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum Owed {
    #[default]
    Nothing,
    Comparison,
}

/// The same for each part that is planned for itself.
#[derive(Default, Debug)]
pub(super) struct Debts {
    pub(super) services: Owed,
    pub(super) policies: Owed,
}

impl<D: Dataplane> Engine<D> {
    /// Compares the kernel with what it should hold, however much changes meanwhile: what was planned is written, and what
    /// rests goes on resting. Where something waits to be written, the comparison is owed, and made after it. What is
    /// missing is written by the next [`Engine::sync`]; this one does that, too.
    pub(in crate::run) fn audit(&mut self, now: Instant) -> Next {
        self.metrics.audited();
        self.audit_node();
        let policies = self.audit_policies(now);
        self.audit_services(now).or(policies)
    }

    /// Makes up for what an audit could not do before this moment's writes.
    pub(super) fn audit_owed(&mut self, now: Instant) -> Next {
        let policies = match self.owed.policies {
            Owed::Nothing => Next::OnUpdate,
            Owed::Comparison => self.audit_policies(now),
        };
        match self.owed.services {
            Owed::Nothing => policies,
            Owed::Comparison => self.audit_services(now).or(policies),
        }
    }

    /// Pins, links, and what the programs were told of the node.
    fn audit_node(&mut self) {
        let (Some(topology), Some(addresses)) = (&self.topology, &self.followed) else { return };
        let (repairs, errors) = self.dataplane.audit(topology, addresses, self.node.as_ref());
        self.metrics.kernel_refused(KernelStep::Audit, errors.len());
        for error in &errors {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "an audit could not put something right"
            );
        }
        if !errors.is_empty() {
            self.followed = None;
        }
        self.repaired(&repairs);
    }

    /// Tells everybody what was put right.
    pub(super) fn repaired(&mut self, repairs: &Repairs) {
        if repairs.total() == 0 {
            return;
        }
        tracing::warn!(%repairs, "somebody else has changed what is ours in the kernel; it is as it should be again");
        self.metrics.repaired(repairs);
        self.dataplane.repaired(repairs);
    }

    fn audit_services(&mut self, now: Instant) -> Next {
        self.owed.services = Owed::Nothing;
        if !self.applied_first || self.compared.is_some_and(|at| now.saturating_duration_since(at) < APART) {
            return Next::OnUpdate;
        }
        if self.pending == Pending::Yes {
            self.owed.services = Owed::Comparison;
            return Next::OnUpdate;
        }
        self.compared = Some(now);
        match self.dataplane.actual() {
            Ok(actual) => drop(self.planner.adopt(actual)),
            Err(error) => {
                self.metrics.kernel_refused(KernelStep::Audit, 1);
                tracing::error!(error = &error as &dyn std::error::Error, "the maps cannot be compared");
                return Next::OnUpdate;
            }
        }
        let tick = self.clock.tick(now);
        let began = Instant::now();
        let plan = self.planner.plan(&mut self.world, tick);
        let mut repairs = Repairs::default();
        places(&plan.v4, &mut repairs);
        places(&plan.v6, &mut repairs);
        self.repaired(&repairs);
        self.node = None;
        let behind = self.write(&plan, began, Extent::Full);
        self.let_go();
        let release = self.release(&plan);
        if self.tell_node().is_err() {
            self.pending = Pending::Yes;
            self.progress.pending();
        } else if behind.is_empty() {
            return release;
        }
        self.later(now)
    }
}

/// Counts the entries of each map that writes are for.
fn places<F: MapFamily>(writes: &[Write<F>], repairs: &mut Repairs) {
    let names = F::NAMES;
    for write in writes {
        match write {
            Write::Slots { slots, .. } => repairs.add(names.backends, slots.len()),
            Write::PutRange { .. } | Write::DeleteRange { .. } => repairs.add(names.ranges, 1),
            Write::PutFrontend { .. } | Write::DeleteFrontend { .. } => repairs.add(names.frontends, 1),
        }
    }
}
