//! How backends are chosen, as sockets see it (`docs/balancing.md`): agents read the annotations, two servers on two nodes
//! say who was asked, over both families. Nothing but the default is random, so the counts are exact.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::{Family, Outcome, Probe, Protocol, SocketLb, netns};

use crate::objects::{self, PORT};
use crate::stage::{PATIENCE, Stage, at_node, cluster, cluster_ips};

const NEAR: (&str, &str) = ("near", "node-1");
const FAR: (&str, &str) = ("far", "node-2");
/// A multiple of each turn's length.
const MANY: u32 = 40;

/// A Service per algorithm; three connections to the near server for one to the far one where weights count.
const SERVICES: [(&str, u16); 6] =
    [("rr", 30090), ("wrr", 30091), ("lc", 30092), ("wlc", 30093), ("sh", 30094), ("maglev", 30095)];

fn node_port(algorithm: &str) -> u16 {
    SERVICES.into_iter().find(|(name, _)| *name == algorithm).unwrap().1
}

fn put_endpoints(stage: &Stage, algorithm: &str, servers: &[(&str, &str)]) {
    for (index, family) in [Family::Ipv4, Family::Ipv6].into_iter().enumerate() {
        let endpoints: Vec<_> =
            servers.iter().map(|(server, node)| (stage.place(server).ips[index], *node)).collect();
        stage.lab.manifests().put(&objects::slice(algorithm, family, &endpoints)).unwrap();
    }
}

fn begin(road: SocketLb) -> Stage {
    let stage = Stage::set("ptp", road);
    for (algorithm, node_port) in SERVICES {
        let mut service = objects::service(algorithm, &cluster_ips(node_port), node_port, "Cluster");
        service["metadata"]["annotations"] =
            json!({"sluice.dev/algorithm": algorithm, "sluice.dev/weights": "node/node-1=3, *=1"});
        stage.lab.manifests().put(&service).unwrap();
        put_endpoints(&stage, algorithm, &[NEAR, FAR]);
    }
    stage.begin()
}

/// How often each server was asked by so many connections, one after the other.
fn counts(stage: &Stage, from: &str, to: SocketAddr, connections: u32) -> BTreeMap<String, u32> {
    let one = Probe { timeout: Duration::from_secs(10), ..Probe::new(Protocol::Tcp, to) };
    let probe = Probe { concurrency: 1, ..one.times(connections) };
    let tally = stage.place(from).probe(&[probe]).unwrap().remove(0);
    assert_eq!((tally.answers(), tally.failures()), (connections, 0), "{from} -> {to}: {tally}");
    tally.answered.into_values().map(|server| (server.name, server.count)).collect()
}

/// A pod asks the cluster address, on its road; a host outside asks a node port.
fn ways(algorithm: &str) -> Vec<(&'static str, SocketAddr)> {
    let port = node_port(algorithm);
    let inside = cluster(port).map(|to| ("client", to));
    let outside = at_node(1, port).map(|to| ("laptop", to));
    [inside, outside].concat()
}

fn shares(near: u32, far: u32) -> BTreeMap<String, u32> {
    BTreeMap::from([("near".to_owned(), near), ("far".to_owned(), far)])
}

/// The first node says so of each family: the pod is on it, and the host outside asks it.
fn counted(stage: &Stage, algorithm: &str, connections: u32) {
    let answer = stage.place("node-1").get("http://127.0.0.1:10249/metrics", PATIENCE).unwrap().unwrap();
    let prefix = format!("sluice_service_connections_total{{namespace=\"demo\",service=\"{algorithm}\",");
    let mut lines: Vec<_> = answer.body.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
    lines.sort_unstable();
    let series = |(family, result, count): (&str, &str, u32)| {
        format!("port=\"tcp\",protocol=\"TCP\",ip_family=\"{family}\",result=\"{result}\"}} {count}")
    };
    let of_family =
        |family| [(family, "dropped", 0), (family, "opened", connections), (family, "refused", 0)];
    assert_eq!(lines, ["IPv4", "IPv6"].into_iter().flat_map(of_family).map(series).collect::<Vec<_>>());
}

/// Opens a connection that stays; who answers.
fn keep(stage: &Stage, id: &str, to: SocketAddr) -> String {
    let probe = Probe { timeout: Duration::from_secs(10), ..Probe::new(Protocol::Tcp, to) };
    match stage.place("client").open(id, &probe).unwrap() {
        Outcome::Answered(answer) => answer.name,
        Outcome::Failed(failure) => panic!("{to}: {failure}"),
    }
}

