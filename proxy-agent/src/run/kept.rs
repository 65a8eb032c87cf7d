//! What an earlier run left in the kernel is kept while a source cannot tell all that there is.

use proxy_model::{Changed, Planner};

use crate::source::Extent;

/// How far the agent has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// The maps are an earlier run's.
    Adopted,
    /// The first plan is written: what is there is this run's, and goes with the facts that it came from.
    Planned,
}

/// Keeps what no fact explains, or lets it go.
pub(super) fn follow(planner: &mut Planner, extent: Extent, stage: Stage) -> Changed {
    match (extent, stage) {
        (Extent::Part, Stage::Adopted) => {
            planner.keep();
            Changed::No
        }

        (Extent::Part, Stage::Planned) => Changed::No,
        (Extent::Whole, Stage::Adopted | Stage::Planned) => {
            tracing::info!("every object has been read: what none of them explains is not kept any more");
            planner.let_go();
            Changed::Yes
        }
    }
}

/// Says once, after the first plan, what is kept.
pub(super) fn say(planner: &Planner) {
    if let frontends @ 1.. = planner.kept() {
        tracing::warn!(
            frontends,
            "not every object can be read: frontends of an earlier run that the others do not explain are kept \
             until it can be, or is removed"
        );
    }
}
