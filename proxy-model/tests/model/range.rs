//! Source ranges of load balancers: items 22, 70, 81–83, and their place in the order of writes.

use proxy_common::{Port, Proto, V4};
use proxy_model::fact::TrafficPolicy::{Cluster, Local};
use proxy_model::fact::{Change, Event, Service, ServicePort};
use proxy_model::plan::Refused;
use proxy_model::{Capacity, ObjectKey, Write};

use crate::fixture::*;
use crate::kernel::{Machine, Names};
use crate::reference::{Seen, Verdict};

const VIP: &str = "192.0.2.1";

fn ranged(ranges: &[&str]) -> Service {
    Service {
        source_ranges: ranges.iter().map(|range| prefix(range)).collect(),
        ..exposed("web", 1, Cluster, Cluster)
    }
}

fn serving(ranges: &[&str]) -> Machine {
    machine(settings(), [put(ranged(ranges)), put(slice("web", "web", vec![endpoint("10.0.1.1", HERE)]))])
}

fn served() -> Verdict {
    backends(Seen::Node, &["10.0.1.1"])
}

#[test]
fn items_70_81_and_83_ranges_filter_the_load_balancers_address_alone() {
    let machine = serving(&["203.0.113.0/29", "10.0.9.9/32"]);
    for (client, verdict) in [
        (OUTSIDE, served()),
        ("203.0.113.8", Verdict::Drop),
        (POD, served()),
        ("10.0.9.8", Verdict::Drop),
        (NODE_IP, Verdict::Drop),
    ] {
        assert_eq!(machine.tcp(client, VIP, 80), verdict, "{client}");
        for (addr, port) in [("10.96.0.1", 80), ("198.51.100.1", 80), (NODE_IP, 30_001)] {
            let elsewhere = machine.tcp(client, addr, port);
            assert!(matches!(elsewhere, Verdict::Backends(_)), "{client} to {addr}: {elsewhere:?}");
        }
    }
}

#[test]
fn item_81_sources_outside_are_dropped_without_endpoints_and_under_a_local_policy_too() {
    let none = machine(settings(), [put(ranged(&["203.0.113.7/32"]))]);
    assert_eq!(none.tcp(OUTSIDE, VIP, 80), Verdict::Reject);
    assert_eq!(none.tcp("203.0.113.8", VIP, 80), Verdict::Drop);
    let local = Service { external_policy: Local, ..ranged(&["203.0.113.7/32"]) };
    let here = slice("web", "web", vec![endpoint("10.0.1.1", HERE)]);
    let local = machine(settings(), [put(local), put(here)]);
    assert_eq!(local.tcp(OUTSIDE, VIP, 80), backends(Seen::Client, &["10.0.1.1"]));
    assert_eq!(local.tcp("203.0.113.8", VIP, 80), Verdict::Drop);
}

#[test]
fn item_82_a_range_with_the_nodes_address_admits_the_load_balancers_as_a_source() {
    for (ranges, admitted) in
        [(&["192.168.0.1/32"][..], true), (&["192.168.0.0/16"], true), (&["192.168.1.1/32"], false)]
    {
        let verdict = if admitted { served() } else { Verdict::Drop };
        assert_eq!(serving(ranges).tcp(VIP, VIP, 80), verdict, "{ranges:?}");
    }
    // It follows the node's address.
    let mut machine = serving(&["192.168.7.7/32"]);
    machine.apply([put(node(HERE, Some("za"), &["192.168.7.7"]))]);
    machine.sync();
    assert_eq!(machine.tcp(VIP, VIP, 80), served());
}

#[test]
fn item_22_ranges_count_in_their_own_family() {
    let dual = Service {
        cluster_ips: vec![ip("10.96.0.1"), ip("fd00:96::1")],
        load_balancer: vec![ip(VIP), ip("2001:db8::1")],
        ..ranged(&["2001:db8::7/128"])
    };
    let six = slice("web-6", "web", vec![endpoint("fd00:10::1", HERE)]);
    let mut machine = serving(&[]);
    machine.apply([put(dual), put(six)]);
    machine.sync();
    assert_eq!(machine.tcp(OUTSIDE, VIP, 80), served());
    assert_eq!(machine.tcp("2001:db8::7", "2001:db8::1", 80), backends(Seen::Node, &["fd00:10::1"]));
    assert_eq!(machine.tcp("2001:db8::8", "2001:db8::1", 80), Verdict::Drop);
    assert_eq!((machine.v4.ranges.len(), machine.v6.ranges.len()), (0, 1));
}

/// What is written, in a word each.
fn words(writes: &[Write<V4>]) -> Vec<String> {
    let word = |write: &Write<V4>| match write {
        Write::Slots { .. } => "slots".to_owned(),
        Write::PutFrontend { key, .. } => format!("put {}", key.addr),
        Write::DeleteFrontend { key } => format!("delete {}", key.addr),
        Write::PutRange { key } => format!("range {}/{}", key.addr, key.bits - 32),
        Write::DeleteRange { key } => format!("no range {}/{}", key.addr, key.bits - 32),
    };
    writes.iter().map(word).collect()
}

#[test]
fn a_range_comes_before_its_frontend_and_goes_after_it() {
    let mut machine = serving(&[]);
    let mut change = |ranges: &[&str]| {
        machine.apply([put(ranged(ranges))]);
        words(&machine.sync().v4)
    };
    assert_eq!(change(&["203.0.113.7/32"]), ["range 203.0.113.7/32", "put 192.0.2.1"]);
    assert_eq!(change(&["203.0.113.0/24"]), ["range 203.0.113.0/24", "no range 203.0.113.7/32"]);
    assert_eq!(change(&["203.0.113.0/24"]), [""; 0]);
    assert_eq!(change(&[]), ["put 192.0.2.1", "no range 203.0.113.0/24"]);
    change(&["203.0.113.7/32"]);
    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "web")))]);
    assert_eq!(words(&machine.sync().v4).last().map(String::as_str), Some("no range 203.0.113.7/32"));
    assert!(machine.v4.ranges.is_empty() && machine.v4.frontends.is_empty());
}

