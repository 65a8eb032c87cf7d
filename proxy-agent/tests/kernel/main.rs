//! The kernel room against the real kernel: programs loaded and attached in a network namespace, a cgroup and a
//! bpffs directory of the test's own. Needs root. Packets and Services are other tests' business.
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

mod adoption;
mod audit;
mod collection;
mod conntrack;
mod device;
mod drain;
mod moved;
mod onward;
mod parties;
mod policy;
mod preflight;
mod replaced;
mod stage;
mod upkeep;
