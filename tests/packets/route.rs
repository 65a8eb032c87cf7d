//! Where translated packets go: into a local pod, out of an uplink, through the stack. With real devices, routes and
//! neighbours in the test's namespace.

use proxy_common::{DatapathConfig, DeviceKind, Proto, Reason};
use tests::dataplane::{Dataplane, Run, code, config, ip};
use tests::icmp::{IcmpError, Wrong};
use tests::packet::{Link, Packet, addr, flags};

use crate::family::{FAMILIES, Names, next};

pub(crate) const POD: u32 = 10;
pub(crate) const UPLINK: u32 = 20;
const BRIDGE: u32 = 30;
pub(crate) const HOST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x10];
pub(crate) const POD_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x11];
pub(crate) const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x20];
pub(crate) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x21];

/// A node with a pod behind `pod`, an uplink, and a device of no known kind. Backends are routed to by the tests.
pub(crate) fn node(n: &Names) -> Dataplane {
    node_with(n, config())
}

pub(crate) fn node_with(n: &Names, config: DatapathConfig) -> Dataplane {
    let mut dataplane = Dataplane::new(config);
    for (name, index, mac) in
        [("pod", POD, HOST_MAC), ("uplink", UPLINK, UPLINK_MAC), ("other", BRIDGE, [2, 0, 0, 0, 0, 0x30])]
    {
        ip(&format!("link add {name} index {index} address {} type veth peer name {name}-peer", text(mac)));
        for end in [name.to_owned(), format!("{name}-peer")] {
            ip(&format!("link set {end} up"));
        }
    }
    for (file, value) in [("net/ipv4/ip_forward", "1"), ("net/ipv6/conf/all/forwarding", "1")] {
        std::fs::write(format!("/proc/sys/{file}"), value).expect("a namespace has its own switches");
    }
    dataplane.add_device(POD, DeviceKind::POD);
    dataplane.add_device(UPLINK, DeviceKind::UPLINK);
    dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
    dataplane
}