#[test]
fn bits_beyond_the_length_do_not_count_and_equal_ranges_are_one() {
    let machine = serving(&["203.0.113.7/24", "203.0.113.9/24"]);
    assert_eq!(machine.v4.ranges.len(), 1);
    assert_eq!(machine.tcp("203.0.113.200", VIP, 80), served());
}

#[test]
fn a_range_that_fails_is_tried_again() {
    for failing in 1..=4 {
        let mut machine = serving(&["203.0.113.7/32"]);
        machine.apply([put(ranged(&["203.0.113.8/32", "203.0.113.9/32"]))]);
        let plan = machine.sync_with_failures(&|number| number == failing);
        assert_eq!(words(&plan.v4).len(), 3);
        assert_eq!(machine.sync().is_empty(), failing > 3, "write {failing}");
        assert!(machine.sync().is_empty());
        assert_eq!(machine.tcp("203.0.113.8", VIP, 80), served());
        assert_eq!(machine.tcp(OUTSIDE, VIP, 80), Verdict::Drop, "write {failing}");
    }
}

#[test]
fn a_restart_finds_the_ranges_and_writes_only_what_differs() {
    for names in [Names::Kept, Names::Lost] {
        let mut machine = serving(&["203.0.113.7/32"]);
        let events =
            [put(node(HERE, Some("za"), &[NODE_IP, "fd00:192::1"])), Event::LocalAddresses(locals())];
        // Two ranges that nobody wants, one of a Service that is not there.
        let stray = *machine.v4.ranges.first().unwrap();
        machine.v4.ranges.insert(proxy_common::RangeKey { bits: 40, ..stray });
        machine.v4.ranges.insert(proxy_common::RangeKey { service: proxy_common::ServiceId(99), ..stray });
        machine.restart(names);
        machine.apply(events);
        machine.apply([
            put(ranged(&["203.0.113.7/32"])),
            put(slice("web", "web", vec![endpoint("10.0.1.1", HERE)])),
        ]);
        machine.apply(synced());
        let plan = machine.sync();
        assert_eq!(words(&plan.v4), ["no range 203.0.113.7/8", "no range 203.0.113.7/32"], "{names:?}");
        assert_eq!(machine.v4.ranges.iter().copied().collect::<Vec<_>>(), [stray]);
        assert!(machine.sync().is_empty());
    }
}

#[test]
fn ranges_without_room_are_named_serve_nobody_and_enter_when_others_leave() {
    let mut machine = Machine::new(settings(), Capacity { frontends: 100, backends: 100, ranges: 2 });
    let other = Service { source_ranges: vec![prefix("10.0.9.9/32")], ..exposed("a", 2, Cluster, Cluster) };
    machine.apply([put(other), put(slice("web", "web", vec![endpoint("10.0.1.1", HERE)]))]);
    machine.apply(synced());
    machine.sync();
    machine.apply([put(ranged(&["203.0.113.7/32", "203.0.113.8/32"]))]);
    let plan = machine.sync();
    let refused: Vec<_> = plan.refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        refused,
        [
            "Service default/web: 192.0.2.1:80/TCP (default/web:/TCP/ipv4): no room for 1 more source ranges among 2; clients in them are dropped"
        ]
    );
    assert_eq!(machine.tcp(OUTSIDE, VIP, 80), served());
    assert_eq!(machine.tcp("203.0.113.8", VIP, 80), Verdict::Drop);
    assert!(machine.sync().refused.is_empty(), "told once");
    assert!(
        machine.planner.refusals().all(|r| r.reason == Refused::Ranges { needed: 1, capacity: 2 }),
        "and known as long as it lasts"
    );
    assert_eq!(machine.planner.refusals().count(), 1);
    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "a")))]);
    assert_eq!(machine.sync().next_release, Some(machine.now));
    assert_eq!((machine.sync().next_release, machine.planner.refusals().count()), (None, 0));
    assert_eq!(machine.tcp("203.0.113.8", VIP, 80), served());
}

#[test]
fn each_port_has_ranges_of_its_own() {
    let second = ServicePort { name: "b".into(), proto: Proto::UDP, port: Port::new(81), node_port: None };
    let service = Service { ports: vec![port(), second], ..ranged(&["203.0.113.7/32"]) };
    let machine = machine(settings(), [put(service)]);
    let ids: Vec<_> = machine.v4.ranges.iter().map(|range| range.service.0).collect();
    assert_eq!(ids, [1, 2]);
}

#[test]
fn a_frontend_that_is_kept_while_facts_are_missing_keeps_its_ranges() {
    let mut machine = serving(&["203.0.113.7/32"]);
    machine.restart(Names::Kept);
    machine.planner.keep();
    machine.apply([put(node(HERE, Some("za"), &[NODE_IP]))]);
    machine.apply(synced());
    machine.sync();
    assert_eq!((machine.tcp(OUTSIDE, VIP, 80), machine.v4.ranges.len()), (served(), 1));
    machine.planner.let_go();
    machine.sync();
    assert_eq!((machine.tcp(OUTSIDE, VIP, 80), machine.v4.ranges.len()), (Verdict::Pass, 0));
}
