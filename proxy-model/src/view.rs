//! Why a Service is served as it is: each port with its frontends, its two lists of backends, and every endpoint of its
//! slices, those that are in neither list with the reason. For people; nothing is planned from it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use proxy_common::{Address, Algorithm, Backend, FrontendKey, Port, ServiceId, V4, V6, Weight};

use crate::endpoint::{self, Candidate, Choice, Source, State, Topology};
use crate::fact::{Endpoint, Name, Service, ServicePort};
use crate::family::Served;
use crate::intent::{self, Exposure, PortIntent, Surroundings};
use crate::plan::{Place, Planner, Refused, ServiceName};
use crate::world::World;

/// One port of one Service in one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortView {
    /// Its name.
    pub name: ServiceName,
    /// Its number in the maps, once it is planned.
    pub id: Option<ServiceId>,
    /// Where clients find it.
    pub frontends: Vec<FrontendView>,
    /// How a backend is chosen.
    pub algorithm: Algorithm,
    /// Backends for Cluster policy.
    pub cluster: Vec<SocketAddr>,
    /// Backends for Local policy.
    pub local: Vec<SocketAddr>,
    /// Backends with another weight than one.
    pub weights: BTreeMap<SocketAddr, Weight>,
    /// Every endpoint that the slices list, by address and port.
    pub endpoints: Vec<EndpointView>,
}

/// A frontend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontendView {
    /// Address, port, protocol.
    pub place: Place,
    /// How it came to be.
    pub exposure: Exposure,
    /// Why it is not served, or not as it should be.
    pub refused: Option<Refused>,
}

/// An endpoint as a slice lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointView {
    /// Its address and port.
    pub endpoint: SocketAddr,
    /// Its node, if the slice says one.
    pub node: Option<Name>,
    /// Its zone, if the slice says one.
    pub zone: Option<Name>,
    /// What its conditions amount to.
    pub state: State,
    /// Why nobody is sent to it; `None` if it is in one of the lists.
    pub why: Option<Why>,
}

/// Why an endpoint is not used.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Why {
    /// Not ready, and not terminating either (item 33).
    NotReady,
    /// Terminating and not serving any more (item 33).
    Stopped,
    /// Terminating, while others are ready (items 29, 30).
    Draining,
    /// Hints select another zone than its own (item 39).
    ZoneHint {
        /// The zones that it is meant for.
        meant: Vec<Name>,
        /// The zone that they select.
        selected: Name,
    },
    /// Hints select this node, and it is meant for others (item 38).
    NodeHint {
        /// The nodes that it is meant for.
        meant: Vec<Name>,
    },
    /// It is on another node, and the Service is served by local endpoints only (item 27).
    Remote,
    /// Another entry of the same address and port counts (items 16, 17).
    Duplicate {
        /// The slice with that entry.
        of: Name,
    },
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("not ready"),
            Self::Stopped => f.write_str("terminating, not serving"),
            Self::Draining => f.write_str("terminating; ready ones exist"),
            Self::ZoneHint { meant, selected } => {
                write!(f, "zone {}; hints select zone {selected}", meant.join(", "))
            }
            Self::NodeHint { meant } => write!(f, "node {}; hints select this node", meant.join(", ")),
            Self::Remote => f.write_str("remote; internalTrafficPolicy Local"),
            Self::Duplicate { of } => write!(f, "duplicate of an entry in slice {of}"),
        }
    }
}

/// The ports of a Service, IPv4 first. Empty if it is not ours to serve.
pub fn ports(world: &World, planner: &Planner, service: &Service) -> Vec<PortView> {
    let mut views = in_family::<V4>(world, planner, service);
    views.extend(in_family::<V6>(world, planner, service));
    views
}

fn in_family<F: Served>(world: &World, planner: &Planner, service: &Service) -> Vec<PortView> {
    let around = Surroundings::<F>::new(world);
    let Some(intent) = intent::intent(world, &around, service) else { return Vec::new() };
    let view = |port: intent::PortIntent<F>| {
        let name = ServiceName {
            service: service.key.clone(),
            port: port.name.clone(),
            proto: port.proto,
            family: F::FAMILY,
        };
        let refused = |key: &FrontendKey<F::Addr>| {
            planner
                .refused::<F>(key)
                .find(|refusal| refusal.name == name)
                .map(|refusal| refusal.reason.clone())
        };
        let frontends = port.frontends.iter().map(|(key, exposure)| FrontendView {
            place: (*key).into(),
            exposure: *exposure,
            refused: refused(key),
        });
        let facts = service.ports.iter().find(|p| (&p.name, p.proto) == (&port.name, port.proto));
        PortView {
            id: planner.id(&name),
            frontends: frontends.collect(),
            algorithm: port.algorithm,
            weights: weights(port.cluster.iter().chain(&*port.local)),
            cluster: sockets(&port.cluster),
            local: sockets(&port.local),
            endpoints: facts
                .map(|facts| endpoints(world, &around, service, facts, &port))
                .unwrap_or_default(),
            name,
        }
    };
    intent.ports.into_iter().map(view).collect()
}

