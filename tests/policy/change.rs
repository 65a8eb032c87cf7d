//! Changes of the cluster, one object at a time.

use crate::random::Random;
use crate::stage::{NODES, Stage};
use crate::state::{Begun, Peer, Policy, Ports, State, VALUES, Way};

const SLOTS: usize = 5;

/// A change of one object.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Put(usize, Policy),
    Delete(usize),
    Role(&'static str, &'static str),
    Team(&'static str, &'static str),
    /// The pod goes, and another comes in its place with the same addresses.
    Replace(&'static str, &'static str),
    /// Nothing changes; the agent of a node dies.
    Nothing,
}

impl Change {
    /// Any that is possible.
    pub(crate) fn any(state: &State, random: &mut Random) -> Self {
        let pods: Vec<&'static str> = state.pods.keys().copied().collect();
        match random.below(20) {
            0..=8 => {
                let slot = random.below(SLOTS);
                Self::Put(slot, policy(state, slot, random))
            }
            9..=11 if !state.policies.is_empty() => {
                let slots: Vec<usize> = state.policies.keys().copied().collect();
                Self::Delete(random.of(&slots))
            }
            12..=15 => Self::Role(random.of(&pods), random.of(&VALUES)),
            16..=17 => Self::Team(random.of(&["x", "y"]), random.of(&VALUES)),
            18 => Self::Replace("e", random.of(&VALUES)),
            _ => Self::Nothing,
        }
    }

    /// The state after it.
    pub(crate) fn after(&self, state: &State) -> State {
        let mut state = state.clone();
        match self {
            Self::Put(slot, policy) => drop(state.policies.insert(*slot, policy.clone())),
            Self::Delete(slot) => drop(state.policies.remove(slot)),
            Self::Role(pod, role) | Self::Replace(pod, role) => {
                if let Some(pod) = state.pods.get_mut(pod) {
                    pod.role = role;
                }
            }
            Self::Team(namespace, team) => drop(state.teams.insert(namespace, team)),
            Self::Nothing => {}
        }
        state
    }

    /// Writes it, from one state to the next.
    pub(crate) fn write(&self, stage: &Stage, old: &State, new: &State) {
        match self {
            Self::Put(slot, _) => stage.put(&new.policy(*slot)),
            Self::Delete(slot) => stage.delete(&old.policy(*slot)),
            Self::Role(pod, _) | Self::Replace(pod, _) => stage.put(&new.pod(pod, Begun::Yes)),
            Self::Team(namespace, _) => stage.put(&new.namespace(namespace)),
            Self::Nothing => {}
        }
    }
}

/// A policy keeps its namespace: with another it would be another object.
fn policy(state: &State, slot: usize, random: &mut Random) -> Policy {
    let excepted: Vec<&'static str> = state.pods.keys().copied().collect();
    let peers = [
        Peer::Everybody,
        Peer::Role(random.of(&VALUES)),
        Peer::Team(random.of(&VALUES)),
        Peer::RoleAnywhere(random.of(&VALUES)),
        Peer::Range { node: random.of(&NODES), except: random.of(&excepted) },
    ];
    let ports = [Ports::Every, Ports::One, Ports::Range, Ports::Other];
    let rule = (random.below(4) > 0).then(|| (random.of(&peers), random.of(&ports)));
    let role = (random.below(3) > 0).then(|| random.of(&VALUES));
    let namespace = random.of(&["x", "y"]);
    let namespace = state.policies.get(&slot).map_or(namespace, |old| old.namespace);
    Policy { namespace, role, way: random.of(&[Way::In, Way::Out]), rule }
}
