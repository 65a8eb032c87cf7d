//! What one Service wants in the maps of one family: its frontends, their rules and lists of backends.
//!
//! A function of the Service, its slices and the node; knows no other Service, no id, no segment, no kernel.

use std::collections::BTreeSet;
use std::sync::Arc;

use proxy_common::{
    Address, Algorithm, Backend, BackendFlags, ClientRule, Family, ForwardingMode, FrontendFlags,
    FrontendKey, Proto,
};

use crate::endpoint::{self, Candidates, Choice, Locality, Needs, State, Viewpoint};
use crate::fact::{Label, Name, Service, ServiceKind, ServicePort, TrafficPolicy};
use crate::family::Served;
use crate::local::{self, HealthCheck};
use crate::rule::{self, Detector, Rules};
use crate::servers::{self, Servers};
use crate::settings::{Serving, Settings};
use crate::weight::Weights;
use crate::world::World;

/// A list of backends, sorted by address and port.
pub type Backends<F> = Arc<[Backend<<F as Family>::Addr>]>;

/// A Service in one family.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Intent<F: Family> {
    /// When the Service was created; older ones keep what two claim.
    pub created: u64,
    /// Its cluster address, whose unknown ports reject (item 52).
    pub wildcard: Option<F::Addr>,
    /// Its ports, each on its own (item 5).
    pub ports: Vec<PortIntent<F>>,
    /// What load balancers are told (item 125).
    pub health_check: Option<HealthCheck>,
}

impl<F: Family> Intent<F> {
    /// Somebody is behind the cluster address for a client of this node, at one port at least: pings of it are answered (item 54).
    pub(crate) fn is_served(&self) -> bool {
        // The policy of the cluster address is one for all classes of clients; they differ in masquerading.
        let backends =
            |port: &PortIntent<F>| match port.internal.iter().any(|rule| rule.has(ClientRule::LOCAL)) {
                true => port.local.len(),
                false => port.cluster.len(),
            };
        self.ports.iter().any(|port| backends(port) > 0)
    }
}

/// One port of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortIntent<F: Family> {
    /// Name of the port.
    pub name: Name,
    /// Protocol.
    pub proto: Proto,
    /// Affinity time-out in seconds, zero for none (item 97).
    pub affinity: u32,
    /// How one of the backends is chosen.
    pub algorithm: Algorithm,
    /// How packets of clients from outside reach backends of other nodes, by way of the frontends for which that works.
    pub forwarding: ForwardingMode,
    /// Endpoints of this node that may be at the end of a tunnel.
    pub ends: Backends<F>,
    /// Backends for Cluster policy.
    pub cluster: Backends<F>,
    /// Backends for Local policy.
    pub local: Backends<F>,
    /// Where its UDP flows may stay (item 103).
    pub servers: Servers<F>,
    /// Rules of the ClusterIP.
    pub internal: Rules,
    /// Rules of all other frontends.
    pub external: Rules,
    /// Where clients find it: each key once, sorted.
    pub frontends: Box<[(FrontendKey<F::Addr>, Exposure)]>,
    /// Whom the frontends of [`Exposure::LoadBalancer`] serve: network address and length; empty is everybody (item 81).
    pub ranges: BTreeSet<(F::Addr, u8)>,
}

/// How a frontend came to be; the first claims an address before the later ones (item 69).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Exposure {
    /// A ClusterIP.
    ClusterIp,
    /// An address of a load balancer.
    LoadBalancer,
    /// One of `externalIPs`.
    ExternalIp,
    /// A node's address and a node port.
    NodePort,
    /// The loopback address and a node port, for the node's own processes (item 68).
    Localhost,
}

impl Exposure {
    /// The flags of its entry.
    pub const fn flags(self) -> FrontendFlags {
        match self {
            Self::ClusterIp => FrontendFlags::CLUSTER_IP,
            Self::LoadBalancer | Self::ExternalIp => FrontendFlags::EXTERNAL,
            Self::NodePort => FrontendFlags::NODE_PORT,
            Self::Localhost => FrontendFlags::NODE_PORT.with(FrontendFlags::NODE_ONLY),
        }
    }
}

