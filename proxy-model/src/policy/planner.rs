//! Makes plans, and remembers what they did.

use super::write::{
    PolicyActual, PolicyCapacity, PolicyNames, PolicyPlan, PolicyRefusal, PolicyUsage, PolicyWrite,
};
use crate::plan::Tick;
use crate::world::World;

/// Plans the maps of policies; beside [`crate::Planner`], over the same world.
#[derive(Debug)]
pub struct PolicyPlanner {
    capacity: PolicyCapacity,
}

impl PolicyPlanner {
    /// A planner for empty maps.
    pub fn new(capacity: PolicyCapacity) -> Self {
        Self { capacity }
    }

    /// Takes what the kernel holds as the state that plans start from: after a restart, and whenever there is doubt
    /// about it. Writes that are still running must have ended.
    pub fn adopt(&mut self, _actual: PolicyActual) {}

    /// What must be written so that the kernel judges by this world. Empty until [`World::is_guarded`]: what was
    /// adopted stays as it is until then.
    pub fn plan(&mut self, world: &mut World, _now: Tick) -> PolicyPlan {
        let _ = world.take_touched();
        let _ = self.capacity;
        PolicyPlan::default()
    }

    /// A write of the last plan was not made. It is tried again by the next plan.
    pub fn failed(&mut self, _write: &PolicyWrite) {}

    /// What the ids in the maps stand for.
    pub fn names(&self) -> PolicyNames {
        PolicyNames::default()
    }

    /// Counts the changes of [`PolicyPlanner::names`]: write them down again when it differs.
    pub fn names_version(&self) -> u64 {
        0
    }

    /// Everything that is refused now.
    pub fn refusals(&self) -> impl Iterator<Item = &PolicyRefusal> {
        std::iter::empty()
    }

    /// How much there is, for metrics.
    pub fn usage(&self) -> PolicyUsage {
        PolicyUsage::default()
    }

    /// Devices of pods under a policy, which need the hooks of the packet road.
    pub fn devices(&self) -> std::collections::BTreeSet<u32> {
        std::collections::BTreeSet::new()
    }
}
