//! Direct server return between two nodes and a host outside, with real sockets: the backend sees the client and answers
//! it from its own node, and nobody but a node may send into the tunnel.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::binary::Program;
use sluice_lab::{Family, Probe, Protocol, SocketLb, netns};
use socket2::{Domain, SockRef, Socket, Type};
use tests::packet::Packet;

use crate::objects::{self, PORT};
use crate::stage::{PATIENCE, Stage, cluster_ips};

/// Addresses of the Service that no node has.
const VIPS: [&str; 2] = ["192.0.2.80", "2001:db8:2::80"];
const NODE_PORT: u16 = 30_080;
/// Where the backend of the long transfer listens.
const BULK: u16 = 9090;
/// Some hundred packets, and more than any buffer holds.
const BYTES: usize = 8 << 20;
const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];

fn vip(index: usize) -> SocketAddr {
    SocketAddr::new(VIPS[index].parse().unwrap(), PORT)
}

/// Two nodes that take tunnels; `web` has a backend on the node that the client does not send to.
fn stage() -> Stage {
    let mut stage = Stage::set("ptp", SocketLb::On);
    stage.options.extra.push("--dsr=ipip".to_owned());
    put(&stage, 8080, &json!({}));
    stage.begin()
}

fn put(stage: &Stage, target: u16, annotations: &Value) {
    let mut service = objects::service("web", &cluster_ips(NODE_PORT), NODE_PORT, "Cluster");
    service["spec"]["externalIPs"] = json!(VIPS);
    service["metadata"]["annotations"] = annotations.clone();
    stage.lab.manifests().put(&service).unwrap();
    for (index, family) in FAMILIES.into_iter().enumerate() {
        let mut slice = objects::slice("web", family, &[(stage.place("far").ips[index], "node-2")]);
        slice["ports"].as_array_mut().unwrap().iter_mut().for_each(|port| port["port"] = target.into());
        stage.lab.manifests().put(&slice).unwrap();
    }
}

/// What a node has counted for a reason.
fn count(stage: &Stage, node: &str, reason: &str) -> u64 {
    let program = Program::Agent.find().unwrap().with_file_name("proxyctl");
    let mut command = stage.lab.node(node).unwrap().command(&program.to_string_lossy()).unwrap();
    command.args(["counter", "list", "-o", "json", "--bpf-root"]).arg(stage.lab.node_bpf_root(node));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let of_reason = |row: &&Value| row["reason"] == reason;
    rows.iter().find(of_reason).map_or(0, |row| row["count"].as_u64().unwrap())
}

/// Whom the backend sees when the client asks at the Service's addresses; every request is answered.
fn seen(stage: &Stage, protocol: Protocol) -> Vec<BTreeSet<IpAddr>> {
    let probe =
        |index| Probe { timeout: Duration::from_secs(3), ..Probe::new(protocol, vip(index)).times(30) };
    let tallies = stage.place("laptop").probe(&[probe(0), probe(1)]).unwrap();
    let sources = tallies.iter().map(|tally| {
        assert_eq!((tally.answers(), tally.failures()), (30, 0), "{protocol}: {tally}");
        tally.answered.values().flat_map(|server| server.sources.iter().copied()).collect()
    });
    sources.collect()
}

fn waits(stage: &Stage, wanted: &[BTreeSet<IpAddr>]) {
    let deadline = Instant::now() + PATIENCE;
    while seen(stage, Protocol::Tcp) != wanted {
        assert!(Instant::now() < deadline, "{:?}, not {wanted:?}", seen(stage, Protocol::Tcp));
    }
}

