//! Endpoints of a Service port: merged from slices, and chosen.
//!
//! [`choose`] is upstream's `CategorizeEndpoints` (items 27–34, 38–43), item by item:
//! <https://github.com/kubernetes/kubernetes/blob/v1.35.0/pkg/proxy/topology.go>. Knows no frontends and no ids.

use std::collections::BTreeMap;

use proxy_common::{Address, Port, Proto, Weight};

use crate::fact::{Endpoint, EndpointSlice, Name};
use crate::family::Served;
use crate::rule::Anywhere;
use crate::weight::Weights;

/// One endpoint of a Service port, as far as choosing goes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Candidate<'a> {
    /// Not terminating counts more than terminating (item 17).
    terminating: Terminating,
    /// Its conditions.
    state: State,
    /// Whether it is on this node.
    locality: Locality,
    zones: &'a [Name],
    nodes: &'a [Name],
    /// `conditions.serving`. After everything that choosing looks at: where an endpoint is listed twice, that decides
    /// first.
    serving: bool,
    node: Option<&'a Name>,
    zone: Option<&'a Name>,
}

/// `conditions.terminating`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Terminating {
    Yes,
    No,
}

/// What the conditions amount to; the better one wins where an endpoint is listed twice.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum State {
    /// Neither ready nor draining: never used (item 33).
    NotReady,
    /// Terminating and not serving any more: never used (item 33).
    Stopped,
    /// Terminating and still serving: used if nothing is ready (item 29).
    Draining,
    /// Ready.
    Ready,
}

/// Where an endpoint is (item 15).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Locality {
    /// On another node, or nobody knows.
    Remote,
    /// On this node.
    Local,
}

/// This node, as hints see it.
#[derive(Clone, Copy, Debug)]
pub struct Viewpoint<'a> {
    /// Its name.
    pub node: &'a str,
    /// Its zone, if the Node object is known and says one (item 43).
    pub zone: Option<&'a str>,
}

/// Endpoints by address and port; the order of slices and endpoints does not matter (item 18).
pub type Candidates<'a, F> = BTreeMap<(<F as proxy_common::Family>::Addr, Port), Candidate<'a>>;

/// Merges the slices of a Service for one of its ports (items 8–18).
pub fn merge<'a, F: Served>(
    slices: impl Iterator<Item = &'a EndpointSlice>,
    port: &str,
    proto: Proto,
    node: &str,
) -> Candidates<'a, F> {
    let mut merged = Candidates::<F>::new();
    for slice in slices.filter(|slice| slice.family == F::SLICES) {
        let numbers = slice.ports.iter().filter(|p| p.name.as_deref() == Some(port) && p.proto == proto);
        for number in numbers.filter_map(|p| p.port) {
            for endpoint in &slice.endpoints {
                let Some(addr) = endpoint.address.and_then(F::Addr::from_ip) else { continue };
                let new = candidate(endpoint, node);
                let known = merged.entry((addr, number)).or_insert_with(|| new.clone());
                if new > *known {
                    *known = new;
                }
            }
        }
    }
    merged
}

/// What an entry of a slice amounts to on this node.
pub(crate) fn candidate<'a>(endpoint: &'a Endpoint, node: &str) -> Candidate<'a> {
    // Item 13.
    let ready = endpoint.ready.unwrap_or(true);
    let serving = endpoint.serving.unwrap_or(true);
    let terminating = endpoint.terminating.unwrap_or(false);
    let state = match (ready, serving, terminating) {
        (true, _, _) => State::Ready,
        (false, true, true) => State::Draining,
        (false, false, true) => State::Stopped,
        (false, _, false) => State::NotReady,
    };
    Candidate {
        terminating: if terminating { Terminating::Yes } else { Terminating::No },
        state,
        locality: if endpoint.node.as_deref() == Some(node) { Locality::Local } else { Locality::Remote },
        zones: &endpoint.hint_zones,
        nodes: &endpoint.hint_nodes,
        serving,
        node: endpoint.node.as_ref(),
        zone: endpoint.zone.as_ref(),
    }
}

