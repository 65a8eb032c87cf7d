//! What a node tells others of its own endpoints: the health checks that load balancers ask (items 125–128), and how
//! many Service ports find nothing here (item 138). A function of the facts; who listens and who counts is elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use proxy_common::{Address, ClientClass, ClientRule, Family, Port, V4, V6};

use crate::endpoint::{self, Locality, State};
use crate::fact::{ObjectKey, Prefix, Service, ServiceKind, TrafficPolicy};
use crate::family::Served;
use crate::intent::{Exposure, Intent, PortIntent};
use crate::plan::Planner;
use crate::rule::Rules;
use crate::settings::NodePortAddresses;
use crate::world::World;

/// A Service's health check in one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`.
    pub port: Port,
    /// Addresses of ready endpoints on this node, whatever their ports; draining ones are not ready (item 128).
    pub ready: usize,
}

/// What one health check says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// Whose it is.
    pub service: ObjectKey,
    /// Its ready endpoints on this node.
    pub ready: usize,
}

/// Every health check, by the address that it is asked on.
pub type HealthChecks = BTreeMap<SocketAddr, Health>;

/// Service ports of one family with usable endpoints elsewhere and none here, by the policy that keeps clients here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NothingHere {
    /// `internalTrafficPolicy: Local`.
    pub internal: usize,
    /// `externalTrafficPolicy: Local`, and there is a way in from outside.
    pub external: usize,
}

/// The health checks of all Services that are planned.
pub fn health_checks(world: &World, planner: &Planner) -> HealthChecks {
    let mut checks = HealthChecks::new();
    add_checks::<V4>(world, planner, &mut checks);
    add_checks::<V6>(world, planner, &mut checks);
    checks
}

fn add_checks<F: Served>(world: &World, planner: &Planner, checks: &mut HealthChecks) {
    let asked = F::ledger(planner).checked();
    let mut asked: Vec<_> =
        asked.filter_map(|(key, intent)| Some((intent.created, key, intent.health_check?))).collect();
    if asked.is_empty() {
        return;
    }
    // The API server gives a port away once; without one, the older Service keeps it, as with all other claims.
    asked.sort_by_key(|(created, key, _)| (*created, *key));
    let addresses = listened::<F>(world);
    for (_, service, HealthCheck { port, ready }) in asked {
        for addr in &addresses {
            checks
                .entry(SocketAddr::new(addr.to_ip(), port.number()))
                .or_insert_with(|| Health { service: service.clone(), ready });
        }
    }
}

/// The addresses of node ports, or the unspecified address where all are (item 125).
fn listened<F: Served>(world: &World) -> Vec<F::Addr> {
    if let NodePortAddresses::Within(ranges) = &world.settings().node_port_addresses {
        let mut lens =
            ranges.iter().filter(|r| F::Addr::from_ip(r.addr).is_some()).map(|Prefix { len, .. }| len);
        // A family that no range is of matches all its addresses (item 66).
        if lens.clone().next().is_none() || lens.any(|len| *len == 0) {
            return vec![F::Addr::default()];
        }
    }
    world.node_port_addresses::<F>()
}

/// The health check of a Service that is ours in this family.
pub(crate) fn health_check<F: Served>(world: &World, service: &Service) -> Option<HealthCheck> {
    let port = service.health_check_node_port?;
    let asked = service.kind == ServiceKind::LoadBalancer && service.external_policy == TrafficPolicy::Local;
    asked.then(|| HealthCheck { port, ready: ready_here::<F>(world, service) })
}

fn ready_here<F: Served>(world: &World, service: &Service) -> usize {
    let mut ready: BTreeSet<F::Addr> = BTreeSet::new();
    for port in &service.ports {
        let slices = world.slices_at(&service.key);
        let merged = endpoint::merge::<F>(slices, &port.name, port.proto, &world.settings().node_name);
        let here = merged.into_iter().filter(|(_, candidate)| {
            candidate.locality() == Locality::Local && candidate.state() == State::Ready
        });
        ready.extend(here.map(|((addr, _), _)| addr));
    }
    ready.len()
}

/// Counts the Service ports of a family that find nothing here.
pub fn nothing_here<F: Served>(planner: &Planner) -> NothingHere {
    F::ledger(planner).nothing_here()
}

impl NothingHere {
    /// Those of one Service.
    pub(crate) fn of<F: Family>(intent: &Intent<F>) -> Self {
        let mut found = Self::default();
        for port in intent.ports.iter().filter(|port| port.local.is_empty()) {
            found.internal += usize::from(drops(&port.internal));
            found.external += usize::from(drops(&port.external) && is_exposed(port));
        }
        found
    }
}

/// Clients from outside are dropped when nothing is here: a Local policy, and endpoints elsewhere (item 94).
fn drops(rules: &Rules) -> bool {
    rules[ClientClass::Outside as usize].has(ClientRule::LOCAL.with(ClientRule::DROP_IF_EMPTY))
}

fn is_exposed<F: Family>(port: &PortIntent<F>) -> bool {
    port.frontends.iter().any(|(_, exposure)| *exposure != Exposure::ClusterIp)
}
