//! A restart is an ordinary difference: items 112, 117, 118.

use proxy_common::{Frontend, FrontendKey, Segment, ServiceId, V4};
use proxy_model::fact::TrafficPolicy::{Cluster, Local};
use proxy_model::fact::{Change, Event, Service};
use proxy_model::plan::GRACE_MILLIS;
use proxy_model::{Adoption, ObjectKey, Write};

use crate::fixture::*;
use crate::kernel::{Machine, Names};
use crate::reference::Seen;

fn cluster() -> Vec<Event> {
    let dual = Service {
        cluster_ips: vec![ip("10.96.0.2"), ip("fd00:96::2")],
        affinity: Some(60),
        ..exposed("two", 2, Cluster, Local)
    };
    vec![
        put(node(HERE, Some("za"), &[NODE_IP, "fd00:192::1"])),
        Event::LocalAddresses(locals()),
        put(exposed("one", 1, Local, Cluster)),
        put(dual),
        put(service("none", "10.96.0.3")),
        put(slice("one", "one", vec![endpoint("10.0.1.1", HERE), endpoint("10.0.2.1", THERE)])),
        put(slice("two-4", "two", vec![endpoint("10.0.1.2", HERE), endpoint("10.0.2.2", THERE)])),
        put(slice("two-6", "two", vec![endpoint("fd00:10::2", HERE)])),
    ]
}

fn running() -> Machine {
    let mut machine = machine(settings(), cluster());
    // Some history, so that ids and segments are not those of a fresh start.
    machine.apply([put(service("zero", "10.96.0.100"))]);
    machine.sync();
    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "one")))]);
    machine.sync();
    machine.apply(cluster());
    machine.sync();
    machine.apply([Event::Service(Change::Delete(ObjectKey::new("default", "zero")))]);
    machine.sync();
    machine
}

fn sync_like_at_start(machine: &mut Machine, events: Vec<Event>) -> proxy_model::Plan {
    for event in events {
        let _ = machine.world.apply(event);
        assert_eq!(machine.sync(), proxy_model::Plan::default(), "nothing is planned before all is known");
    }
    machine.apply(synced());
    machine.sync()
}

#[test]
fn after_a_restart_with_the_same_world_nothing_is_written_and_ids_stay() {
    for names in [Names::Kept, Names::Lost] {
        let mut machine = running();
        let (v4, v6) = (machine.v4.clone(), machine.v6.clone());
        let ids = |machine: &Machine| {
            machine.planner.names().map(|(id, name)| (id, name.clone())).collect::<Vec<_>>()
        };
        let before = ids(&machine);
        let adoption = machine.restart(names);
        let named = match names {
            Names::Kept => before.len(),
            Names::Lost => 0,
        };
        assert_eq!(adoption, Adoption { frontends: 15, segments: 5, named, broken: 0 }, "{names:?}");
        let plan = sync_like_at_start(&mut machine, cluster());
        assert_eq!(plan, proxy_model::Plan::default(), "{names:?}");
        assert_eq!(ids(&machine), before, "{names:?}");
        assert_eq!((&machine.v4, &machine.v6), (&v4, &v6), "{names:?}");
    }
}

#[test]
fn after_a_restart_only_what_differs_is_written() {
    let mut machine = running();
    machine.restart(Names::Kept);
    let mut changed = cluster();
    changed.retain(|event| !matches!(event, Event::Service(Change::Put(s)) if s.key.name.as_ref() == "none"));
    changed.push(put(slice("two-6", "two", vec![endpoint("fd00:10::3", HERE)])));
    changed.push(put(service("new", "10.96.0.4")));
    let plan = sync_like_at_start(&mut machine, changed);
    assert_eq!(plan.v4.len(), 4, "two entries of new, two deletions of none");
    assert_eq!(plan.v6.len(), 1 + 2, "slots, ClusterIP and node port of two");
    assert_eq!(machine.tcp("fd00:10::9", "fd00:96::2", 80), backends(Seen::Client, &["fd00:10::3"]));
}

#[test]
fn a_crash_between_any_two_writes_is_repaired_by_the_next_start() {
    let target = || {
        let mut events = cluster();
        events.push(put(exposed("one", 1, Cluster, Local)));
        events.push(put(slice("one", "one", vec![endpoint("10.0.1.7", HERE)])));
        events.push(put(service("new", "10.96.0.4")));
        events
    };
    let expected = machine(settings(), target()).content();
    for writes in 0.. {
        let mut machine = running();
        machine.apply(target());
        let plan = machine.planner.plan(&mut machine.world, machine.now);
        for write in plan.v4.iter().take(writes) {
            machine.v4.make(write).unwrap();
        }
        machine.restart(Names::Lost);
        sync_like_at_start(&mut machine, target());
        assert_eq!(machine.content(), expected, "after {writes} writes");
        if writes > plan.v4.len() {
            return;
        }
    }
}

#[test]
fn entries_that_make_no_sense_are_written_anew() {
    let mut machine = running();
    let expected = machine.content();
    let keys: Vec<_> = machine.v4.frontends.keys().copied().collect();
    type Damage = fn(&mut Frontend);
    let damage: [(&str, Damage); 5] = [
        ("beyond the end", |entry| entry.cluster = Segment { start: 3_999, len: 2 }),
        ("beyond all numbers", |entry| entry.local = Segment { start: u32::MAX, len: u32::MAX }),
        ("never written", |entry| entry.cluster = Segment { start: 3_000, len: 2 }),
        ("across others", |entry| entry.cluster = Segment { start: 1, len: 3 }),
        ("of nobody", |entry| entry.service = ServiceId(4_000_000_000)),
    ];
    for (name, damage) in damage {
        for key in &keys {
            damage(machine.v4.frontends.get_mut(key).unwrap());
            machine.restart(Names::Kept);
            // The maps are broken to begin with, so the promise of the phases cannot be checked here.
            machine.apply(cluster());
            machine.apply(synced());
            let plan = machine.planner.plan(&mut machine.world, machine.now);
            for write in &plan.v4 {
                machine.v4.make(write).unwrap();
            }
            assert_eq!(machine.content(), expected, "{name}: {key:?}");
        }
    }
}

