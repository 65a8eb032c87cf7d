//! What belongs to a connection without being part of it: ICMP errors about its packets, both ways (item 110).

use proxy_common::{ClientRule, Proto, Reason};
use tests::dataplane::{Dataplane, Run, code, config};
use tests::icmp::{IcmpError, Wrong};
use tests::packet::{Packet, Transport, addr, flags};

use crate::family::{FAMILIES, Names};

const ALL: [Wrong; 5] =
    [Wrong::Port, Wrong::Host, Wrong::TooLarge(1400), Wrong::TimeExceeded, Wrong::Parameter];

/// A router between the node and whoever it is that a packet did not reach.
fn router(n: &Names) -> &'static str {
    if n.vip.starts_with('[') { "2001:db8:ff::1" } else { "198.51.100.254" }
}

fn ip(name: &str) -> String {
    addr(name).ip().to_string()
}

/// Packets of a TCP and a UDP connection to the frontend, in the client's words.
fn connections(from: &str, to: &str) -> [Packet; 2] {
    [Packet::tcp(flags::ACK, from, to).with_payload(b"some data"), Packet::udp(from, to)]
}

fn open(dataplane: &mut Dataplane, n: &Names, from: &str, hook: &str) {
    for packet in [Packet::tcp(flags::SYN, from, n.vip), Packet::udp(from, n.vip)] {
        assert_eq!(dataplane.run(hook, &packet.bytes()).reason, Reason::ServiceNew);
    }
}

fn answer(dataplane: &mut Dataplane, n: &Names, to: &str, hook: &str) {
    for packet in [Packet::tcp(flags::SYN_ACK, n.backend, to), Packet::udp(n.backend, to)] {
        assert_eq!(dataplane.run(hook, &packet.bytes()).reason, Reason::FlowReply);
    }
}

fn serving(n: &Names, rule: ClientRule) -> Dataplane {
    let mut dataplane = Dataplane::new(config());
    for proto in [Proto::TCP, Proto::UDP] {
        dataplane.serve(proto, n.vip, &[n.backend], |frontend| frontend.rules = [rule; 3]);
    }
    dataplane
}

fn translated(error: &IcmpError) -> Run {
    Run { reason: Reason::RelatedError, code: code::NEXT, bytes: error.bytes() }
}

fn passed(error: &IcmpError) -> Run {
    Run { reason: Reason::NoPorts, code: code::NEXT, bytes: error.bytes() }
}

/// What is to become of an error about a packet of the client: it comes from the frontend and quotes what the client sent.
fn to_client(n: &Names, error: &IcmpError, sent: &Packet) -> IcmpError {
    let about = error.about.between(&sent.from.to_string(), n.vip);
    IcmpError { from: addr(n.vip).ip(), to: sent.from.ip(), about, ..error.clone() }
}

/// And of one about a packet of the backend: it quotes what the backend sent, to whom the backend believes it spoke.
fn to_backend(n: &Names, error: &IcmpError, client: &str) -> IcmpError {
    let about = error.about.between(n.backend, client);
    IcmpError { to: addr(n.backend).ip(), about, ..error.clone() }
}

#[test]
fn an_error_on_the_way_to_a_backend_reaches_the_client_as_one_about_its_own_packet() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        open(&mut dataplane, n, n.client, "from_pod");
        for answered in [false, true] {
            if answered {
                answer(&mut dataplane, n, n.client, "from_wire");
            }
            for sent in connections(n.client, n.vip) {
                for (wrong, hook) in
                    ALL.into_iter().zip(["from_wire", "from_pod", "to_pod"].into_iter().cycle())
                {
                    let error = IcmpError::new(wrong, router(n), &sent.between(n.client, n.backend));
                    assert_eq!(
                        dataplane.run(hook, &error.bytes()),
                        translated(&to_client(n, &error, &sent)),
                        "{wrong:?} {hook}"
                    );
                }
            }
        }
    }
}

#[test]
fn an_error_of_the_backend_itself_comes_from_the_frontend() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        open(&mut dataplane, n, n.client, "from_pod");
        for sent in connections(n.client, n.vip) {
            let error = IcmpError::new(Wrong::Port, &ip(n.backend), &sent.between(n.client, n.backend));
            assert_eq!(dataplane.run("from_wire", &error.bytes()), translated(&to_client(n, &error, &sent)));
        }
    }
}

#[test]
fn an_error_on_the_way_back_reaches_the_backend_as_one_about_its_own_packet() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        open(&mut dataplane, n, n.client, "from_pod");
        answer(&mut dataplane, n, n.client, "from_wire");
        for sent in connections(n.backend, n.client) {
            for wrong in ALL {
                let error = IcmpError::new(wrong, router(n), &sent.between(n.vip, n.client));
                assert_eq!(
                    dataplane.run("from_pod", &error.bytes()),
                    translated(&to_backend(n, &error, n.client))
                );
            }
        }
    }
}

#[test]
fn errors_about_a_masqueraded_connection_reach_both_ends() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::MASQUERADE);
        open(&mut dataplane, n, n.outside, "from_wire");
        answer(&mut dataplane, n, n.node, "from_pod");
        for sent in connections(n.outside, n.vip) {
            let error = IcmpError::new(Wrong::TooLarge(1400), router(n), &sent.between(n.node, n.backend));
            assert_eq!(dataplane.run("from_wire", &error.bytes()), translated(&to_client(n, &error, &sent)));
        }
        for sent in connections(n.backend, n.node) {
            let error = IcmpError::new(Wrong::TooLarge(1400), router(n), &sent.between(n.vip, n.outside));
            // The router's address is replaced as the client's is: the backend may have no way to it.
            let mut expected = to_backend(n, &error, n.node);
            expected.from = addr(n.node).ip();
            assert_eq!(dataplane.run("from_wire", &error.bytes()), translated(&expected));
        }
    }
}

