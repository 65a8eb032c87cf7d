//! Policies of which the kernel has refused something: in the log each time, and once on each policy until everything is
//! written. Knows no retries.

use std::collections::BTreeSet;
use std::io;

use proxy_common::{Policed, RuleSetId};
use proxy_model::policy::{AddressWrite, PolicyName, PolicyPlanner, PolicyWrite};

use super::policy::place;
use crate::kernel::remedy::{Asked, Remedy};
use crate::observe::Events;
use crate::observe::event::{Notice, Regarding};

/// Policies that Events are written on: a full table concerns many at once.
const EVENTS: usize = 16;

/// The policies whose Events say that not all of theirs is written.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    told: BTreeSet<PolicyName>,
}

impl Unwritten {
    /// Everything is written.
    pub(super) fn clear(&mut self) {
        self.told.clear();
    }

    /// The kernel has refused the first of these writes, and so nothing behind it was tried.
    pub(super) fn say(
        &mut self,
        left: &[PolicyWrite],
        error: &io::Error,
        planner: &PolicyPlanner,
        events: &Events,
        node: &str,
    ) {
        let Some(map) = left.first().map(place) else { return };
        let remedy = Remedy::after(Asked::Entry(map), error);
        let concerned = concerned(left, planner);
        let policy = concerned.first().map(ToString::to_string).unwrap_or_default();
        tracing::error!(map, %error, left = left.len(), policy, "policies could not be written{remedy}; trying again");
        for policy in concerned {
            if self.told.len() < EVENTS && self.told.insert(policy.clone()) {
                events.say(Notice {
                    regarding: Regarding::Policy(policy),
                    reason: "NotWritten",
                    action: "Enforce",
                    note: format!("node {node}: cannot write to map {map}: {error}{remedy}; trying again"),
                });
            }
        }
    }
}

/// The policies in the rule sets that the writes are about. What is written of peers alone may be about any.
fn concerned(writes: &[PolicyWrite], planner: &PolicyPlanner) -> BTreeSet<PolicyName> {
    let of_pod = |Policed { egress, ingress, .. }: &Policed| vec![*egress, *ingress];
    let sets: BTreeSet<RuleSetId> = writes
        .iter()
        .flat_map(|write| match write {
            PolicyWrite::PutVerdict { key, .. } | PolicyWrite::DeleteVerdict { key } => vec![key.rules],
            PolicyWrite::V4(AddressWrite::PutPoliced { value, .. })
            | PolicyWrite::V6(AddressWrite::PutPoliced { value, .. }) => of_pod(value),
            PolicyWrite::State(_) | PolicyWrite::V4(_) | PolicyWrite::V6(_) => Vec::new(),
        })
        .collect();
    if sets.is_empty() {
        return BTreeSet::new();
    }
    let known = planner.names().rule_sets.into_iter();
    known.filter(|(id, _)| sets.contains(id)).flat_map(|(_, policies)| policies).collect()
}
