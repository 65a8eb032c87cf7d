//! Why a Service is served as it is: each port with its frontends, its two lists of backends, and the endpoints
//! that are in neither, each with the reason. For status pages and logs; nothing is planned from it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use proxy_common::{Address, Backend, FrontendKey, ServiceId, V4, V6};

use crate::endpoint::{Candidate, Choice, Source, State, Topology};
use crate::fact::{Name, Service};
use crate::family::Served;
use crate::intent::{self, Exposure, Surroundings};
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
    /// Backends for Cluster policy.
    pub cluster: Vec<SocketAddr>,
    /// Backends for Local policy.
    pub local: Vec<SocketAddr>,
    /// Endpoints that nobody is sent to.
    pub unused: Vec<Unused>,
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

/// An endpoint that is not used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unused {
    /// Its address and port.
    pub endpoint: SocketAddr,
    /// Why.
    pub why: Why,
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
        /// The zone that they select.
        selected: Name,
    },
    /// Hints select this node, and it is meant for another one (item 38).
    NodeHint,
    /// It is on another node, and the Service is served by local endpoints only (item 27).
    Remote,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("not ready"),
            Self::Stopped => f.write_str("terminating and not serving"),
            Self::Draining => f.write_str("terminating, others are ready"),
            Self::ZoneHint { selected } => write!(f, "hints select zone {selected}"),
            Self::NodeHint => f.write_str("hints select this node"),
            Self::Remote => f.write_str("not on this node, and only local endpoints serve"),
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
            cluster: sockets(&port.cluster),
            local: sockets(&port.local),
            unused: facts.map(|facts| unused(world, &around, service, facts, &port)).unwrap_or_default(),
            name,
        }
    };
    intent.ports.into_iter().map(view).collect()
}

fn sockets<A: Address>(backends: &[Backend<A>]) -> Vec<SocketAddr> {
    backends.iter().map(|backend| SocketAddr::new(backend.addr.to_ip(), backend.port.number())).collect()
}

fn unused<F: Served>(
    world: &World,
    around: &Surroundings<'_, F>,
    service: &Service,
    port: &crate::fact::ServicePort,
    intent: &intent::PortIntent<F>,
) -> Vec<Unused> {
    let used: BTreeSet<_> = intent.cluster.iter().chain(&*intent.local).map(|b| (b.addr, b.port)).collect();
    let chosen = intent::chosen(world, around, service, port);
    let rest = chosen.candidates.iter().filter(|(place, _)| !used.contains(place));
    let zone = world.own_node().and_then(|node| node.zone.clone());
    rest.map(|((addr, port), candidate)| {
        let ip: IpAddr = addr.to_ip();
        let why = why(candidate, &chosen.choice, zone.clone());
        Unused { endpoint: SocketAddr::new(ip, port.number()), why }
    })
    .collect()
}

fn why(candidate: &Candidate<'_>, choice: &Choice, zone: Option<Name>) -> Why {
    match (candidate.state(), choice.cluster) {
        (State::NotReady, _) => Why::NotReady,
        (State::Stopped, _) => Why::Stopped,
        (State::Draining | State::Ready, Source::Unneeded) => Why::Remote,
        (State::Draining, Source::Ready | Source::Draining | Source::Nothing) => Why::Draining,
        (State::Ready, Source::Ready | Source::Draining | Source::Nothing) => match (choice.topology, zone) {
            (Topology::SameZone, Some(selected)) => Why::ZoneHint { selected },
            (Topology::SameNode, _) => Why::NodeHint,
            // A ready endpoint that no hint excludes is in the cluster set.
            (Topology::SameZone | Topology::Anywhere, _) => Why::Remote,
        },
    }
}
