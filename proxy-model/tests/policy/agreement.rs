//! Random policies × clusters × packets: the maps say what the contract says, by the same rule; and a mistake in either is
//! noticed.

use std::cell::Cell;
use std::collections::BTreeMap;

use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use proxy_common::policy::{Effect, PeerClass, Policed, RuleId, RuleSetId, Ruling};
use proxy_model::fact::{PodPhase, Tier};
use proxy_model::policy::{Outcome, PolicyCapacity, PolicyNames, Question, Side, explain};

use crate::fixture::*;
use crate::kernel::Machine;
use crate::random::{Kinds, facts, packets};
use crate::reference::{ByRule, Facts, Packet, Said};

/// Clusters to look at, each with some thousand packets; `SLUICE_POLICY_WORLDS` asks for more.
fn worlds() -> u32 {
    std::env::var("SLUICE_POLICY_WORLDS")
        .map_or(40, |number| number.parse().expect("SLUICE_POLICY_WORLDS is a number"))
}

fn planned(facts: &Facts) -> Machine {
    let mut machine = Machine::new(PolicyCapacity::default());
    machine.apply(events(facts).into_iter().chain(synced()));
    machine.sync();
    machine
}

/// Which rule an id stands for.
fn rules(names: PolicyNames) -> BTreeMap<RuleId, ByRule> {
    let place = |(id, name): (RuleId, proxy_model::policy::RuleName)| {
        (id, (name.policy, name.direction, usize::from(name.index)))
    };
    names.rules.into_iter().map(place).collect()
}

fn said(ruling: Ruling, rules: &BTreeMap<RuleId, ByRule>) -> Said {
    let by = (ruling.by != RuleId::NONE).then(|| rules.get(&ruling.by).cloned().expect("a rule with a name"));
    Said { passes: ruling.effect == Effect::ALLOW, by }
}

/// An address that nobody is known to have yet, and that is kept closed until it is known whose it is.
fn is_unknown_pod(machine: &Machine, facts: &Facts, packet: &Packet) -> bool {
    let closed = |addr| {
        let shut = |value: &Policed| value.egress == RuleSetId::CLOSED && value.ingress == RuleSetId::CLOSED;
        facts.devices.contains_key(addr)
            && facts.pod_at(*addr).is_none()
            && machine.kernel.policed.get(addr).is_some_and(shut)
    };
    closed(&packet.src) || closed(&packet.dst)
}

/// Returns how many packets were compared.
fn compare(machine: &Machine, facts: &Facts) -> Result<usize, TestCaseError> {
    let rules = rules(machine.planner.names());
    let packets = packets(facts);
    for packet in packets.iter().filter(|packet| !is_unknown_pod(machine, facts, packet)) {
        let got = machine.kernel.verdict(packet).map(|ruling| said(ruling, &rules));
        let expected = facts.verdict(packet, HERE);
        if got != expected {
            return Err(TestCaseError::fail(format!("{packet:?}: {got:?}, not {expected:?}")));
        }
    }
    Ok(packets.len())
}

