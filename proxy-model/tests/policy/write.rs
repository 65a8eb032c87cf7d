//! The order of writes, the time of rest, and when established connections are judged again.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use proxy_common::Proto;
use proxy_common::policy::{Effect, PolicyState, RuleSetId};
use proxy_model::fact::{Direction, NetworkPolicy, ObjectKey, Pod, PodPhase};
use proxy_model::policy::{PolicyCapacity, PolicyWrite};
use proxy_model::{Changed, Event};

use crate::fixture::*;
use crate::kernel::{Kernel, Machine};
use crate::random::{Kinds, facts, packets};
use crate::reference::{Facts, Packet};

/// A cluster, and the same one with one object more, less, or another.
fn one_change() -> impl Strategy<Value = (Facts, Facts)> {
    (facts(Kinds::Both), facts(Kinds::Both), 0usize..4, any::<prop::sample::Index>()).prop_map(
        |(old, other, kind, index)| {
            let mut new = old.clone();
            match kind {
                0 => swap(&mut new.pods, &other.pods, index, |pod| pod.key.clone()),
                1 => swap(&mut new.network, &other.network, index, |policy| policy.key.name.clone()),
                2 => swap(&mut new.cluster, &other.cluster, index, |policy| policy.name.clone()),
                _ => swap(&mut new.nodes, &other.nodes, index, |node| node.name.clone()),
            }
            (old, new)
        },
    )
}

/// Makes one object what it is there.
fn swap<T: Clone, K: PartialEq>(
    here: &mut Vec<T>,
    there: &[T],
    index: prop::sample::Index,
    key: impl Fn(&T) -> K,
) {
    let all: Vec<_> = here.iter().chain(there).map(&key).collect();
    if all.is_empty() {
        return;
    }
    let chosen = index.get(&all);
    here.retain(|object| key(object) != *chosen);
    here.extend(there.iter().find(|object| key(object) == *chosen).cloned());
}

fn effects(kernel: &Kernel, facts: &[Facts; 2]) -> Vec<[Effect; 2]> {
    let packets: BTreeSet<_> = facts.iter().flat_map(packets).collect();
    let pods: BTreeSet<_> = facts.iter().flat_map(|facts| &facts.pods).map(|pod| &pod.key).collect();
    let has = |key: &ObjectKey, addr: &IpAddr| {
        facts.iter().flat_map(|facts| &facts.pods).any(|pod| pod.key == *key && pod.ips.contains(addr))
    };
    // From the address that a pod had to the one that it gets nobody can send: it has one of them at a time.
    let can_be = |packet: &&Packet| {
        packet.src == packet.dst || !pods.iter().any(|pod| has(pod, &packet.src) && has(pod, &packet.dst))
    };
    // A port of each kind is enough where every write is looked at.
    let is_asked = |packet: &&Packet| [0, 53, 80, 81].contains(&packet.port.number());
    packets
        .iter()
        .filter(is_asked)
        .filter(can_be)
        .map(|packet| kernel.verdict(packet).map(|ruling| ruling.effect))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(16) })]

    #[test]
    fn at_every_moment_of_one_change_each_end_says_what_it_said_before_or_says_after((old, new) in one_change()) {
        let mut machine = Machine::new(PolicyCapacity::default());
        machine.apply(events(&old).into_iter().chain(synced()));
        machine.settle();
        let both = [old, new];
        let before = effects(&machine.kernel, &both);
        machine.apply(relist(&both[1]));
        let plan = machine.planner.plan(&mut machine.world, machine.now);
        let mut steps = vec![];
        for write in &plan.writes {
            machine.kernel.make(write, machine.capacity).unwrap();
            steps.push(effects(&machine.kernel, &both));
        }
        let after = effects(&machine.kernel, &both);
        let passes = |said: &[Effect; 2]| said.iter().all(|effect| *effect == Effect::ALLOW);
        for (step, write) in steps.iter().zip(&plan.writes) {
            for ((now, before), after) in step.iter().zip(&before).zip(&after) {
                let (before, after) = (passes(before), passes(after));
                prop_assert!(!passes(now) || before || after, "neither state lets it pass: after {:?}", write);
                prop_assert!(passes(now) || !before || !after, "both states let it pass: after {:?}", write);
            }
            for ((now, before), after) in step.iter().zip(&before).zip(&after) {
                for (now, (before, after)) in now.iter().zip(before.iter().zip(after)) {
                    prop_assert!(now == before || now == after, "{:?} after {:?}", now, write);
                }
            }
        }
        // What rests goes without anybody noticing.
        machine.settle();
        prop_assert_eq!(effects(&machine.kernel, &both), after);
    }

    #[test]
    fn the_epoch_counts_exactly_when_some_verdict_changes((old, new) in one_change()) {
        let mut machine = Machine::new(PolicyCapacity::default());
        machine.apply(events(&old).into_iter().chain(synced()));
        machine.settle();
        let both = [old, new];
        let (before, epoch) = (effects(&machine.kernel, &both), machine.kernel.state.epoch);
        let policed = machine.kernel.policed.clone();
        machine.apply(relist(&both[1]));
        machine.settle();
        if effects(&machine.kernel, &both) != before {
            prop_assert_eq!(machine.kernel.state.epoch, epoch + 1);
        }
        if machine.kernel.policed == policed && machine.kernel.state.epoch != epoch {
            // Classes that some rule set tells apart: for a packet that is not among those asked, at least.
            prop_assert_eq!(machine.kernel.state.epoch, epoch + 1);
        }
    }
}

