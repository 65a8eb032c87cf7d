//! What a Service asks for and does not get, and what cannot be read: said in the log, and on the object.

use std::collections::BTreeSet;

use proxy_model::Plan;
use proxy_model::plan::{Refusal, Refused};

use super::Engine;
use crate::kernel::Outcome;
use crate::kernel::trouble::Trouble;
use crate::observe::event::{Notice, Regarding};
use crate::parse::Problem;
use crate::run::dataplane::Dataplane;
use crate::run::problems::News;

/// Services that Events are written on after one plan: a full table concerns many at once, and the log names them all.
const EVENTS: usize = 16;

impl<D: Dataplane> Engine<D> {
    /// Says that an object could not be decoded, once.
    pub(super) fn misshapen(&mut self, problem: Problem) {
        let node = &self.world.settings().node_name;
        let notice = Notice {
            regarding: Regarding::Object(problem.object.clone()),
            reason: "NotDecoded",
            action: "Read",
            note: format!("node {node}: {problem}"),
        };
        if self.problems.note(&problem.object.clone(), vec![problem]) == News::Said {
            self.events.say(notice);
        }
    }

    /// Says which writes the kernel has refused: one in the log each time, and once on each Service until everything is
    /// written.
    pub(super) fn say_unwritten(&mut self, outcome: &Outcome, plan: &Plan) {
        let troubles = outcome.troubles(plan, &self.planner);
        let Some(first) = troubles.first() else {
            self.unwritten.clear();
            return;
        };
        let failed = outcome.v4.failures.len() + outcome.v6.failures.len();
        let Trouble { map, write, service, error } = first;
        let service = service.map(ToString::to_string).unwrap_or_default();
        let remedy = first.remedy();
        tracing::error!(failed, map, write, service, %error, "writes to the maps failed{remedy}; trying again");
        let node = &self.world.settings().node_name;
        for trouble in &troubles {
            let Some(object) = trouble.service.map(|name| name.service.clone()) else { continue };
            if self.unwritten.len() < EVENTS && self.unwritten.insert(object.clone()) {
                self.events.say(Notice {
                    regarding: Regarding::Service(object),
                    reason: "NotWritten",
                    action: "Serve",
                    note: format!("node {node}: {trouble}; trying again"),
                });
            }
        }
    }

    /// Says what is refused and was not before.
    pub(super) fn refuse(&self, refused: &[Refusal]) {
        let node = &self.world.settings().node_name;
        let mut told = BTreeSet::new();
        for refusal in refused {
            tracing::error!("{refusal}");
            if told.len() < EVENTS && told.insert(refusal.object()) {
                self.events.say(Notice {
                    regarding: Regarding::Service(refusal.object().clone()),
                    reason: reason(&refusal.reason),
                    action: "Serve",
                    note: format!("node {node}: {refusal}"),
                });
            }
        }
    }
}

/// The reason of the Event.
const fn reason(refused: &Refused) -> &'static str {
    match refused {
        Refused::Taken { .. } => "FrontendTaken",
        Refused::Frontends { .. } | Refused::Backends { .. } | Refused::Ranges { .. } => "NoRoomForService",
    }
}
