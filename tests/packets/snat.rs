//! Which address and port of the node stand in for a client: the address of the device that the packet leaves by, and
//! a port that nobody else has towards that backend, as long as there is one (item 59).

use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use proxy_common::{
    ClientRule, DeviceKind, Flow, FlowFlags, FlowKey, Port, Proto, Reason, V4, V6, maps::MapType,
};
use tests::dataplane::{Dataplane, Named, Run, code, config, endpoint, ip};
use tests::packet::{Link, Packet, addr, flags};

use crate::family::{FAMILIES, Names, dropped, next};

const FIRST: u32 = 20;
const SECOND: u32 = 30;
const POD: u32 = 10;
const GATEWAYS: [[u8; 6]; 3] = [[2, 0, 0, 0, 1, 0x10], [2, 0, 0, 0, 1, 0x20], [2, 0, 0, 0, 1, 0x30]];
const OWN: [[u8; 6]; 3] = [[2, 0, 0, 0, 0, 0x10], [2, 0, 0, 0, 0, 0x20], [2, 0, 0, 0, 0, 0x30]];

/// What differs between the families on a node with two uplinks and a pod.
struct Wires {
    names: &'static Names,
    /// Network of the second uplink, the node's address there with the client's port, a router and what is behind it.
    second: (&'static str, &'static str, &'static str, &'static str),
    /// The node's address on the pod's device, if that is one that sources may have.
    gateway: &'static str,
    whole: &'static str,
}

const WIRES: [Wires; 2] = [
    Wires {
        names: &FAMILIES[0],
        second: ("192.168.2.0/24", "192.168.2.1:40000", "192.168.2.254", "10.244.9.3:8080"),
        gateway: "10.244.1.1:40000",
        whole: "0.0.0.0/0",
    },
    Wires {
        names: &FAMILIES[1],
        second: ("fd00:169::/64", "[fd00:169::1]:40000", "fd00:169::fe", "[fd00:244:9::3]:8080"),
        gateway: "[fd00:244:1::1]:40000",
        whole: "::/0",
    },
];

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A node with an uplink to `backend`'s network, a second one to another network, and a pod.
fn node(w: &Wires) -> Dataplane {
    let mut dataplane = Dataplane::new(config());
    for (index, name, mac) in [(POD, "pod", OWN[0]), (FIRST, "first", OWN[1]), (SECOND, "second", OWN[2])] {
        ip(&format!("link add {name} index {index} address {} type veth peer name {name}-peer", text(mac)));
        ip(&format!("link set {name}-peer up"));
        ip(&format!("link set {name} up"));
    }
    for (file, value) in [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")] {
        std::fs::write(format!("/proc/sys/{file}"), value).expect("a namespace has its own switches");
    }
    let n = w.names;
    let family = if n.vip.starts_with('[') { "-6" } else { "-4" };
    let neighbour = |of: IpAddr, device: &str, mac| {
        ip(&format!("neigh replace {of} lladdr {} dev {device} nud permanent", text(mac)));
    };
    let (network, _, router, beyond) = w.second;
    ip(&format!("{family} route add {} dev first", addr(n.backend).ip()));
    neighbour(addr(n.backend).ip(), "first", GATEWAYS[1]);
    ip(&format!("{family} route add {network} dev second"));
    ip(&format!("{family} route add {} via {router} dev second", addr(beyond).ip()));
    neighbour(router.parse().expect("an address"), "second", GATEWAYS[2]);
    ip(&format!("{family} route add {} dev pod", addr(n.own_backend).ip()));
    neighbour(addr(n.own_backend).ip(), "pod", GATEWAYS[0]);
    for (index, kind) in [(POD, DeviceKind::POD), (FIRST, DeviceKind::UPLINK), (SECOND, DeviceKind::UPLINK)] {
        dataplane.add_device(index, kind);
    }
    for (port, backend) in [("80", n.backend), ("81", beyond), ("82", n.own_backend)] {
        let vip = n.vip.strip_suffix("80").expect("port 80").to_owned() + port;
        dataplane
            .serve(Proto::TCP, &vip, &[backend], |frontend| frontend.rules = [ClientRule::MASQUERADE; 3]);
    }
    dataplane
}

