//! What the maps say of the node's devices and ranges, and of source ports: the part of [`Dataplane`] that
//! masquerading looks at.

use std::net::SocketAddr;

use aya::Ebpf;
use proxy_common::{
    Addr4, Addr6, Address as _, FlowKey, NetKind, NodeConfig, NodeFlags, Port, V4, V6, maps::MapType,
};

use crate::dataplane::Dataplane;
use crate::named::{Named, family_addr, prefix_key};
use crate::object;

impl Dataplane {
    /// Says which address of a device masqueraded packets towards `net` come from.
    ///
    /// # Panics
    /// If an argument is no address or range of one family.
    pub fn add_source(&mut self, device: u32, net: &str, address: &str) {
        fn add<F: Named>(object: &mut Ebpf, device: u32, net: &str, address: &str)
        where
            F::Addr: MapType,
        {
            let key = prefix_key::<F>(device, net);
            object::add_prefix(object, F::SOURCES, key, family_addr::<F>(address));
        }
        if net.contains('.') {
            add::<V4>(self.object(), device, net, address);
        } else {
            add::<V6>(self.object(), device, net, address);
        }
    }

    /// Adds a range of pods or Services beside the node's entry, which says so.
    ///
    /// # Panics
    /// If the text is no range.
    pub fn add_net(&mut self, kind: NetKind, net: &str) {
        fn add<F: Named>(object: &mut Ebpf, kind: NetKind, net: &str)
        where
            F::Addr: MapType,
            NodeConfig<F::Addr>: MapType,
        {
            let key = prefix_key::<F>(kind.0, net);
            object::add_prefix(object, F::NETS, key, 1_u32);
            let more = if kind == NetKind::PODS { NodeFlags::MORE_PODS } else { NodeFlags::MORE_SERVICES };
            object::change_node::<F::Addr>(object, F::NODE, |node| node.flags = node.flags.with(more));
        }
        if net.contains('.') {
            add::<V4>(self.object(), kind, net);
        } else {
            add::<V6>(self.object(), kind, net);
        }
    }

    /// From now on pods are told by their devices.
    pub fn tell_pods_by_device(&mut self) {
        let flags = NodeFlags::PODS_BY_DEVICE;
        object::change_node::<Addr4>(self.object(), V4::NODE, |node| node.flags = flags);
        object::change_node::<Addr6>(self.object(), V6::NODE, |node| node.flags = flags);
    }

    /// Where a search of all source ports has failed, as text, sorted.
    pub fn full_ports(&mut self) -> Vec<String> {
        [self.full_of::<V4>("portsfull4"), self.full_of::<V6>("portsfull6")].concat()
    }

    fn full_of<F: Named>(&mut self, map: &str) -> Vec<String>
    where
        FlowKey<F::Addr>: MapType,
    {
        let map = object::hash::<FlowKey<F::Addr>, u32>(self.object(), map);
        let keys = map.keys().map(|key| key.expect("keys can be listed").0);
        let end = |addr: F::Addr, port: Port| SocketAddr::new(addr.to_ip(), port.number());
        let mut lines: Vec<String> = keys
            .map(|key| format!("{} > {} {}", end(key.src, key.sport), end(key.dst, key.dport), key.proto))
            .collect();
        lines.sort_unstable();
        lines
    }
}
