//! After a plan: UDP clients of backends that are gone are let go. What the next collection finds anyway is no reason
//! to try again.

use std::time::Instant;

use proxy_common::{V4, V6};
use proxy_model::servers::Moved;
use proxy_model::{IpFamily, Planner};

use super::dataplane::Dataplane;
use crate::kernel::{Collected, Error, LetGo};
use crate::observe::Metrics;

/// Lets go whoever the plans since the last call have moved. The kernel must hold those plans; of a Service whose
/// frontend could not be written, clients come back to where they were, and no other Service's have to wait.
pub(super) fn let_go(dataplane: &mut impl Dataplane, planner: &mut Planner, metrics: &Metrics) {
    let (v4, v6) = (planner.take_moved::<V4>(), planner.take_moved::<V6>());
    if !v4.is_empty() {
        let began = Instant::now();
        tell(IpFamily::Ipv4, began, dataplane.let_go(&v4, &Moved::<V6>::new()), metrics);
    }
    if !v6.is_empty() {
        let began = Instant::now();
        tell(IpFamily::Ipv6, began, dataplane.let_go(&Moved::<V4>::new(), &v6), metrics);
    }
}

fn tell(family: IpFamily, began: Instant, (gone, result): (LetGo, Result<(), Error>), metrics: &Metrics) {
    if let Err(error) = result {
        tracing::warn!(error = &error as &dyn std::error::Error, "not all UDP clients could be moved");
    }
    let LetGo { flows, half_open, sockets } = gone;
    metrics.let_go(family, began.elapsed(), flows + half_open);
    metrics.collected(&Collected { flows, half_open, affinity: 0 });
    if gone != LetGo::default() {
        tracing::info!(%family, flows, half_open, sockets, "moved UDP clients of backends that are gone");
    }
}
