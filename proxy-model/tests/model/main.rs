//! The planner from the outside: facts in, and what an in-memory kernel then does to clients.

#![expect(
    unreachable_pub,
    reason = "a test target has no outside; `pub` marks what a module offers to the others"
)]
#![expect(clippy::unwrap_used, reason = "where a test cannot unwrap, it has failed")]

#[path = "../reference/mod.rs"]
mod reference;

mod adoption;
mod agreement;
mod algorithm;
mod endpoint;
mod fixture;
mod frontend;
mod kernel;
mod local;
mod matrix;
mod order;
mod random;
mod range;
mod room;
mod segment;
mod servers;
mod tunnel;
mod view;
