//! Maps that are too small: the newest policy that does not fit is refused and its pods are closed; all others do what they
//! say.

use proxy_common::Proto;
use proxy_common::policy::{Effect, RuleSetId};
use proxy_model::fact::{NetworkPolicy, PortMatch};
use proxy_model::policy::{PolicyCapacity, PolicyRefused};

use crate::fixture::*;
use crate::kernel::Machine;

/// Lets each of so many networks in by a port of its own: as many classes, and pages.
fn networks(key: &str, created: u64, number: u8) -> NetworkPolicy {
    let rule = |n: u8| {
        rule(vec![block(&format!("203.0.{n}.0/24"), &[])], vec![port(Proto::TCP, 1_000 + u16::from(n))])
    };
    NetworkPolicy { created, ingress: (0..number).map(rule).collect(), ..policy(key) }
}

fn many_ports(key: &str, created: u64, number: u16) -> NetworkPolicy {
    let ports: Vec<PortMatch> = (0..number).map(|n| port(Proto::TCP, 2 * n + 1)).collect();
    NetworkPolicy { created, ingress: vec![rule(vec![], ports)], ..policy(key) }
}

fn start(capacity: PolicyCapacity) -> Machine {
    let mut machine = Machine::new(capacity);
    machine.apply(synced());
    machine.apply(
        [("a/pod", "10.0.1.1"), ("b/pod", "10.0.1.2"), ("c/pod", "10.0.1.3")]
            .map(|(key, addr)| put(pod(key, "", &[addr]))),
    );
    machine
}

fn ingress(machine: &Machine, addr: &str) -> RuleSetId {
    machine.kernel.policed[&ip(addr)].ingress
}

fn passes(machine: &Machine, src: &str, dst: &str, port: u16) -> bool {
    let said = machine.kernel.verdict(&packet(src, dst, Proto::TCP, port));
    said.iter().all(|ruling| ruling.effect == Effect::ALLOW)
}

#[test]
fn the_newest_policy_that_does_not_fit_is_refused_and_its_pods_are_closed() {
    let mut machine = start(PolicyCapacity { verdicts: 12, ..PolicyCapacity::default() });
    machine.apply([
        put(networks("a/old", 1, 4)),
        put(networks("b/large", 2, 100)),
        put(networks("c/new", 3, 4)),
    ]);
    let plan = machine.sync();
    let refused: Vec<_> = plan.refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        refused,
        [
            "NetworkPolicy b/large: no room for 104 pages among 12 (verdicts); its pods on this node are isolated"
        ]
    );
    assert_eq!(ingress(&machine, "10.0.1.2"), RuleSetId::CLOSED);
    for pod in ["10.0.1.1", "10.0.1.3"] {
        assert!(passes(&machine, "203.0.3.1", pod, 1_003));
        assert!(!passes(&machine, "203.0.3.1", pod, 1_002));
    }
    assert!(!passes(&machine, "203.0.3.1", "10.0.1.2", 1_003));
    let plan = machine.sync();
    assert_eq!((plan.refused, machine.planner.refusals().count()), (vec![], 1), "told once");
}

#[test]
fn a_refused_policy_enters_once_another_leaves() {
    let mut machine = start(PolicyCapacity { verdicts: 6, ..PolicyCapacity::default() });
    machine.apply([put(networks("a/old", 1, 4)), put(networks("b/new", 2, 4))]);
    machine.settle();
    assert_eq!(ingress(&machine, "10.0.1.2"), RuleSetId::CLOSED);
    machine.apply([delete(&networks("a/old", 1, 4))]);
    machine.settle();
    assert_eq!(machine.planner.refusals().count(), 0);
    assert!(passes(&machine, "203.0.3.1", "10.0.1.2", 1_003));
    assert!(passes(&machine, "203.0.3.1", "10.0.1.1", 1), "item 13");
}

#[test]
fn a_change_without_room_for_both_states_closes_before_it_opens() {
    let mut machine = start(PolicyCapacity { verdicts: 5, ..PolicyCapacity::default() });
    machine.apply([put(networks("a/policy", 1, 4))]);
    machine.settle();
    let changed = NetworkPolicy {
        ingress: networks("a/policy", 1, 4).ingress.into_iter().map(|r| rule(r.peers, vec![])).collect(),
        ..policy("a/policy")
    };
    machine.apply([put(changed)]);
    let plan = machine.sync();
    assert_eq!(plan.refused, []);
    machine.settle();
    assert!(passes(&machine, "203.0.3.1", "10.0.1.1", 7));
    assert!(!passes(&machine, "203.0.4.1", "10.0.1.1", 7));
    assert!(machine.kernel.verdicts.len() <= 5);
}

#[test]
fn item_50_a_thousand_ports_of_one_rule_are_pages_of_one_class() {
    let mut machine = start(PolicyCapacity::default());
    machine.apply([put(many_ports("a/policy", 1, 1_000))]);
    machine.sync();
    assert_eq!(machine.kernel.verdicts.len(), 1_000_usize.div_ceil(7));
    for number in [0, 1, 2, 999, 1_000, 1_001, 1_998, 1_999, 2_000, 2_001] {
        let wanted = number % 2 == 1 && number < 2_000;
        assert_eq!(passes(&machine, "203.0.3.1", "10.0.1.1", number), wanted, "{number}");
    }
}

#[test]
fn prefixes_and_addresses_without_room_refuse_the_policy_that_asks_for_them() {
    let mut machine = start(PolicyCapacity { blocks: 5, peers: 2, ..PolicyCapacity::default() });
    machine.apply([put(networks("a/old", 1, 4)), put(networks("b/new", 2, 6))]);
    machine.settle();
    let reasons: Vec<_> = machine.planner.refusals().map(|refusal| refusal.reason.clone()).collect();
    assert_eq!(reasons, [PolicyRefused::Blocks { needed: 6, capacity: 5 }]);
    assert!(passes(&machine, "203.0.3.1", "10.0.1.1", 1_003));
    let all = NetworkPolicy {
        created: 3,
        ingress: vec![rule(vec![pods(Some(""), None)], vec![])],
        ..policy("c/all")
    };
    machine.apply([put(all)]);
    machine.settle();
    let reasons: Vec<_> = machine.planner.refusals().map(|refusal| refusal.reason.clone()).collect();
    assert_eq!(
        reasons,
        [PolicyRefused::Blocks { needed: 6, capacity: 5 }, PolicyRefused::Peers { needed: 3, capacity: 2 }]
    );
}
