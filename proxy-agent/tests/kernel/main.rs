//! The kernel room against the real kernel: programs loaded and attached in a network namespace, a cgroup and a
//! bpffs directory of the test's own. Needs root. Packets and Services are other tests' business.

mod adoption;
mod collection;
mod device;
mod preflight;
mod stage;
mod upkeep;
