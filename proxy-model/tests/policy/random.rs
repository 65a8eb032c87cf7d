//! Random clusters, small enough that everything collides, and the packets that tell them apart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proxy_common::{Port, Proto};
use proxy_model::fact::{
    Action, ClusterPeer, ClusterPolicy, ClusterRule, Direction, NamedPort, Namespace, NetworkPeer,
    NetworkPolicy, NetworkRule, Node, ObjectKey, Operator, Pod, PodPhase, PortMatch, Prefix, Requirement,
    Selector, Subject, Tier, Understood,
};
use proxy_model::{Event, Name};

use crate::fixture::*;
use crate::reference::{Facts, Packet};

const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const PODS: [&str; 8] = ["x/a", "x/b", "x/c", "y/a", "y/b", "z/a", "z/b", "w/a"];
/// More pods than addresses: some claim the same.
const FOUR: [&str; 6] = ["10.0.1.1", "10.0.1.2", "10.0.1.3", "10.0.1.6", "10.0.2.1", "10.0.2.2"];
const SIX: [&str; 4] = ["fd00:1::1", "fd00:1::2", "fd00:2::1", "fd00:2::2"];
const OTHERS: [&str; 5] = ["203.0.113.7", "10.0.1.9", "192.168.0.9", "2001:db8::7", "fd00:1::9"];
const BLOCKS: [&str; 13] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.1.0/24",
    "10.0.1.0/30",
    "10.0.1.1/32",
    "10.0.2.7/24",
    "192.168.0.0/16",
    "192.168.0.1/32",
    "203.0.113.0/24",
    "::/0",
    "fd00::/16",
    "fd00:1::/64",
    "fd00:2::1/128",
];

fn label_values() -> impl Strategy<Value = BTreeMap<Name, Name>> {
    let value = || prop::option::weighted(0.7, select(&["1", "2"][..]));
    (value(), value()).prop_map(|(app, tier)| {
        [("app", app), ("tier", tier)]
            .into_iter()
            .filter_map(|(key, value)| Some((key.into(), value?.into())))
            .collect()
    })
}

fn requirement() -> impl Strategy<Value = Requirement> {
    let values = || subsequence(vec![Name::from("1"), "2".into(), "3".into()], 0..=2);
    let set = |values: Vec<Name>| values.into_iter().collect::<BTreeSet<_>>();
    let operator = prop_oneof![
        values().prop_map(move |values| Operator::In(set(values))),
        values().prop_map(move |values| Operator::NotIn(set(values))),
        Just(Operator::Exists),
        Just(Operator::DoesNotExist),
    ];
    (select(&["app", "tier", "none"][..]), operator)
        .prop_map(|(key, operator)| Requirement { key: key.into(), operator })
}

/// Often everything, or one label.
fn selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        2 => Just(Selector::default()),
        3 => (select(&["app", "tier"][..]), select(&["1", "2"][..]))
            .prop_map(|(key, value)| crate::fixture::select(&format!("{key}={value}"))),
        2 => (label_values(), prop::collection::vec(requirement(), 1..3))
            .prop_map(|(labels, expressions)| Selector { labels, expressions }),
    ]
}

/// By label, or by name (item 18).
fn namespaces() -> impl Strategy<Value = Selector> {
    let by_name = select(&["x", "y", "w"][..])
        .prop_map(|name| crate::fixture::select(&format!("kubernetes.io/metadata.name={name}")));
    prop_oneof![4 => selector(), 1 => by_name]
}

fn proto() -> impl Strategy<Value = Proto> {
    prop_oneof![5 => Just(Proto::TCP), 2 => Just(Proto::UDP), 1 => Just(Proto::SCTP)]
}

fn number() -> impl Strategy<Value = Port> {
    select(&[53u16, 79, 80, 81, 82, 8080, 65_535][..]).prop_map(Port::new)
}

fn port_match(named_proto: impl Strategy<Value = Option<Proto>>) -> impl Strategy<Value = PortMatch> {
    prop_oneof![
        4 => (proto(), number()).prop_map(|(proto, port)| PortMatch::Range { proto, first: port, last: port }),
        2 => (proto(), number(), number()).prop_map(|(proto, a, b)| PortMatch::Range {
            proto,
            first: a.min(b),
            last: a.max(b),
        }),
        1 => proto().prop_map(PortMatch::Every),
        3 => (named_proto, select(&["web", "dns"][..]))
            .prop_map(|(proto, name)| PortMatch::Named { proto, name: name.into() }),
    ]
}

fn unknown_rarely<T: Clone + std::fmt::Debug + 'static>(
    known: impl Strategy<Value = T> + 'static,
    unknown: T,
) -> impl Strategy<Value = T> {
    prop_oneof![19 => known, 1 => Just(unknown)]
}

