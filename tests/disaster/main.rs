//! The worst days of an agent: it is killed at every step, the kernel refuses it everything, the API server is away, lies, or
//! says nothing, tables are full, devices go and come back. Each test counts connections that were tried, of which none may
//! fail, and what is left in the maps, which must be what belongs there. `docs/failures.md` lists them. Needs root.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod absence;
mod attachment;
mod crash;
mod doubt;
mod errors;
mod flood;
mod foreign;
mod garbage;
mod gate;
mod hostile;
#[path = "../life/loads.rs"]
mod loads;
#[path = "../life/objects.rs"]
mod objects;
mod room;
mod stage;
mod world;
