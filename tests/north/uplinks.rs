//! Nodes with two uplinks, which check strictly that packets come from where answers would go: replies leave through
//! the node and the device that the client knows.

use std::net::{IpAddr, SocketAddr};

use sluice_lab::SocketLb;

use crate::stage::{FAR, Seen, Stage, WEB, everything_from};

/// The second wire between the first node and the host outside, and what the ends are called there.
const NODE: [&str; 2] = ["192.168.9.11", "fd00:9::11"];
const LAPTOP: [&str; 2] = ["192.168.9.200", "fd00:9::200"];
/// Somebody behind the host outside, whom the node has no route to but by its default gateway.
const BEYOND: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A lab whose first node has a second wire to the host outside; reverse paths are checked on both.
fn two_uplinks(road: SocketLb) -> Stage {
    let mut stage = Stage::set("ptp", road);
    stage.options.nodeport_addresses = vec!["0.0.0.0/0".to_owned(), "::/0".to_owned()];
    let laptop = stage.place("laptop").netns;
    stage.ip(
        "node-1",
        &[
            &format!("link add eth1 type veth peer name eth1 netns {laptop}"),
            &format!("addr add {}/24 dev eth1", NODE[0]),
            &format!("addr add {}/64 dev eth1 nodad", NODE[1]),
            "link set eth1 up",
        ],
    );
    stage.ip(
        "laptop",
        &[
            &format!("addr add {}/24 dev eth1", LAPTOP[0]),
            &format!("addr add {}/64 dev eth1 nodad", LAPTOP[1]),
            &format!("addr add {}/32 dev lo", BEYOND[0]),
            &format!("addr add {}/128 dev lo nodad", BEYOND[1]),
            "link set eth1 up",
        ],
    );
    for place in ["node-1", "laptop"] {
        for device in ["all", "eth0", "eth1"] {
            stage.sysctl(place, &format!("ipv4/conf/{device}/rp_filter"), "1");
        }
    }
    stage
}

fn answers_on_the_second_wire(road: SocketLb) {
    let stage = two_uplinks(road).begin();
    for (node, laptop) in NODE.into_iter().zip(LAPTOP) {
        let to = |port| everything_from(ip(laptop), SocketAddr::new(ip(node), port));
        stage.asks("laptop", &to(WEB), &["near", "far"], Seen::Node("node-1"));
        let probes = everything_from(ip(laptop), SocketAddr::new(ip(node), FAR));
        let tallies = stage.place("laptop").probe(&probes).unwrap();
        assert!(tallies.iter().all(|tally| tally.answers() == 0), "item 84: {tallies:?}");
    }
    // The first wire goes on serving, also to the address of the second.
    stage.reaches("laptop", &crate::stage::at_node(1, WEB), &["near", "far"], Seen::Node("node-1"));
}

#[test]
fn both_uplinks_of_a_node_are_served_and_answered_where_they_were_asked() {
    answers_on_the_second_wire(SocketLb::On);
}

#[test]
fn replies_follow_the_rules_for_the_address_that_was_asked() {
    let stage = two_uplinks(SocketLb::Off);
    let mut lines = Vec::new();
    for (node, laptop) in NODE.into_iter().zip(LAPTOP) {
        let version = if node.contains(':') { "-6 " } else { "" };
        lines.push(format!("{version}rule add from {node} table 9 priority 9"));
        lines.push(format!("route add default via {laptop} dev eth1 table 9"));
    }
    stage.ip("node-1", &lines.iter().map(String::as_str).collect::<Vec<_>>());
    // Reverse paths of the client beyond would lead to the other device: loose, as on nodes with such rules.
    for device in ["all", "eth0", "eth1"] {
        stage.sysctl("node-1", &format!("ipv4/conf/{device}/rp_filter"), "2");
    }
    let stage = stage.begin();
    for (node, beyond) in NODE.into_iter().zip(BEYOND) {
        let probes = everything_from(ip(beyond), SocketAddr::new(ip(node), WEB));
        stage.asks("laptop", &probes, &["near", "far"], Seen::Node("node-1"));
    }
}
