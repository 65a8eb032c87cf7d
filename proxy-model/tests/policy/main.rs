//! The planner of policies from the outside: facts in, and what an in-memory kernel then says about packets.

#![expect(
    unreachable_pub,
    reason = "a test target has no outside; `pub` marks what a module offers to the others"
)]
#![expect(clippy::unwrap_used, reason = "where a test cannot unwrap, it has failed")]

mod agreement;
mod cluster;
mod fixture;
mod kernel;
mod network;
mod order;
mod random;
mod reference;
mod room;
mod tamper;
mod write;