fn sockets<A: Address>(backends: &[Backend<A>]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| SocketAddr::new(backend.addr.to_ip(), backend.port.number())).collect()
}

fn weights<'a, A: Address>(backends: impl Iterator<Item = &'a Backend<A>>) -> BTreeMap<SocketAddr, Weight> {
    let said = backends.filter(|backend| backend.weight != Weight::ONE);
    said.map(|backend| (SocketAddr::new(backend.addr.to_ip(), backend.port.number()), backend.weight))
        .collect()
}

/// An entry of a slice.
struct Listed<'a> {
    slice: &'a Name,
    endpoint: &'a Endpoint,
    candidate: Candidate<'a>,
}

/// The entries for a port, by address and port, in the order of slices.
fn listed<'a, F: Served>(
    world: &'a World,
    service: &Service,
    port: &ServicePort,
) -> BTreeMap<(F::Addr, Port), Vec<Listed<'a>>> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for slice in world.slices_at(&service.key).filter(|slice| slice.family == F::SLICES) {
        let is_of_port =
            |p: &&crate::fact::SlicePort| p.name.as_ref() == Some(&port.name) && p.proto == port.proto;
        for number in slice.ports.iter().filter(is_of_port).filter_map(|p| p.port) {
            for endpoint in &slice.endpoints {
                let Some(addr) = endpoint.address.and_then(F::Addr::from_ip) else { continue };
                let candidate = endpoint::candidate(endpoint, &world.settings().node_name);
                let slice = &slice.key.name;
                all.entry((addr, number)).or_default().push(Listed { slice, endpoint, candidate });
            }
        }
    }
    all
}

fn endpoints<F: Served>(
    world: &World,
    around: &Surroundings<'_, F>,
    service: &Service,
    port: &ServicePort,
    intent: &PortIntent<F>,
) -> Vec<EndpointView> {
    let used: BTreeSet<_> = intent.cluster.iter().chain(&*intent.local).map(|b| (b.addr, b.port)).collect();
    let choice = intent::chosen(world, around, service, port).choice;
    let zone = world.own_node().and_then(|node| node.zone.as_ref());
    let mut views = Vec::new();
    for (place, entries) in listed::<F>(world, service, port) {
        // The better entry counts, and of equal ones the first.
        let counts =
            entries.iter().rev().max_by(|a, b| a.candidate.cmp(&b.candidate)).map(|entry| entry.slice);
        let mut found = false;
        for entry in &entries {
            let is_best = entries.iter().all(|other| other.candidate <= entry.candidate);
            let why = match counts {
                Some(of) if found || !is_best => Some(Why::Duplicate { of: of.clone() }),
                Some(_) | None if used.contains(&place) => None,
                Some(_) | None => Some(why(entry, &choice, zone)),
            };
            found |= is_best;
            views.push(EndpointView {
                endpoint: SocketAddr::new(place.0.to_ip(), place.1.number()),
                node: entry.endpoint.node.clone(),
                zone: entry.endpoint.zone.clone(),
                state: entry.candidate.state(),
                why,
            });
        }
    }
    views
}

fn why(entry: &Listed<'_>, choice: &Choice, zone: Option<&Name>) -> Why {
    match (entry.candidate.state(), choice.cluster) {
        (State::NotReady, _) => Why::NotReady,
        (State::Stopped, _) => Why::Stopped,
        (State::Draining | State::Ready, Source::Unneeded) => Why::Remote,
        (State::Draining, Source::Ready | Source::Draining | Source::Nothing) => Why::Draining,
        (State::Ready, Source::Ready | Source::Draining | Source::Nothing) => match (choice.topology, zone) {
            (Topology::SameZone, Some(selected)) => {
                Why::ZoneHint { meant: entry.endpoint.hint_zones.clone(), selected: selected.clone() }
            }
            (Topology::SameNode, _) => Why::NodeHint { meant: entry.endpoint.hint_nodes.clone() },
            // A ready endpoint that no hint excludes is in the cluster set.
            (Topology::SameZone | Topology::Anywhere, _) => Why::Remote,
        },
    }
}
