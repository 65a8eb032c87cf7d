//! Node ports at the loopback address (item 68): for processes of the node itself, and for nobody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sluice_lab::SocketLb;

use crate::stage::{HOST, OWN, Seen, Stage, WEB};

fn loopback(port: u16) -> [SocketAddr; 2] {
    [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)].map(|ip| SocketAddr::new(ip, port))
}

#[test]
fn item_68_the_nodes_own_processes_find_node_ports_at_the_loopback_address() {
    for road in [SocketLb::On, SocketLb::Host] {
        let stage = Stage::set("ptp", road).begin();
        stage.reaches("node-1", &loopback(WEB), &["near", "far"], Seen::Node("node-1"));
        stage.reaches("node-2", &loopback(OWN), &["client"], Seen::Node("node-2"));
        stage.reaches("node-1", &loopback(HOST), &["node-1"], Seen::Node("node-1"));
        stage.reaches("node-2", &loopback(HOST), &["node-1"], Seen::Node("node-2"));
        // A pod has a loopback address of its own, and nobody there.
        stage.reaches_nobody("client", &loopback(WEB));
        stage.reaches_nobody("laptop", &loopback(WEB));
    }
}

#[test]
fn item_68_without_the_flag_whoever_listens_there_is_found() {
    let mut stage = Stage::set("ptp", SocketLb::On);
    stage.options.extra.push("--localhost-nodeports=false".to_owned());
    let stage = stage.begin();
    stage.reaches_nobody("node-1", &loopback(WEB));
}
