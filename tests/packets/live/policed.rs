//! Policies where only real devices show what a packet is: who it seems to come from, and the tags beside its bytes.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    time::{Duration, Instant},
};

use proxy_common::{Reason, RuleSetId, policy::PolicyFlags};
use tests::packet::{Link, Packet};

use super::peer::{ask, connect, mac_of, send_frames, serve_both};
use super::world::{FAMILIES, Names, World};

const PATIENCE: Duration = Duration::from_secs(5);
/// Index of pod A's device.
const POD_A: u32 = 10;
/// The tag of no VLAN, which names a priority.
const PRIORITY: [u8; 4] = [0x81, 0, 0, 0];

fn world(names: &'static Names, egress: RuleSetId, ingress: RuleSetId) -> World {
    let mut world = World::new(names);
    world.dataplane.put_under(names.pod_a, egress, ingress, POD_A);
    world.dataplane.enforce(1, PolicyFlags::default());
    world
}

#[test]
fn policy_item_31_a_pod_that_nobody_may_reach_is_told_by_us_that_nobody_is_there() {
    for names in &FAMILIES {
        let world = world(names, RuleSetId::OPEN, RuleSetId::CLOSED);
        let udp = world.pod_a.run(|| ask(names.empty)).expect_err("nobody is there");
        assert_eq!(udp.kind(), ErrorKind::ConnectionRefused);
        let tcp = world.pod_a.run(|| connect(names.empty, None)).expect_err("nobody is there");
        assert_eq!(tcp.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(world.dataplane.counters().get(&Reason::DeniedIngress), None);
    }
}

/// The datagram as it leaves a device, with tags between its Ethernet header and what is behind that.
fn tagged(from: &str, to: &str, link: Link, tags: &[[u8; 4]]) -> Vec<u8> {
    let at = |ip: &str, port| SocketAddr::new(ip.parse().expect("an address"), port).to_string();
    let to = if to.contains("]:") || to.matches(':').count() == 1 { to.to_owned() } else { at(to, 8080) };
    let mut bytes = Packet { link, ..Packet::udp(&at(from, 40_123), &to) }.bytes();
    bytes.splice(12..12, tags.concat());
    bytes
}

/// Waits until this many packets had the reason.
fn counted(world: &World, reason: Reason, count: u64) {
    let deadline = Instant::now() + PATIENCE;
    while world.dataplane.counters().get(&reason) != Some(&count) {
        assert!(Instant::now() < deadline, "{reason:?}: {:?}", world.dataplane.counters());
        std::thread::yield_now();
    }
}

#[test]
fn policy_item_6_a_tag_of_no_vlan_hides_nothing_from_policies() {
    for names in &FAMILIES {
        let world = world(names, RuleSetId::CLOSED, RuleSetId::OPEN);
        world.pod_b.run(|| serve_both(names.pod_b));
        let to = mac_of("host-a");
        for (tags, reason) in
            [(&[PRIORITY][..], Reason::DeniedEgress), (&[PRIORITY, PRIORITY], Reason::Unjudged)]
        {
            world.pod_a.run(move || {
                let link = Link { to, from: mac_of("eth0") };
                send_frames("eth0", &[tagged(names.pod_a, names.pod_b, link, tags)]);
            });
            counted(&world, reason, 1);
        }
    }
}

#[test]
fn item_64_a_tag_of_no_vlan_keeps_nobody_from_a_service() {
    for names in &FAMILIES {
        let world = World::new(names);
        world.pod_b.run(|| serve_both(names.pod_b));
        let to = mac_of("uplink");
        world.outside.run(move || {
            let link = Link { to, from: mac_of("eth0") };
            send_frames("eth0", &[tagged(names.outside, names.vip, link, &[PRIORITY])]);
        });
        counted(&world, Reason::ServiceNew, 1);
        counted(&world, Reason::FlowReply, 1);
    }
}