impl<F: Family> PortIntent<F> {
    /// The rules of a frontend.
    pub fn rules(&self, exposure: Exposure) -> Rules {
        match exposure {
            Exposure::ClusterIp => self.internal,
            Exposure::LoadBalancer | Exposure::ExternalIp | Exposure::NodePort | Exposure::Localhost => {
                self.external
            }
        }
    }

    /// How packets of clients from outside reach backends of other nodes by way of a frontend. A tunnel leads from an
    /// address that every node serves: a node port is the address of one, and a ClusterIP is nobody's outside.
    pub fn mode(&self, exposure: Exposure) -> ForwardingMode {
        match exposure {
            Exposure::LoadBalancer | Exposure::ExternalIp => self.forwarding,
            Exposure::ClusterIp | Exposure::NodePort | Exposure::Localhost => ForwardingMode::NAT,
        }
    }

    /// The flags of a frontend.
    pub fn flags(&self, exposure: Exposure) -> FrontendFlags {
        match exposure {
            Exposure::LoadBalancer if !self.ranges.is_empty() => exposure.flags().with(FrontendFlags::RANGES),
            Exposure::ClusterIp
            | Exposure::LoadBalancer
            | Exposure::ExternalIp
            | Exposure::NodePort
            | Exposure::Localhost => exposure.flags(),
        }
    }
}

/// What a world says once for all Services of a family.
#[derive(Debug)]
pub(crate) struct Surroundings<'a, F: Family> {
    settings: &'a Settings,
    here: Viewpoint<'a>,
    detector: Detector,
    node_port_addresses: Vec<F::Addr>,
    primary_address: Option<F::Addr>,
}

impl<'a, F: Served> Surroundings<'a, F> {
    pub(crate) fn new(world: &'a World) -> Self {
        let settings = world.settings();
        Self {
            settings,
            here: Viewpoint {
                node: &settings.node_name,
                zone: world.own_node().and_then(|node| node.zone.as_deref()),
            },
            detector: world.detector::<F>(),
            node_port_addresses: world.node_port_addresses::<F>(),
            primary_address: world.primary_address::<F>(),
        }
    }
}

/// The Service's cluster address in this family if it is ours to serve (items 1–4, 23).
pub(crate) fn cluster_ip<F: Served>(settings: &Settings, service: &Service) -> Option<F::Addr> {
    let ours = service.proxy_name == settings.service_proxy_name
        && service.headless_label == Label::Absent
        && service.kind != ServiceKind::ExternalName
        && F::serving(settings) == Serving::On;
    if !ours {
        return None;
    }
    service.cluster_ips.iter().find_map(|ip| F::Addr::from_ip(*ip)).filter(|addr| *addr != F::Addr::default())
}

/// What a Service wants; `None` if nothing.
pub(crate) fn intent<F: Served>(
    world: &World,
    around: &Surroundings<'_, F>,
    service: &Service,
) -> Option<Intent<F>> {
    let cluster_ip = cluster_ip::<F>(around.settings, service)?;
    let mut ports: Vec<PortIntent<F>> = Vec::with_capacity(service.ports.len());
    for port in &service.ports {
        // The API server refuses two ports with one name; the first of them wins.
        if ports.iter().all(|known| (&known.name, known.proto) != (&port.name, port.proto)) {
            ports.push(port_intent(world, around, service, port, cluster_ip));
        }
    }
    Some(Intent {
        created: service.created,
        wildcard: (!ports.is_empty()).then_some(cluster_ip),
        ports,
        health_check: local::health_check::<F>(world, service),
    })
}

/// A Service port's endpoints and what was chosen among them.
pub(crate) struct Chosen<'a, F: Family> {
    pub(crate) candidates: Candidates<'a, F>,
    pub(crate) choice: Choice,
}