#[test]
fn what_somebody_else_wrote_is_found_and_repaired_by_reading_again() {
    let mut machine = running();
    let expected = machine.content();
    let (key, _) = machine.v4.frontends.pop_last().unwrap();
    let stray = FrontendKey { port: proxy_common::Port::new(4242), ..key };
    machine.v4.frontends.insert(stray, Frontend::default());
    let spoilt = machine.v4.frontends.values().find(|value| !value.cluster.is_empty()).unwrap().cluster;
    machine.v4.slots[spoilt.start as usize] = machine.v4.slots[spoilt.start as usize + 1];
    machine.adopt(Default::default());
    let plan = machine.planner.plan(&mut machine.world, machine.now);
    for write in &plan.v4 {
        machine.v4.make(write).unwrap();
        if let Write::<V4>::Slots { start, slots } = write {
            let end = spoilt.start + spoilt.len;
            assert!(*start >= end || start + slots.len() as u32 <= spoilt.start, "written under a reader");
        }
    }
    assert_eq!(machine.content(), expected);
    machine.now = machine.now.after(GRACE_MILLIS);
    assert!(machine.sync().is_empty());
}

/// Starts anew while facts are missing; gives what the first plan writes.
fn restart_without_some(machine: &mut Machine, names: Names, known: Vec<Event>) -> Vec<Write<V4>> {
    machine.restart(names);
    machine.planner.keep();
    let mut plan = sync_like_at_start(machine, known);
    // Past the grace period, at which numbers would be given to others.
    machine.now = machine.now.after(2 * GRACE_MILLIS);
    machine.apply([put(service("new", "10.96.0.77"))]);
    plan.v4.extend(machine.sync().v4);
    plan.v4
}

#[test]
fn while_facts_are_missing_what_none_explains_stays_and_keeps_its_number() {
    let all = || {
        vec![
            put(node(HERE, Some("za"), &[NODE_IP])),
            put(service("seen", "10.96.0.1")),
            put(slice("seen", "seen", vec![endpoint("10.0.1.1", HERE)])),
            put(service("whole", "10.96.0.2")),
            put(slice("whole", "whole", vec![endpoint("10.0.1.2", HERE)])),
            put(service("sliceless", "10.96.0.3")),
            put(slice("sliceless", "sliceless", vec![endpoint("10.0.1.3", HERE)])),
            put(service("ended", "10.96.0.4")),
            put(slice("ended", "ended", vec![endpoint("10.0.1.4", HERE)])),
        ]
    };
    let to = |machine: &Machine, ip: &str| machine.tcp(POD, ip, 80);
    for names in [Names::Kept, Names::Lost] {
        let mut machine = machine(settings(), all());
        let before: Vec<_> = machine.v4.frontends.clone().into_iter().collect();
        // The file with `whole`, and the one with the slices of `sliceless` and `ended`, cannot be read.
        let known: Vec<_> = [0, 1, 2, 5, 7].map(|index| all()[index].clone()).into();
        let writes = restart_without_some(&mut machine, names, known);
        let is_new = |write: &Write<V4>| matches!(write, Write::PutFrontend { key, .. } if before.iter().all(|(k, _)| k != key));
        assert!(writes.iter().all(is_new), "{names:?}: {writes:?}");
        assert_eq!(machine.planner.kept(), 6, "{names:?}: ports and addresses of three Services");
        for (key, value) in &before {
            assert_eq!(machine.v4.frontends.get(key), Some(value), "{names:?}");
        }
        let of_new = machine.v4.frontends.values().map(|value| value.service);
        let numbers: std::collections::BTreeSet<_> = of_new.filter(|id| *id != ServiceId::NONE).collect();
        assert_eq!(numbers.len(), 5, "{names:?}: no number is given twice");

        // What is explained follows the facts, also while others are missing.
        machine.apply([Event::Slice(Change::Delete(ObjectKey::new("default", "seen")))]);
        machine.sync();
        assert_eq!(to(&machine, "10.96.0.1"), crate::reference::Verdict::Reject, "{names:?}");
        machine.apply([
            put(slice("sliceless", "sliceless", vec![endpoint("10.0.1.4", HERE)])),
            Event::Service(Change::Delete(ObjectKey::new("default", "ended"))),
        ]);
        machine.sync();
        assert_eq!(to(&machine, "10.96.0.4"), crate::reference::Verdict::Drop, "{names:?}");
        assert_eq!(to(&machine, "10.96.0.3"), backends(Seen::Client, &["10.0.1.4"]), "{names:?}");
        assert_eq!(to(&machine, "10.96.0.2"), backends(Seen::Client, &["10.0.1.2"]), "{names:?}");

        // Everything is known, and `whole` is not part of it.
        machine.planner.let_go();
        machine.sync();
        assert_eq!(machine.planner.kept(), 0);
        assert_eq!(machine.v4.frontends.len(), 6, "{names:?}: three Services with their wildcards");
        assert_eq!(to(&machine, "10.96.0.3"), backends(Seen::Client, &["10.0.1.4"]), "{names:?}");
    }
}
