//! What the run loop tells about this node itself: whether it may be sent traffic, and what is served on it.

use proxy_common::{V4, V6};
use proxy_model::{IpFamily, Planner, World, local};

use crate::observe::status::Eligibility;
use crate::observe::{Metrics, Status};

/// Publishes what the last plan means for health checks and counts (items 125–128, 138).
pub(super) fn publish(world: &World, planner: &Planner, status: &Status, metrics: &Metrics) {
    status.publish_health_checks(local::health_checks(world, planner));
    metrics.nothing_here(IpFamily::Ipv4, local::nothing_here::<V4>(planner));
    metrics.nothing_here(IpFamily::Ipv6, local::nothing_here::<V6>(planner));
}

/// Items 121, 123: a Node that was there and is gone takes no more traffic than one that is leaving. Without any Node
/// object nothing speaks against it: manifests need not have one.
pub(super) fn eligibility(world: &World, before: Eligibility) -> Eligibility {
    match (world.own_node(), before) {
        (Some(node), _) if node.deleting || node.tainted_for_deletion => Eligibility::Leaving,
        (Some(_), _) => Eligibility::Eligible,
        (None, Eligibility::Unknown) => Eligibility::Unknown,
        (None, Eligibility::Eligible | Eligibility::Leaving) => Eligibility::Leaving,
    }
}
