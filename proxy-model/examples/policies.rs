//! Times a full plan of many policies over many pods, and single changes after it. Run it with `--release`:
//! `cargo run --release -p proxy-model --example policies -- 10000 50000 110 1000` (policies, pods, pods of this node,
//! networks of one policy).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use proxy_common::{Port, Proto};
use proxy_model::fact::{
    Change, Kind, Namespace, NetworkPeer, NetworkPolicy, NetworkRule, ObjectKey, Pod, PodPhase, PortMatch,
    Prefix, Selector,
};
use proxy_model::policy::{PolicyCapacity, PolicyPlan, PolicyPlanner};
use proxy_model::settings::Settings;
use proxy_model::{Event, Tick, World};

/// Pods of a namespace.
const TOGETHER: u32 = 50;
/// Different labels in a namespace.
const APPS: u32 = 10;

fn app(number: u32) -> BTreeMap<proxy_model::Name, proxy_model::Name> {
    [("app".into(), format!("app-{}", number % APPS).into())].into()
}

fn namespace(number: u32) -> String {
    format!("namespace-{}", number)
}

fn select(number: u32) -> Selector {
    Selector { labels: app(number), expressions: vec![] }
}

/// The local pods are spread over as many namespaces.
fn pod(number: u32, (pods, local): (u32, u32), labels: u32) -> Event {
    let is_local = local > 0 && number.is_multiple_of((pods / local).max(1));
    Event::Pod(Change::Put(Pod {
        key: ObjectKey::new(namespace(number / TOGETHER), format!("pod-{number}")),
        ips: vec![IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number))],
        node: Some(if is_local { "node-1" } else { "node-2" }.into()),
        host_network: false,
        phase: PodPhase::Running,
        labels: app(labels),
        ports: vec![],
    }))
}

/// Lets one app of the namespace, and one of the namespace beside it, reach another one.
fn policy(number: u32, namespaces: u32) -> Event {
    let of = |number: u32| {
        Some(Selector {
            labels: [("kubernetes.io/metadata.name".into(), namespace(number % namespaces).into())].into(),
            expressions: vec![],
        })
    };
    let here = number % namespaces;
    let peers = vec![
        NetworkPeer::Pods { namespaces: None, pods: Some(select(number / 7)) },
        NetworkPeer::Pods { namespaces: of(here + 1), pods: Some(select(number / 3)) },
    ];
    let port = Port::new(u16::try_from(1_000 + number % 1_000).unwrap_or_default());
    let ports = vec![PortMatch::Range { proto: Proto::TCP, first: port, last: port }];
    Event::NetworkPolicy(Change::Put(NetworkPolicy {
        key: ObjectKey::new(namespace(here), format!("policy-{number}")),
        created: u64::from(number),
        pods: select(number / namespaces),
        types: None,
        ingress: vec![NetworkRule { peers, ports }],
        egress: vec![],
    }))
}

/// So many networks may be reached from a pod of this node.
fn networks(number: u32) -> Event {
    let block = |n: u32| NetworkPeer::Block {
        net: Prefix { addr: IpAddr::V4(Ipv4Addr::from_bits(0x2000_0000 + (n << 8))), len: 24 },
        except: vec![],
    };
    let rule = NetworkRule { peers: (0..number).map(block).collect(), ports: vec![] };
    Event::NetworkPolicy(Change::Put(NetworkPolicy {
        key: ObjectKey::new(namespace(0), "networks"),
        created: 0,
        pods: Selector::default(),
        types: None,
        ingress: vec![],
        egress: vec![rule],
    }))
}

/// Resident memory of this process in MiB.
fn memory() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    pages.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4 / 1024
}

/// Makes a hundred changes, each planned, and says how long they took.
fn time(what: &str, planner: &mut PolicyPlanner, world: &mut World, change: impl Fn(u32) -> Event) {
    let mut times: Vec<Duration> = Vec::new();
    let mut writes = 0;
    for number in 0..100 {
        let event = change(number);
        let began = Instant::now();
        let _ = world.apply(event);
        let plan: PolicyPlan = planner.plan(world, Tick(u64::from(number) * 10));
        times.push(began.elapsed());
        writes += plan.writes.len();
    }
    times.sort_unstable();
    println!("100 times {what}, {writes} writes: median {:?}, slowest {:?}", times[50], times[99]);
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.parse().ok());
    let mut next = |otherwise: u32| numbers.next().unwrap_or(otherwise);
    let (policies, pods, local, cidrs) = (next(10_000), next(50_000), next(110), next(1_000));
    let namespaces = pods.div_ceil(TOGETHER);
    let mut world = World::new(Settings::of_node("node-1"));
    let mut planner = PolicyPlanner::new(PolicyCapacity::default());
    for number in 0..namespaces {
        let name = namespace(number).into();
        let _ = world.apply(Event::Namespace(Change::Put(Namespace { name, labels: [].into() })));
    }
    for number in 0..pods {
        let _ = world.apply(pod(number, (pods, local), number));
    }
    for number in 0..policies {
        let _ = world.apply(policy(number, namespaces));
    }
    let _ = world.apply(networks(cidrs));
    for kind in [Kind::Node, Kind::Pod, Kind::Namespace, Kind::NetworkPolicy, Kind::ClusterPolicy] {
        let _ = world.apply(Event::Synced(kind));
    }
    println!(
        "{policies} policies, {pods} pods of which {local} here, {cidrs} networks: facts in {} MiB",
        memory()
    );
    let began = Instant::now();
    let plan = planner.plan(&mut world, Tick(0));
    println!("full plan of {} writes in {:?}; now {} MiB", plan.writes.len(), began.elapsed(), memory());
    println!("{:?}", planner.usage());
    let counts = (pods, local);
    let remote = |number: u32| number * 467 + 1;
    time("another label of a pod elsewhere", &mut planner, &mut world, |n| pod(remote(n), counts, n));
    let here = |number: u32| number % local.max(1) * (pods / local.max(1)).max(1);
    time("another label of a pod here", &mut planner, &mut world, |n| pod(here(n), counts, n + 1));
    time("a policy elsewhere", &mut planner, &mut world, |n| policy(policies + n * 11 + 1, namespaces));
    // Of the first namespace, over the label that its pod has by now.
    let first = |n| policy((policies + APPS * n + 1) * namespaces, namespaces);
    time("a policy over a pod here", &mut planner, &mut world, first);
}