/// A backend in the node's own network namespace: its errors leave by egress hooks, and errors about its answers come in
/// for an address that the node does not have.
#[test]
fn errors_of_and_for_a_backend_on_the_node_itself_are_translated_as_those_of_pods() {
    for n in &FAMILIES {
        for (client, inward, outward) in
            [(n.outside, "from_wire", "to_wire"), (n.client, "from_pod", "to_pod")]
        {
            let mut dataplane = Dataplane::new(config());
            for proto in [Proto::TCP, Proto::UDP] {
                dataplane.serve(proto, n.vip, &[&format!("{}*", n.host_backend)], |_| {});
            }
            open(&mut dataplane, n, client, inward);
            for answered in [false, true] {
                if answered {
                    for packet in [
                        Packet::tcp(flags::SYN_ACK, n.host_backend, client),
                        Packet::udp(n.host_backend, client),
                    ] {
                        assert_eq!(dataplane.run(outward, &packet.bytes()).reason, Reason::FlowReply);
                    }
                }
                for sent in connections(client, n.vip) {
                    let arrived = sent.between(client, n.host_backend);
                    let error = IcmpError::new(Wrong::Port, &ip(n.host_backend), &arrived);
                    let run = dataplane.run(outward, &error.bytes());
                    assert_eq!(run, translated(&to_client(n, &error, &sent)), "{outward}");
                }
                for sent in connections(n.host_backend, client) {
                    for wrong in ALL {
                        let error = IcmpError::new(wrong, router(n), &sent.between(n.vip, client));
                        let about = error.about.between(n.host_backend, client);
                        let wanted = IcmpError { to: addr(n.host_backend).ip(), about, ..error.clone() };
                        let run = dataplane.run(inward, &error.bytes());
                        assert_eq!(run, translated(&wanted), "{wrong:?} {inward}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_quote_of_eight_bytes_behind_the_network_header_is_enough() {
    for (n, network) in FAMILIES.iter().zip([20, 40]) {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        open(&mut dataplane, n, n.client, "from_pod");
        for sent in connections(n.client, n.vip) {
            let error = IcmpError {
                quoted: network + 8,
                ..IcmpError::new(Wrong::TooLarge(1400), router(n), &sent.between(n.client, n.backend))
            };
            assert_eq!(dataplane.run("from_wire", &error.bytes()), translated(&to_client(n, &error, &sent)));
        }
    }
}

#[test]
fn a_quoted_datagram_without_checksum_keeps_none() {
    let n = &FAMILIES[0];
    let mut dataplane = serving(n, ClientRule::CLUSTER);
    open(&mut dataplane, n, n.client, "from_pod");
    let sent = Packet::new(Transport::UdpUnsummed, n.client, n.vip).with_payload(b"data");
    let error = IcmpError::new(Wrong::Port, router(n), &sent.between(n.client, n.backend));
    assert_eq!(dataplane.run("from_wire", &error.bytes()), translated(&to_client(n, &error, &sent)));
}

#[test]
fn errors_that_are_not_about_a_flow_of_ours_pass() {
    for (n, network) in FAMILIES.iter().zip([20, 40]) {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        open(&mut dataplane, n, n.client, "from_pod");
        let direct = Packet::udp(n.client, n.other_backend);
        let ours = Packet::udp(n.client, n.backend);
        let about = |packet: &Packet| IcmpError::new(Wrong::Port, router(n), packet);
        for error in [
            about(&direct),
            // Told to somebody who did not send the packet.
            IcmpError { to: addr(n.stranger).ip(), ..about(&ours) },
            // Quotes too little, down to nothing.
            IcmpError { quoted: network + 3, ..about(&ours) },
            IcmpError { quoted: network, ..about(&ours) },
            IcmpError { quoted: network - 1, ..about(&ours) },
            IcmpError { quoted: 0, ..about(&ours) },
            about(&Packet::new(Transport::Echo, n.client, n.backend)),
        ] {
            for hook in ["from_pod", "to_pod", "from_wire", "to_wire"] {
                assert_eq!(dataplane.run(hook, &error.bytes()), passed(&error));
            }
        }
    }
}

#[test]
fn an_icmp_message_that_ends_before_its_header_does_is_dropped() {
    for (n, network) in FAMILIES.iter().zip([20, 40]) {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        let bytes = Packet::new(Transport::Echo, n.client, n.vip).bytes()[..14 + network + 7].to_vec();
        let run = dataplane.run("from_pod", &bytes);
        assert_eq!(run, Run { reason: Reason::Malformed, code: code::DROP, bytes });
    }
}

#[test]
fn an_error_creates_and_promotes_nothing() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        open(&mut dataplane, n, n.client, "from_pod");
        let before = dataplane.half_open().len();
        let error = IcmpError::new(Wrong::Port, router(n), &Packet::udp(n.client, n.backend));
        dataplane.run("from_wire", &error.bytes());
        assert_eq!((dataplane.half_open().len(), dataplane.flows().len()), (before, 0));
    }
}
