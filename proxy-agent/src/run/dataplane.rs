//! What the run loop asks of the kernel: the seam at which tests put maps in memory.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proxy_common::{Addr4, Addr6, Address, V4, V6};
use proxy_model::policy::{PolicyActual, PolicyWrite};
use proxy_model::{Actual, Moved, NodeFacts, Plan, Planner};

use super::upkeep::{Leavers, Upkeep};
use crate::kernel::roll::Roll;
use crate::kernel::{Error, Judged, Kernel, Outcome, Repairs, Serving, State, Topology};
use crate::observe::policy_names::PolicyNames;

/// The kernel's part, as far as the run loop uses it. Documented at [`Kernel`].
pub(super) trait Dataplane {
    /// What the maps hold.
    ///
    /// # Errors
    /// When a map cannot be read.
    fn actual(&self) -> Result<Actual<'_>, Error>;
    /// Makes the writes of a plan.
    fn apply(&mut self, plan: &Plan) -> Outcome;
    /// Begins to let UDP clients of backends that are gone go.
    fn let_go(&mut self, v4: Moved<V4>, v6: Moved<V6>);
    /// Follows the node's devices.
    fn follow(&mut self, topology: &Topology, node: &[IpAddr]) -> Vec<Error>;
    /// Tells the programs about the node.
    ///
    /// # Errors
    /// When a map cannot be written.
    fn set_node(&mut self, v4: &NodeFacts<Addr4>, v6: &NodeFacts<Addr6>) -> Result<(), Error>;
    /// The node addresses that the programs were told last, by this agent or the one before.
    fn node_addresses(&self) -> Vec<IpAddr>;
    /// Begins to remove what is over, flows included that lead to nobody who serves.
    fn collect(&mut self, serving: Serving);
    /// Writes down some of whose each id is; gives what there is to go on with.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn write_names(&self, roll: Option<Roll>, planner: &Planner) -> Result<Option<Roll>, Error>;
    /// What this start found and did.
    fn state(&self) -> State;
    /// What the maps of policies hold.
    ///
    /// # Errors
    /// When a map cannot be read.
    fn policy_actual(&self) -> Result<PolicyActual, Error>;
    /// Makes the writes of a plan of policies, up to the first that fails.
    fn judge(&mut self, writes: &[PolicyWrite]) -> Judged;
    /// Says behind which devices pods are under a policy.
    ///
    /// # Errors
    /// When a map cannot be written.
    fn guard(&mut self, devices: &BTreeSet<u32>) -> Result<(), Error>;
    /// Puts right what is not as it was told about the node, in maps, links and pins; gives what that was, and what failed.
    fn audit(
        &mut self,
        topology: &Topology,
        node: &[IpAddr],
        facts: Option<&(NodeFacts<Addr4>, NodeFacts<Addr6>)>,
    ) -> (Repairs, Vec<Error>);
    /// Notes what an audit has put right.
    fn repaired(&mut self, repairs: &Repairs);
    /// Writes down what the ids of the policy maps stand for.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn write_policy_names(&self, names: &PolicyNames) -> Result<(), Error>;
}

/// The kernel, and who cleans up beside the loop.
#[derive(Debug)]
pub(super) struct Live {
    kernel: Kernel,
    upkeep: Upkeep,
}

impl Live {
    pub(super) fn new(kernel: Kernel, upkeep: Upkeep) -> Self {
        Self { kernel, upkeep }
    }
}

impl Dataplane for Live {
    fn actual(&self) -> Result<Actual<'_>, Error> {
        self.kernel.actual()
    }

    fn apply(&mut self, plan: &Plan) -> Outcome {
        self.kernel.apply(plan)
    }

    fn let_go(&mut self, v4: Moved<V4>, v6: Moved<V6>) {
        self.upkeep.let_go(Leavers { v4, v6 });
    }

    fn follow(&mut self, topology: &Topology, node: &[IpAddr]) -> Vec<Error> {
        self.kernel.follow(topology, node)
    }

    fn set_node(&mut self, v4: &NodeFacts<Addr4>, v6: &NodeFacts<Addr6>) -> Result<(), Error> {
        self.kernel.set_node(v4, v6)
    }

    fn node_addresses(&self) -> Vec<IpAddr> {
        let maps = self.kernel.maps();
        let v4 = maps.v4.node.get(&0).ok().flatten().map(|node| node.address.to_ip());
        let v6 = maps.v6.node.get(&0).ok().flatten().map(|node| node.address.to_ip());
        v4.into_iter().chain(v6).filter(|ip| !ip.is_unspecified()).collect()
    }

    fn collect(&mut self, serving: Serving) {
        self.kernel.write_state();
        self.upkeep.collect(serving);
    }

    fn write_names(&self, roll: Option<Roll>, planner: &Planner) -> Result<Option<Roll>, Error> {
        self.kernel.write_names(roll, planner)
    }

    fn state(&self) -> State {
        self.kernel.state().clone()
    }

    fn policy_actual(&self) -> Result<PolicyActual, Error> {
        self.kernel.policy_actual()
    }

    fn judge(&mut self, writes: &[PolicyWrite]) -> Judged {
        self.kernel.judge(writes)
    }

    fn guard(&mut self, devices: &BTreeSet<u32>) -> Result<(), Error> {
        self.kernel.guard(devices)
    }

    fn audit(
        &mut self,
        topology: &Topology,
        node: &[IpAddr],
        facts: Option<&(NodeFacts<Addr4>, NodeFacts<Addr6>)>,
    ) -> (Repairs, Vec<Error>) {
        self.kernel.audit(topology, node, facts)
    }

    fn repaired(&mut self, repairs: &Repairs) {
        self.kernel.repaired(repairs);
    }

    fn write_policy_names(&self, names: &PolicyNames) -> Result<(), Error> {
        self.kernel.write_policy_names(names)
    }
}