/// With so many connections open to the far server, whoever connects next goes to the near one, until that has as many for
/// its weight.
fn goes_where_fewer_are(stage: &Stage, algorithm: &str, at_far: usize, then_near: usize) {
    put_endpoints(stage, algorithm, &[FAR]);
    let both = cluster(node_port(algorithm));
    for to in both {
        // While nobody has any connection, both are as good: so often none but one is taken only if there is no other.
        await_server(stage, to, "far", MANY);
        for number in 0..at_far {
            assert_eq!(keep(stage, &format!("{to} far {number}"), to), "far");
        }
    }
    put_endpoints(stage, algorithm, &[NEAR, FAR]);
    for to in both {
        await_server(stage, to, "near", 1);
        let got: Vec<_> = (0..then_near).map(|number| keep(stage, &format!("{to} {number}"), to)).collect();
        assert_eq!(got, vec!["near"; then_near], "{algorithm} {to}");
    }
}

/// Waits until so many connections, one after the other, all go to this server.
fn await_server(stage: &Stage, to: SocketAddr, server: &str, connections: u32) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = counts(stage, "client", to, connections);
        if found.keys().eq([server]) {
            return;
        }
        assert!(Instant::now() < deadline, "{to}: {found:?}, not {server}");
    }
}

fn suite(road: SocketLb) {
    let stage = begin(road);
    for (from, to) in ways("rr") {
        assert_eq!(counts(&stage, from, to, MANY), shares(20, 20), "rr: {from} -> {to}");
    }
    for (from, to) in ways("wrr") {
        assert_eq!(counts(&stage, from, to, MANY), shares(30, 10), "wrr: {from} -> {to}");
    }
    for (from, to) in ways("sh") {
        assert_eq!(counts(&stage, from, to, MANY).len(), 1, "sh: {from} -> {to}: one client, one server");
    }
    for (from, to) in ways("maglev") {
        // Thirty of forty by weight; one in a million spreads has fewer than fifteen, or forty.
        let near = counts(&stage, from, to, MANY).get("near").copied();
        assert!(near.is_some_and(|near| (15..40).contains(&near)), "maglev: {from} -> {to}: {near:?}");
    }
    counted(&stage, "rr", 2 * MANY);
    // Fifteen are more than one, and forty for a weight of three are fewer than fifteen.
    goes_where_fewer_are(&stage, "lc", 30, 20);
    goes_where_fewer_are(&stage, "wlc", 15, 40);
}

#[test]
fn connections_are_spread_as_their_service_asks_on_the_socket_road() {
    suite(SocketLb::On);
}

#[test]
fn connections_are_spread_as_their_service_asks_on_the_packet_road() {
    suite(SocketLb::Host);
}

/// Who answers a datagram from each of these ports and addresses.
fn asked(stage: &Stage, from: &[SocketAddr], to: SocketAddr) -> Vec<String> {
    let ask = |from: &SocketAddr| {
        let socket = UdpSocket::bind(from).unwrap();
        socket.connect(to).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        socket.send(b"1").unwrap();
        let mut answer = [0; 1024];
        let length = socket.recv(&mut answer).unwrap();
        serde_json::from_slice::<Value>(&answer[..length]).unwrap()["name"].as_str().unwrap().to_owned()
    };
    netns::inside(&stage.place("laptop").netns, || Ok(from.iter().map(ask).collect())).unwrap()
}

/// Routers outside may send the packets of a connection to any node.
#[test]
fn nodes_agree_on_what_maglev_and_the_source_hash_choose() {
    let stage = begin(SocketLb::On);
    for (index, subnet) in ["172.18.0.", "fd00:18::"].into_iter().enumerate() {
        let own: Vec<String> = (0..24).map(|number| format!("{subnet}{}", 210 + number)).collect();
        let add = |ip: &String| match index {
            0 => format!("addr add {ip}/24 dev eth0"),
            _ => format!("addr add {ip}/64 dev eth0 nodad"),
        };
        let adds: Vec<String> = own.iter().map(add).collect();
        stage.ip("laptop", &adds.iter().map(String::as_str).collect::<Vec<_>>());
        let own: Vec<IpAddr> = own.iter().map(|ip| ip.parse().unwrap()).collect();
        // Whether the port counts, or the address alone.
        let ports: Vec<SocketAddr> = (46_000..46_024).map(|port| SocketAddr::new(own[0], port)).collect();
        let addresses: Vec<SocketAddr> = own.iter().map(|ip| SocketAddr::new(*ip, 46_100)).collect();
        for (algorithm, from) in [("maglev", &ports), ("sh", &addresses)] {
            let vip = cluster_ips(node_port(algorithm))[index];
            let to = SocketAddr::new(vip, PORT);
            let by = ["node-1", "node-2"].map(|node| {
                let router = stage.place(node).ips[index];
                stage.ip("laptop", &[&format!("route replace {vip} via {router} dev eth0")]);
                asked(&stage, from, to)
            });
            assert_eq!(by[0], by[1], "{algorithm} {to}");
            assert_eq!(by[0].iter().collect::<BTreeSet<_>>().len(), 2, "{algorithm} {to}: {:?}", by[0]);
        }
    }
}