fn sent(reason: Reason, packet: Packet, way: usize) -> Run {
    let link = Link { to: GATEWAYS[way], from: OWN[way] };
    Run { reason, code: code::REDIRECT, bytes: packet.forwarded(link).bytes() }
}

#[test]
fn item_59_the_source_is_the_address_of_the_device_that_the_packet_leaves_by() {
    for w in &WIRES {
        let n = w.names;
        let (network, here, _, beyond) = w.second;
        let source = addr(here).ip().to_string();
        let mut dataplane = node(w);
        dataplane.add_source(SECOND, network, &source);
        if n.vip.starts_with('[') {
            // IPv6 goes by the destination, which is behind the router.
            dataplane.add_source(SECOND, w.whole, &source);
        }
        dataplane.add_source(POD, w.whole, &addr(w.gateway).ip().to_string());
        let vip = |port: &str| n.vip.strip_suffix("80").expect("port 80").to_owned() + port;
        for (port, from, to, way) in
            [("80", n.node, n.backend, 1), ("81", here, beyond, 2), ("82", w.gateway, n.own_backend, 0)]
        {
            let mut syn = Packet::tcp(flags::SYN, n.outside, &vip(port));
            syn.link.to = OWN[1];
            // By whatever device it came in.
            let run = dataplane.run_on("from_wire", FIRST, &syn.bytes());
            assert_eq!(run, sent(Reason::ServiceNew, syn.between(from, to), way), "port {port}");
            let answer = Packet::tcp(flags::SYN_ACK, to, from);
            let hook = if way == 0 { "from_pod" } else { "from_wire" };
            assert_eq!(
                dataplane.run(hook, &answer.bytes()),
                next(Reason::FlowReply, &answer.between(&vip(port), n.outside))
            );
        }
    }
}

#[test]
fn a_node_address_leaves_by_a_device_of_no_known_kind_because_the_stack_would_not_take_it() {
    for w in &WIRES {
        let n = w.names;
        let mut dataplane = node(w);
        ip("link add other index 40 type veth peer name other-peer");
        ip(&format!("link set other address {}", text(OWN[2])));
        ip("link set other-peer up");
        ip("link set other up");
        let family = if n.vip.starts_with('[') { "-6" } else { "-4" };
        ip(&format!("{family} route replace {} dev other", addr(n.backend).ip()));
        ip(&format!(
            "neigh replace {} lladdr {} dev other nud permanent",
            addr(n.backend).ip(),
            text(GATEWAYS[2])
        ));
        let mut syn = Packet::tcp(flags::SYN, n.outside, n.vip);
        syn.link.to = OWN[1];
        assert_eq!(
            dataplane.run_on("from_wire", FIRST, &syn.bytes()),
            sent(Reason::ServiceNew, syn.between(n.node, n.backend), 2)
        );
    }
}

#[test]
fn a_bridge_with_pods_is_sent_out_of_directly() {
    for w in &WIRES {
        let n = w.names;
        let mut dataplane = node(w);
        dataplane.add_device(SECOND, DeviceKind::BRIDGE);
        let (_, here, _, beyond) = w.second;
        let vip = n.vip.strip_suffix("80").expect("port 80").to_owned() + "81";
        dataplane.add_source(SECOND, w.whole, &addr(here).ip().to_string());
        let syn = Packet::tcp(flags::SYN, n.client, &vip);
        assert_eq!(
            dataplane.run_on("from_pod", POD, &syn.bytes()),
            sent(Reason::ServiceNew, syn.between(here, beyond), 2)
        );
    }
}

