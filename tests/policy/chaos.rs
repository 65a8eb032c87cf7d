//! Everything changes all the time, agents die, and at no moment does anything pass that neither the state before a change nor
//! the one after it allows.

use std::time::SystemTime;

use crate::change::Change;
use crate::random::Random;
use crate::stage::{NODES, Stage, first_state};
use crate::state::{Begun, State};
use crate::watch::{Kept, Watch};

/// How many changes are made, if `SLUICE_POLICY_CHANGES` says no other number.
const CHANGES: usize = 40;

#[test]
fn nothing_passes_that_neither_the_old_nor_the_new_state_allows() {
    let changes = std::env::var("SLUICE_POLICY_CHANGES").ok().and_then(|text| text.parse().ok());
    let mut random = Random::new();
    let mut state = first_state();
    let mut stage = Stage::begin(&state, &[]);
    let kept = Kept::open(&stage, &state);
    let mut watch = Watch::start(&stage, &state);
    let (mut deaths, all) = (0, changes.unwrap_or(CHANGES));
    for number in 0..all {
        let change = Change::any(&state, &mut random);
        let death = random.below(6) == 0 || matches!(change, Change::Nothing);
        let node = death.then(|| random.of(&NODES));
        deaths += usize::from(death);
        let new = change.after(&state);
        let at = make(&mut stage, &mut watch, &change, (&state, &new), node);
        state = new;
        let mut wrong = watch.await_answers(at);
        wrong.extend(watch.complaints());
        let policies = &state.policies;
        assert!(
            wrong.is_empty() && !kept.broken(),
            "after change {number}, {change:?} with the agent dead on {node:?}: {wrong:#?}\n{policies:#?}\n{}",
            stage.logs()
        );
    }
    watch.end();
    let exchanges = kept.end().unwrap();
    let answers = watch.answers;
    println!(
        "{all} changes, {deaths} deaths, {answers} connections, {exchanges} messages on those kept open"
    );
    assert!(answers > 0 && exchanges > 0);
}

/// Makes a change and waits until it is in force; says since when.
fn make(
    stage: &mut Stage,
    watch: &mut Watch,
    change: &Change,
    (old, new): (&State, &State),
    dead: Option<&'static str>,
) -> SystemTime {
    if let Change::Replace(pod, _) = change {
        return replace(stage, watch, pod, (old, new));
    }
    watch.change(old, new);
    match dead {
        Some(node) => stage.without_agent(node, || change.write(stage, old, new)),
        None => change.write(stage, old, new),
    }
    let at = stage.settle();
    watch.settled(new, at);
    at
}

/// A pod goes, and its successor is known by the API before it has addresses, as with a kubelet.
fn replace(
    stage: &mut Stage,
    watch: &mut Watch,
    pod: &'static str,
    (old, new): (&State, &State),
) -> SystemTime {
    let wrong = watch.pause(pod);
    assert!(wrong.is_empty(), "{wrong:#?}");
    stage.delete(&old.pod(pod, Begun::Yes));
    stage.lab.pod_remove(pod).unwrap();
    // Nobody is there: nothing can pass to it or from it.
    let gone = stage.settle();
    watch.gone(pod, gone);
    stage.put(&new.pod(pod, Begun::No));
    stage.settle();
    // Nothing of the old pod is left to be judged by the old state.
    watch.change(new, new);
    let spec = &new.pods[pod];
    let spec = sluice_lab::PodSpec { name: pod.into(), node: spec.node.into(), ips: spec.ips.to_vec() };
    stage.lab.pod_add(&spec).unwrap();
    // A runtime starts a pod's processes a while after its devices are there; `window` measures how long a while is needed.
    if new.isolates(pod) {
        stage.await_isolation(&new.pods[pod]);
    }
    stage.serve(&new.pods[pod]);
    stage.put(&new.pod(pod, Begun::Yes));
    watch.resume(stage, new);
    let at = stage.settle();
    watch.settled(new, at);
    at
}
