//! The programs do what the contract says, and a mistake in either is noticed.

use std::cell::RefCell;

use proptest::test_runner::{Config, TestCaseError, TestRunner};
use proxy_common::{ClientRule, Frontend, FrontendFlags, Port};
use proxy_model::fact::{Endpoint, TrafficPolicy};

use crate::fixture::*;
use crate::kernel::{Machine, ROOMY};
use crate::random::{attempts, facts};
use crate::reference::Facts;
use crate::stage::Stage;

/// Connections that each attempt opens: enough to meet a wrong backend among few.
const TRIES: u16 = 2;

/// Worlds to look at; `SLUICE_WORLDS` asks for more.
fn worlds() -> u32 {
    std::env::var("SLUICE_WORLDS").map_or(48, |number| number.parse().expect("SLUICE_WORLDS is a number"))
}

fn planned(facts: &Facts) -> Machine {
    let mut machine = Machine::new(facts.settings.clone(), ROOMY);
    machine.apply(events(facts).into_iter().chain(synced()));
    machine.sync();
    machine
}

/// Asks the programs everything over what `machine` wrote, and compares with what `facts` demand.
fn compare(stage: &mut Stage, machine: &Machine, facts: &Facts) -> Result<(), TestCaseError> {
    let locals = &facts.local_addresses;
    stage.put(machine, locals);
    let mut port = 1024;
    for attempt in attempts() {
        // No device carries a loopback address.
        if attempt.client.is_loopback() {
            continue;
        }
        let expected = facts.verdict(attempt);
        for _ in 0..TRIES {
            port += 1;
            let got = stage.ask(&attempt, port, locals);
            if !got.is_one_of(&expected, &attempt, locals) {
                return Err(TestCaseError::fail(format!("{attempt:?}: {got:?}, not {expected:?}")));
            }
        }
    }
    Ok(())
}

/// The same worlds in every run: what is red stays red.
fn runner(worlds: u32, shrinking: u32) -> TestRunner {
    let config =
        Config { failure_persistence: None, max_shrink_iters: shrinking, ..Config::with_cases(worlds) };
    TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    )
}

#[test]
fn the_programs_do_what_the_reference_says() {
    let stage = RefCell::new(Stage::new());
    let agree = runner(worlds(), 200)
        .run(&facts(), |facts| compare(&mut stage.borrow_mut(), &planned(&facts), &facts));
    if let Err(error) = agree {
        panic!("{error}");
    }
}

/// Worlds among which a mistake must show; most show in the first few.
const MANY: u32 = 512;

/// Where somebody gets something wrong.
enum Mistake {
    /// The planner takes the facts for others.
    Plan(fn(&mut Facts)),
    /// The maps are others than planned.
    Maps(fn(&mut Machine)),
    /// The reference takes the facts for others.
    Reference(fn(&mut Facts)),
}

fn frontends(machine: &mut Machine) -> impl Iterator<Item = &mut Frontend> {
    machine.v4.frontends.values_mut().chain(machine.v6.frontends.values_mut())
}

fn endpoints(facts: &mut Facts) -> impl Iterator<Item = &mut Endpoint> {
    facts.slices.iter_mut().flat_map(|slice| &mut slice.endpoints)
}

const MISTAKES: &[(&str, Mistake)] = &[
    (
        "a frontend that forgets to masquerade",
        Mistake::Maps(|machine| {
            let clear = |rule: ClientRule| ClientRule(rule.0 & !ClientRule::MASQUERADE.0);
            frontends(machine).for_each(|value| value.rules = value.rules.map(clear));
        }),
    ),
    (
        "a segment that ends one slot too late",
        Mistake::Maps(|machine| {
            frontends(machine).for_each(|value| value.cluster.len += u32::from(value.cluster.len > 0));
        }),
    ),
    (
        "a cluster address whose unknown ports pass",
        Mistake::Maps(|machine| machine.v6.frontends.retain(|key, _| key.port != Port::NONE)),
    ),
    (
        "source ranges that are not looked at",
        Mistake::Maps(|machine| {
            frontends(machine).for_each(|value| value.flags.0 &= !FrontendFlags::RANGES.0);
        }),
    ),
    (
        "a plan without hints",
        Mistake::Plan(|facts| endpoints(facts).for_each(|e| (e.hint_zones, e.hint_nodes) = (vec![], vec![]))),
    ),
    (
        "a plan that takes draining endpoints for ready ones",
        Mistake::Plan(|facts| endpoints(facts).for_each(|endpoint| endpoint.ready = Some(true))),
    ),
    (
        "a reference that knows no local policy",
        Mistake::Reference(|facts| {
            facts.services.iter_mut().for_each(|service| service.external_policy = TrafficPolicy::Cluster);
        }),
    ),
    (
        "a reference that knows no load balancers",
        Mistake::Reference(|facts| {
            facts.services.iter_mut().for_each(|service| service.load_balancer.clear());
        }),
    ),
];

#[test]
fn a_mistake_on_either_side_is_found() {
    let stage = RefCell::new(Stage::new());
    for (name, mistake) in MISTAKES {
        let found = runner(MANY, 0).run(&facts(), |mut facts| {
            let mut machine = planned(&facts);
            match mistake {
                Mistake::Plan(change) => {
                    let mut taken = facts.clone();
                    change(&mut taken);
                    machine = planned(&taken);
                }
                Mistake::Maps(change) => change(&mut machine),
                Mistake::Reference(change) => change(&mut facts),
            }
            compare(&mut stage.borrow_mut(), &machine, &facts)
        });
        assert!(found.is_err(), "nobody noticed {name}");
    }
}