fn text(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

pub(crate) fn route(to: &str, device: &str) {
    let family = if to.starts_with('[') { "-6" } else { "-4" };
    ip(&format!("{family} route replace {} dev {device}", addr(to).ip()));
}

pub(crate) fn neighbour(of: &str, device: &str, mac: [u8; 6]) {
    ip(&format!("neigh replace {} lladdr {} dev {device} nud permanent", addr(of).ip(), text(mac)));
}

pub(crate) fn redirected(reason: Reason, packet: &Packet) -> Run {
    Run { reason, code: code::REDIRECT, bytes: packet.bytes() }
}

#[test]
fn a_local_backend_is_reached_through_its_veth_and_remembered() {
    for n in &FAMILIES {
        let mut dataplane = node(n);
        route(n.backend, "pod");
        neighbour(n.backend, "pod", POD_MAC);
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        let link = Link { to: POD_MAC, from: HOST_MAC };
        let delivered = syn.between(n.client, n.backend).forwarded(link);
        for reason in [Reason::ServiceNew, Reason::FlowForward] {
            assert_eq!(dataplane.run_on("from_pod", UPLINK, &syn.bytes()), redirected(reason, &delivered));
        }
        assert!(
            dataplane.half_open().iter().any(|line| line.contains("{routed} peer")),
            "{:?}",
            dataplane.half_open()
        );
    }
}

#[test]
fn a_remote_backend_is_reached_through_the_uplink() {
    for n in &FAMILIES {
        let mut dataplane = node(n);
        route(n.backend, "uplink");
        neighbour(n.backend, "uplink", GATEWAY_MAC);
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        let link = Link { to: GATEWAY_MAC, from: UPLINK_MAC };
        let sent = syn.between(n.client, n.backend).forwarded(link);
        assert_eq!(dataplane.run_on("from_pod", POD, &syn.bytes()), redirected(Reason::ServiceNew, &sent));
        assert!(
            dataplane.half_open().iter().any(|line| line.contains("{routed} device")),
            "{:?}",
            dataplane.half_open()
        );
    }
}

#[test]
fn a_neighbour_that_is_not_known_is_left_to_the_kernel_and_not_remembered() {
    for n in &FAMILIES {
        let mut dataplane = node(n);
        route(n.backend, "pod");
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        // The kernel writes the Ethernet header itself when it knows the neighbour.
        let handed_over = syn.between(n.client, n.backend).forwarded(syn.link);
        assert_eq!(
            dataplane.run_on("from_pod", UPLINK, &syn.bytes()),
            redirected(Reason::ServiceNew, &handed_over)
        );
        assert!(
            dataplane.half_open().iter().any(|line| line.contains("{} neighbour")),
            "{:?}",
            dataplane.half_open()
        );
        neighbour(n.backend, "pod", POD_MAC);
        let delivered = handed_over.forwarded(Link { to: POD_MAC, from: HOST_MAC });
        let delivered = Packet { hops: 63, ..delivered };
        assert_eq!(
            dataplane.run_on("from_pod", UPLINK, &syn.bytes()),
            redirected(Reason::FlowForward, &delivered)
        );
    }
}

#[test]
fn a_device_of_no_known_kind_is_the_stacks() {
    for n in &FAMILIES {
        let mut dataplane = node(n);
        route(n.backend, "other");
        neighbour(n.backend, "other", POD_MAC);
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        let translated = syn.between(n.client, n.backend);
        assert_eq!(dataplane.run_on("from_pod", POD, &syn.bytes()), next(Reason::ServiceNew, &translated));
    }
}

#[test]
fn an_answer_is_routed_to_the_client_and_not_to_the_frontend() {
    for n in &FAMILIES {
        let mut dataplane = node(n);
        route(n.backend, "uplink");
        neighbour(n.backend, "uplink", GATEWAY_MAC);
        route(n.client, "pod");
        neighbour(n.client, "pod", POD_MAC);
        dataplane.run_on("from_pod", POD, &Packet::tcp(flags::SYN, n.client, n.vip).bytes());
        let answer = Packet::tcp(flags::SYN_ACK, n.backend, n.client);
        let mut arriving = answer.clone();
        arriving.link.to = UPLINK_MAC;
        let link = Link { to: POD_MAC, from: HOST_MAC };
        let delivered = answer.between(n.vip, n.client).forwarded(link);
        assert_eq!(
            dataplane.run_on("from_wire", UPLINK, &arriving.bytes()),
            redirected(Reason::FlowReply, &delivered)
        );
    }
}

#[test]
fn a_packet_without_hops_left_is_the_stacks_which_tells_its_sender() {
    for n in &FAMILIES {
        let mut dataplane = node(n);
        route(n.backend, "pod");
        neighbour(n.backend, "pod", POD_MAC);
        let syn = Packet { hops: 1, ..Packet::tcp(flags::SYN, n.client, n.vip) };
        let translated = syn.between(n.client, n.backend);
        assert_eq!(dataplane.run_on("from_pod", UPLINK, &syn.bytes()), next(Reason::ServiceNew, &translated));
    }
}

#[test]
fn a_route_that_moved_is_noticed_when_the_entry_is_stamped() {
    let n = &FAMILIES[0];
    let mut dataplane = node(n);
    route(n.backend, "pod");
    neighbour(n.backend, "pod", POD_MAC);
    dataplane.run_on("from_pod", UPLINK, &Packet::tcp(flags::SYN, n.client, n.vip).bytes());
    dataplane.run_on("from_wire", UPLINK, &{
        let mut answer = Packet::tcp(flags::SYN_ACK, n.backend, n.client);
        answer.link.to = UPLINK_MAC;
        answer.bytes()
    });
    let ack = Packet::tcp(flags::ACK, n.client, n.vip);
    let translated = ack.between(n.client, n.backend);
    let local =
        redirected(Reason::FlowForward, &translated.clone().forwarded(Link { to: POD_MAC, from: HOST_MAC }));
    assert_eq!(dataplane.run_on("from_pod", UPLINK, &ack.bytes()), local);
    route(n.backend, "uplink");
    neighbour(n.backend, "uplink", GATEWAY_MAC);
    dataplane.change_flows::<proxy_common::V4>(|_, flow| flow.seen = flow.seen.wrapping_sub(1000));
    let remote =
        redirected(Reason::FlowForward, &translated.forwarded(Link { to: GATEWAY_MAC, from: UPLINK_MAC }));
    assert_eq!(dataplane.run_on("from_pod", UPLINK, &ack.bytes()), remote);
}

#[test]
fn at_an_egress_hook_a_packet_keeps_its_way() {
    for n in &FAMILIES {
        let mut dataplane = node(n);
        route(n.client, "pod");
        neighbour(n.client, "pod", POD_MAC);
        dataplane.run_on("from_pod", POD, &Packet::tcp(flags::SYN, n.client, n.vip).bytes());
        let answer = Packet::tcp(flags::SYN_ACK, n.backend, n.client);
        assert_eq!(
            dataplane.run_on("to_pod", POD, &answer.bytes()),
            next(Reason::FlowReply, &answer.between(n.vip, n.client))
        );
    }
}

/// A packet of this many bytes behind its Ethernet header.
fn of_size(bytes: usize, cut: Cut, from: &str, to: &str) -> Packet {
    let headers = if from.starts_with('[') { 48 } else { 28 };
    let packet = Packet::udp(from, to).with_payload(&vec![0xa5; bytes - headers]);
    match cut {
        Cut::Allowed => Packet { may_be_cut: true, ..packet },
        Cut::Forbidden => packet,
    }
}

#[derive(Clone, Copy)]
enum Cut {
    Allowed,
    Forbidden,
}

#[test]
fn a_packet_that_is_too_large_for_its_way_is_refused_with_the_size_that_fits() {
    for n in &FAMILIES {
        let mut dataplane = node(n);
        dataplane.serve(Proto::UDP, n.vip, &[n.backend], |_| {});
        ip("link set uplink mtu 1400");
        route(n.backend, "uplink");
        neighbour(n.backend, "uplink", GATEWAY_MAC);
        let link = Link { to: GATEWAY_MAC, from: UPLINK_MAC };
        let fits = of_size(1400, Cut::Forbidden, n.client, n.vip);
        let sent = fits.between(n.client, n.backend).forwarded(link);
        assert_eq!(dataplane.run_on("from_pod", POD, &fits.bytes()), redirected(Reason::ServiceNew, &sent));
        let large = of_size(1401, Cut::Forbidden, n.client, n.vip);
        let told = IcmpError {
            link: Link { to: large.link.from, from: large.link.to },
            quoted: if n.vip.starts_with('[') { 48 } else { 28 },
            service: 0xc0,
            ..IcmpError::new(Wrong::TooLarge(1400), &addr(n.vip).ip().to_string(), &large)
        };
        let run = Run { reason: Reason::TooLarge, code: code::REDIRECT, bytes: told.bytes() };
        assert_eq!(dataplane.run_on("from_pod", POD, &large.bytes()), run);
    }
}

#[test]
fn a_packet_that_is_too_large_and_may_be_cut_is_the_stacks() {
    let n = &FAMILIES[0];
    let mut dataplane = node(n);
    dataplane.serve(Proto::UDP, n.vip, &[n.backend], |_| {});
    ip("link set uplink mtu 1400");
    route(n.backend, "uplink");
    neighbour(n.backend, "uplink", GATEWAY_MAC);
    let large = of_size(1401, Cut::Allowed, n.client, n.vip);
    assert_eq!(
        dataplane.run_on("from_pod", POD, &large.bytes()),
        next(Reason::ServiceNew, &large.between(n.client, n.backend))
    );
}

/// The stack takes no packet that comes in with an address of the node's own (item 57, 110).
#[test]
fn a_masqueraded_packet_that_is_too_large_is_refused_although_it_may_be_cut() {
    let n = &FAMILIES[0];
    let mut dataplane = node(n);
    dataplane.serve(Proto::UDP, n.vip, &[n.backend], |frontend| {
        frontend.rules = [proxy_common::ClientRule::MASQUERADE; 3];
    });
    ip("link set uplink mtu 1400");
    dataplane.add_local(&addr(n.node).ip().to_string());
    route(n.backend, "uplink");
    neighbour(n.backend, "uplink", GATEWAY_MAC);
    let large = of_size(1401, Cut::Allowed, n.client, n.vip);
    let told = IcmpError {
        link: Link { to: large.link.from, from: large.link.to },
        quoted: 28,
        service: 0xc0,
        ..IcmpError::new(Wrong::TooLarge(1400), &addr(n.vip).ip().to_string(), &large)
    };
    let run = Run { reason: Reason::TooLarge, code: code::REDIRECT, bytes: told.bytes() };
    assert_eq!(dataplane.run_on("from_pod", POD, &large.bytes()), run);
}

#[test]
fn an_error_about_a_packet_takes_the_flows_way() {
    for n in &FAMILIES {
        let mut dataplane = node(n);
        for (addr, device, mac) in [(n.backend, "uplink", GATEWAY_MAC), (n.client, "pod", POD_MAC)] {
            route(addr, device);
            neighbour(addr, device, mac);
        }
        let sent = Packet::tcp(flags::SYN, n.client, n.vip);
        dataplane.run_on("from_pod", POD, &sent.bytes());
        let router = if n.vip.starts_with('[') { "2001:db8:ff::1" } else { "198.51.100.254" };
        let mut error = IcmpError::new(Wrong::TooLarge(1280), router, &sent.between(n.client, n.backend));
        error.link.to = UPLINK_MAC;
        let expected = IcmpError {
            link: Link { to: POD_MAC, from: HOST_MAC },
            from: addr(n.vip).ip(),
            hops: 63,
            about: sent,
            ..error.clone()
        };
        let run = Run { reason: Reason::RelatedError, code: code::REDIRECT, bytes: expected.bytes() };
        assert_eq!(dataplane.run_on("from_wire", UPLINK, &error.bytes()), run);
    }
}
