//! Agents of another map layout take over, newer and older ones, while clients go on connecting: nothing is lost, and nothing
//! of the other layout stays. Real agents on the nodes of a lab. Needs root, and `proxy-agent-next`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../life/loads.rs"]
mod loads;
#[path = "../life/objects.rs"]
mod objects;
#[expect(dead_code, reason = "the room of another target, of which some is used here")]
#[path = "../life/stage.rs"]
mod stage;

mod layout;
mod scene;
