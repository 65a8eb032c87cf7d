//! States × event orders: whatever the way, the maps end up the same.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proxy_model::Event;
use proxy_model::fact::Change;

use crate::fixture::*;
use crate::kernel::{Content, Machine, Names, ROOMY};
use crate::random;
use crate::reference::Facts;

fn start(facts: &Facts) -> Machine {
    Machine::new(facts.settings.clone(), ROOMY)
}

fn straight(facts: &Facts) -> BTreeMap<String, Content> {
    let mut machine = start(facts);
    machine.apply(events(facts).into_iter().chain(synced()));
    machine.sync();
    machine.content()
}

/// The ways to a state; each is a list of steps, and what is in one step is planned together.
fn ways(facts: &Facts, detour: &Facts) -> Vec<(&'static str, Vec<Vec<Event>>)> {
    let all = events(facts);
    let each = |events: Vec<Event>| events.into_iter().map(|event| vec![event]).collect::<Vec<_>>();
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    let undone =
        |event: &Event| [Some(event.clone()), deletion(event), Some(event.clone())].into_iter().flatten();
    let twice: Vec<_> = all.iter().flat_map(|event| [event.clone(), event.clone()]).collect();
    let away: Vec<_> = events(detour).iter().filter_map(deletion).collect();
    let relist = vec![
        Event::Service(Change::Replace(facts.services.clone())),
        Event::Slice(Change::Replace(facts.slices.clone())),
        Event::Node(Change::Replace(facts.nodes.clone())),
        Event::LocalAddresses(facts.local_addresses.clone()),
    ];
    vec![
        ("one by one", each(all.clone())),
        ("reversed, one by one", each(reversed.clone())),
        ("reversed, at once", vec![reversed]),
        ("insert, delete, insert", each(all.iter().flat_map(undone).collect())),
        ("insert, delete, insert at once", vec![all.iter().flat_map(undone).collect()]),
        ("twice", each(twice)),
        ("through another state", vec![events(detour), away, all.clone()]),
        (
            "through another state, one by one",
            each(events(detour).into_iter().chain(relist.clone()).collect()),
        ),
        ("from another state in one step", vec![events(detour), relist.clone()]),
        ("relist in the middle", vec![all.clone(), relist]),
    ]
}

/// No list in `facts` names an object twice: a relist cannot.
fn walk(facts: &Facts, steps: Vec<Vec<Event>>, synced_at: usize) -> BTreeMap<String, Content> {
    let mut machine = start(facts);
    let last = steps.len();
    for (number, step) in steps.into_iter().enumerate() {
        if number == synced_at.min(last) {
            machine.apply(synced());
        }
        machine.apply(step);
        machine.sync();
    }
    machine.apply(synced());
    machine.sync();
    machine.content()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_way_to_a_state_ends_in_the_same_maps(facts in random::facts(), detour in random::facts()) {
        let expected = straight(&facts);
        for (name, steps) in ways(&facts, &detour) {
            for synced_at in [0, 3] {
                prop_assert_eq!(&walk(&facts, steps.clone(), synced_at), &expected, "{}, synced at {}", name, synced_at);
            }
        }
    }

    #[test]
    fn a_shuffle_ends_in_the_same_maps((facts, shuffled, flushes) in random::shuffled()) {
        let mut machine = start(&facts);
        machine.apply(synced());
        for (event, flush) in shuffled.into_iter().zip(flushes.into_iter().cycle()) {
            machine.apply([event]);
            if flush {
                machine.sync();
            }
        }
        machine.sync();
        prop_assert_eq!(machine.content(), straight(&facts));
        prop_assert!(machine.sync().is_empty());
    }

    #[test]
    fn failed_writes_are_made_up_for((facts, detour, failing) in (random::facts(), random::facts(), 1usize..6)) {
        let mut machine = start(&facts);
        machine.apply(events(&detour).into_iter().chain(synced()));
        machine.sync_with_failures(&|number| number % failing == 0);
        let away: Vec<_> = events(&detour).iter().filter_map(deletion).collect();
        machine.apply(away.into_iter().chain(events(&facts)));
        machine.sync_with_failures(&|number| number % failing == 1 % failing);
        machine.sync();
        prop_assert_eq!(machine.content(), straight(&facts));
        prop_assert!(machine.sync().is_empty());
    }

    /// The kernel is read again at any moment, also while slots rest: nothing looks as if somebody else had written it.
    #[test]
    fn an_audit_at_any_moment_finds_what_was_written(
        (facts, shuffled, flushes) in random::shuffled(), pause in prop::sample::select(vec![1_u64, 700, 2_500])
    ) {
        let mut machine = start(&facts);
        machine.apply(synced());
        for (event, flush) in shuffled.into_iter().zip(flushes.into_iter().cycle()) {
            machine.apply([event]);
            machine.now = machine.now.after(pause);
            machine.sync();
            if flush {
                machine.adopt(BTreeMap::new());
                let plan = machine.sync();
                prop_assert!(plan.v4.is_empty() && plan.v6.is_empty(), "{:?}", plan);
            }
        }
        prop_assert_eq!(machine.content(), straight(&facts));
    }

    /// The agent dies on the way from one world to another, after any number of writes; what it knew of names is lost or not.
    #[test]
    fn a_death_after_any_write_is_made_up_for_by_the_next_start(
        (facts, detour, writes, lost) in (random::facts(), random::facts(), 0_usize..40, any::<bool>())
    ) {
        let mut machine = start(&facts);
        machine.apply(events(&detour).into_iter().chain(synced()));
        machine.sync();
        let away: Vec<_> = events(&detour).iter().filter_map(deletion).collect();
        machine.apply(away.into_iter().chain(events(&facts)));
        machine.sync_with_failures(&|number| number > writes);
        machine.restart(if lost { Names::Lost } else { Names::Kept });
        machine.apply(events(&facts).into_iter().chain(synced()));
        machine.sync();
        prop_assert_eq!(machine.content(), straight(&facts));
        prop_assert!(machine.sync().is_empty());
    }
}
