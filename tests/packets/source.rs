//! The source that a backend sees: kept, or an address and a free port of the node (items 47, 56, 57, 59).

use std::net::{TcpListener, UdpSocket};

use proxy_common::{ClientRule, Proto, Reason, V4, V6};
use tests::dataplane::{Dataplane, config, ip};
use tests::packet::{Packet, addr, flags};

use crate::family::{FAMILIES, Names, dropped, next};

fn masquerading(n: &Names, backends: &[&str]) -> Dataplane {
    let mut dataplane = Dataplane::new(config());
    for proto in [Proto::TCP, Proto::UDP] {
        dataplane.serve(proto, n.vip, backends, |frontend| frontend.rules = [ClientRule::MASQUERADE; 3]);
    }
    dataplane
}

/// The source port in a frame without options.
fn source_port(bytes: &[u8], n: &Names) -> u16 {
    let at = if n.vip.starts_with('[') { 54 } else { 34 };
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn with_port(text: &str, port: u16) -> String {
    format!("{}:{port}", text.rsplit_once(':').expect("an address with a port").0)
}

#[test]
fn a_masqueraded_connection_comes_from_the_node_with_the_clients_port_and_finds_its_way_back() {
    for n in &FAMILIES {
        let mut dataplane = masquerading(n, &[n.backend]);
        for (proto, first, answer) in [
            (
                "TCP",
                Packet::tcp(flags::SYN, n.outside, n.vip),
                Packet::tcp(flags::SYN_ACK, n.backend, n.node),
            ),
            ("UDP", Packet::udp(n.outside, n.vip), Packet::udp(n.backend, n.node)),
        ] {
            assert_eq!(
                dataplane.run("from_wire", &first.bytes()),
                next(Reason::ServiceNew, &first.between(n.node, n.backend))
            );
            assert_eq!(
                dataplane.run("from_pod", &answer.bytes()),
                next(Reason::FlowReply, &answer.between(n.vip, n.outside))
            );
            let Names { outside, vip, backend, node, .. } = n;
            let service = if proto == "TCP" { 1 } else { 2 };
            // The client has not acknowledged the answer yet; of a datagram nobody expects it.
            let brief = if proto == "TCP" { ", brief" } else { "" };
            let mut expected = [
                format!(
                    "{outside} > {vip} {proto} = {node} > {backend} {{masqueraded{brief}}} stack service {service} generation 1"
                ),
                format!(
                    "{backend} > {node} {proto} = {vip} > {outside} {{reply, masqueraded, routed}} stack service {service} generation 1"
                ),
            ];
            expected.sort_unstable();
            let flows: Vec<String> =
                dataplane.flows().into_iter().filter(|line| line.contains(proto)).collect();
            assert_eq!(flows, expected);
        }
    }
}

#[test]
fn a_pod_that_is_its_own_backend_sees_the_node() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.own_backend], |_| {});
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        assert_eq!(
            dataplane.run("from_pod", &syn.bytes()),
            next(Reason::ServiceNew, &syn.between(n.node, n.own_backend))
        );
        let answer = Packet::tcp(flags::SYN_ACK, n.own_backend, n.node);
        assert_eq!(
            dataplane.run("from_pod", &answer.bytes()),
            next(Reason::FlowReply, &answer.between(n.vip, n.client))
        );
    }
}

#[test]
fn classes_of_clients_are_told_by_their_address() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |frontend| {
            frontend.rules = [ClientRule::CLUSTER, ClientRule::LOCAL, ClientRule::MASQUERADE];
        });
        let reason_and_source = |dataplane: &mut Dataplane, from: &str| {
            let syn = Packet::tcp(flags::SYN, from, n.vip);
            dataplane.run("from_wire", &syn.bytes())
        };
        let pod = Packet::tcp(flags::SYN, n.client, n.vip);
        assert_eq!(
            reason_and_source(&mut dataplane, n.client),
            next(Reason::ServiceNew, &pod.between(n.client, n.backend))
        );
        let outside = Packet::tcp(flags::SYN, n.outside, n.vip);
        let masqueraded = reason_and_source(&mut dataplane, n.outside);
        assert_eq!(masqueraded.reason, Reason::ServiceNew);
        let node = with_port(n.node, source_port(&masqueraded.bytes, n));
        assert_eq!(masqueraded, next(Reason::ServiceNew, &outside.between(&node, n.backend)));
        // The node's rule asks for local backends, of which there are none.
        assert_eq!(reason_and_source(&mut dataplane, n.node).reason, Reason::NoEndpoints);
    }
}

