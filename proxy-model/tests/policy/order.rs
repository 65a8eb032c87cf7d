//! States × event orders: whatever the way, the maps end up the same.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proxy_common::policy::{PolicyFlags, VerdictKey, VerdictPage};
use proxy_model::Event;
use proxy_model::fact::Prefix;
use proxy_model::policy::PolicyCapacity;

use crate::fixture::*;
use crate::kernel::{Kernel, Machine};
use crate::random::{Kinds, facts, shuffled};
use crate::reference::Facts;
use crate::tamper;

/// Everything but the epoch, which counts changes.
type Content = (
    BTreeMap<std::net::IpAddr, proxy_common::policy::Policed>,
    BTreeMap<std::net::IpAddr, proxy_common::policy::PeerClass>,
    BTreeMap<Prefix, proxy_common::policy::PeerClass>,
    BTreeMap<VerdictKey, VerdictPage>,
    PolicyFlags,
);

fn content(kernel: &Kernel) -> Content {
    let Kernel { policed, peers, blocks, verdicts, state } = kernel.clone();
    (policed, peers, blocks, verdicts, state.flags)
}

fn straight(facts: &Facts) -> Content {
    let mut machine = Machine::new(PolicyCapacity::default());
    machine.apply(events(facts).into_iter().chain(synced()));
    machine.settle();
    content(&machine.kernel)
}

fn deletion(event: &Event) -> Option<Event> {
    use proxy_model::fact::Change::Put;
    match event {
        Event::Pod(Put(object)) => Some(delete(object)),
        Event::Namespace(Put(object)) => Some(delete(object)),
        Event::Node(Put(object)) => Some(delete(object)),
        Event::NetworkPolicy(Put(object)) => Some(delete(object)),
        Event::ClusterPolicy(Put(object)) => Some(delete(object)),
        Event::PodDevices(_) => Some(Event::PodDevices(BTreeMap::new())),
        Event::Pod(_)
        | Event::Namespace(_)
        | Event::Node(_)
        | Event::NetworkPolicy(_)
        | Event::ClusterPolicy(_)
        | Event::Service(_)
        | Event::Slice(_)
        | Event::LocalAddresses(_)
        | Event::Synced(_)
        | Event::Lost(_) => None,
    }
}

