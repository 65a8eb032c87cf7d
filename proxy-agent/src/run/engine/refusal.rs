//! What a Service asks for and does not get, and what cannot be read: said in the log, and on the object.

use std::collections::BTreeSet;

use proxy_model::plan::{Refusal, Refused};

use super::Engine;
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
