//! What is not served: rejected at once, dropped, or left alone (items 50, 52, 53, 90, 91, 94).

use proxy_common::{ClientRule, DatapathConfig, Proto, Reason, Segment, V4, V6};
use tests::dataplane::{Dataplane, config};
use tests::packet::{Extra, Packet, flags};

use crate::family::{FAMILIES, Names, dropped, next, rejected};

/// The first packet of each protocol.
fn opening(from: &str, to: &str) -> [Packet; 2] {
    [Packet::tcp(flags::SYN, from, to), Packet::udp(from, to)]
}

fn serve_both(dataplane: &mut Dataplane, n: &Names, backends: &[&str], rule: ClientRule) {
    for proto in [Proto::TCP, Proto::UDP] {
        dataplane.serve(proto, n.vip, backends, |frontend| frontend.rules = [rule; 3]);
    }
}

#[test]
fn a_service_without_backends_rejects_at_once_on_the_device_that_asked() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        serve_both(&mut dataplane, n, &[], ClientRule::CLUSTER);
        for packet in opening(n.client, n.vip) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
        for packet in opening(n.outside, n.vip) {
            assert_eq!(dataplane.run("from_wire", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
        assert_eq!(dataplane.half_open(), [""; 0]);
    }
}

#[test]
fn a_syn_with_options_gets_a_bare_rst() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        serve_both(&mut dataplane, n, &[], ClientRule::CLUSTER);
        // Maximum segment size, window scale and filling, as stacks send them; then as long as options can be.
        for options in [vec![2, 4, 0x05, 0xb4, 1, 3, 3, 7], vec![1; 40]] {
            let packet = Packet { options, ..Packet::tcp(flags::SYN, n.client, n.vip) };
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
    }
}

#[test]
fn a_reject_quotes_the_headers_and_not_the_data() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        serve_both(&mut dataplane, n, &[], ClientRule::CLUSTER);
        for packet in opening(n.client, n.vip) {
            let packet = packet.with_payload(&[0xa5; 999]);
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
    }
}

#[test]
fn a_reject_quotes_ipv4_options_and_ipv6_extension_headers() {
    let extras = [
        Extra { kind: 0, bytes: vec![1; 12] },
        Extra { kind: 60, bytes: vec![0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] },
    ];
    for (n, extra) in FAMILIES.iter().zip(extras) {
        let mut dataplane = Dataplane::new(config());
        serve_both(&mut dataplane, n, &[], ClientRule::CLUSTER);
        for packet in opening(n.client, n.vip) {
            let packet = Packet { extra: vec![extra.clone()], ..packet };
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
    }
}

#[test]
fn an_unknown_port_of_a_cluster_address_rejects() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        serve_both(&mut dataplane, n, &[n.backend], ClientRule::CLUSTER);
        for packet in opening(n.client, n.vip_other_port) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), rejected(Reason::UnknownPort, &packet));
        }
    }
}

#[test]
fn an_unknown_port_rejects_also_while_nobody_has_said_where_cluster_addresses_are() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.set_node::<V4>("192.168.0.1", "10.244.0.0/16", "");
        dataplane.set_node::<V6>("fd00:168::1", "fd00:244::/32", "");
        serve_both(&mut dataplane, n, &[n.backend], ClientRule::CLUSTER);
        for packet in opening(n.client, n.vip_other_port) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), rejected(Reason::UnknownPort, &packet));
        }
        for packet in opening(n.client, n.unowned) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::NotAService, &packet));
        }
    }
}

#[test]
fn an_address_that_no_service_owns_drops_in_the_range_of_services_only() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        for packet in opening(n.client, n.unowned) {
            assert_eq!(
                dataplane.run("from_pod", &packet.bytes()),
                dropped(Reason::UnallocatedAddress, &packet)
            );
        }
        for packet in opening(n.client, n.stranger) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::NotAService, &packet));
        }
        assert_eq!(dataplane.half_open(), [""; 0]);
    }
}

#[test]
fn a_local_policy_without_local_backends_drops_in_silence() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        serve_both(&mut dataplane, n, &[n.backend], ClientRule::LOCAL.with(ClientRule::DROP_IF_EMPTY));
        for packet in opening(n.client, n.vip) {
            assert_eq!(
                dataplane.run("from_pod", &packet.bytes()),
                dropped(Reason::NoLocalEndpoints, &packet)
            );
        }
    }
}

#[test]
fn a_local_policy_uses_local_backends_only() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend, n.other_backend], |frontend| {
            frontend.rules = [ClientRule::LOCAL; 3];
            frontend.local = Segment { start: frontend.cluster.start + 1, len: 1 };
        });
        for port in 40_000..40_032 {
            let client = n.client.replace("40000", &port.to_string());
            let syn = Packet::tcp(flags::SYN, &client, n.vip);
            assert_eq!(
                dataplane.run("from_pod", &syn.bytes()),
                next(Reason::ServiceNew, &syn.between(&client, n.other_backend))
            );
        }
    }
}

#[test]
fn nobody_is_told_what_he_did_not_ask_as_one_host() {
    for (n, many) in FAMILIES.iter().zip([
        ["224.0.0.9:40000", "0.0.0.0:40000", "127.0.0.1:40000"],
        ["[ff02::9]:40000", "[::]:40000", "[ff05::1]:40000"],
    ]) {
        let mut dataplane = Dataplane::new(config());
        serve_both(&mut dataplane, n, &[], ClientRule::CLUSTER);
        for from in many {
            let packet = Packet::udp(from, n.vip);
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), dropped(Reason::NoEndpoints, &packet));
        }
        let mut packet = Packet::udp(n.client, n.vip);
        packet.link.to = [0x01, 0, 0x5e, 0, 0, 9];
        assert_eq!(dataplane.run("from_pod", &packet.bytes()), dropped(Reason::NoEndpoints, &packet));
    }
}

#[test]
fn pods_that_use_the_socket_road_are_left_alone_and_outsiders_are_not() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(DatapathConfig { pod_packets: 0, ..config() });
        serve_both(&mut dataplane, n, &[n.backend], ClientRule::CLUSTER);
        for packet in opening(n.client, n.vip) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::NotAService, &packet));
        }
        for packet in opening(n.outside, n.vip) {
            let translated = packet.between(n.outside, n.backend);
            assert_eq!(dataplane.run("from_wire", &packet.bytes()), next(Reason::ServiceNew, &translated));
        }
    }
}

#[test]
fn the_nodes_own_packets_are_served_where_they_leave_if_no_socket_hook_does_it() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(DatapathConfig { node_packets: 1, ..config() });
        serve_both(&mut dataplane, n, &[n.backend], ClientRule::CLUSTER);
        for packet in opening(n.node, n.vip) {
            let translated = packet.between(n.node, n.backend);
            assert_eq!(dataplane.run("to_wire", &packet.bytes()), next(Reason::ServiceNew, &translated));
        }
        let mut dataplane = Dataplane::new(config());
        serve_both(&mut dataplane, n, &[n.backend], ClientRule::CLUSTER);
        for packet in opening(n.node, n.vip) {
            assert_eq!(dataplane.run("to_wire", &packet.bytes()), next(Reason::NotAService, &packet));
        }
    }
}

#[test]
fn a_reject_at_an_egress_hook_goes_back_into_the_node() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(DatapathConfig { node_packets: 1, ..config() });
        serve_both(&mut dataplane, n, &[], ClientRule::CLUSTER);
        for packet in opening(n.node, n.vip) {
            assert_eq!(dataplane.run("to_wire", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
    }
}