impl Candidate<'_> {
    /// What its conditions amount to.
    pub fn state(&self) -> State {
        self.state
    }

    /// It answers, whether or not new clients are sent to it.
    pub fn serves(&self) -> bool {
        self.serving
    }

    /// Its slice names its node.
    pub fn has_node(&self) -> bool {
        self.node.is_some()
    }

    /// It is on this node, and another node may have chosen it, which may know its state earlier or later.
    pub fn may_be_served(&self) -> bool {
        self.locality == Locality::Local && (self.serving || self.state == State::Ready)
    }

    /// How much it should get.
    pub fn weight(&self, addr: std::net::IpAddr, weights: &Weights) -> Weight {
        weights.of(addr, self.node, self.zone)
    }

    /// Where it is.
    pub fn locality(&self) -> Locality {
        self.locality
    }
}

/// Which sets of endpoints a Service port needs (item 27).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// The cluster set.
    Cluster,
    /// The local set.
    Local,
    /// Both.
    Both,
}

/// Which hints are followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Topology {
    /// None.
    Anywhere,
    /// Only endpoints hinted to this node (item 38).
    SameNode,
    /// Only endpoints hinted to this zone (item 39).
    SameZone,
}

/// The states that a set takes its endpoints from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The set is not needed.
    Unneeded,
    /// Ready endpoints.
    Ready,
    /// Draining ones, for want of ready ones (items 29, 30).
    Draining,
    /// There is neither.
    Nothing,
}

/// The outcome: membership is a question to it, so that the status view can say why not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Choice {
    /// Hints that the cluster set follows.
    pub topology: Topology,
    /// Where the cluster set comes from.
    pub cluster: Source,
    /// Where the local set comes from.
    pub local: Source,
    /// Whether there is any usable endpoint (item 32).
    pub anywhere: Anywhere,
}

/// Decides which endpoints each set takes.
pub fn choose<F: Served>(candidates: &Candidates<'_, F>, needs: Needs, here: Viewpoint<'_>) -> Choice {
    let has = |wanted: State, local_only: bool| {
        candidates.values().any(|c| c.state == wanted && (!local_only || c.locality == Locality::Local))
    };
    let source = |local_only: bool| {
        if has(State::Ready, local_only) {
            Source::Ready
        } else if has(State::Draining, local_only) {
            Source::Draining
        } else {
            Source::Nothing
        }
    };
    let (cluster, local) = match needs {
        Needs::Cluster => (source(false), Source::Unneeded),
        Needs::Local => (Source::Unneeded, source(true)),
        Needs::Both => (source(false), source(true)),
    };
    Choice {
        topology: topology::<F>(candidates, here),
        cluster,
        local,
        anywhere: match source(false) {
            Source::Ready | Source::Draining => Anywhere::Something,
            Source::Nothing | Source::Unneeded => Anywhere::Nothing,
        },
    }
}

/// Hints are followed by all or by none: one ready endpoint without a hint switches them off (items 38–41).
fn topology<F: Served>(candidates: &Candidates<'_, F>, here: Viewpoint<'_>) -> Topology {
    let ready = || candidates.values().filter(|c| c.state == State::Ready);
    let names = |hints: &[Name], name: &str| hints.iter().any(|hint| &**hint == name);
    if ready().all(|c| !c.nodes.is_empty()) && ready().any(|c| names(c.nodes, here.node)) {
        return Topology::SameNode;
    }
    match here.zone {
        Some(zone) if ready().all(|c| !c.zones.is_empty()) && ready().any(|c| names(c.zones, zone)) => {
            Topology::SameZone
        }
        Some(_) | None => Topology::Anywhere,
    }
}

impl Choice {
    /// The endpoint is in the cluster set (items 28, 29).
    pub fn in_cluster(&self, candidate: &Candidate<'_>, here: Viewpoint<'_>) -> bool {
        match self.cluster {
            Source::Ready => candidate.state == State::Ready && self.follows(candidate, here),
            Source::Draining => candidate.state == State::Draining,
            Source::Unneeded | Source::Nothing => false,
        }
    }

    /// The endpoint is in the local set (items 30, 31).
    pub fn in_local(&self, candidate: &Candidate<'_>) -> bool {
        candidate.locality == Locality::Local
            && match self.local {
                Source::Ready => candidate.state == State::Ready,
                Source::Draining => candidate.state == State::Draining,
                Source::Unneeded | Source::Nothing => false,
            }
    }

    fn follows(&self, candidate: &Candidate<'_>, here: Viewpoint<'_>) -> bool {
        match self.topology {
            Topology::Anywhere => true,
            Topology::SameNode => candidate.nodes.iter().any(|node| &**node == here.node),
            Topology::SameZone => candidate.zones.iter().any(|zone| Some(&**zone) == here.zone),
        }
    }
}
