//! What each class of clients gets from a frontend: the matrix of `service-semantics.md` section 2.2 as a function.
//!
//! Knows policies and the detector; knows no addresses and no endpoints beyond "is there any".

use proxy_common::ClientRule;

use crate::fact::TrafficPolicy;
use crate::settings::{LocalSource, Masquerade};

/// One rule per [`proxy_common::ClientClass`], indexed by it.
pub type Rules = [ClientRule; 3];

/// Whether pods can be told from other clients (item 62).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Detector {
    /// They cannot: pods are outsiders.
    Absent,
    /// They can.
    Present,
}

/// Whether a Service port has usable endpoints anywhere in the cluster (item 32).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Anywhere {
    /// Nowhere: every client is refused.
    Nothing,
    /// Somewhere: who finds nothing under a Local policy is dropped.
    Something,
}

/// The rule of a Local policy (items 50, 94).
const fn local(anywhere: Anywhere) -> ClientRule {
    match anywhere {
        Anywhere::Nothing => ClientRule::LOCAL,
        Anywhere::Something => ClientRule::LOCAL.with(ClientRule::DROP_IF_EMPTY),
    }
}

/// Clients of the ClusterIP (items 47–51).
pub fn internal(
    policy: TrafficPolicy,
    masquerade: Masquerade,
    detector: Detector,
    anywhere: Anywhere,
) -> Rules {
    let kept = match policy {
        TrafficPolicy::Cluster => ClientRule::CLUSTER,
        TrafficPolicy::Local => local(anywhere),
    };
    let masqueraded = kept.with(ClientRule::MASQUERADE);
    match (masquerade, detector) {
        (Masquerade::All, Detector::Absent | Detector::Present) => [masqueraded; 3],
        (Masquerade::Needed, Detector::Present) => [kept, masqueraded, masqueraded],
        // Without a detector nobody knows who needs it (item 49).
        (Masquerade::Needed, Detector::Absent) => [kept; 3],
    }
}

/// Clients of a node port, an external IP or a load balancer's address (items 57, 58, 84–87).
pub fn external(
    policy: TrafficPolicy,
    local_source: LocalSource,
    detector: Detector,
    anywhere: Anywhere,
) -> Rules {
    match policy {
        TrafficPolicy::Cluster => {
            let other = match local_source {
                LocalSource::Masqueraded => ClientRule::MASQUERADE,
                LocalSource::Preserved => ClientRule::MASQUERADE.with(ClientRule::KEEP_IF_LOCAL),
            };
            // The node's own processes have an address of the node in any case.
            [other, ClientRule::MASQUERADE, other]
        }
        TrafficPolicy::Local => {
            let outside = local(anywhere);
            // As though it went out and came back (item 85); the node itself must not be seen as its source (86).
            let pod = match detector {
                Detector::Present => ClientRule::CLUSTER,
                Detector::Absent => outside,
            };
            [pod, ClientRule::MASQUERADE, outside]
        }
    }
}