/// The ways to a state; each is a list of steps, and what is in one step is planned together.
fn ways(facts: &Facts, detour: &Facts) -> Vec<(&'static str, Vec<Vec<Event>>)> {
    let all = events(facts);
    let each = |events: Vec<Event>| events.into_iter().map(|event| vec![event]).collect::<Vec<_>>();
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    let undone =
        |event: &Event| [Some(event.clone()), deletion(event), Some(event.clone())].into_iter().flatten();
    let away: Vec<_> = events(detour).iter().filter_map(deletion).collect();
    vec![
        ("one by one", each(all.clone())),
        ("reversed, one by one", each(reversed)),
        ("insert, delete, insert", each(all.iter().flat_map(undone).collect())),
        ("insert, delete, insert at once", vec![all.iter().flat_map(undone).collect()]),
        ("through another state", vec![events(detour), away, all.clone()]),
        (
            "through another state, one by one",
            each(events(detour).into_iter().chain(relist(facts)).collect()),
        ),
        ("from another state in one step", vec![events(detour), relist(facts)]),
        ("relist in the middle", vec![all, relist(facts)]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn every_way_to_a_state_ends_in_the_same_maps(
        (facts, detour) in (facts(Kinds::Both), facts(Kinds::Both)),
    ) {
        let expected = straight(&facts);
        for (name, steps) in ways(&facts, &detour) {
            for patient in [false, true] {
                let mut machine = Machine::new(PolicyCapacity::default());
                machine.apply(synced());
                for step in steps.clone() {
                    machine.apply(step);
                    if patient { machine.settle() } else { drop(machine.sync()) }
                }
                machine.settle();
                prop_assert_eq!(&content(&machine.kernel), &expected, "{}, {}", name, patient);
            }
        }
    }

    #[test]
    fn a_shuffle_ends_in_the_same_maps((facts, shuffled, flushes) in shuffled()) {
        let mut machine = Machine::new(PolicyCapacity::default());
        machine.apply(synced());
        for (event, flush) in shuffled.into_iter().zip(flushes.into_iter().cycle()) {
            machine.apply([event]);
            if flush {
                machine.sync();
            }
        }
        machine.settle();
        prop_assert_eq!(content(&machine.kernel), straight(&facts));
        prop_assert!(machine.sync().writes.is_empty());
    }

    /// The maps are read again at any moment, also while much rests: nothing looks as if somebody else had written it, and what
    /// somebody has is as it was after one plan.
    #[test]
    fn an_audit_at_any_moment_finds_what_somebody_else_did_and_nothing_else(
        (facts, shuffled, flushes) in shuffled(),
        pause in prop::sample::select(vec![1_u64, 700, 2_500]),
        deeds in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>()), 1..6),
    ) {
        let mut machine = Machine::new(PolicyCapacity::default());
        machine.apply(synced());
        let mut deeds = deeds.into_iter().cycle();
        for (event, flush) in shuffled.into_iter().zip(flushes.into_iter().cycle()) {
            machine.apply([event]);
            machine.now = machine.now.after(pause);
            machine.sync();
            machine.compare();
            let again = machine.sync().writes;
            prop_assert!(again.is_empty(), "{:?}", again);
            let Some((deed, entry)) = deeds.next().filter(|_| flush) else { continue };
            let before = machine.kernel.clone();
            let deed = deed.get(&tamper::DEEDS);
            deed(&mut machine.kernel, entry);
            let is_judged_anew = before.verdicts != machine.kernel.verdicts
                || before.state.epoch != machine.kernel.state.epoch;
            machine.compare_with(before.state.epoch);
            machine.sync();
            prop_assert_eq!(content(&machine.kernel), content(&before));
            let epochs = [before.state.epoch, machine.kernel.state.epoch];
            prop_assert!(epochs[0] < epochs[1] || !is_judged_anew && epochs[0] == epochs[1], "{:?}", epochs);
        }
        machine.settle();
        prop_assert_eq!(content(&machine.kernel), straight(&facts));
    }

    #[test]
    fn failed_writes_are_made_up_for(
        (facts, detour, failing) in (facts(Kinds::Both), facts(Kinds::Both), 1usize..40),
    ) {
        let mut machine = Machine::new(PolicyCapacity::default());
        machine.apply(events(&detour).into_iter().chain(synced()));
        machine.sync_until(failing);
        machine.apply(relist(&facts));
        machine.sync_until(2 * failing);
        machine.sync_until(failing / 2 + 1);
        machine.settle();
        prop_assert_eq!(content(&machine.kernel), straight(&facts));
        prop_assert!(machine.sync().writes.is_empty());
    }

    #[test]
    fn a_restart_in_the_middle_ends_in_the_same_maps(
        (facts, detour, failing) in (facts(Kinds::Both), facts(Kinds::Both), 1usize..40),
    ) {
        let mut machine = Machine::new(PolicyCapacity::default());
        machine.apply(events(&detour).into_iter().chain(synced()));
        machine.settle();
        machine.apply(relist(&facts));
        machine.sync_until(failing);
        machine.restart();
        let before = machine.kernel.clone();
        machine.apply(events(&facts));
        machine.sync();
        prop_assert_eq!(&machine.kernel, &before, "nothing is written before everything is known");
        machine.apply(synced());
        machine.settle();
        prop_assert_eq!(content(&machine.kernel), straight(&facts));
        machine.restart();
        machine.apply(events(&facts).into_iter().chain(synced()));
        prop_assert!(machine.sync().writes.is_empty(), "what is right is not written again");
    }

    /// Its key is a digest of what it should say, so it is known to be another.
    #[test]
    fn a_page_that_somebody_changed_while_nobody_ran_is_written_anew(
        facts in facts(Kinds::Both),
        entry in any::<prop::sample::Index>(),
        has_more in any::<bool>(),
    ) {
        let mut machine = Machine::new(PolicyCapacity::default());
        machine.apply(events(&facts).into_iter().chain(synced()));
        machine.settle();
        let before = machine.kernel.clone();
        tamper::change_a_page(&mut machine.kernel, entry);
        if has_more {
            tamper::add_a_page(&mut machine.kernel, entry);
        }
        let is_changed = machine.kernel != before;
        machine.restart();
        machine.apply(events(&facts).into_iter().chain(synced()));
        machine.sync();
        prop_assert_eq!(content(&machine.kernel), content(&before));
        prop_assert_eq!(machine.kernel.state.epoch > before.state.epoch, is_changed, "what it let pass is judged again");
    }
}