fn a_prefix() -> impl Strategy<Value = Prefix> {
    select(&BLOCKS[..]).prop_map(prefix)
}

fn network_peer() -> impl Strategy<Value = NetworkPeer> {
    let pods = (prop::option::of(namespaces()), prop::option::of(selector()))
        .prop_map(|(namespaces, pods)| NetworkPeer::Pods { namespaces, pods });
    let block = (a_prefix(), prop::collection::vec(a_prefix(), 0..3))
        .prop_map(|(net, except)| NetworkPeer::Block { net, except });
    unknown_rarely(prop_oneof![3 => pods, 2 => block], NetworkPeer::Unknown)
}

fn network_rules() -> impl Strategy<Value = Vec<NetworkRule>> {
    let ports = unknown_rarely(port_match(proto().prop_map(Some)), PortMatch::Unknown);
    let rule = (prop::collection::vec(network_peer(), 0..3), prop::collection::vec(ports, 0..4));
    prop::collection::vec(rule.prop_map(|(peers, ports)| NetworkRule { peers, ports }), 0..3)
}

fn network_policy(number: usize) -> impl Strategy<Value = NetworkPolicy> {
    let types = subsequence(vec![Direction::Ingress, Direction::Egress], 1..=2)
        .prop_map(|types| types.into_iter().collect::<BTreeSet<_>>());
    (
        select(&NAMESPACES[..]),
        0u64..3,
        selector(),
        prop::option::of(types),
        (network_rules(), network_rules()),
    )
        .prop_map(move |(namespace, created, pods, types, (ingress, egress))| NetworkPolicy {
            key: ObjectKey::new(namespace, format!("policy-{number}")),
            created,
            pods,
            types,
            ingress,
            egress,
        })
}

fn cluster_peer(direction: Direction) -> impl Strategy<Value = ClusterPeer> {
    let pods = || {
        prop_oneof![
            namespaces().prop_map(ClusterPeer::Namespaces),
            (namespaces(), selector()).prop_map(|(namespaces, pods)| ClusterPeer::Pods { namespaces, pods }),
        ]
    };
    let others = prop_oneof![
        selector().prop_map(ClusterPeer::Nodes),
        prop::collection::vec(a_prefix(), 1..4).prop_map(ClusterPeer::Networks),
    ];
    let known = match direction {
        Direction::Ingress => pods().boxed(),
        Direction::Egress => prop_oneof![pods(), others].boxed(),
    };
    unknown_rarely(known, ClusterPeer::Unknown)
}

fn cluster_rules(direction: Direction) -> impl Strategy<Value = Vec<ClusterRule>> {
    let action = select(&[Action::Accept, Action::Deny, Action::Pass][..]);
    let ports = unknown_rarely(port_match(Just(None)), PortMatch::Unknown);
    let rule = (
        unknown_rarely(action, Action::Unknown),
        prop::collection::vec(cluster_peer(direction), 1..3),
        prop::collection::vec(ports, 0..3),
        unknown_rarely(Just(Understood::Fully), Understood::InPart),
    )
        .prop_map(|(action, peers, protocols, rest)| ClusterRule {
            name: "".into(),
            action,
            peers,
            protocols,
            rest,
        });
    prop::collection::vec(rule, 0..4)
}

fn cluster_policy(number: usize) -> impl Strategy<Value = ClusterPolicy> {
    let subject = prop_oneof![
        namespaces().prop_map(Subject::Namespaces),
        (namespaces(), selector()).prop_map(|(namespaces, pods)| Subject::Pods { namespaces, pods }),
    ];
    (
        0u64..3,
        select(&[Tier::Admin, Tier::Baseline][..]),
        select(&[0u16, 7, 1000][..]),
        unknown_rarely(subject, Subject::Unknown),
        (cluster_rules(Direction::Ingress), cluster_rules(Direction::Egress)),
    )
        .prop_map(move |(created, tier, priority, subject, (ingress, egress))| ClusterPolicy {
            name: format!("cluster-{number}").into(),
            created,
            tier,
            priority,
            subject,
            ingress,
            egress,
        })
}

fn named_ports() -> impl Strategy<Value = Vec<NamedPort>> {
    let port = (select(&["web", "dns", "other"][..]), proto(), number())
        .prop_map(|(name, proto, port)| NamedPort { name: name.into(), proto, port });
    prop::collection::vec(port, 0..4)
}

