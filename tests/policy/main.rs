//! Policies that change without a pause, while pods connect as fast as they can and agents are killed: real agents on the
//! nodes of a lab. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod change;
mod chaos;
mod pressure;
mod random;
mod stage;
mod state;
mod watch;
mod window;
