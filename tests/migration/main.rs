//! A node changes from the real kube-proxy to Sluice and back, under load: no connection that is open breaks, and none that is
//! tried meanwhile fails (`docs/migration.md`). Needs root, and the programs of `tests/cluster`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod change;
#[expect(dead_code, reason = "the room of another target, of which some is used here")]
#[path = "../disaster/gate.rs"]
mod gate;
#[expect(dead_code, reason = "as above")]
#[path = "../life/loads.rs"]
mod loads;
#[path = "../life/objects.rs"]
mod objects;
mod peer;
#[expect(dead_code, reason = "as above")]
#[path = "../disaster/stage.rs"]
mod stage;
