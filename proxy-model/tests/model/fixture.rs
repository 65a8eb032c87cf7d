//! Short ways to write facts.

use std::net::IpAddr;

use proxy_common::{Port, Proto};
use proxy_model::fact::{
    Change, Endpoint, EndpointSlice, Event, Kind, Label, Node, Object, ObjectKey, Prefix, Service,
    ServiceKind, ServicePort, SliceFamily, SlicePort, TrafficPolicy,
};
use proxy_model::settings::Settings;

use crate::kernel::{Machine, ROOMY};
use crate::reference::{Attempt, Facts, Seen, Verdict};

/// This node.
pub const HERE: &str = "n1";
/// Another one.
pub const THERE: &str = "n2";
/// This node's primary address.
pub const NODE_IP: &str = "192.168.0.1";
/// A pod that is no endpoint.
pub const POD: &str = "10.0.9.9";
/// A client outside of the cluster.
pub const OUTSIDE: &str = "203.0.113.7";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').unwrap();
    Prefix { addr: ip(addr), len: len.parse().unwrap() }
}

pub fn settings() -> Settings {
    Settings {
        cluster_cidrs: vec![prefix("10.0.0.0/16"), prefix("fd00:10::/32")],
        service_cidrs: vec![prefix("10.96.0.0/16"), prefix("fd00:96::/32")],
        ..Settings::of_node(HERE)
    }
}

pub fn node(name: &str, zone: Option<&str>, addresses: &[&str]) -> Node {
    Node {
        name: name.into(),
        zone: zone.map(Into::into),
        addresses: addresses.iter().map(|a| ip(a)).collect(),
        pod_cidrs: vec![],
        deleting: false,
        tainted_for_deletion: false,
        labels: [].into(),
    }
}

/// TCP 80 without a name.
pub fn port() -> ServicePort {
    ServicePort { name: "".into(), proto: Proto::TCP, port: Port::new(80), node_port: None }
}

/// A ClusterIP Service with [`port`].
pub fn service(name: &str, cluster_ip: &str) -> Service {
    Service::cluster_ip(ObjectKey::new("default", name), ip(cluster_ip), vec![port()])
}

/// A Service with all kinds of frontends: `10.96.0.N`, node port 30000+N, `192.0.2.N`, `198.51.100.N`.
pub fn exposed(name: &str, n: u8, internal: TrafficPolicy, external: TrafficPolicy) -> Service {
    Service {
        kind: ServiceKind::LoadBalancer,
        ports: vec![ServicePort { node_port: Some(Port::new(30_000 + u16::from(n))), ..port() }],
        load_balancer: vec![ip(&format!("192.0.2.{n}"))],
        external_ips: vec![ip(&format!("198.51.100.{n}"))],
        internal_policy: internal,
        external_policy: external,
        ..service(name, &format!("10.96.0.{n}"))
    }
}

/// A slice of a Service with TCP 8080 without a name.
pub fn slice(name: &str, service: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let is_v6 = endpoints.iter().filter_map(|e| e.address).any(|ip| ip.is_ipv6());
    EndpointSlice {
        key: ObjectKey::new("default", name),
        service: Some(service.into()),
        family: if is_v6 { SliceFamily::Ipv6 } else { SliceFamily::Ipv4 },
        headless_label: Label::Absent,
        ports: vec![SlicePort { name: Some("".into()), proto: Proto::TCP, port: Some(Port::new(8080)) }],
        endpoints,
    }
}

/// A ready endpoint.
pub fn endpoint(addr: &str, node: &str) -> Endpoint {
    Endpoint { address: Some(ip(addr)), ready: Some(true), node: Some(node.into()), ..Endpoint::default() }
}

pub fn not_ready(endpoint: Endpoint) -> Endpoint {
    Endpoint { ready: Some(false), serving: Some(false), ..endpoint }
}

pub fn draining(endpoint: Endpoint) -> Endpoint {
    Endpoint { ready: Some(false), serving: Some(true), terminating: Some(true), ..endpoint }
}

pub fn stopped(endpoint: Endpoint) -> Endpoint {
    Endpoint { ready: Some(false), serving: Some(false), terminating: Some(true), ..endpoint }
}

pub fn put(object: impl Into<Put>) -> Event {
    object.into().0
}

/// An event that puts an object.
pub struct Put(Event);

macro_rules! puts {
    ($($ty:ty => $kind:ident),*) => {$(
        impl From<$ty> for Put {
            fn from(object: $ty) -> Self {
                Self(Event::$kind(Change::Put(object)))
            }
        }
    )*};
}
puts!(Service => Service, EndpointSlice => Slice, Node => Node);

pub fn synced() -> [Event; 3] {
    [Kind::Service, Kind::Slice, Kind::Node].map(Event::Synced)
}

/// A machine that has seen `events` and has written them.
pub fn machine(settings: Settings, events: impl IntoIterator<Item = Event>) -> Machine {
    let mut machine = Machine::new(settings, ROOMY);
    machine.apply([put(node(HERE, Some("za"), &[NODE_IP, "fd00:192::1"])), Event::LocalAddresses(locals())]);
    machine.apply(events);
    machine.apply(synced());
    machine.sync();
    machine
}

/// Addresses of this node's interfaces.
pub fn locals() -> Vec<IpAddr> {
    ["127.0.0.1", "::1", NODE_IP, "192.168.1.1", "fd00:192::1"].map(ip).into()
}

pub fn attempt(client: &str, addr: &str, port: u16) -> Attempt {
    Attempt { client: ip(client), addr: ip(addr), port: Port::new(port), proto: Proto::TCP }
}

/// Backends on port 8080 and the source that each sees.
pub fn backends(seen: Seen, addrs: &[&str]) -> Verdict {
    Verdict::Backends(addrs.iter().map(|addr| ((ip(addr), Port::new(8080)), seen)).collect())
}

impl Machine {
    /// What happens to TCP from `client` to `addr:port`.
    pub fn tcp(&self, client: &str, addr: &str, port: u16) -> Verdict {
        self.verdict(attempt(client, addr, port), &locals())
    }
}

/// All facts as events.
pub fn events(facts: &Facts) -> Vec<Event> {
    let Facts { settings: _, services, slices, nodes, local_addresses } = facts.clone();
    let services = services.into_iter().map(put);
    let slices = slices.into_iter().map(put);
    let nodes = nodes.into_iter().map(put);
    services.chain(slices).chain(nodes).chain([Event::LocalAddresses(local_addresses)]).collect()
}

/// The deletion of what an event puts.
pub fn deletion(event: &Event) -> Option<Event> {
    match event {
        Event::Service(Change::Put(object)) => Some(Event::Service(Change::Delete(object.key()))),
        Event::Slice(Change::Put(object)) => Some(Event::Slice(Change::Delete(object.key()))),
        Event::Node(Change::Put(object)) => Some(Event::Node(Change::Delete(object.key()))),
        Event::Service(_) | Event::Slice(_) | Event::Node(_) | Event::Pod(_) | Event::Namespace(_) => None,
        Event::NetworkPolicy(_) | Event::ClusterPolicy(_) | Event::PodDevices(_) => None,
        Event::LocalAddresses(_) | Event::Synced(_) | Event::Lost(_) => None,
    }
}
