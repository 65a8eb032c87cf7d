//! What a planner wrote, in the maps of the real programs. One set of programs serves all worlds: between two of them
//! the maps are emptied.

use std::net::IpAddr;

use proxy_common::{
    Address as _, Backend, DatapathConfig, Flow, FlowKey, Frontend, FrontendKey, NodeConfig, V4, V6,
    maps::MapType,
};
use proxy_model::Served;
use tests::{
    dataplane::{Dataplane, Named, config},
    object::{self, Cell},
};

use crate::kernel::{Kernel, Machine};

/// More than a world asks for.
const ENTRIES: u32 = 4096;

/// The programs, and the world that was put into their maps last.
pub struct Stage {
    pub dataplane: Dataplane,
}

impl Stage {
    /// Programs of a node whose pods' and own packets are looked up.
    pub fn new() -> Self {
        let config = DatapathConfig { node_packets: 1, ..config() };
        Self { dataplane: Dataplane::with_entries(config, ENTRIES) }
    }

    /// Replaces the world.
    pub fn put(&mut self, machine: &Machine, locals: &[IpAddr]) {
        self.put_family::<V4>(&machine.v4, machine, locals);
        self.put_family::<V6>(&machine.v6, machine, locals);
    }

    fn put_family<F: Served + Named>(&mut self, kernel: &Kernel<F>, machine: &Machine, locals: &[IpAddr])
    where
        F::Addr: MapType,
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
        NodeConfig<F::Addr>: MapType,
        Backend<F::Addr>: MapType,
        FrontendKey<F::Addr>: MapType,
    {
        let object = self.dataplane.object();
        object::empty(object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(object, F::HALF_OPEN));
        object::empty(object::hash::<F::Addr, u32>(object, F::LOCAL));
        object::empty(object::hash::<FrontendKey<F::Addr>, Frontend>(object, F::FRONTENDS));
        object::forget_ranges::<F::Addr>(object, F::RANGES);
        object::forget_prefixes::<F::Addr>(object, F::NETS);

        for range in &kernel.ranges {
            object::admit(object, F::RANGES, F::NODE, *range);
        }
        let facts = machine.world.node_facts::<F>(&[]).0;
        for net in facts.nets {
            object::add_prefix(object, F::NETS, net, 1_u32);
        }
        object::array(object, F::NODE).set(0, Cell(facts.config), 0).unwrap();
        let mut slots = object::array(object, F::BACKENDS);
        for (index, slot) in (0..).zip(&kernel.slots) {
            if let Some(backend) = slot {
                slots.set(index, Cell(*backend), 0).unwrap();
            }
        }
        let mut own = object::hash(object, F::LOCAL);
        for addr in locals.iter().filter_map(|ip| F::Addr::from_ip(*ip)) {
            own.insert(Cell(addr), Cell(1u32), 0).unwrap();
        }
        let mut frontends = object::hash(object, F::FRONTENDS);
        for (key, value) in &kernel.frontends {
            frontends.insert(Cell(*key), Cell(*value), 0).unwrap();
        }
    }
}