fn a_pod(key: &'static str) -> impl Strategy<Value = Pod> {
    let ips = (subsequence(FOUR.to_vec(), 0..=1), subsequence(SIX.to_vec(), 0..=1));
    let phase = prop_oneof![
        8 => Just(PodPhase::Running),
        2 => Just(PodPhase::Pending),
        1 => Just(PodPhase::Succeeded),
        1 => Just(PodPhase::Failed),
    ];
    let node = prop_oneof![6 => Just(Some(HERE)), 2 => Just(Some(THERE)), 1 => Just(None)];
    (ips, phase, node, prop::bool::weighted(0.1), label_values(), named_ports()).prop_map(
        move |((four, six), phase, node, host_network, labels, ports)| Pod {
            ips: four.into_iter().chain(six).map(ip).collect(),
            phase,
            node: node.map(Into::into),
            host_network,
            labels,
            ports,
            ..pod(key, "", &[])
        },
    )
}

fn a_namespace(name: &'static str) -> impl Strategy<Value = Namespace> {
    label_values().prop_map(move |labels| Namespace { name: name.into(), labels })
}

fn a_node(name: &'static str, addresses: &'static [&'static str]) -> impl Strategy<Value = Node> {
    label_values().prop_map(move |labels| Node { labels, ..node(name, "", addresses) })
}

/// Which policies there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kinds {
    Network,
    Both,
}

/// A cluster.
pub fn facts(kinds: Kinds) -> impl Strategy<Value = Facts> {
    let namespaces = NAMESPACES.map(|name| prop::option::weighted(0.9, a_namespace(name)));
    let pods: Vec<_> = PODS.iter().map(|key| prop::option::weighted(0.8, a_pod(key))).collect();
    let nodes = (
        prop::option::weighted(0.9, a_node(HERE, &["192.168.0.1", "fd00:192::1"])),
        prop::option::weighted(0.9, a_node(THERE, &["192.168.0.2"])),
    );
    let network: Vec<_> = (0..4).map(|n| prop::option::weighted(0.6, network_policy(n))).collect();
    let number = if kinds == Kinds::Both { 4 } else { 0 };
    let cluster: Vec<_> = (0..number).map(|n| prop::option::weighted(0.6, cluster_policy(n))).collect();
    let devices = subsequence(vec!["10.0.1.1", "10.0.1.9", "fd00:1::9", "10.0.2.1"], 0..=4);
    (namespaces, pods, nodes, network, cluster, devices).prop_map(
        |(namespaces, pods, nodes, network, cluster, devices)| Facts {
            namespaces: namespaces.into_iter().flatten().collect(),
            pods: pods.into_iter().flatten().collect(),
            nodes: [nodes.0, nodes.1].into_iter().flatten().collect(),
            network: network.into_iter().flatten().collect(),
            cluster: cluster.into_iter().flatten().collect(),
            devices: (1..).zip(devices).map(|(index, addr)| (ip(addr), index)).collect(),
        },
    )
}

/// A cluster, its events in any order with repetitions, and when to plan in between.
pub fn shuffled() -> impl Strategy<Value = (Facts, Vec<Event>, Vec<bool>)> {
    facts(Kinds::Both).prop_flat_map(|facts| {
        let twice: Vec<_> = events(&facts).into_iter().flat_map(|event| [event.clone(), event]).collect();
        (Just(facts), Just(twice).prop_shuffle(), prop::collection::vec(any::<bool>(), 1..8))
    })
}

/// Ports on both sides of every edge that a random rule has, and a protocol without ports.
const ASKED: [(Proto, u16); 15] = [
    (Proto::TCP, 1),
    (Proto::TCP, 53),
    (Proto::TCP, 79),
    (Proto::TCP, 80),
    (Proto::TCP, 81),
    (Proto::TCP, 82),
    (Proto::TCP, 83),
    (Proto::TCP, 8080),
    (Proto::TCP, 65_535),
    (Proto::UDP, 53),
    (Proto::UDP, 80),
    (Proto::UDP, 65_535),
    (Proto::SCTP, 80),
    (Proto::SCTP, 8081),
    (Proto::ICMP, 0),
];

/// Everybody to everybody.
pub fn packets(facts: &Facts) -> Vec<Packet> {
    let everybody: BTreeSet<IpAddr> =
        FOUR.into_iter().chain(SIX).chain(OTHERS).map(ip).chain(facts.addresses()).collect();
    let mut packets = Vec::new();
    for src in &everybody {
        for dst in everybody.iter().filter(|dst| dst.is_ipv4() == src.is_ipv4() && *dst != src) {
            packets.extend(ASKED.map(|(proto, port)| Packet {
                src: *src,
                dst: *dst,
                proto,
                port: Port::new(port),
            }));
        }
    }
    packets
}
