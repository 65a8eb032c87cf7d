//! Who is taken for a pod: by a range of the cluster, however many there are, or by the device that it sends through
//! (items 53, 62). And who is not served at all: a loopback address on a wire (item 68).

use proxy_common::{ClientRule, DeviceKind, FrontendFlags, NetKind, Proto, Reason};
use tests::dataplane::{Dataplane, config};
use tests::packet::{Packet, flags};

use crate::family::{FAMILIES, Names, dropped, next, rejected};

/// Pods are served, everybody else is refused.
fn for_pods_alone(dataplane: &mut Dataplane, n: &Names) {
    for proto in [Proto::TCP, Proto::UDP] {
        dataplane.serve(proto, n.vip, &[n.backend], |frontend| {
            frontend.rules = [ClientRule::CLUSTER, ClientRule::LOCAL, ClientRule::LOCAL];
        });
    }
}

fn opening(from: &str, to: &str) -> [Packet; 2] {
    [Packet::tcp(flags::SYN, from, to), Packet::udp(from, to)]
}

#[test]
fn item_62_a_pods_range_counts_also_where_there_are_more_than_the_nodes_entry_holds() {
    for (n, more) in FAMILIES.iter().zip(["203.0.113.0/24", "2001:db8::/64"]) {
        let mut dataplane = Dataplane::new(config());
        for_pods_alone(&mut dataplane, n);
        for packet in opening(n.outside, n.vip) {
            assert_eq!(dataplane.run("from_wire", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
        dataplane.add_net(NetKind::PODS, more);
        for packet in opening(n.outside, n.vip) {
            let translated = packet.between(n.outside, n.backend);
            assert_eq!(dataplane.run("from_wire", &packet.bytes()), next(Reason::ServiceNew, &translated));
        }
        for packet in opening(n.client, n.stranger) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::NotAService, &packet));
        }
    }
}

#[test]
fn item_53_a_range_of_services_counts_also_where_there_are_more_than_the_nodes_entry_holds() {
    for (n, more) in FAMILIES.iter().zip(["198.51.100.0/30", "2001:db8:1::/48"]) {
        let mut dataplane = Dataplane::new(config());
        for packet in opening(n.client, n.stranger) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::NotAService, &packet));
        }
        // A range of the other kind is no range of Services.
        dataplane.add_net(NetKind::PODS, more);
        for packet in opening(n.client, n.stranger) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::NotAService, &packet));
        }
        dataplane.add_net(NetKind::SERVICES, more);
        for packet in opening(n.client, n.stranger) {
            assert_eq!(
                dataplane.run("from_pod", &packet.bytes()),
                dropped(Reason::UnallocatedAddress, &packet)
            );
        }
    }
}

#[test]
fn item_62_pods_told_by_their_devices_are_pods_whatever_their_address_and_nobody_else_is() {
    const OTHER: u32 = 7;
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        for_pods_alone(&mut dataplane, n);
        dataplane.tell_pods_by_device();
        // The packets of the test come in by the loopback device, number 1.
        for packet in opening(n.client, n.vip) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
        dataplane.add_device(OTHER, DeviceKind::POD.with(DeviceKind::PODS_ONLY));
        dataplane.add_device(1, DeviceKind::POD);
        for packet in opening(n.client, n.vip) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
        dataplane.add_device(1, DeviceKind::POD.with(DeviceKind::PODS_ONLY));
        for packet in [opening(n.client, n.vip), opening(n.outside, n.vip)].into_iter().flatten() {
            let from = packet.from.to_string();
            let translated = packet.between(&from, n.backend);
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), next(Reason::ServiceNew, &translated));
        }
        // The node's own address is the node's also there.
        for packet in opening(n.node, n.vip) {
            assert_eq!(dataplane.run("from_pod", &packet.bytes()), rejected(Reason::NoEndpoints, &packet));
        }
    }
}

#[test]
fn item_68_a_loopback_address_is_not_served_to_packets() {
    for (n, loopback) in FAMILIES.iter().zip(["127.0.0.1:30080", "[::1]:30080"]) {
        let mut dataplane = Dataplane::new(config());
        for proto in [Proto::TCP, Proto::UDP] {
            dataplane.serve(proto, loopback, &[n.backend], |frontend| {
                frontend.flags = FrontendFlags::NODE_PORT.with(FrontendFlags::NODE_ONLY);
            });
        }
        for program in ["from_pod", "from_wire"] {
            for packet in opening(n.outside, loopback) {
                assert_eq!(dataplane.run(program, &packet.bytes()), next(Reason::NotAService, &packet));
            }
        }
    }
}