#[test]
fn the_nodes_own_connection_keeps_its_address_and_gets_another_port_beside_a_masqueraded_one() {
    for w in &WIRES {
        let n = w.names;
        let mut dataplane = node(w);
        dataplane.add_source(FIRST, w.whole, &addr(w.second.1).ip().to_string());
        dataplane.add_local(&addr(w.second.1).ip().to_string());
        // A connection whose answers go to the node's primary address.
        claim(&mut dataplane, n, Proto::TCP, 40_000);
        let syn = Packet::tcp(flags::SYN, n.node, n.backend);
        let run = dataplane.run("to_wire", &syn.bytes());
        let port = source_port(&run.bytes, n);
        assert_ne!(port, 40_000);
        let told = format!("{}:{port}", host(n.node));
        assert_eq!(run, next(Reason::PortClash, &syn.between(&told, n.backend)));
    }
}

fn source_port(bytes: &[u8], n: &Names) -> u16 {
    let at = if n.vip.starts_with('[') { 54 } else { 34 };
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Lets somebody have a port of the node towards the backend.
fn claim(dataplane: &mut Dataplane, n: &Names, proto: Proto, port: u16) {
    if n.vip.starts_with('[') {
        claim_in::<V6>(dataplane, n, proto, port);
    } else {
        claim_in::<V4>(dataplane, n, proto, port);
    }
}

fn claim_in<F: Named>(dataplane: &mut Dataplane, n: &Names, proto: Proto, port: u16)
where
    FlowKey<F::Addr>: MapType,
    Flow<F::Addr>: MapType,
{
    let (backend, node) = (endpoint::<F>(n.backend), endpoint::<F>(n.node).0);
    let (somebody, vip) = (endpoint::<F>(n.stranger).0, endpoint::<F>(n.vip));
    let port = Port::new(port);
    let key = FlowKey::new(backend.0, backend.1, node, port, proto);
    let (src, sport, dst, dport) = (vip.0, vip.1, somebody, port);
    let reply = Flow { src, sport, dst, dport, flags: FlowFlags::REPLY, ..Flow::default() };
    dataplane.add_flow::<F>(reply.other(proto), reply.twin(&key));
    dataplane.add_flow::<F>(key, reply);
}

fn masquerading(n: &Names) -> Dataplane {
    let mut dataplane = Dataplane::with_entries(config(), 1 << 18);
    for proto in [Proto::TCP, Proto::UDP] {
        dataplane.serve(proto, n.vip, &[n.backend], |frontend| frontend.rules = [ClientRule::MASQUERADE; 3]);
    }
    dataplane
}

fn opening(proto: Proto, from: &str, to: &str) -> Packet {
    if proto == Proto::TCP { Packet::tcp(flags::SYN, from, to) } else { Packet::udp(from, to) }
}

#[test]
fn the_last_free_port_of_all_is_found() {
    for (n, proto) in [(&FAMILIES[0], Proto::TCP), (&FAMILIES[1], Proto::UDP)] {
        let mut dataplane = masquerading(n);
        for port in (1024..=u16::MAX).filter(|port| *port != 30_000) {
            claim(&mut dataplane, n, proto, port);
        }
        // Two clients: the port is free for the first of them.
        let from = |port: u16| n.outside.replace("40000", &port.to_string());
        let packet = opening(proto, &from(50_000), n.vip);
        let run = dataplane.run("from_wire", &packet.bytes());
        assert_eq!(
            run,
            next(Reason::ServiceNew, &packet.between(&format!("{}:30000", host(n.node)), n.backend))
        );
        let packet = opening(proto, &from(50_001), n.vip);
        assert_eq!(dataplane.run("from_wire", &packet.bytes()), dropped(Reason::NoSourcePort, &packet));
    }
}

#[test]
fn a_full_range_of_ports_is_searched_once_and_then_known_until_a_second_later() {
    for (n, proto) in [(&FAMILIES[0], Proto::UDP), (&FAMILIES[1], Proto::TCP)] {
        let mut dataplane = masquerading(n);
        for port in 1024..=u16::MAX {
            claim(&mut dataplane, n, proto, port);
        }
        let packet = opening(proto, n.outside, n.vip);
        assert_eq!(dataplane.run("from_wire", &packet.bytes()), dropped(Reason::NoSourcePort, &packet));
        assert_eq!(dataplane.full_ports(), [format!("{} > {}:0 {proto}", n.backend, host(n.node))]);
        // Another backend has ports of its own.
        let other = n.vip.replace("80", "443");
        dataplane.serve(proto, &other, &[n.other_backend], |frontend| {
            frontend.rules = [ClientRule::MASQUERADE; 3];
        });
        let elsewhere = opening(proto, n.outside, &other);
        assert_eq!(
            dataplane.run("from_wire", &elsewhere.bytes()),
            next(Reason::ServiceNew, &elsewhere.between(n.node, n.other_backend))
        );
    }
}

fn host(text: &str) -> &str {
    text.rsplit_once(':').expect("a port").0
}

#[test]
fn sockets_of_the_node_keep_their_ports_however_they_are_bound() {
    for n in &FAMILIES {
        let mut dataplane = masquerading(n);
        let prefix = if n.node.starts_with('[') { "/128 dev lo nodad" } else { "/32 dev lo" };
        ip(&format!("addr add {}{prefix}", addr(n.node).ip()));
        let any: IpAddr =
            if n.node.starts_with('[') { "::".parse() } else { "0.0.0.0".parse() }.expect("an address");
        let at = |port| SocketAddr::new(addr(n.node).ip(), port);
        // Bound to all addresses, bound to one, and, where the family can, bound to all of both.
        let _tcp = [
            TcpListener::bind((any, 41_000)),
            TcpListener::bind(at(41_001)),
            TcpListener::bind("[::]:41002"),
        ]
        .map(|socket| socket.expect("the port is free"));
        let _udp =
            [UdpSocket::bind((any, 41_000)), UdpSocket::bind(at(41_001)), UdpSocket::bind("[::]:41002")]
                .map(|socket| socket.expect("the port is free"));
        for port in [41_000, 41_001, 41_002] {
            let from = n.outside.replace("40000", &port.to_string());
            for proto in [Proto::TCP, Proto::UDP] {
                let run = dataplane.run("from_wire", &opening(proto, &from, n.vip).bytes());
                assert_eq!(run.reason, Reason::ServiceNew);
                assert_ne!(source_port(&run.bytes, n), port, "{proto} {port}");
            }
        }
    }
}

#[test]
fn a_connection_of_the_node_to_that_very_backend_keeps_its_port_and_one_to_another_does_not_matter() {
    for n in &FAMILIES {
        let mut dataplane = masquerading(n);
        let suffix = if n.node.starts_with('[') { "/128 dev lo nodad" } else { "/32 dev lo" };
        for local in [n.node, n.backend, n.other_backend] {
            ip(&format!("addr add {}{suffix}", addr(local).ip()));
        }
        let servers = [n.backend, n.other_backend].map(|at| TcpListener::bind(at).expect("the port is free"));
        let connect =
            |server: &TcpListener, port: u16| connect_from(SocketAddr::new(addr(n.node).ip(), port), server);
        let _same = connect(&servers[0], 42_000);
        let _other = connect(&servers[1], 42_001);
        for (port, kept) in [(42_000, false), (42_001, true)] {
            let from = n.outside.replace("40000", &port.to_string());
            let run = dataplane.run("from_wire", &opening(Proto::TCP, &from, n.vip).bytes());
            assert_eq!(run.reason, Reason::ServiceNew);
            assert_eq!(source_port(&run.bytes, n) == port, kept, "{port}");
        }
    }
}

/// A connection from a chosen address and port.
fn connect_from(from: SocketAddr, to: &TcpListener) -> TcpStream {
    use rustix::io::Errno;
    use rustix::net::{AddressFamily, SocketType, bind, connect, socket};
    let family = if from.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let client = socket(family, SocketType::STREAM, None).expect("a socket");
    bind(&client, &from).expect("the port is free");
    let to = to.local_addr().expect("it listens");
    let deadline = Instant::now() + Duration::from_secs(10);
    // The kernel adds the route of a new IPv6 address in a work queue of its own.
    while let Err(error) = connect(&client, &to) {
        assert!(error == Errno::NETUNREACH && Instant::now() < deadline, "{to}: {error}");
        std::thread::sleep(Duration::from_millis(5));
    }
    client.into()
}
