//! Addresses of a node that come and go while the agent runs (items 64–67), and packets for others (item 75).

use std::net::SocketAddr;

use sluice_lab::{Listen, Protocol, SocketLb};

use crate::stage::{Seen, Stage, Until, WEB, at_node};

#[test]
fn item_66_an_address_is_served_as_soon_as_the_node_has_it_and_no_longer() {
    let mut stage = Stage::set("ptp", SocketLb::On);
    stage.options.nodeport_addresses = vec!["172.18.0.64/26".to_owned(), "fd00:18::64/122".to_owned()];
    let stage = stage.begin();
    // In the ranges, not in the ranges.
    let new: [SocketAddr; 2] =
        [format!("172.18.0.65:{WEB}").parse().unwrap(), format!("[fd00:18::65]:{WEB}").parse().unwrap()];
    stage.reaches_nobody("laptop", &at_node(1, WEB));
    stage.reaches_nobody("laptop", &new);
    for round in 0..2 {
        stage.ip("node-1", &["addr add 172.18.0.65/24 dev eth0", "addr add fd00:18::65/64 dev eth0 nodad"]);
        stage.waits("laptop", &new, Until::Answered);
        stage.reaches("laptop", &new, &["near", "far"], Seen::Anything);
        stage.reaches("node-1", &new, &["near", "far"], Seen::Anything);
        stage.reaches_nobody("laptop", &at_node(1, WEB));
        if round == 0 {
            stage.ip("node-1", &["addr del 172.18.0.65/24 dev eth0", "addr del fd00:18::65/64 dev eth0"]);
            stage.waits("node-1", &new, Until::Silent);
        }
    }
}

#[test]
fn item_75_the_same_port_of_another_host_is_left_alone() {
    let stage = Stage::set("ptp", SocketLb::Off).begin();
    let laptop = stage.place("laptop");
    let sockets: Vec<Listen> = laptop
        .ips
        .iter()
        .flat_map(|ip| {
            [Protocol::Tcp, Protocol::Udp].map(|protocol| Listen { protocol, at: SocketAddr::new(*ip, WEB) })
        })
        .collect();
    laptop.listen(&sockets).unwrap();
    let to: Vec<SocketAddr> = laptop.ips.iter().map(|ip| SocketAddr::new(*ip, WEB)).collect();
    for client in ["client", "node-1", "node-2"] {
        stage.reaches(client, &to, &["laptop"], Seen::Anything);
    }
}