fn start() -> Machine {
    let mut machine = Machine::new(PolicyCapacity::default());
    machine.apply(synced());
    machine.apply([pod("a/one", "app=one", &["10.0.1.1"]), pod("a/two", "app=two", &["10.0.1.2"])].map(put));
    machine
}

fn from_two() -> NetworkPolicy {
    NetworkPolicy {
        ingress: vec![rule(vec![pods(None, Some("app=two"))], vec![port(Proto::TCP, 80)])],
        pods: select("app=one"),
        ..policy("a/from-two")
    }
}

/// What kind of write it is.
fn kind(write: &PolicyWrite) -> &'static str {
    use proxy_model::policy::AddressWrite::*;
    match write {
        PolicyWrite::PutVerdict { .. } => "page",
        PolicyWrite::DeleteVerdict { .. } => "no page",
        PolicyWrite::State(_) => "state",
        PolicyWrite::V4(PutPeer { .. }) => "peer",
        PolicyWrite::V4(PutPoliced { .. }) => "policed",
        PolicyWrite::V4(PutBlock { .. }) => "block",
        PolicyWrite::V4(DeletePeer { .. }) => "no peer",
        PolicyWrite::V4(DeletePoliced { .. }) => "not policed",
        PolicyWrite::V4(DeleteBlock { .. }) => "no block",
        PolicyWrite::V6(_) => "IPv6",
    }
}

fn kinds(plan: &proxy_model::policy::PolicyPlan) -> Vec<&'static str> {
    plan.writes.iter().map(kind).collect()
}

#[test]
fn without_a_policy_nothing_is_written_and_nothing_about_pods_is_a_change() {
    let mut machine = start();
    assert_eq!(machine.sync(), proxy_model::policy::PolicyPlan::default());
    assert_eq!(machine.world.apply(put(pod("a/three", "", &["10.0.1.3"]))), Changed::No);
    assert_eq!(machine.world.apply(put(from_two())), Changed::Yes);
    assert_eq!(machine.world.apply(put(pod("a/four", "", &["10.0.1.4"]))), Changed::Yes);
}

#[test]
fn decision_20_pages_come_first_and_go_last() {
    let mut machine = start();
    machine.apply([put(from_two())]);
    assert_eq!(kinds(&machine.sync()), ["page", "peer", "policed", "state"]);
    assert_eq!(machine.kernel.state, PolicyState { epoch: 1, ..PolicyState::default() });
    machine.apply([delete(&from_two())]);
    let plan = machine.sync();
    assert_eq!(kinds(&plan), ["not policed", "state"], "item 13");
    assert_eq!(machine.kernel.state.epoch, 2);
    // Nothing is deleted before the time is over.
    assert_eq!(machine.sync().writes, []);
    machine.now = plan.next_release.unwrap();
    assert_eq!(kinds(&machine.sync()), ["no peer", "no page"]);
    machine.settle();
    let Kernel { policed, peers, blocks, verdicts, state } = machine.kernel;
    assert!(policed.is_empty() && peers.is_empty() && blocks.is_empty() && verdicts.is_empty());
    assert_eq!(state.epoch, 2, "a table of epochs seen before zero would come back to them");
}

#[test]
fn item_42_a_label_of_a_pod_touches_what_its_class_touches() {
    let mut machine = start();
    machine.apply([put(from_two()), put(pod("a/three", "app=three", &["10.0.1.3"]))]);
    machine.settle();
    machine.apply([put(pod("a/three", "app=two", &["10.0.1.3"]))]);
    assert_eq!(kinds(&machine.sync()), ["peer", "state"]);
    machine.apply([put(pod("a/three", "app=other", &["10.0.1.3"]))]);
    assert_eq!(kinds(&machine.sync()), ["no peer", "state"]);
    // Labels that nobody asks for.
    machine.apply([put(pod("a/three", "app=four,x=y", &["10.0.1.3"]))]);
    assert_eq!(machine.sync().writes, []);
}

#[test]
fn a_device_of_a_pod_is_no_reason_to_judge_again() {
    let mut machine = start();
    machine.apply([put(from_two())]);
    machine.settle();
    machine.apply([Event::PodDevices([(ip("10.0.1.1"), 7), (ip("10.0.1.2"), 8)].into())]);
    assert_eq!(kinds(&machine.sync()), ["policed"]);
    assert_eq!(machine.kernel.policed[&ip("10.0.1.1")].device, 7);
}