/// Gathers and chooses the endpoints of a port.
pub(crate) fn chosen<'a, F: Served>(
    world: &'a World,
    around: &Surroundings<'_, F>,
    service: &Service,
    port: &ServicePort,
) -> Chosen<'a, F> {
    let slices = world.slices_at(&service.key);
    let candidates = endpoint::merge::<F>(slices, &port.name, port.proto, around.here.node);
    let choice = endpoint::choose::<F>(&candidates, needs::<F>(around.settings, service, port), around.here);
    Chosen { candidates, choice }
}

impl<F: Served> Chosen<'_, F> {
    fn backends(
        &self,
        weights: &Weights,
        forwarding: ForwardingMode,
        is_member: impl Fn(&endpoint::Candidate<'_>) -> bool,
    ) -> Backends<F> {
        let mut members = self.candidates.iter().filter(|(_, candidate)| is_member(candidate)).peekable();
        if members.peek().is_none() {
            // Nothing to allocate: most lists of local backends are empty.
            return Arc::default();
        }
        let backend = |((addr, port), candidate): (&(F::Addr, _), &endpoint::Candidate<'_>)| Backend {
            weight: candidate.weight(addr.to_ip(), weights),
            ..Backend::new(*addr, *port, flags(candidate, forwarding))
        };
        members.map(backend).collect()
    }

    /// Whether the endpoint is in the cluster set.
    pub(crate) fn in_cluster(
        &self,
        candidate: &endpoint::Candidate<'_>,
        around: &Surroundings<'_, F>,
    ) -> bool {
        self.choice.in_cluster(candidate, around.here)
    }
}

fn flags(candidate: &endpoint::Candidate<'_>, forwarding: ForwardingMode) -> BackendFlags {
    let place = match candidate.locality() {
        Locality::Local => BackendFlags::LOCAL,
        // One that is on no node is behind nobody who would take its packets out of a tunnel.
        Locality::Remote if forwarding == ForwardingMode::TUNNEL && candidate.has_node() => {
            BackendFlags::UNWRAPS
        }
        Locality::Remote => BackendFlags::REMOTE,
    };
    match candidate.state() {
        State::Draining => place.with(BackendFlags::TERMINATING),
        State::Ready | State::Stopped | State::NotReady => place,
    }
}

fn port_intent<F: Served>(
    world: &World,
    around: &Surroundings<'_, F>,
    service: &Service,
    port: &ServicePort,
    cluster_ip: F::Addr,
) -> PortIntent<F> {
    let chosen = chosen(world, around, service, port);
    let forwarding = forwarding(around.settings, service, port);
    let weights = &service.weights;
    let cluster = chosen.backends(weights, forwarding, |candidate| chosen.in_cluster(candidate, around));
    let local = chosen.backends(weights, forwarding, |candidate| chosen.choice.in_local(candidate));
    let ends = chosen.backends(weights, forwarding, |candidate| {
        forwarding == ForwardingMode::TUNNEL && candidate.may_be_served()
    });
    let anywhere = chosen.choice.anywhere;
    PortIntent {
        name: port.name.clone(),
        proto: port.proto,
        affinity: service.affinity.unwrap_or(0),
        algorithm: service.algorithm.unwrap_or(around.settings.algorithm),
        forwarding,
        ends,
        // One list where both are equal: they share one segment.
        local: if cluster == local { cluster.clone() } else { local },
        cluster,
        servers: servers::servers::<F>(&chosen.candidates, port.proto),
        internal: rule::internal(
            service.internal_policy,
            around.settings.masquerade,
            around.detector,
            anywhere,
        ),
        external: rule::external(
            service.external_policy,
            around.settings.local_source,
            around.detector,
            anywhere,
        ),
        frontends: frontends(around, service, port, cluster_ip),
        ranges: ranges(around, service),
    }
}

