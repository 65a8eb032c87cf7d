//! What a plan of policies says, and what it starts from.

use std::fmt;

use proxy_common::policy::{PeerClass, Policed, PolicyState, RuleId, RuleSetId, VerdictKey, VerdictPage};
use proxy_common::{Family, PrefixKey, V4, V6, limits};
use zerocopy::IntoBytes as _;

use super::digest;
use crate::fact::{Direction, Name, ObjectKey};
use crate::plan::Tick;

/// Sizes of the maps of policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PolicyCapacity {
    /// Entries of each `policed` map.
    pub policed: u32,
    /// Entries of each `peers` map.
    pub peers: u32,
    /// Entries of each `blocks` map.
    pub blocks: u32,
    /// Entries of the `verdicts` map.
    pub verdicts: u32,
}

impl Default for PolicyCapacity {
    fn default() -> Self {
        Self {
            policed: limits::POLICED,
            peers: limits::PEERS,
            blocks: limits::BLOCKS,
            verdicts: limits::VERDICTS,
        }
    }
}

/// One write. To be made in the order of the plan: if one fails, those behind it must not be made; they are reported as
/// failed, too.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum PolicyWrite {
    /// Inserts an entry of `verdicts`.
    PutVerdict {
        /// Key.
        key: VerdictKey,
        /// Value.
        page: Box<VerdictPage>,
    },
    /// Deletes an entry of `verdicts`; that it is not there is no error.
    DeleteVerdict {
        /// Key.
        key: VerdictKey,
    },
    /// Replaces the entry of `policy`, but for [`proxy_common::policy::PolicyFlags::WATCHED`], which stays as it is.
    State(PolicyState),
    /// A write to the maps of IPv4.
    V4(AddressWrite<V4>),
    /// A write to the maps of IPv6.
    V6(AddressWrite<V6>),
}

/// One write to the maps of a family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AddressWrite<F: Family> {
    /// Inserts or replaces an entry of `blocks`.
    PutBlock {
        /// Key.
        key: PrefixKey<F::Addr>,
        /// Value.
        class: PeerClass,
    },
    /// Inserts or replaces an entry of `peers`.
    PutPeer {
        /// Key.
        addr: F::Addr,
        /// Value.
        class: PeerClass,
    },
    /// Inserts or replaces an entry of `policed`.
    PutPoliced {
        /// Key.
        addr: F::Addr,
        /// Value.
        value: Policed,
    },
    /// Deletes an entry of `policed`; that it is not there is no error.
    DeletePoliced {
        /// Key.
        addr: F::Addr,
    },
    /// Deletes an entry of `peers`; that it is not there is no error.
    DeletePeer {
        /// Key.
        addr: F::Addr,
    },
    /// Deletes an entry of `blocks`; that it is not there is no error.
    DeleteBlock {
        /// Key.
        key: PrefixKey<F::Addr>,
    },
}

/// What to write, in order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyPlan {
    /// The writes.
    pub writes: Vec<PolicyWrite>,
    /// Refusals that are new since the last plan; [`super::PolicyPlanner::refusals`] has all.
    pub refused: Vec<PolicyRefusal>,
    /// At this moment something may be deleted that nothing names any more: plan again then.
    pub next_release: Option<Tick>,
}

/// What the kernel holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyActual {
    /// Maps of IPv4.
    pub v4: PolicyTable<V4>,
    /// Maps of IPv6.
    pub v6: PolicyTable<V6>,
    /// Keys of `verdicts` with what is kept of the entry, in any order.
    pub verdicts: Vec<(VerdictKey, PageMark)>,
    /// The entry of `policy`.
    pub state: PolicyState,
}

/// What is kept of an entry of `verdicts`: enough to tell that somebody else has changed it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageMark {
    /// Pages that there are, as this one tells.
    pub(super) pages: u16,
    /// Digest of all that it says.
    pub(super) sum: u32,
}

impl PageMark {
    /// The mark of an entry.
    #[must_use]
    pub fn of(page: &VerdictPage) -> Self {
        Self { pages: page.pages, sum: digest::short(page.as_bytes()) }
    }
}

/// What the maps of a family hold, in any order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PolicyTable<F: Family> {
    /// Entries of `policed`.
    pub policed: Vec<(F::Addr, Policed)>,
    /// Entries of `peers`.
    pub peers: Vec<(F::Addr, PeerClass)>,
    /// Entries of `blocks`.
    pub blocks: Vec<(PrefixKey<F::Addr>, PeerClass)>,
}

impl<F: Family> Default for PolicyTable<F> {
    fn default() -> Self {
        Self { policed: Vec::new(), peers: Vec::new(), blocks: Vec::new() }
    }
}

/// A policy for people.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum PolicyName {
    /// A NetworkPolicy.
    Network(ObjectKey),
    /// A ClusterNetworkPolicy.
    Cluster(Name),
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(key) => write!(f, "NetworkPolicy {key}"),
            Self::Cluster(name) => write!(f, "ClusterNetworkPolicy {name}"),
        }
    }
}

/// What a [`RuleId`] stands for.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RuleName {
    /// Whose rule it is.
    pub policy: PolicyName,
    /// In which list.
    pub direction: Direction,
    /// At which place, from zero.
    pub index: u16,
    /// The rule in a few words.
    pub text: String,
}

/// A policy that is not enforced as it says: its pods are closed for want of room.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
#[error("{policy}: {reason}; its pods on this node are isolated")]
pub struct PolicyRefusal {
    /// The policy.
    pub policy: PolicyName,
    /// Why.
    pub reason: PolicyRefused,
}

/// Which map has no room.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum PolicyRefused {
    /// `verdicts`.
    #[error("no room for {needed} pages among {capacity} (verdicts)")]
    Verdicts {
        /// Pages that all policies up to this one need.
        needed: u32,
        /// Size of the map.
        capacity: u32,
    },
    /// `peers`.
    #[error("no room for {needed} addresses among {capacity} (peers)")]
    Peers {
        /// Entries that all policies up to this one need in the fuller map.
        needed: u32,
        /// Size of the map.
        capacity: u32,
    },
    /// `blocks`.
    #[error("no room for {needed} prefixes among {capacity} (blocks)")]
    Blocks {
        /// Entries that all policies up to this one need in the fuller map.
        needed: u32,
        /// Size of the map.
        capacity: u32,
    },
}

/// How much there is, for metrics.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PolicyUsage {
    /// Policies of both kinds that are known.
    pub policies: u32,
    /// Rule sets of local pods.
    pub rule_sets: u32,
    /// Classes of peers.
    pub classes: u32,
    /// Entries of `verdicts`, also those that rest.
    pub verdicts: u32,
    /// Entries of both `policed` maps.
    pub policed: u32,
    /// Entries of both `peers` maps.
    pub peers: u32,
    /// Entries of both `blocks` maps.
    pub blocks: u32,
}

/// What ids stand for, to be written down for people.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PolicyNames {
    /// Rules.
    pub rules: Vec<(RuleId, RuleName)>,
    /// Rule sets, with the policies that they are from.
    pub rule_sets: Vec<(RuleSetId, Vec<PolicyName>)>,
}