#[test]
fn item_40_while_a_selected_pod_has_no_address_unknown_addresses_with_a_device_are_closed() {
    let mut machine = start();
    let waiting = Pod { phase: PodPhase::Pending, ..pod("a/new", "app=one", &[]) };
    let devices = [("10.0.1.1", 7), ("10.0.1.9", 9), ("10.0.7.9", 10)].map(|(addr, index)| (ip(addr), index));
    machine.apply([
        put(node(HERE, "", &["192.168.0.1"])),
        put(from_two()),
        put(waiting.clone()),
        Event::PodDevices(devices.into()),
    ]);
    machine.sync();
    let closed = machine.kernel.policed[&ip("10.0.1.9")];
    assert_eq!((closed.ingress, closed.egress, closed.device), (RuleSetId::CLOSED, RuleSetId::CLOSED, 9));
    assert!(!machine.kernel.policed.contains_key(&ip("10.0.7.9")), "not of this node's pods");
    // The API says whose it is.
    machine.apply([put(Pod { ips: vec![ip("10.0.1.9")], ..waiting })]);
    machine.sync();
    let known = machine.kernel.policed[&ip("10.0.1.9")];
    assert_eq!(known.ingress, machine.kernel.policed[&ip("10.0.1.1")].ingress);
    assert_eq!(known.egress, RuleSetId::OPEN);
}

#[test]
fn nothing_is_opened_before_every_fact_is_known_again() {
    let mut machine = start();
    machine.apply([put(from_two())]);
    machine.settle();
    let held = machine.kernel.clone();
    machine.restart();
    let kinds = synced();
    machine.apply([put(from_two())]);
    for event in kinds.into_iter().rev() {
        assert_eq!(machine.sync().writes, []);
        machine.apply([event]);
    }
    // Now it is known that the pods are gone.
    machine.settle();
    assert_ne!(machine.kernel, held);
    assert!(machine.kernel.policed.is_empty());
}

#[test]
fn rules_that_come_back_after_a_restart_know_classes_that_are_newer() {
    let about = |number: u16| NetworkPolicy {
        ingress: vec![
            rule(vec![pods(None, Some("app=two"))], vec![port(Proto::TCP, number)]),
            rule(vec![pods(None, Some("app=three"))], vec![port(Proto::TCP, number)]),
        ],
        ..from_two()
    };
    let mut machine = start();
    machine.apply([put(about(80))]);
    machine.sync();
    machine.apply([put(about(81))]);
    machine.sync();
    machine.restart();
    machine.apply(synced());
    machine.apply([pod("a/one", "app=one", &["10.0.1.1"]), pod("a/two", "app=two", &["10.0.1.2"])].map(put));
    machine.apply([put(about(81))]);
    machine.sync();
    // The rules about port 80 rest. This agent has not seen them yet, and cannot say what they say about somebody new.
    machine.apply([put(pod("a/three", "app=three", &["10.0.1.3"]))]);
    machine.sync();
    machine.apply([put(about(80))]);
    machine.sync();
    for from in ["10.0.1.2", "10.0.1.3"] {
        let said = machine.kernel.verdict(&packet(from, "10.0.1.1", Proto::TCP, 80));
        assert_eq!(said.map(|ruling| ruling.effect), [Effect::ALLOW; 2], "from {from}");
    }
}

#[test]
fn a_label_that_closes_one_end_and_opens_the_other_lets_nothing_pass_in_between() {
    let of_new =
        |key| NetworkPolicy { pods: select("role=new"), types: types(&[Direction::Egress]), ..policy(key) };
    let to_server = NetworkPolicy {
        pods: select("app=server"),
        ingress: vec![rule(vec![pods(None, Some("role=new"))], vec![])],
        ..policy("a/to-server")
    };
    let client = |role: &str| put(pod("a/client", &format!("role={role}"), &["10.0.1.1"]));
    let mut machine = Machine::new(PolicyCapacity::default());
    machine.apply(synced());
    machine.apply([client("old"), put(pod("a/server", "app=server", &["10.0.1.2"])), put(to_server)]);
    machine.apply([put(of_new("a/from-new"))]);
    machine.settle();
    machine.apply([client("new")]);
    let plan = machine.planner.plan(&mut machine.world, machine.now);
    assert_eq!(kinds(&plan), ["page", "policed", "peer", "state"]);
    for write in &plan.writes {
        let said = machine.kernel.verdict(&packet("10.0.1.1", "10.0.1.2", Proto::TCP, 80));
        assert!(said.iter().any(|ruling| ruling.effect == Effect::DENY), "before {write:?}");
        machine.kernel.make(write, machine.capacity).unwrap();
    }
}
