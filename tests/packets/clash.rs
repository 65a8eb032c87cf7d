//! Answers that could belong to two connections: one to a Service and one straight to its backend with the same
//! ports. A client that reuses a port must not get the other's packets.

use proxy_common::{ClientRule, DatapathConfig, Proto, Reason};
use tests::dataplane::{Dataplane, config};
use tests::packet::{Packet, flags};

use crate::family::{FAMILIES, Names, next, other_port};

fn established(n: &Names) -> Dataplane {
    let mut dataplane = Dataplane::new(config());
    dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
    dataplane.serve(Proto::UDP, n.vip, &[n.backend], |_| {});
    dataplane.run("from_pod", &Packet::tcp(flags::SYN, n.client, n.vip).bytes());
    dataplane.run("from_wire", &Packet::tcp(flags::SYN_ACK, n.backend, n.client).bytes());
    dataplane
}

#[test]
fn a_direct_connection_is_not_disturbed_by_one_to_the_service_that_is_over() {
    for n in &FAMILIES {
        let mut dataplane = established(n);
        dataplane.run("from_pod", &Packet::tcp(flags::FIN, n.client, n.vip).bytes());
        dataplane.run("from_wire", &Packet::tcp(flags::FIN, n.backend, n.client).bytes());
        let syn = Packet::tcp(flags::SYN, n.client, n.backend);
        assert_eq!(dataplane.run("from_pod", &syn.bytes()), next(Reason::NotAService, &syn));
        assert_eq!(dataplane.flows(), [""; 0]);
        let answer = Packet::tcp(flags::SYN_ACK, n.backend, n.client);
        assert_eq!(dataplane.run("from_wire", &answer.bytes()), next(Reason::MidStream, &answer));
    }
}

#[test]
fn a_direct_connection_of_a_pod_that_is_not_served_here_meets_no_entry_of_another_road() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(DatapathConfig { pod_packets: 0, ..config() });
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        // By the wire, so that there are entries although packets of pods are not served.
        dataplane.run("from_wire", &Packet::tcp(flags::SYN, n.client, n.vip).bytes());
        dataplane.run("from_pod", &Packet::tcp(flags::SYN_ACK, n.backend, n.client).bytes());
        dataplane.run("from_wire", &Packet::tcp(flags::RST, n.client, n.vip).bytes());
        let syn = Packet::tcp(flags::SYN, n.client, n.backend);
        assert_eq!(dataplane.run("from_pod", &syn.bytes()), next(Reason::NotAService, &syn));
        assert_eq!(dataplane.flows(), [""; 0]);
    }
}

#[test]
fn a_direct_connection_beside_a_live_one_to_the_service_is_told_apart_by_its_source() {
    for n in &FAMILIES {
        let mut dataplane = established(n);
        let syn = Packet::tcp(flags::SYN, n.client, n.backend);
        let run = dataplane.run("from_pod", &syn.bytes());
        let told = other_port(&run, n.client);
        assert_eq!(run, next(Reason::PortClash, &syn.between(&told, n.backend)));
        let answer = Packet::tcp(flags::SYN_ACK, n.backend, &told);
        assert_eq!(
            dataplane.run("from_wire", &answer.bytes()),
            next(Reason::FlowReply, &answer.between(n.backend, n.client))
        );
        let ack = Packet::tcp(flags::ACK, n.client, n.backend).with_payload(b"direct");
        assert_eq!(
            dataplane.run("from_pod", &ack.bytes()),
            next(Reason::FlowForward, &ack.between(&told, n.backend))
        );
        let other = Packet::tcp(flags::ACK, n.backend, n.client).with_payload(b"of the service");
        assert_eq!(
            dataplane.run("from_wire", &other.bytes()),
            next(Reason::FlowReply, &other.between(n.vip, n.client))
        );
    }
}

#[test]
fn a_direct_connection_does_not_take_the_answer_to_an_unanswered_one() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        dataplane.run("from_pod", &Packet::tcp(flags::SYN, n.client, n.vip).bytes());
        let syn = Packet::tcp(flags::SYN, n.client, n.backend);
        let run = dataplane.run("from_pod", &syn.bytes());
        assert_eq!(run, next(Reason::PortClash, &syn.between(&other_port(&run, n.client), n.backend)));
    }
}

