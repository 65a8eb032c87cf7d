//! Large packets and fragments through a Service with real sockets: path MTU discovery through the address of a Service,
//! large datagrams both ways, and fragments in the wrong order (items 110, 111).

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use proxy_common::{ClientRule, Proto, Reason};
use tests::packet::{Fragment, Packet, Transport, addr};

use super::peer::{bulk, mac_of, send_frames, serve_both};
use super::world::{FAMILIES, Names, Namespace, World};

/// What the narrowest link takes.
const NARROW: usize = 1300;
const PATIENCE: Duration = Duration::from_secs(20);

/// A host behind the outside client, which is a router to it and forwards little at once. Its address.
fn far(world: &World) -> (Namespace, &'static str) {
    let far = Namespace::new();
    let (here, there, via, bits) = if world.names.host_bits == 32 {
        ("192.168.7.1", "192.168.7.2", world.names.outside, 24)
    } else {
        ("fd00:7::1", "fd00:7::2", world.names.outside, 64)
    };
    let nodad = world.names.nodad;
    let thread = far.thread;
    world.outside.run(|| {
        for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/net/{file}"), "1").expect("a namespace has its own switches");
        }
    });
    world.outside.ip(format!("link add far type veth peer name eth0 netns {thread}"));
    world.outside.ip(format!("addr add {here}/{bits} dev far{nodad}"));
    world.outside.ip("link set far up".to_owned());
    far.ip("link set lo up".to_owned());
    far.ip(format!("addr add {there}/{bits} dev eth0{nodad}"));
    far.ip("link set eth0 up".to_owned());
    let bits = world.names.host_bits;
    world.outside.ip(format!("route add {there}/{bits} dev far mtu {NARROW}"));
    far.ip(format!("route add default via {here} dev eth0"));
    tests::dataplane::ip(&format!("route add {there}/{} via {via} dev uplink", world.names.host_bits));
    world.outside.ip(format!(
        "route replace {}/{} via {} dev eth0",
        world.names.pod_b, world.names.host_bits, world.names.node
    ));
    (far, there)
}

/// A frontend with one backend at port 8080, for TCP and UDP.
fn serve(world: &mut World, frontend: &str, backend: &str, rule: ClientRule) {
    let backend = SocketAddr::new(backend.parse().expect("an address"), 8080).to_string();
    for proto in [Proto::TCP, Proto::UDP] {
        world.dataplane.serve(proto, frontend, &[&backend], |frontend| frontend.rules = [rule; 3]);
    }
}

fn far_vip(names: &Names) -> &'static str {
    if names.host_bits == 32 { "10.96.0.20:80" } else { "[fd00:96::20]:80" }
}

/// Sends datagrams of this size that must not be cut until the kernel knows better.
fn learns_that_it_is_too_large(to: &str, size: usize) -> bool {
    let any = if addr(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).expect("a port");
    socket.connect(addr(to)).expect("a route");
    let (level, option) = if addr(to).is_ipv4() {
        (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)
    } else {
        (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)
    };
    let always: libc::c_int = libc::IP_PMTUDISC_DO;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the option takes an int, which lives through the call.
    let done =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const always).cast(), length) };
    assert_eq!(done, 0, "{}", std::io::Error::last_os_error());
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        match socket.send(&vec![7; size]) {
            Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => return true,
            // A refusal of an earlier datagram.
            Ok(_) | Err(_) => thread::yield_now(),
        }
    }
    false
}

/// Serves UDP: sends each datagram back as it came.
fn serve_large(at: &'static str) {
    let socket =
        UdpSocket::bind(SocketAddr::new(at.parse().expect("an address"), 8080)).expect("the port is free");
    thread::spawn(move || {
        let mut buffer = vec![0; 65_536];
        while let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], from);
        }
    });
}

/// A large datagram comes back whole.
fn large_comes_back(to: &str, size: usize) {
    let any = if addr(to).is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).expect("a port");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
    socket.connect(addr(to)).expect("a route");
    let sent: Vec<u8> = (0..size).map(|index| ((index * 31) >> 3) as u8).collect();
    socket.send(&sent).expect("it is sent");
    let mut got = vec![0; 65_536];
    let length = socket.recv(&mut got).unwrap_or_else(|error| panic!("{to}, {size} bytes: {error}"));
    assert!(got[..length] == sent, "what comes back is what was sent");
}

#[test]
fn a_client_learns_the_path_mtu_from_a_router_behind_the_service() {
    for names in &FAMILIES {
        let mut world = World::new(names);
        let (far, address) = far(&world);
        serve(&mut world, far_vip(names), address, ClientRule::CLUSTER);
        far.run(move || serve_both(address));
        world.pod_a.run(|| assert_eq!(bulk(far_vip(names)), names.pod_a));
        assert!(world.pod_a.run(|| learns_that_it_is_too_large(far_vip(names), 1400)));
        assert!(world.dataplane.counters()[&Reason::RelatedError] >= 1, "{:?}", world.dataplane.counters());
        assert_eq!(world.losses(), []);
    }
}

