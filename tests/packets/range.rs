//! Source ranges of load balancers' addresses: who is not in one is dropped before anything else (items 81, 82).

use proxy_common::{
    Addr4, Addr6, Address, ClientRule, DatapathConfig, FrontendFlags, Proto, RangeKey, Reason, ServiceId,
};
use tests::dataplane::{Dataplane, config};
use tests::object;
use tests::packet::{Packet, flags};

use crate::family::{FAMILIES, Names, dropped, next, rejected};

/// The first packet of each protocol.
fn opening(from: &str, to: &str) -> [Packet; 2] {
    [Packet::tcp(flags::SYN, from, to), Packet::udp(from, to)]
}

fn serve(dataplane: &mut Dataplane, n: &Names, backends: &[&str], ranges: &[&str]) {
    for proto in [Proto::TCP, Proto::UDP] {
        let service = dataplane.serve(proto, n.vip, backends, |frontend| {
            frontend.rules = [ClientRule::CLUSTER; 3];
            frontend.flags = FrontendFlags::EXTERNAL.with(FrontendFlags::RANGES);
        });
        for range in ranges {
            admit(dataplane, service, range);
        }
    }
}

fn admit(dataplane: &mut Dataplane, service: ServiceId, range: &str) {
    let (ip, len) = range.split_once('/').expect("a range");
    let (ip, len) = (ip.parse().expect("an address"), len.parse().expect("a length"));
    if let Some(addr) = Addr4::from_ip(ip) {
        object::admit(dataplane.object(), "ranges4", "node4", RangeKey::new(service, addr, len));
    }
    if let Some(addr) = Addr6::from_ip(ip) {
        object::admit(dataplane.object(), "ranges6", "node6", RangeKey::new(service, addr, len));
    }
}

/// Ranges that hold the pod and no one else of [`Names`]; with a length that ends inside of a byte.
const PODS: [&str; 2] = ["10.244.1.0/28", "fd00:244:1::/63"];
/// Ranges that hold the client outside.
const OUTSIDE: [&str; 2] = ["203.0.113.9/32", "2001:db8::8/125"];
/// Everybody.
const ALL: [&str; 2] = ["0.0.0.0/0", "::/0"];

#[test]
fn who_is_in_a_range_is_served_and_who_is_not_is_dropped() {
    for (n, (pods, outside)) in FAMILIES.iter().zip(PODS.into_iter().zip(OUTSIDE)) {
        let mut dataplane = Dataplane::new(config());
        serve(&mut dataplane, n, &[n.backend], &[pods]);
        for packet in opening(n.client, n.vip) {
            let translated = packet.between(n.client, n.backend);
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::ServiceNew, &translated));
        }
        for (program, from) in [("from_wire", n.outside), ("from_pod", n.outside), ("from_wire", n.node)] {
            for packet in opening(from, n.vip) {
                assert_eq!(dataplane.run(program, &packet.bytes()), dropped(Reason::SourceRange, &packet));
            }
        }
        let mut dataplane = Dataplane::new(config());
        serve(&mut dataplane, n, &[n.backend], &[outside]);
        for packet in opening(n.outside, n.vip) {
            let translated = packet.between(n.outside, n.backend);
            assert_eq!(dataplane.run("from_wire", &packet.bytes()), next(Reason::ServiceNew, &translated));
        }
        for packet in opening(n.client, n.vip) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), dropped(Reason::SourceRange, &packet));
        }
    }
}

#[test]
fn without_backends_only_who_is_in_a_range_is_told() {
    for (n, pods) in FAMILIES.iter().zip(PODS) {
        let mut dataplane = Dataplane::new(config());
        serve(&mut dataplane, n, &[], &[pods]);
        for packet in opening(n.client, n.vip) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
        for packet in opening(n.outside, n.vip) {
            assert_eq!(dataplane.run("from_wire", &packet.bytes()), dropped(Reason::SourceRange, &packet));
        }
    }
}

#[test]
fn the_ranges_of_another_service_count_for_nothing_and_the_shortest_range_is_everybody() {
    for (n, all) in FAMILIES.iter().zip(ALL) {
        let mut dataplane = Dataplane::new(config());
        serve(&mut dataplane, n, &[n.backend], &[]);
        admit(&mut dataplane, ServiceId(99), all);
        for packet in opening(n.client, n.vip) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), dropped(Reason::SourceRange, &packet));
        }
        serve(&mut dataplane, n, &[n.backend], &[all]);
        for packet in opening(n.client, n.vip) {
            let translated = packet.between(n.client, n.backend);
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::ServiceNew, &translated));
        }
    }
}

#[test]
fn where_sockets_are_translated_pods_packets_are_served_at_such_frontends_alone() {
    for (n, pods) in FAMILIES.iter().zip(PODS) {
        let mut dataplane = Dataplane::new(DatapathConfig { pod_packets: 0, ..config() });
        serve(&mut dataplane, n, &[n.backend], &[pods]);
        for packet in opening(n.client, n.vip) {
            let translated = packet.between(n.client, n.backend);
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::ServiceNew, &translated));
        }
        for packet in opening(n.outside, n.vip) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), dropped(Reason::SourceRange, &packet));
        }
        for to in [n.vip_other_port, n.unowned, n.stranger] {
            for packet in opening(n.client, to) {
                assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::NotAService, &packet));
            }
        }
        // Without ranges the frontend is the sockets' again.
        for proto in [Proto::TCP, Proto::UDP] {
            dataplane.serve(proto, n.vip, &[n.backend], |frontend| frontend.flags = FrontendFlags::EXTERNAL);
        }
        for packet in opening(n.client.replace("40000", "40001").as_str(), n.vip) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::NotAService, &packet));
        }
    }
}

#[test]
fn the_nodes_own_packets_are_asked_for_their_source_where_they_leave() {
    for (n, node) in FAMILIES.iter().zip(["192.168.0.1/32", "fd00:168::1/128"]) {
        let mut dataplane = Dataplane::new(DatapathConfig { node_packets: 1, ..config() });
        serve(&mut dataplane, n, &[n.backend], &[]);
        for packet in opening(n.node, n.vip) {
            assert_eq!(dataplane.run("to_wire", &packet.bytes()), dropped(Reason::SourceRange, &packet));
        }
        serve(&mut dataplane, n, &[n.backend], &[node]);
        for packet in opening(n.node, n.vip) {
            let translated = packet.between(n.node, n.backend);
            assert_eq!(dataplane.run("to_wire", &packet.bytes()), next(Reason::ServiceNew, &translated));
        }
    }
}