#[test]
fn a_privileged_or_taken_port_is_replaced_by_a_free_one() {
    for n in &FAMILIES {
        let mut dataplane = masquerading(n, &[n.backend]);
        let first = Packet::tcp(flags::SYN, n.low_client, n.vip);
        let run = dataplane.run("from_wire", &first.bytes());
        let port = source_port(&run.bytes, n);
        assert!(port >= 1024, "{port}");
        assert_eq!(run, next(Reason::ServiceNew, &first.between(&with_port(n.node, port), n.backend)));

        let one = Packet::tcp(flags::SYN, n.outside, n.vip);
        let other = Packet::tcp(flags::SYN, n.client, n.vip);
        assert_eq!(source_port(&dataplane.run("from_wire", &one.bytes()).bytes, n), 40_000);
        let run = dataplane.run("from_wire", &other.bytes());
        let port = source_port(&run.bytes, n);
        assert_ne!(port, 40_000, "the port is taken by another client of the same backend");
        assert_eq!(run, next(Reason::ServiceNew, &other.between(&with_port(n.node, port), n.backend)));
    }
}

#[test]
fn a_port_of_a_socket_of_the_node_is_left_to_it() {
    for n in &FAMILIES {
        let mut dataplane = masquerading(n, &[n.backend]);
        let prefix = if n.node.starts_with('[') { "128" } else { "32" };
        ip(&format!(
            "addr add {}/{prefix} dev lo{}",
            addr(n.node).ip(),
            if prefix == "128" { " nodad" } else { "" }
        ));
        let _tcp = TcpListener::bind(addr(n.node)).expect("the port is free");
        let _udp = UdpSocket::bind(addr(n.node)).expect("the port is free");
        for packet in [Packet::tcp(flags::SYN, n.outside, n.vip), Packet::udp(n.outside, n.vip)] {
            let run = dataplane.run("from_wire", &packet.bytes());
            assert_eq!(run.reason, Reason::ServiceNew);
            assert_ne!(source_port(&run.bytes, n), 40_000);
        }
    }
}

#[test]
fn a_node_without_an_address_cannot_masquerade() {
    for n in &FAMILIES {
        let mut dataplane = masquerading(n, &[n.backend]);
        dataplane.set_node::<V4>("0.0.0.0", "10.244.0.0/16", "10.96.0.0/16");
        dataplane.set_node::<V6>("::", "fd00:244::/32", "fd00:96::/64");
        let syn = Packet::tcp(flags::SYN, n.outside, n.vip);
        assert_eq!(dataplane.run("from_wire", &syn.bytes()), dropped(Reason::NoNodeAddress, &syn));
    }
}

#[test]
fn a_backend_on_the_node_itself_is_not_masqueraded_because_no_hook_would_see_its_answer() {
    for n in &FAMILIES {
        // Whether its endpoint names the node or not.
        for backend in [format!("{}*", n.host_backend), n.host_backend.to_owned()] {
            let mut dataplane = masquerading(n, &[&backend]);
            let syn = Packet::tcp(flags::SYN, n.outside, n.vip);
            assert_eq!(
                dataplane.run("from_wire", &syn.bytes()),
                next(Reason::ServiceNew, &syn.between(n.outside, n.host_backend))
            );
            let answer = Packet::tcp(flags::SYN_ACK, n.host_backend, n.outside);
            assert_eq!(
                dataplane.run("to_wire", &answer.bytes()),
                next(Reason::FlowReply, &answer.between(n.vip, n.outside))
            );
        }
    }
}
