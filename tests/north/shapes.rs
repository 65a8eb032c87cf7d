//! One suite of questions for every shape of node: how pods are joined to it, and how it is joined to the others.

use sluice_lab::SocketLb;

use crate::stage::{HOST, OWN, Seen, Stage, WEB, at_node, cluster};

/// Everybody reaches every kind of frontend; what has to come back through a node comes from it.
fn suite(stage: &Stage) {
    let all = ["near", "far"];
    // Items 46, 47, 56: a pod, also to itself.
    stage.reaches("client", &cluster(WEB), &all, Seen::Anything);
    stage.reaches("client", &cluster(OWN), &["client"], hairpin(stage));
    stage.reaches("client", &cluster(HOST), &["node-1"], Seen::Anything);
    // Item 46: the node itself. Without any socket served its own processes are not.
    let nodes_sockets = stage.options.socket_lb != SocketLb::Off;
    if nodes_sockets {
        stage.reaches("node-1", &cluster(WEB), &all, Seen::Anything);
        stage.reaches("node-1", &cluster(OWN), &["client"], Seen::Node("node-1"));
    }
    // Items 57, 64, 71: node ports from outside, from a pod and from a node, at both nodes.
    for node in [1, 2] {
        let name = if node == 1 { "node-1" } else { "node-2" };
        stage.reaches("laptop", &at_node(node, WEB), &all, Seen::Node(name));
        stage.reaches("laptop", &at_node(node, OWN), &["client"], Seen::Node(name));
        stage.reaches("client", &at_node(node, WEB), &all, Seen::Anything);
        if nodes_sockets {
            stage.reaches("node-1", &at_node(node, WEB), &all, Seen::Anything);
        }
    }
    stage.reaches("client", &at_node(1, OWN), &["client"], hairpin(stage));
    stage.reaches("laptop", &at_node(1, HOST), &["node-1"], Seen::Anything);
    // Item 49: an outside host with a route to the ClusterIPs.
    stage.reaches("laptop", &cluster(WEB), &all, Seen::Node("node-1"));
}

/// On the packet road a pod sees the node where it is its own server; on the socket road it sees itself.
fn hairpin(stage: &Stage) -> Seen {
    match stage.options.socket_lb {
        SocketLb::Off | SocketLb::Host => Seen::Node("node-1"),
        SocketLb::On | SocketLb::Auto => Seen::Anything,
    }
}

#[test]
fn pods_behind_a_bridge_are_served_on_the_socket_road() {
    suite(&Stage::set("bridge", SocketLb::On).begin());
}

#[test]
fn pods_behind_a_bridge_are_served_on_the_packet_road() {
    suite(&Stage::set("bridge", SocketLb::Host).begin());
}

#[test]
fn a_veth_per_pod_is_served_without_any_socket() {
    suite(&Stage::set("ptp", SocketLb::Off).begin());
}

/// The pods of other nodes are behind a VXLAN device with an address of its own, as flannel sets it up.
fn overlay(road: SocketLb) {
    let stage = Stage::set("bridge", road);
    for (node, own, other) in [("node-1", 1, 2), ("node-2", 2, 1)] {
        stage.ip(
            node,
            &[
                &format!("link add vx0 type vxlan id 7 dstport 8472 local 172.18.0.1{own} remote 172.18.0.1{other} dev eth0"),
                &format!("addr add 10.244.{own}.0/32 dev vx0"),
                &format!("addr add fd00:244:{own}::/128 dev vx0 nodad"),
                "link set vx0 mtu 1430 up",
                &format!("route add 10.244.{other}.0/32 dev vx0"),
                &format!("route add fd00:244:{other}::/128 dev vx0"),
                &format!("route replace 10.244.{other}.0/24 via 10.244.{other}.0 dev vx0 onlink"),
                &format!("route replace fd00:244:{other}::/64 via fd00:244:{other}:: dev vx0 onlink"),
            ],
        );
    }
    let stage = stage.begin();
    let all = ["near", "far"];
    stage.reaches("client", &cluster(WEB), &all, Seen::Anything);
    stage.reaches("node-1", &cluster(WEB), &all, Seen::Anything);
    for node in [1, 2] {
        stage.reaches("laptop", &at_node(node, WEB), &all, Seen::Anything);
        stage.reaches("client", &at_node(node, WEB), &all, Seen::Anything);
    }
    stage.reaches("laptop", &cluster(WEB), &all, Seen::Anything);
}

#[test]
fn pods_of_other_nodes_behind_an_overlay_are_served_on_the_socket_road() {
    overlay(SocketLb::On);
}

#[test]
fn pods_of_other_nodes_behind_an_overlay_are_served_on_the_packet_road() {
    overlay(SocketLb::Host);
}
