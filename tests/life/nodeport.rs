//! A process of the node that listens on a node port gets none of the Service's traffic (item 73), from nobody.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};
use sluice_lab::{Listen, Place, Probe, Protocol, SocketLb, Tally};

use crate::objects;
use crate::stage::{PATIENCE, SERVERS, Stage};

const NODE: &str = "node-1";
const HTTP: u16 = 30_080;
const DNS: u16 = 30_053;
const ADDRESSES: [&str; 2] = ["10.96.0.60", "fd00:96::60"];

#[test]
fn item_73_a_local_process_takes_nothing_from_a_node_port_on_the_socket_road() {
    is_not_stolen(SocketLb::On);
}

#[test]
fn item_73_a_local_process_takes_nothing_from_a_node_port_on_the_packet_road() {
    is_not_stolen(SocketLb::Host);
}

fn is_not_stolen(road: SocketLb) {
    let stage = Stage::begin(road);
    stage.put(&service());
    stage.point_at("ports", &SERVERS);
    let node = stage.lab.node(NODE).unwrap();
    let [pod, own] = stage.clients();
    let clients = [pod, own, stage.lab.place("outside").unwrap()];
    for client in &clients {
        let deadline = Instant::now() + PATIENCE;
        while !ask(client, &node).iter().all(|tally| tally.failures() == 0 && who(tally) == everybody()) {
            assert!(Instant::now() < deadline, "{} does not reach the node port", client.name);
        }
    }
    let sockets: Vec<Listen> = ports(&node).map(|(protocol, at)| Listen { protocol, at }).collect();
    node.listen(&sockets).unwrap();
    for client in &clients {
        for tally in ask(client, &node) {
            assert_eq!((tally.failures(), who(&tally)), (0, everybody()), "{}: {tally}", client.name);
        }
    }
}

fn service() -> Value {
    let mut service = objects::service("ports", &ADDRESSES);
    service["spec"]["type"] = json!("NodePort");
    for (index, port) in [HTTP, DNS].into_iter().enumerate() {
        service["spec"]["ports"][index]["nodePort"] = json!(port);
    }
    service
}

fn ports(node: &Place) -> impl Iterator<Item = (Protocol, SocketAddr)> {
    node.ips.iter().flat_map(|ip| {
        [(Protocol::Tcp, HTTP), (Protocol::Udp, DNS)]
            .map(|(protocol, port)| (protocol, SocketAddr::new(*ip, port)))
    })
}

fn ask(client: &Place, node: &Place) -> Vec<Tally> {
    let probes: Vec<Probe> = ports(node).map(|(protocol, at)| Probe::new(protocol, at).times(60)).collect();
    client.probe(&probes).unwrap()
}

fn who(tally: &Tally) -> BTreeSet<String> {
    tally.answered.values().map(|server| server.name.clone()).collect()
}

fn everybody() -> BTreeSet<String> {
    SERVERS.map(str::to_owned).into()
}