/// A Local policy keeps the client's address without a tunnel, and only connections of these protocols are known by what
/// is in a packet.
fn forwarding(settings: &Settings, service: &Service, port: &ServicePort) -> ForwardingMode {
    let wanted = settings.direct_return == Serving::On && service.direct_return != Some(Serving::Off);
    let can = service.external_policy == TrafficPolicy::Cluster
        && (port.proto == Proto::TCP || port.proto == Proto::UDP);
    if wanted && can { ForwardingMode::TUNNEL } else { ForwardingMode::NAT }
}

/// Items 22, 81. A range that holds the node's own address admits the load balancer's addresses as well: where such
/// an address is assigned to the node, the node's own connections to it have it as their source (item 82).
fn ranges<F: Served>(around: &Surroundings<'_, F>, service: &Service) -> BTreeSet<(F::Addr, u8)> {
    if service.load_balancer.is_empty() {
        return BTreeSet::new();
    }
    let whole = u8::try_from(8 * size_of::<F::Addr>()).unwrap_or(u8::MAX);
    let of_family = service.source_ranges.iter().filter_map(|range| {
        Some((F::Addr::from_ip(range.addr)?.and(F::Addr::prefix_mask(range.len)), range.len.min(whole)))
    });
    let mut ranges: BTreeSet<_> = of_family.collect();
    let holds = |addr: F::Addr| ranges.iter().any(|(net, len)| addr.and(F::Addr::prefix_mask(*len)) == *net);
    if around.primary_address.is_some_and(holds) {
        ranges.extend(self::of_family::<F>(&service.load_balancer).map(|addr| (addr, whole)));
    }
    ranges
}

fn frontends<F: Served>(
    around: &Surroundings<'_, F>,
    service: &Service,
    port: &ServicePort,
    cluster_ip: F::Addr,
) -> Box<[(FrontendKey<F::Addr>, Exposure)]> {
    let mut frontends = Vec::new();
    let mut expose = |addr: F::Addr, number, exposure| {
        if addr != F::Addr::default() {
            frontends.push((FrontendKey::new(addr, number, port.proto), exposure));
        }
    };
    expose(cluster_ip, port.port, Exposure::ClusterIp);
    for addr in of_family::<F>(&service.load_balancer) {
        expose(addr, port.port, Exposure::LoadBalancer);
    }
    for addr in external_ips::<F>(around.settings, service) {
        expose(addr, port.port, Exposure::ExternalIp);
    }
    if let Some(number) = port.node_port {
        for addr in &around.node_port_addresses {
            expose(*addr, number, Exposure::NodePort);
        }
        if around.settings.localhost_node_ports == Serving::On
            && let Some(loopback) = F::Addr::from_ip(F::LOOPBACK)
        {
            expose(loopback, number, Exposure::Localhost);
        }
    }
    // The first exposure of a key is the strongest.
    frontends.sort_unstable();
    frontends.dedup_by_key(|(key, _)| *key);
    frontends.into()
}

/// External addresses, unless the operator has them left aside.
fn external_ips<F: Served>(settings: &Settings, service: &Service) -> impl Iterator<Item = F::Addr> {
    let ips = match settings.external_ips {
        Serving::On => service.external_ips.as_slice(),
        Serving::Off => &[],
    };
    of_family::<F>(ips)
}

/// Addresses of the other family are not ours to judge (item 22).
fn of_family<F: Served>(ips: &[std::net::IpAddr]) -> impl Iterator<Item = F::Addr> {
    ips.iter().filter_map(|ip| F::Addr::from_ip(*ip))
}

/// Item 27.
fn needs<F: Served>(settings: &Settings, service: &Service, port: &ServicePort) -> Needs {
    let is_external = port.node_port.is_some()
        || of_family::<F>(&service.load_balancer).next().is_some()
        || external_ips::<F>(settings, service).next().is_some();
    let is_local = |policy| policy == TrafficPolicy::Local;
    let cluster = !is_local(service.internal_policy) || is_external;
    let local = is_local(service.internal_policy) || (is_local(service.external_policy) && is_external);
    match (cluster, local) {
        (true, true) => Needs::Both,
        (false, _) => Needs::Local,
        (true, false) => Needs::Cluster,
    }
}
