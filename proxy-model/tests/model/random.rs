//! Random worlds, small enough that everything collides, and everybody who may ask them something.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proxy_common::{Algorithm, Port, Proto, Weight};
use proxy_model::fact::{
    Endpoint, EndpointSlice, Label, Node, ObjectKey, Service, ServiceKind, ServicePort, SliceFamily,
    SlicePort, TrafficPolicy,
};
use proxy_model::settings::{LocalSource, Masquerade, NodePortAddresses, Serving, Settings};
use proxy_model::{Event, Name, TableSize, Weights};

use crate::fixture::*;
use crate::reference::{Attempt, Facts};

const NAMES: [&str; 3] = ["a", "b", "c"];
const CLUSTER_IPS: [&str; 4] = ["10.96.0.1", "10.96.0.2", "fd00:96::1", "fd00:96::2"];
const EXTERNAL_IPS: [&str; 5] = ["192.0.2.1", "192.0.2.2", "10.96.0.1", NODE_IP, "fd00:5::1"];
const RANGES: [&str; 6] =
    ["203.0.113.0/24", "10.0.0.0/16", "192.168.0.1/32", "0.0.0.0/0", "fd00:192::/32", "2001:db8::7/128"];
const ENDPOINTS: [&str; 5] = ["10.0.1.1", "10.0.1.2", "10.0.2.1", "fd00:10::1", "fd00:10::2"];
const PORTS: [u16; 2] = [80, 30_080];

fn name() -> impl Strategy<Value = Name> {
    select(&NAMES[..]).prop_map(Name::from)
}

fn ips(from: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<IpAddr>> {
    subsequence(from, 0..=most).prop_shuffle().prop_map(|ips| ips.into_iter().map(ip).collect())
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    select(&[TrafficPolicy::Cluster, TrafficPolicy::Local][..])
}

fn rarely<T: Clone + std::fmt::Debug + 'static>(common: T, rare: T) -> impl Strategy<Value = T> {
    prop_oneof![9 => Just(common), 1 => Just(rare)]
}

/// Mostly TCP, so that Services and slices meet.
fn proto() -> impl Strategy<Value = Proto> {
    prop_oneof![4 => Just(Proto::TCP), 1 => Just(Proto::UDP)]
}

/// Mostly unnamed, for the same reason.
fn port_name() -> impl Strategy<Value = Name> {
    prop_oneof![4 => Just(Name::from("")), 1 => Just(Name::from("x"))]
}

fn service_port() -> impl Strategy<Value = ServicePort> {
    (port_name(), proto(), select(&PORTS[..]), prop::option::of(select(&PORTS[..]))).prop_map(
        |(name, proto, port, node_port)| ServicePort {
            name,
            proto,
            port: Port::new(port),
            node_port: node_port.map(Port::new),
        },
    )
}

/// Rules that meet the endpoints of this file; zero more often than an operator would say it.
fn weights() -> impl Strategy<Value = Weights> {
    let weight = || select(&[0u8, 0, 1, 2, 5][..]).prop_map(Weight);
    let addresses = prop::collection::btree_map(select(&ENDPOINTS[..]).prop_map(ip), weight(), 0..3);
    let names = |names: &'static [&'static str]| {
        prop::collection::btree_map(select(names).prop_map(Name::from), weight(), 0..2)
    };
    let rules = (addresses, names(&[HERE, THERE]), names(&["za", "zb"]), prop::option::of(weight()));
    rules.prop_map(|(addresses, nodes, zones, others)| Weights { addresses, nodes, zones, others })
}

fn algorithm() -> impl Strategy<Value = Option<Algorithm>> {
    prop_oneof![1 => Just(None), 1 => select(&Algorithm::ALL[..]).prop_map(|(algorithm, _)| Some(algorithm))]
}

fn a_service(name: &'static str) -> impl Strategy<Value = Service> {
    let kind = rarely(ServiceKind::ClusterIp, ServiceKind::ExternalName);
    let addresses = (ips(&CLUSTER_IPS, 3), ips(&EXTERNAL_IPS, 2), ips(&EXTERNAL_IPS, 1));
    let ports = prop::collection::vec(service_port(), 0..4);
    let ranges = subsequence(RANGES.map(prefix).to_vec(), 0..=2);
    let labels = (rarely(None, Some("other".into())), rarely(Label::Absent, Label::Present));
    let choice = (prop::option::of(1u32..100), algorithm(), prop_oneof![Just(Weights::default()), weights()]);
    (0u64..2, kind, addresses, ports, (policy(), policy()), choice, (labels, ranges)).prop_map(
        move |(
            created,
            kind,
            (cluster_ips, external_ips, load_balancer),
            ports,
            policies,
            (affinity, algorithm, weights),
            (labels, source_ranges),
        )| Service {
            created,
            kind,
            cluster_ips,
            ports,
            external_ips,
            load_balancer,
            source_ranges,
            internal_policy: policies.0,
            external_policy: policies.1,
            affinity,
            algorithm,
            weights,
            proxy_name: labels.0,
            headless_label: labels.1,
            ..service(name, "10.96.0.1")
        },
    )
}

fn hints(names: &'static [&'static str]) -> impl Strategy<Value = Vec<Name>> {
    let some =
        subsequence(names, 1..=names.len()).prop_map(|names| names.into_iter().map(Name::from).collect());
    prop_oneof![1 => Just(vec![]), 4 => some]
}