#[test]
fn a_direct_datagram_beside_an_answered_service_is_told_apart_too() {
    for n in &FAMILIES {
        let mut dataplane = established(n);
        dataplane.run("from_pod", &Packet::udp(n.client, n.vip).bytes());
        dataplane.run("from_wire", &Packet::udp(n.backend, n.client).bytes());
        let query = Packet::udp(n.client, n.backend);
        let run = dataplane.run("from_pod", &query.bytes());
        assert_eq!(run, next(Reason::PortClash, &query.between(&other_port(&run, n.client), n.backend)));
    }
}

#[test]
fn two_services_with_one_backend_do_not_mix_up_a_client_that_uses_one_port_for_both() {
    for n in &FAMILIES {
        let mut dataplane = established(n);
        let second = n.vip.replace("80", "443");
        dataplane.serve(Proto::TCP, &second, &[n.backend], |_| {});
        let syn = Packet::tcp(flags::SYN, n.client, &second);
        let run = dataplane.run("from_pod", &syn.bytes());
        let told = other_port(&run, n.client);
        assert_eq!(
            run,
            next(Reason::ServiceNew, &syn.between(&told, n.backend)),
            "a port is taken, no address"
        );
        let answer = Packet::tcp(flags::SYN_ACK, n.backend, &told);
        assert_eq!(
            dataplane.run("from_wire", &answer.bytes()),
            next(Reason::FlowReply, &answer.between(&second, n.client))
        );
        let ack = Packet::tcp(flags::ACK, n.client, &second).with_payload(b"more");
        assert_eq!(
            dataplane.run("from_pod", &ack.bytes()),
            next(Reason::FlowForward, &ack.between(&told, n.backend))
        );
    }
}

#[test]
fn the_nodes_own_connection_is_told_apart_from_a_masqueraded_one() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |frontend| {
            frontend.rules = [ClientRule::MASQUERADE; 3];
        });
        dataplane.run("from_wire", &Packet::tcp(flags::SYN, n.outside, n.vip).bytes());
        dataplane.run("from_pod", &Packet::tcp(flags::SYN_ACK, n.backend, n.node).bytes());
        let syn = Packet::tcp(flags::SYN, n.node, n.backend);
        let run = dataplane.run("to_pod", &syn.bytes());
        assert_eq!(run.reason, Reason::PortClash);
        assert_ne!(run.bytes, syn.bytes());
    }
}

/// Item 58: under a Local policy a backend sees who asks, also if that one asks by two frontends from one port.
#[test]
fn a_client_from_outside_keeps_its_address_though_its_port_is_taken() {
    for n in &FAMILIES {
        for proto in [Proto::TCP, Proto::UDP] {
            let packet = |from: &str, to: &str| match proto {
                Proto::TCP => Packet::tcp(flags::SYN, from, to),
                _ => Packet::udp(from, to),
            };
            let answer = |to: &str| match proto {
                Proto::TCP => Packet::tcp(flags::SYN_ACK, n.backend, to),
                _ => Packet::udp(n.backend, to),
            };
            let mut dataplane = Dataplane::new(config());
            let second = n.vip.replace("80", "443");
            for vip in [n.vip, &second] {
                dataplane.serve(proto, vip, &[n.backend], |frontend| {
                    frontend.rules = [ClientRule::LOCAL; 3];
                    frontend.local = frontend.cluster;
                });
            }
            let first = packet(n.outside, n.vip);
            let run = dataplane.run("from_wire", &first.bytes());
            assert_eq!(run, next(Reason::ServiceNew, &first.between(n.outside, n.backend)));
            let other = packet(n.outside, &second);
            let run = dataplane.run("from_wire", &other.bytes());
            let told = other_port(&run, n.outside);
            assert_eq!(run, next(Reason::ServiceNew, &other.between(&told, n.backend)));
            for (to, vip) in [(n.outside, n.vip), (&told, &second)] {
                let answer = answer(to);
                let run = dataplane.run("from_pod", &answer.bytes());
                assert_eq!(run, next(Reason::FlowReply, &answer.between(vip, n.outside)));
            }
            let run = dataplane.run("from_wire", &other.bytes());
            assert_eq!(run.bytes, other.between(&told, n.backend).bytes(), "the port stays");
        }
    }
}
