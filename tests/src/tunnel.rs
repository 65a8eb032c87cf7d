//! Tunnels for tests: what they look like on the wire, and what the programs know of them.

use proxy_common::{Address as _, Family, Flow, FlowKey, V4, V6, maps::MapType};

use crate::dataplane::Dataplane;
use crate::named::family_addr;
use crate::object::{self, Cell};
use crate::packet::{Link, ethernet, header4, header6};

/// The frame inside of another IP header of its family, from a node to a backend.
///
/// # Panics
/// If an argument is no address.
#[must_use]
pub fn wrapped(frame: &[u8], link: Link, from: &str, to: &str) -> Vec<u8> {
    const DO_NOT_FRAGMENT: u16 = 0x4000;
    let inside = &frame[14..];
    let ends = [from, to].map(|end| end.parse::<std::net::IpAddr>().expect("an address"));
    let header = if ends[0].is_ipv4() {
        header4(ends[0], ends[1], 4, 0, 64, DO_NOT_FRAGMENT, &[], inside.len())
    } else {
        header6(ends[0], ends[1], 41, 64, inside.len())
    };
    [&ethernet(link, ends[0].is_ipv4())[..], &header, inside].concat()
}

impl Dataplane {
    /// Makes an address one of the cluster's nodes'.
    ///
    /// # Panics
    /// If it is none.
    pub fn add_node(&mut self, ip: &str) {
        if ip.contains(':') {
            self.add_node_of::<V6>(ip, "nodes6")
        } else {
            self.add_node_of::<V4>(ip, "nodes4")
        }
    }

    fn add_node_of<F: Family>(&mut self, ip: &str, map: &str)
    where
        F::Addr: MapType,
    {
        let mut nodes = object::hash::<F::Addr, u32>(self.object(), map);
        nodes.insert(Cell(family_addr::<F>(ip)), Cell(1), 0).expect("a node fits");
    }

    /// Connections whose packets leave in tunnels, as text, sorted: from, to, and the backend.
    pub fn tunnels(&mut self) -> Vec<String> {
        [self.tunnels_of::<V4>("tunnels4"), self.tunnels_of::<V6>("tunnels6")].concat()
    }

    fn tunnels_of<F: Family>(&mut self, map: &str) -> Vec<String>
    where
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
    {
        let map = object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(self.object(), map);
        let entries = map.iter().map(|entry| entry.expect("tunnels can be listed"));
        let mut lines: Vec<String> = entries
            .map(|(Cell(key), Cell(flow))| {
                let end = |addr: F::Addr, port: proxy_common::Port| {
                    std::net::SocketAddr::new(addr.to_ip(), port.number())
                };
                let (from, to) = (end(key.src, key.sport), end(key.dst, key.dport));
                format!("{from} > {to} {} = {}", key.proto, end(flow.dst, flow.dport))
            })
            .collect();
        lines.sort_unstable();
        lines
    }

    /// Lets as much time go by for all tunnels as after which a datagram asks whether its backend is still there.
    ///
    /// # Panics
    /// If the map cannot be written.
    pub fn age_tunnels(&mut self) {
        self.age_tunnels_of::<V4>("tunnels4");
        self.age_tunnels_of::<V6>("tunnels6");
    }

    fn age_tunnels_of<F: Family>(&mut self, map: &str)
    where
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
    {
        let mut map = object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(self.object(), map);
        let entries: Vec<_> = map.iter().map(|entry| entry.expect("tunnels can be listed")).collect();
        for (key, mut flow) in entries {
            flow.0.seen = flow.0.seen.wrapping_sub(1_000);
            map.insert(key, flow, 0).expect("tunnels can be written");
        }
    }
}
