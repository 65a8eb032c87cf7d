//! The engine's part in the node: its devices and addresses, and what the programs are told of it.

use proxy_common::{V4, V6};
use proxy_model::{Changed, Event};

use super::Engine;
use crate::kernel::Topology;
use crate::observe::metrics::KernelStep;
use crate::run::dataplane::Dataplane;

impl<D: Dataplane> Engine<D> {
    /// The node's devices or addresses changed.
    pub(in crate::run) fn take_topology(&mut self, topology: Topology) {
        let addresses = self.world.apply(Event::LocalAddresses(topology.local_addresses()));
        let devices = self.world.apply(Event::PodDevices(topology.pod_devices()));
        if addresses.or(devices) == Changed::Yes {
            self.changed();
        }
        if !self.topology.as_ref().is_some_and(|known| known.has_same_devices(&topology)) {
            self.followed = None;
        }
        self.topology = Some(topology);
    }

    /// Follows the devices if they, or the addresses by which uplinks are known, changed. `Some` if it must be
    /// tried again.
    pub(super) fn follow(&mut self) -> Option<()> {
        let topology = self.topology.as_ref()?;
        let addresses = match self.world.own_node() {
            Some(node) => node.addresses.clone(),
            // Until the Node is known: no uplink may be let go for want of an address.
            None => self.dataplane.node_addresses(),
        };
        if self.followed.as_ref() == Some(&addresses) {
            return None;
        }
        let errors = self.dataplane.follow(topology, &addresses);
        self.metrics.kernel_refused(KernelStep::Devices, errors.len());
        for error in &errors {
            tracing::error!(error = error as &dyn std::error::Error, "a device is not served");
        }
        self.followed = errors.is_empty().then_some(addresses);
        (!errors.is_empty()).then_some(())
    }

    pub(super) fn tell_node(&mut self) -> Result<(), ()> {
        let wanted = (
            self.ranges.facts::<V4>(&self.world, &self.planner),
            self.ranges.facts::<V6>(&self.world, &self.planner),
        );
        if self.node.as_ref() == Some(&wanted) {
            return Ok(());
        }
        match self.dataplane.set_node(&wanted.0, &wanted.1) {
            Ok(()) => {
                self.node = Some(wanted);
                Ok(())
            }
            Err(error) => {
                self.metrics.kernel_refused(KernelStep::Node, 1);
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the programs could not be told about the node"
                );
                Err(())
            }
        }
    }
}
