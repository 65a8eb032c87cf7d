//! What the run loop asks of the kernel: the seam at which tests put maps in memory.

use std::net::IpAddr;
use std::time::Instant;

use proxy_common::{Addr4, Addr6, Address, ServiceId, V4, V6};
use proxy_model::{Actual, Moved, NodeFacts, Plan, ServiceName};

use crate::kernel::{Collected, Error, Kernel, LetGo, Outcome, State, Topology};

/// The kernel's part, as far as the run loop uses it. Documented at [`Kernel`].
pub(super) trait Dataplane {
    /// What the maps hold.
    ///
    /// # Errors
    /// When a map cannot be read.
    fn actual(&self) -> Result<Actual<'_>, Error>;
    /// Makes the writes of a plan.
    fn apply(&mut self, plan: &Plan) -> Outcome;
    /// Lets UDP clients of backends that are gone go.
    fn let_go(&mut self, v4: &Moved<V4>, v6: &Moved<V6>) -> (LetGo, Result<(), Error>);
    /// Follows the node's devices.
    fn follow(&mut self, topology: &Topology, node: &[IpAddr]) -> Vec<Error>;
    /// Tells the programs about the node.
    ///
    /// # Errors
    /// When a map cannot be written.
    fn set_node(&mut self, v4: &NodeFacts<Addr4>, v6: &NodeFacts<Addr6>) -> Result<(), Error>;
    /// The node addresses that the programs were told last, by this agent or the one before.
    fn node_addresses(&self) -> Vec<IpAddr>;
    /// Removes what is over.
    ///
    /// # Errors
    /// When a map cannot be read.
    fn collect(&mut self, now: Instant) -> Result<Collected, Error>;
    /// Writes down whose each id is.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn write_names<'a>(&self, names: impl Iterator<Item = (ServiceId, &'a ServiceName)>)
    -> Result<(), Error>;
    /// What this start found and did.
    fn state(&self) -> State;
}

impl Dataplane for Kernel {
    fn actual(&self) -> Result<Actual<'_>, Error> {
        self.actual()
    }

    fn apply(&mut self, plan: &Plan) -> Outcome {
        self.apply(plan)
    }

    fn let_go(&mut self, v4: &Moved<V4>, v6: &Moved<V6>) -> (LetGo, Result<(), Error>) {
        Self::let_go(self, v4, v6)
    }

    fn follow(&mut self, topology: &Topology, node: &[IpAddr]) -> Vec<Error> {
        self.follow(topology, node)
    }

    fn set_node(&mut self, v4: &NodeFacts<Addr4>, v6: &NodeFacts<Addr6>) -> Result<(), Error> {
        self.set_node(v4, v6)
    }

    fn node_addresses(&self) -> Vec<IpAddr> {
        let v4 = self.maps().v4.node.get(&0).ok().flatten().map(|node| node.address.to_ip());
        let v6 = self.maps().v6.node.get(&0).ok().flatten().map(|node| node.address.to_ip());
        v4.into_iter().chain(v6).filter(|ip| !ip.is_unspecified()).collect()
    }

    fn collect(&mut self, now: Instant) -> Result<Collected, Error> {
        self.collect(now)
    }

    fn write_names<'a>(
        &self,
        names: impl Iterator<Item = (ServiceId, &'a ServiceName)>,
    ) -> Result<(), Error> {
        self.write_names(names)
    }

    fn state(&self) -> State {
        self.state().clone()
    }
}