#[test]
fn a_backend_learns_the_path_mtu_from_a_router_before_a_masqueraded_client() {
    for names in &FAMILIES {
        let world = World::new(names);
        let (far, _) = far(&world);
        world.pod_b.run(|| serve_both(names.pod_b));
        assert_eq!(far.run(|| bulk(names.vip)), names.node);
        assert!(world.dataplane.counters()[&Reason::RelatedError] >= 1, "{:?}", world.dataplane.counters());
        assert_eq!(world.losses(), []);
    }
}

#[test]
fn a_client_learns_the_mtu_of_the_nodes_own_devices() {
    for names in &FAMILIES {
        let world = World::new(names);
        world.outside.run(|| serve_both(names.outside));
        tests::dataplane::ip(&format!("link set uplink mtu {NARROW}"));
        world.outside.ip(format!("link set eth0 mtu {NARROW}"));
        world.pod_a.run(|| assert_eq!(bulk(names.remote), names.pod_a));
        assert!(world.pod_a.run(|| learns_that_it_is_too_large(names.remote, 1400)));
        assert!(world.dataplane.counters()[&Reason::TooLarge] >= 1, "{:?}", world.dataplane.counters());
        assert_eq!(world.losses(), []);
    }
}

#[test]
fn datagrams_in_fragments_pass_both_ways() {
    for names in &FAMILIES {
        let world = World::new(names);
        world.pod_b.run(|| serve_large(names.pod_b));
        for size in [1600, 4000, 60_000] {
            world.pod_a.run(move || large_comes_back(names.vip, size));
            world.outside.run(move || large_comes_back(names.vip, size));
        }
        assert!(!world.dataplane.counters().contains_key(&Reason::FragmentHeld));
        assert_eq!(world.losses(), []);
    }
}

/// The datagram `data` from `from` to `to`, cut into fragments of 1024 bytes.
fn fragments(from: &str, to: &str, data: &[u8], link: tests::packet::Link) -> Vec<Vec<u8>> {
    let whole = Packet { may_be_cut: true, ..Packet::udp(from, to).with_payload(data) };
    let network = if whole.from.is_ipv4() { 34 } else { 54 };
    let datagram = whole.bytes()[network..].to_vec();
    let count = datagram.len().div_ceil(1024);
    let piece = |(index, bytes): (usize, &[u8])| {
        let offset = (index * 1024) as u16;
        let fragment = match (index, index + 1 == count) {
            (0, _) => Fragment::First,
            (_, true) => Fragment::Later(offset),
            (_, false) => Fragment::Middle(offset),
        };
        let piece = Packet::new(Transport::UdpRest, from, to).with_payload(bytes);
        Packet { fragment: Some(fragment), link, ..piece }.bytes()
    };
    datagram.chunks(1024).enumerate().map(piece).collect()
}

#[test]
fn a_datagram_whose_fragments_come_in_the_wrong_order_arrives() {
    // One datagram in each world: all of them have the same name.
    let orders = [[3, 2, 1, 0], [1, 0, 3, 2], [2, 3, 0, 1]];
    for (names, order) in FAMILIES.iter().flat_map(|names| orders.map(|order| (names, order))) {
        let world = World::new(names);
        world.pod_b.run(|| serve_large(names.pod_b));
        let to = mac_of("host-a");
        world.pod_a.run(move || {
            let any = SocketAddr::new(names.pod_a.parse().expect("an address"), 40_123);
            let socket = UdpSocket::bind(any).expect("the port is free");
            socket.set_read_timeout(Some(PATIENCE)).expect("a time-out can be set");
            let link = tests::packet::Link { to, from: mac_of("eth0") };
            let data: Vec<u8> = (0..3_500).map(|index: usize| (index * 7) as u8).collect();
            let pieces = fragments(&any.to_string(), names.vip, &data, link);
            assert_eq!(pieces.len(), order.len());
            send_frames("eth0", &order.map(|index| pieces[index].clone()));
            let mut got = vec![0; 65_536];
            match socket.recv(&mut got) {
                Ok(length) => {
                    assert!(got[..length] == data, "{order:?}: what comes back is what was sent")
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("{order:?}: no answer"),
                Err(error) => panic!("{order:?}: {error}"),
            }
        });
        assert!(world.dataplane.counters()[&Reason::FragmentHeld] >= 2, "{:?}", world.dataplane.counters());
        assert_eq!(world.losses(), []);
    }
}