/// The same clusters in every run: what is red stays red.
fn runner(worlds: u32, shrinking: u32) -> TestRunner {
    let config =
        Config { failure_persistence: None, max_shrink_iters: shrinking, ..Config::with_cases(worlds) };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

fn agree(kinds: Kinds) {
    let compared = Cell::new(0);
    let outcome = runner(worlds(), 2_000).run(&facts(kinds), |facts| {
        compared.set(compared.get() + compare(&planned(&facts), &facts)?);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
    println!("{} packets compared", compared.get());
    assert!(compared.get() > 1_000 * worlds() as usize);
}

#[test]
fn the_maps_say_about_network_policies_what_the_reference_says() {
    agree(Kinds::Network);
}

#[test]
fn the_maps_say_about_all_policies_what_the_reference_says() {
    agree(Kinds::Both);
}

/// What an explanation comes down to.
fn explained(side: &Side) -> Said {
    let by = match &side.outcome {
        Outcome::Decided { rule, .. } => Some((rule.policy.clone(), rule.direction, usize::from(rule.index))),
        Outcome::NoPod | Outcome::OwnNode | Outcome::Free | Outcome::Isolated { .. } => None,
    };
    Said { passes: side.effect() == Effect::ALLOW, by }
}

#[test]
fn explanations_say_what_the_reference_says_about_pods_of_every_node() {
    let outcome = runner(worlds() / 4 + 1, 2_000).run(&facts(Kinds::Both), |facts| {
        let machine = planned(&facts);
        for packet in packets(&facts) {
            let Packet { src: from, dst: to, proto, port } = packet;
            let told = explain(&machine.world, &Question { from, to, proto, port });
            let [egress, mut ingress] = facts.verdict_of(&packet, &|_| true);
            if told.ingress.outcome == Outcome::OwnNode {
                // Item 34.
                ingress = Said { passes: true, by: None };
            }
            let got = [&told.egress, &told.ingress].map(explained);
            if got != [egress, ingress] {
                return Err(TestCaseError::fail(format!("{packet:?}: {told:?}")));
            }
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Clusters among which a mistake must show; most show in the first few.
const MANY: u32 = 256;

/// Where somebody gets something wrong.
enum Mistake {
    /// The planner takes the facts for others.
    Plan(fn(&mut Facts)),
    /// The maps are others than planned.
    Maps(fn(&mut Machine)),
}

const MISTAKES: &[(&str, Mistake)] = &[
    (
        "a plan whose exceptions do not count",
        Mistake::Plan(|facts| {
            for rule in facts.network.iter_mut().flat_map(|p| p.ingress.iter_mut().chain(&mut p.egress)) {
                for peer in &mut rule.peers {
                    if let proxy_model::fact::NetworkPeer::Block { except, .. } = peer {
                        except.clear();
                    }
                }
            }
        }),
    ),
    (
        "a plan that takes finished pods for running ones",
        Mistake::Plan(|facts| facts.pods.iter_mut().for_each(|pod| pod.phase = PodPhase::Running)),
    ),
    (
        "a plan that takes pods of the host network for others",
        Mistake::Plan(|facts| facts.pods.iter_mut().for_each(|pod| pod.host_network = false)),
    ),
    (
        "a plan that knows no named ports",
        Mistake::Plan(|facts| facts.pods.iter_mut().for_each(|pod| pod.ports.clear())),
    ),
    (
        "a plan that takes every policy for one of the baseline",
        Mistake::Plan(|facts| facts.cluster.iter_mut().for_each(|policy| policy.tier = Tier::Baseline)),
    ),
    (
        "a plan without priorities",
        Mistake::Plan(|facts| facts.cluster.iter_mut().for_each(|policy| policy.priority = 0)),
    ),
    (
        "a plan without labels of nodes",
        Mistake::Plan(|facts| facts.nodes.iter_mut().for_each(|node| node.labels.clear())),
    ),
    (
        "a pod without its rules",
        Mistake::Maps(|machine| {
            machine.kernel.policed.pop_first();
        }),
    ),
    (
        "a pod that is taken for the world",
        Mistake::Maps(|machine| {
            machine.kernel.peers.values_mut().for_each(|class| *class = PeerClass::WORLD);
        }),
    ),
    ("blocks without their prefixes", Mistake::Maps(|machine| machine.kernel.blocks.clear())),
    (
        "a page whose last interval is missing",
        Mistake::Maps(|machine| {
            machine.kernel.verdicts.values_mut().for_each(|page| page.count = page.count.saturating_sub(1));
        }),
    ),
    (
        "an interval that ends one port too late",
        Mistake::Maps(|machine| {
            for page in machine.kernel.verdicts.values_mut() {
                for interval in &mut page.intervals {
                    interval.last = interval.last.saturating_add(1);
                }
            }
        }),
    ),
    (
        "pages that allow what else there is",
        Mistake::Maps(|machine| {
            machine.kernel.verdicts.values_mut().for_each(|page| page.effect = Effect::ALLOW);
        }),
    ),
];

#[test]
fn a_mistake_is_found() {
    for (name, mistake) in MISTAKES {
        let found = runner(MANY, 0).run(&facts(Kinds::Both), |facts| {
            let machine = match mistake {
                Mistake::Plan(change) => {
                    let mut taken = facts.clone();
                    change(&mut taken);
                    planned(&taken)
                }
                Mistake::Maps(change) => {
                    let mut machine = planned(&facts);
                    change(&mut machine);
                    machine
                }
            };
            compare(&machine, &facts).map(|_| ())
        });
        assert!(found.is_err(), "nobody noticed {name}");
    }
}