#[test]
fn the_backend_sees_the_client_and_its_node_answers_directly() {
    let stage = stage();
    let client: Vec<BTreeSet<IpAddr>> = stage.place("laptop").ips.iter().map(|ip| [*ip].into()).collect();
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        let before = ["node-1", "node-2"].map(|node| count(&stage, node, "flow-reply"));
        assert_eq!(seen(&stage, protocol), client);
        let after = ["node-1", "node-2"].map(|node| count(&stage, node, "flow-reply"));
        assert_eq!(after[0], before[0], "{protocol}: answers pass by the first node");
        assert!(after[1] >= before[1] + 60, "{protocol}: {before:?} {after:?}");
    }
    // By annotation, and live: translated, so the backend sees the node.
    put(&stage, 8080, &json!({"sluice.dev/dsr": "false"}));
    let node = stage.lab.topology().node("node-1").unwrap().addresses.clone();
    waits(&stage, &node.iter().map(|ip| [*ip].into()).collect::<Vec<_>>());
    put(&stage, 8080, &json!({"sluice.dev/dsr": "true"}));
    waits(&stage, &client);
}

#[test]
fn more_than_a_packet_holds_goes_both_ways_in_segments_that_fit() {
    let stage = stage();
    put(&stage, BULK, &json!({}));
    for (index, header) in [20, 40].into_iter().enumerate() {
        let (far, laptop) = (stage.place("far"), stage.place("laptop"));
        let at = SocketAddr::new(far.ips[index], BULK);
        let listener = netns::inside(&far.netns, || Ok(TcpListener::bind(at)?)).unwrap();
        let echo = std::thread::spawn(move || {
            let (mut stream, peer) = listener.accept().unwrap();
            let mut bytes = vec![0; BYTES];
            stream.read_exact(&mut bytes).unwrap();
            stream.write_all(&bytes).unwrap();
            peer.ip()
        });
        let bytes: Vec<u8> = (0..BYTES).map(|n| (n % 251) as u8).collect();
        let stream = netns::inside(&laptop.netns, || Ok(connect(vip(index)))).unwrap();
        // Without time stamps; the option takes twelve bytes of each segment.
        let size = SockRef::from(&stream).tcp_mss().unwrap();
        assert!(size as usize <= 1500 - 20 - header - header, "segments of {size} bytes");
        let mut reader = stream.try_clone().unwrap();
        let heard = std::thread::spawn(move || {
            let mut bytes = vec![0; BYTES];
            reader.read_exact(&mut bytes).unwrap();
            bytes
        });
        (&stream).write_all(&bytes).unwrap();
        assert!(heard.join().unwrap() == bytes, "{}", VIPS[index]);
        assert_eq!(echo.join().unwrap(), laptop.ips[index]);
    }
    assert_eq!(count(&stage, "node-1", "too-large"), 0, "nobody had to be told");
}

/// Connects as soon as the agents know the new port.
fn connect(to: SocketAddr) -> TcpStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match TcpStream::connect_timeout(&to, Duration::from_secs(3)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                stream.set_write_timeout(Some(PATIENCE)).unwrap();
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "{to}: {error}"),
        }
    }
}

#[test]
fn what_no_node_has_sent_is_not_taken_from_the_tunnel() {
    let stage = stage();
    stage.ip("laptop", &["route replace 10.244.2.0/24 via 172.18.0.12"]);
    stage.ip("laptop", &["-6 route replace fd00:244:2::/64 via fd00:18::12"]);
    for (index, number) in [4, 41].into_iter().enumerate() {
        let (far, laptop) = (stage.place("far"), stage.place("laptop"));
        let forged = if index == 0 { "203.0.113.9:40000" } else { "[2001:db8::9]:40000" };
        let inside = Packet::udp(forged, &vip(index).to_string()).bytes()[14..].to_vec();
        let before = ["foreign-tunnel", "service-new"].map(|reason| count(&stage, "node-2", reason));
        let to = SocketAddr::new(far.ips[index], 0);
        netns::inside(&laptop.netns, || {
            let socket = Socket::new(Domain::for_address(to), Type::RAW, Some(number.into()))?;
            Ok(socket.send_to(&inside, &to.into())?)
        })
        .unwrap();
        let deadline = Instant::now() + PATIENCE;
        while count(&stage, "node-2", "foreign-tunnel") == before[0] {
            assert!(Instant::now() < deadline, "nothing was counted");
        }
        let after = ["foreign-tunnel", "service-new"].map(|reason| count(&stage, "node-2", reason));
        assert_eq!(after, [before[0] + 1, before[1]]);
    }
}