/// `ready`, `serving`, `terminating`: usable more often than not, draining as often as ready.
fn conditions() -> impl Strategy<Value = [Option<bool>; 3]> {
    let any = || prop_oneof![Just(None), Just(Some(true)), Just(Some(false))];
    let true_or_unset = || prop_oneof![Just(None), Just(Some(true))];
    prop_oneof![
        3 => (true_or_unset(), any(), any()),
        3 => (Just(Some(false)), true_or_unset(), Just(Some(true))),
        2 => (any(), any(), any()),
    ]
    .prop_map(|(ready, serving, terminating)| [ready, serving, terminating])
}

fn an_endpoint() -> impl Strategy<Value = Endpoint> {
    (
        prop::option::weighted(0.95, select(&ENDPOINTS[..])),
        conditions(),
        prop::option::of(select(&[HERE, THERE][..])),
        prop::option::of(select(&["za", "zb"][..])),
        (hints(&["za", "zb"]), hints(&[HERE, THERE])),
    )
        .prop_map(|(addr, [ready, serving, terminating], node, zone, (hint_zones, hint_nodes))| {
            Endpoint {
                address: addr.map(ip),
                ready,
                serving,
                terminating,
                node: node.map(Name::from),
                zone: zone.map(Name::from),
                hint_zones,
                hint_nodes,
            }
        })
}

fn slice_port() -> impl Strategy<Value = SlicePort> {
    let number = prop::option::weighted(0.9, select(&[8080u16, 8081][..]));
    (prop::option::weighted(0.9, port_name()), proto(), number).prop_map(|(name, proto, port)| SlicePort {
        name,
        proto,
        port: port.map(Port::new),
    })
}

fn a_slice(number: usize) -> impl Strategy<Value = EndpointSlice> {
    let family =
        prop_oneof![5 => Just(SliceFamily::Ipv4), 3 => Just(SliceFamily::Ipv6), 1 => Just(SliceFamily::Fqdn)];
    (
        prop::option::weighted(0.9, name()),
        family,
        rarely(Label::Absent, Label::Present),
        prop::collection::vec(slice_port(), 1..4),
        prop::collection::vec(an_endpoint(), 0..5),
    )
        .prop_map(move |(service, family, headless_label, ports, endpoints)| EndpointSlice {
            key: ObjectKey::new("default", format!("slice-{number}")),
            service,
            family,
            headless_label,
            ports,
            endpoints,
        })
}

fn a_settings() -> impl Strategy<Value = Settings> {
    let detector = subsequence(vec![prefix("10.0.0.0/16"), prefix("fd00:10::/32")], 0..=2);
    let ranges = subsequence(vec![prefix("192.168.1.0/24"), prefix("0.0.0.0/0"), prefix("fd00::/16")], 0..=3);
    let node_ports =
        prop_oneof![Just(NodePortAddresses::Primary), ranges.prop_map(NodePortAddresses::Within)];
    (
        detector,
        select(&[Masquerade::Needed, Masquerade::All][..]),
        node_ports,
        rarely(Serving::On, Serving::Off),
        select(&[LocalSource::Masqueraded, LocalSource::Preserved][..]),
    )
        .prop_map(|(cluster_cidrs, masquerade, node_port_addresses, ipv6, local_source)| Settings {
            cluster_cidrs,
            masquerade,
            local_source,
            table_size: TableSize::Fixed(13),
            node_port_addresses,
            ipv6,
            ..settings()
        })
}

fn own_node() -> impl Strategy<Value = Node> {
    let zone = select(&[None, Some("za"), Some("zb"), Some("zc")][..]);
    (zone, subsequence(vec![NODE_IP, "192.168.1.1", "fd00:192::1"], 0..=3))
        .prop_map(|(zone, addresses)| node(HERE, zone, &addresses))
}

/// A world.
pub fn facts() -> impl Strategy<Value = Facts> {
    let services = NAMES.map(|name| prop::option::weighted(0.8, a_service(name)));
    let slices: Vec<_> = (0..4).map(|number| prop::option::weighted(0.8, a_slice(number))).collect();
    (a_settings(), services, slices, prop::option::weighted(0.9, own_node())).prop_map(
        |(settings, services, slices, own)| Facts {
            settings,
            services: services.into_iter().flatten().collect(),
            slices: slices.into_iter().flatten().collect(),
            nodes: own.into_iter().chain([node(THERE, Some("zb"), &["192.168.0.2"])]).collect(),
            local_addresses: locals(),
        },
    )
}

/// A world, its events in any order with repetitions, and when to plan in between.
pub fn shuffled() -> impl Strategy<Value = (Facts, Vec<Event>, Vec<bool>)> {
    facts().prop_flat_map(|facts| {
        let twice: Vec<_> = events(&facts).into_iter().flat_map(|event| [event.clone(), event]).collect();
        (Just(facts), Just(twice).prop_shuffle(), prop::collection::vec(any::<bool>(), 1..8))
    })
}

/// Everybody to everything, and a bit beside it.
pub fn attempts() -> BTreeSet<Attempt> {
    let v4 = ["10.0.1.1", POD, NODE_IP, "127.0.0.1", OUTSIDE, "192.0.2.1"];
    let v6 = ["fd00:10::1", "fd00:10::9", "fd00:192::1", "2001:db8::7"];
    let places = CLUSTER_IPS.into_iter().chain(EXTERNAL_IPS).chain([
        "192.168.1.1",
        "fd00:192::1",
        "10.96.0.9",
        "10.0.1.1",
    ]);
    let mut attempts = BTreeSet::new();
    for addr in places.map(ip) {
        let clients = if addr.is_ipv4() { &v4[..] } else { &v6[..] };
        for client in clients {
            for port in [80, 30_080, 81] {
                for proto in [Proto::TCP, Proto::UDP, Proto::SCTP] {
                    attempts.insert(Attempt { client: ip(client), addr, port: Port::new(port), proto });
                }
            }
        }
    }
    attempts
}
