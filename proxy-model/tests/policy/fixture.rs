//! Short ways to facts.

use std::net::IpAddr;

use proxy_common::{Port, Proto};
use proxy_model::Event;
use proxy_model::fact::{
    Change, ClusterPolicy, Direction, Kind, NamedPort, Namespace, NetworkPeer, NetworkPolicy, NetworkRule,
    Node, Object, ObjectKey, Pod, PodPhase, PortMatch, Prefix, Selector, Subject, Tier,
};
use proxy_model::settings::Settings;

use crate::reference::{Facts, Packet};

/// The node that is planned for, and another one.
pub const HERE: &str = "node-1";
pub const THERE: &str = "node-2";

pub fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub fn prefix(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').unwrap();
    Prefix { addr: ip(addr), len: len.parse().unwrap() }
}

pub fn settings() -> Settings {
    Settings::of_node(HERE)
}

/// `app=web,tier=front` as labels.
pub fn labels(text: &str) -> std::collections::BTreeMap<proxy_model::Name, proxy_model::Name> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap());
    pairs.map(|(key, value)| (key.into(), value.into())).collect()
}

pub fn select(text: &str) -> Selector {
    Selector { labels: labels(text), expressions: vec![] }
}

pub fn namespace(name: &str, text: &str) -> Namespace {
    Namespace { name: name.into(), labels: labels(text) }
}

pub fn node(name: &str, text: &str, addresses: &[&str]) -> Node {
    Node {
        name: name.into(),
        zone: None,
        addresses: addresses.iter().map(|addr| ip(addr)).collect(),
        pod_cidrs: vec![prefix("10.0.1.0/24"), prefix("fd00:1::/64")],
        deleting: false,
        tainted_for_deletion: false,
        labels: labels(text),
    }
}

/// A pod that runs on this node: `namespace/name`.
pub fn pod(key: &str, text: &str, ips: &[&str]) -> Pod {
    let (namespace, name) = key.split_once('/').unwrap();
    Pod {
        key: ObjectKey::new(namespace, name),
        ips: ips.iter().map(|addr| ip(addr)).collect(),
        node: Some(HERE.into()),
        host_network: false,
        phase: PodPhase::Running,
        labels: labels(text),
        ports: vec![],
    }
}

pub fn named(name: &str, proto: Proto, port: u16) -> NamedPort {
    NamedPort { name: name.into(), proto, port: Port::new(port) }
}

/// A NetworkPolicy for all pods of its namespace, without rules.
pub fn policy(key: &str) -> NetworkPolicy {
    let (namespace, name) = key.split_once('/').unwrap();
    NetworkPolicy {
        key: ObjectKey::new(namespace, name),
        created: 0,
        pods: Selector::default(),
        types: None,
        ingress: vec![],
        egress: vec![],
    }
}

pub fn types(list: &[Direction]) -> Option<std::collections::BTreeSet<Direction>> {
    Some(list.iter().copied().collect())
}

pub fn rule(peers: Vec<NetworkPeer>, ports: Vec<PortMatch>) -> NetworkRule {
    NetworkRule { peers, ports }
}

pub fn pods(namespaces: Option<&str>, pods: Option<&str>) -> NetworkPeer {
    NetworkPeer::Pods { namespaces: namespaces.map(select), pods: pods.map(select) }
}

pub fn block(net: &str, except: &[&str]) -> NetworkPeer {
    NetworkPeer::Block { net: prefix(net), except: except.iter().map(|text| prefix(text)).collect() }
}

pub fn port(proto: Proto, number: u16) -> PortMatch {
    ports(proto, number, number)
}

pub fn ports(proto: Proto, first: u16, last: u16) -> PortMatch {
    PortMatch::Range { proto, first: Port::new(first), last: Port::new(last) }
}

/// A ClusterNetworkPolicy of the Admin tier for all pods, without rules.
pub fn cluster(name: &str, priority: u16) -> ClusterPolicy {
    ClusterPolicy {
        name: name.into(),
        created: 0,
        tier: Tier::Admin,
        priority,
        subject: Subject::Namespaces(Selector::default()),
        ingress: vec![],
        egress: vec![],
    }
}

pub fn packet(src: &str, dst: &str, proto: Proto, port: u16) -> Packet {
    Packet { src: ip(src), dst: ip(dst), proto, port: Port::new(port) }
}

/// A fact as an event.
pub trait Fact: Object {
    fn event(change: Change<Self>) -> Event;
}

macro_rules! facts {
    ($($ty:ty => $event:ident;)+) => {$(
        impl Fact for $ty {
            fn event(change: Change<Self>) -> Event {
                Event::$event(change)
            }
        }
    )+};
}
facts! {
    Namespace => Namespace;
    Pod => Pod;
    Node => Node;
    NetworkPolicy => NetworkPolicy;
    ClusterPolicy => ClusterPolicy;
}

pub fn put<T: Fact>(object: T) -> Event {
    T::event(Change::Put(object))
}

pub fn delete<T: Fact>(object: &T) -> Event {
    T::event(Change::Delete(object.key()))
}

/// All facts as events.
pub fn events(facts: &Facts) -> Vec<Event> {
    let Facts { namespaces, pods, nodes, network, cluster, devices } = facts.clone();
    let objects = namespaces.into_iter().map(put).chain(nodes.into_iter().map(put));
    let policies = network.into_iter().map(put).chain(cluster.into_iter().map(put));
    objects.chain(pods.into_iter().map(put)).chain(policies).chain([Event::PodDevices(devices)]).collect()
}

/// Everything at once, whatever was known before.
pub fn relist(facts: &Facts) -> Vec<Event> {
    let Facts { namespaces, pods, nodes, network, cluster, devices } = facts.clone();
    vec![
        Event::Namespace(Change::Replace(namespaces)),
        Event::Pod(Change::Replace(pods)),
        Event::Node(Change::Replace(nodes)),
        Event::NetworkPolicy(Change::Replace(network)),
        Event::ClusterPolicy(Change::Replace(cluster)),
        Event::PodDevices(devices),
    ]
}

/// Every first list has arrived.
pub fn synced() -> Vec<Event> {
    let kinds = [Kind::Node, Kind::Pod, Kind::Namespace, Kind::NetworkPolicy, Kind::ClusterPolicy];
    kinds.map(Event::Synced).into()
}
