//! The tables of connections: entries to put in, and what the programs have put there, as text.

use std::net::SocketAddr;

use proxy_common::{Address, Flow, FlowKey, Port, V4, V6, maps::MapType};

use crate::{
    dataplane::Dataplane,
    named::Named,
    object::{self, Cell},
};

impl Dataplane {
    /// Writes an entry of an answered connection.
    ///
    /// # Panics
    /// If the table is full.
    pub fn add_flow<F: Named>(&mut self, key: FlowKey<F::Addr>, flow: Flow<F::Addr>)
    where
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
    {
        self.name_party(&key.src);
        let mut flows = object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(self.object(), F::FLOWS);
        flows.insert(Cell(key), Cell(flow), 0).expect("a flow fits");
    }

    /// All entries of answered connections, as text, sorted.
    pub fn flows(&mut self) -> Vec<String> {
        [self.entries::<V4>(V4::FLOWS), self.entries::<V6>(V6::FLOWS)].concat()
    }

    /// All entries of connections without an answer, as text, sorted.
    pub fn half_open(&mut self) -> Vec<String> {
        [self.entries::<V4>(V4::HALF_OPEN), self.entries::<V6>(V6::HALF_OPEN)].concat()
    }

    fn entries<F: Named>(&mut self, map: &str) -> Vec<String>
    where
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
    {
        let map = object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(self.object(), map);
        let mut lines: Vec<String> = map
            .iter()
            .map(|entry| entry.expect("flows can be listed"))
            .map(|(Cell(key), Cell(flow))| describe(&key, &flow))
            .collect();
        lines.sort_unstable();
        lines
    }

    /// Changes the entries of answered connections.
    ///
    /// # Panics
    /// If the map cannot be written.
    pub fn change_flows<F: Named>(&mut self, change: impl Fn(&FlowKey<F::Addr>, &mut Flow<F::Addr>))
    where
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
    {
        let mut map = object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(self.object(), F::FLOWS);
        let entries: Vec<_> = map.iter().map(|entry| entry.expect("flows can be listed")).collect();
        for (key, mut flow) in entries {
            change(&key.0, &mut flow.0);
            map.insert(key, flow, 0).expect("flows can be written");
        }
    }
}

/// `10.0.0.1:1 > 10.96.0.1:80 TCP = 10.0.0.1:1 > 10.0.0.2:8080 {routed} stack service 1 generation 1`
fn describe<A: Address>(key: &FlowKey<A>, flow: &Flow<A>) -> String {
    let end = |addr: A, port: Port| SocketAddr::new(addr.to_ip(), port.number());
    format!(
        "{} > {} {} = {} > {} {:?} {:?} service {} generation {}",
        end(key.src, key.sport),
        end(key.dst, key.dport),
        key.proto,
        end(flow.src, flow.sport),
        end(flow.dst, flow.dport),
        flow.flags,
        flow.route,
        flow.service.0,
        flow.generation
    )
}
