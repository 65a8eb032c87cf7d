//! Writing down whose each id is, beside everything else: a turn at a time, and seldom if it takes long. A convenience, and not
//! worth a retry.

use std::time::{Duration, Instant};

use super::{Engine, NAMES, SHARE};
use crate::kernel::roll::Roll;
use crate::run::dataplane::Dataplane;

/// Between two turns: what came in the meantime goes first.
const BETWEEN_TURNS: Duration = Duration::from_millis(2);

/// How far the names are written down.
#[derive(Debug, Default)]
pub(super) struct Naming {
    roll: Option<Roll>,
    /// Of the names that the roll, or else the file, is of.
    version: Option<u64>,
    /// Time that the roll has taken so far.
    took: Duration,
    /// Not before.
    next: Option<Instant>,
}

impl<D: Dataplane> Engine<D> {
    /// Writes down whose each id is, if that changed, at most once in [`NAMES`] and for one part in [`SHARE`] of the time. What
    /// cannot be written in one turn is gone on with at [`Engine::naming`].
    pub(in crate::run) fn write_names(&mut self, now: Instant) {
        self.write_policy_names(now);
        let is_written =
            self.naming.roll.is_none() && self.naming.version == Some(self.planner.names_version());
        if is_written || self.naming.next.is_some_and(|next| now < next) {
            return;
        }
        let is_first = self.naming.version.is_none();
        self.turn(now);
        // Whoever asks right after a start is told all of them.
        while is_first && self.naming.roll.is_some() {
            self.turn(now);
        }
    }

    /// When to go on with what was begun.
    pub(in crate::run) fn naming(&self) -> Option<Instant> {
        self.naming.roll.as_ref().and(self.naming.next)
    }

    /// The agent is stopping: there is no later time.
    pub(in crate::run) fn write_names_at_last(&mut self, now: Instant) {
        // What was begun may be of names that have changed.
        if self.naming.roll.take().is_some() {
            self.naming.version = None;
        }
        if self.naming.version != Some(self.planner.names_version()) && self.applied_first {
            self.turn(now);
            while self.naming.roll.is_some() {
                self.turn(now);
            }
        }
        self.write_policy_names(now + NAMES);
    }

    fn turn(&mut self, now: Instant) {
        let began = Instant::now();
        let roll = self.naming.roll.take();
        if roll.is_none() {
            self.naming.version = Some(self.planner.names_version());
        }
        match self.dataplane.write_names(roll, &self.planner) {
            Ok(roll) => self.naming.roll = roll,
            Err(error) => tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the names of Services could not be written down"
            ),
        }
        self.naming.took += began.elapsed();
        self.naming.next = Some(match &self.naming.roll {
            Some(_) => now + BETWEEN_TURNS,
            None => now + NAMES.max(SHARE * std::mem::take(&mut self.naming.took)),
        });
    }
}
