//! Maps that are too small: what does not fit is refused by name, everything else works, and it enters by itself.

use proxy_model::fact::{Change, Event};
use proxy_model::plan::GRACE_MILLIS;
use proxy_model::{Capacity, ObjectKey};

use crate::fixture::*;
use crate::kernel::Machine;
use crate::reference::{Seen, Verdict};

fn small(frontends: u32, backends: u32) -> Machine {
    let mut machine = Machine::new(settings(), Capacity { frontends, backends, ranges: 100 });
    machine.apply(synced());
    machine
}

fn with_endpoints(n: u8, lasts: std::ops::RangeInclusive<u8>) -> [Event; 2] {
    let name = format!("web{n}");
    let endpoints = lasts.map(|last| endpoint(&format!("10.0.{n}.{last}"), HERE)).collect();
    [put(service(&name, &format!("10.96.0.{n}"))), put(slice(&name, &name, endpoints))]
}

fn refused(plan: &proxy_model::Plan) -> Vec<String> {
    plan.refused.iter().map(ToString::to_string).collect()
}

#[test]
fn a_service_without_room_among_the_frontends_is_named_and_enters_when_another_leaves() {
    let mut machine = small(4, 100);
    machine.apply((1..=3).flat_map(|n| with_endpoints(n, 1..=1)));
    let plan = machine.sync();
    assert_eq!(
        refused(&plan),
        [
            "Service default/web3: 10.96.0.3:0/ANY (default/web3:/ANY/ipv4): no room among 4 frontends (--frontend-table-size)",
            "Service default/web3: 10.96.0.3:80/TCP (default/web3:/TCP/ipv4): no room among 4 frontends (--frontend-table-size)",
        ]
    );
    for (n, expected) in [
        (1, backends(Seen::Client, &["10.0.1.1"])),
        (2, backends(Seen::Client, &["10.0.2.1"])),
        (3, Verdict::Drop),
    ] {
        assert_eq!(machine.tcp(POD, &format!("10.96.0.{n}"), 80), expected);
    }
    assert_eq!(refused(&machine.sync()), [""; 0], "told once");
    assert_eq!(machine.planner.refusals().count(), 2, "and known as long as it lasts");

    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "web1")))]);
    let plan = machine.sync();
    assert_eq!(plan.next_release, Some(machine.now), "the room is there once the deletions are done");
    let plan = machine.sync();
    assert_eq!((plan.next_release, machine.planner.refusals().count()), (None, 0));
    assert_eq!(machine.tcp(POD, "10.96.0.3", 80), backends(Seen::Client, &["10.0.3.1"]));
}

#[test]
fn a_service_without_room_among_the_backends_keeps_its_last_good_list() {
    let mut machine = small(100, 10);
    machine.apply(with_endpoints(1, 1..=4).into_iter().chain(with_endpoints(2, 1..=4)));
    machine.sync();
    // Four more slots: not beside the old ones. One fits, and is served at once.
    machine.apply(with_endpoints(1, 2..=5).into_iter().chain(with_endpoints(3, 1..=1)));
    let plan = machine.sync();
    assert_eq!(
        refused(&plan),
        [
            "Service default/web1: 10.96.0.1:80/TCP (default/web1:/TCP/ipv4): no room for 4 more backends among 10 (--backend-table-size)"
        ]
    );
    let before = backends(Seen::Client, &["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.4"]);
    assert_eq!(machine.tcp(POD, "10.96.0.1", 80), before);
    assert_eq!(machine.tcp(POD, "10.96.0.3", 80), backends(Seen::Client, &["10.0.3.1"]));

    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "web2")))]);
    let mut enters = None;
    for _ in 0..10 {
        let plan = machine.sync();
        let Some(next) = plan.next_release else {
            enters = Some(machine.now);
            break;
        };
        machine.now = next;
    }
    assert_eq!(enters.map(|tick| tick.0), Some(1_000 + GRACE_MILLIS), "not before the slots have rested");
    assert_eq!(
        machine.tcp(POD, "10.96.0.1", 80),
        backends(Seen::Client, &["10.0.1.2", "10.0.1.3", "10.0.1.4", "10.0.1.5"])
    );
}

#[test]
fn a_list_longer_than_the_array_is_refused_for_good_without_harm() {
    let mut machine = small(100, 10);
    machine.apply(with_endpoints(1, 1..=11).into_iter().chain(with_endpoints(2, 1..=10)));
    let plan = machine.sync();
    assert_eq!(plan.refused.len(), 1);
    assert_eq!(machine.tcp(POD, "10.96.0.1", 80), Verdict::Reject, "its address is ours all the same");
    assert!(matches!(machine.tcp(POD, "10.96.0.2", 80), Verdict::Backends(list) if list.len() == 10));
}

#[test]
fn a_service_that_shrinks_enters_at_once_and_waits_for_nothing() {
    let mut machine = small(100, 10);
    machine.apply(
        with_endpoints(1, 1..=7).into_iter().chain(with_endpoints(2, 1..=4)).chain(with_endpoints(3, 1..=1)),
    );
    assert_eq!(machine.sync().refused.len(), 1);
    // Something rests, and it would be waited for if anybody were in want of room.
    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "web3")))]);
    machine.sync();
    assert!(machine.sync().next_release.is_some());
    machine.apply(with_endpoints(2, 1..=2));
    let plan = machine.sync();
    assert_eq!((plan.next_release, machine.planner.refusals().count()), (None, 0));
    assert_eq!(machine.tcp(POD, "10.96.0.2", 80), backends(Seen::Client, &["10.0.2.1", "10.0.2.2"]));
}
