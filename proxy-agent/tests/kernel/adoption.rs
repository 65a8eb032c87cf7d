//! A start on what another agent left: the same links, nothing written.

use std::collections::BTreeMap;

use proxy_agent::kernel::{
    Families, Kernel, SocketRoad, State,
    pins::{self, Pins},
    served,
};
use proxy_common::{Addr4, Addr6, Frontend, FrontendKey, Port, Proto, ServiceId, Tally};
use proxy_model::{
    Capacity, Change, Event, Kind, ObjectKey, Plan, Planner, Settings, Tick, World,
    fact::{Endpoint, EndpointSlice, Label, Prefix, Service, ServicePort, SliceFamily, SlicePort},
};

use crate::stage::{Stage, on_a_node};

fn service(name: &str, ip: &str, ports: u16) -> Service {
    let port = |n: u16| ServicePort {
        name: format!("p{n}").into(),
        proto: Proto::TCP,
        port: Port::new(n),
        node_port: None,
    };
    Service::cluster_ip(ObjectKey::new("default", name), ip.parse().unwrap(), (1..=ports).map(port).collect())
}

fn slice(service: &str, family: SliceFamily, addresses: &[&str], ports: u16) -> EndpointSlice {
    let endpoint = |ip: &&str| Endpoint { address: Some(ip.parse().unwrap()), ..Endpoint::default() };
    let port = |n: u16| SlicePort {
        name: Some(format!("p{n}").into()),
        proto: Proto::TCP,
        port: Some(Port::new(8_000 + n)),
    };
    EndpointSlice {
        key: ObjectKey::new("default", format!("{service}-{family:?}")),
        service: Some(service.into()),
        family,
        headless_label: Label::Absent,
        ports: (1..=ports).map(port).collect(),
        endpoints: addresses.iter().map(endpoint).collect(),
    }
}

fn world() -> World {
    let mut world = World::new(Settings::of_node("a"));
    let events = [
        Event::Service(Change::Put(service("four", "10.96.0.1", 60))),
        Event::Slice(Change::Put(slice(
            "four",
            SliceFamily::Ipv4,
            &["10.1.0.1", "10.1.0.2", "10.1.0.3"],
            60,
        ))),
        Event::Service(Change::Put(service("six", "fd00::1", 2))),
        Event::Slice(Change::Put(slice("six", SliceFamily::Ipv6, &["fd01::1", "fd01::2"], 2))),
        Event::Service(Change::Put(service("none", "10.96.0.2", 1))),
        Event::Synced(Kind::Service),
        Event::Synced(Kind::Slice),
        Event::Synced(Kind::Node),
    ];
    for event in events {
        let _ = world.apply(event);
    }
    world
}

fn planner(stage: &Stage) -> Planner {
    let sizes = stage.settings.sizes;
    Planner::new(Capacity {
        frontends: sizes.frontends,
        backends: sizes.backends,
        ranges: proxy_common::limits::RANGES,
    })
}

/// One start: adopt, plan, apply. Gives the plan.
fn start(kernel: &mut Kernel, planner: &mut Planner, world: &mut World) -> Plan {
    let _ = planner.adopt(kernel.actual().unwrap());
    let plan = planner.plan(world, Tick(1));
    let outcome = kernel.apply(&plan);
    assert!(outcome.is_complete(), "{outcome:?}");
    outcome.report(&plan, planner);
    assert!(kernel.write_names(None, planner).unwrap().is_none());
    plan
}

/// The IPv4 frontends in the order of their keys.
fn frontends(kernel: &Kernel) -> Vec<(FrontendKey<Addr4>, Frontend)> {
    let mut entries = kernel.maps().v4.frontends.entries().unwrap();
    entries.sort_by_key(|(key, _)| *key);
    entries
}

/// Pin → (link id, program id).
fn links(stage: &Stage) -> BTreeMap<String, (u32, u32)> {
    let pins = Pins::below(&stage.settings.bpf_root);
    let facts = |link: &pins::PinnedLink| {
        let facts = pins::link_facts(link).unwrap();
        (link.path.file_name().unwrap().to_string_lossy().into_owned(), (facts.id, facts.program))
    };
    pins.links().unwrap().iter().map(facts).collect()
}

#[test]
fn a_restart_keeps_every_link_and_writes_nothing() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let first = start(&mut kernel, &mut planner(stage), &mut world());
        assert!(!first.v4.is_empty() && !first.v6.is_empty());
        let before = links(stage);
        let before_frontends = frontends(&kernel);
        assert_eq!(before_frontends.len(), 60 + 1 + 2, "ports and a wildcard for each address");
        assert_eq!(before.len(), 9, "{before:?}");
        drop(kernel);

        let mut kernel = stage.open();
        let second = start(&mut kernel, &mut planner(stage), &mut world());
        assert_eq!(second, Plan { next_release: second.next_release, ..Plan::default() });
        let after = links(stage);
        for (pin, (link, program)) in &before {
            assert_eq!(after[pin].0, *link, "{pin} is the same link");
            assert_ne!(after[pin].1, *program, "{pin} has a new program");
        }
        assert_eq!(frontends(&kernel), before_frontends);
        let found = 63 + 2 + 1;
        let State { adopted, kept, written, deleted, links_replaced, links_created, .. } =
            kernel.state().clone();
        assert_eq!((adopted, kept, written, deleted), (true, found, 0, 0));
        assert_eq!((links_replaced, links_created), (9, 0));
    });
}

/// The world with a load balancer of each family that serves these ranges.
fn with_ranges(v4: &[&str], v6: &[&str]) -> World {
    let mut world = world();
    let range = |text: &&str| {
        let (addr, len) = text.split_once('/').unwrap();
        Prefix { addr: addr.parse().unwrap(), len: len.parse().unwrap() }
    };
    for (name, ip, vip, ranges) in
        [("four", "10.96.0.1", "192.0.2.1", v4), ("six", "fd00::1", "2001:db8::1", v6)]
    {
        let ranged = Service {
            load_balancer: vec![vip.parse().unwrap()],
            source_ranges: ranges.iter().map(range).collect(),
            ..service(name, ip, 2)
        };
        let _ = world.apply(Event::Service(Change::Put(ranged)));
    }
    world
}

fn ranges(kernel: &Kernel) -> [Vec<String>; 2] {
    let v4 = kernel.maps().v4.ranges.entries().unwrap().into_iter();
    let v6 = kernel.maps().v6.ranges.entries().unwrap().into_iter();
    let mut all = [
        v4.map(|(key, value)| format!("{}/{} {value}", key.addr, key.bits - 32)).collect::<Vec<_>>(),
        v6.map(|(key, value)| format!("{}/{} {value}", key.addr, key.bits - 32)).collect(),
    ];
    all.iter_mut().for_each(|family| family.sort());
    all
}

#[test]
fn source_ranges_are_adopted_mended_and_let_go() {
    let v4 = ["0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/9", "198.51.100.7/32"];
    let v6 = ["::/0", "2001:db8::/33", "2001:db8::7/128"];
    on_a_node(move |stage| {
        let mut kernel = stage.open();
        start(&mut kernel, &mut planner(stage), &mut with_ranges(&v4, &v6));
        // Two ports each.
        let twice = |all: &[&str]| -> Vec<String> {
            all.iter().flat_map(|range| [format!("{range} 1"), format!("{range} 1")]).collect()
        };
        let mut expected = [twice(&v4), twice(&v6)];
        expected.iter_mut().for_each(|family| family.sort());
        assert_eq!(ranges(&kernel), expected);
        drop(kernel);

        let mut kernel = stage.open();
        let again = start(&mut kernel, &mut planner(stage), &mut with_ranges(&v4, &v6));
        assert!(again.is_empty(), "{again:?}");
        let lost = kernel.maps().v6.ranges.entries().unwrap()[0].0;
        assert!(kernel.maps().v6.ranges.remove(&lost).unwrap());
        drop(kernel);

        let mut kernel = stage.open();
        let mended = start(&mut kernel, &mut planner(stage), &mut with_ranges(&v4, &v6));
        assert_eq!((mended.v4.len(), mended.v6.len()), (0, 1), "{mended:?}");
        assert_eq!(ranges(&kernel), expected);
        let occupancy = kernel.occupancy().unwrap();
        let used = |name| occupancy.iter().find(|map| map.map == name).and_then(|map| map.used);
        assert_eq!((used("ranges4"), used("ranges6")), (Some(8), Some(6)));
        start(&mut kernel, &mut planner(stage), &mut with_ranges(&[], &v6[..1]));
        assert_eq!(ranges(&kernel), [vec![], twice(&v6[..1])]);
    });
}

#[test]
fn what_the_kernel_lost_or_has_too_much_is_mended_after_a_restart() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        start(&mut kernel, &mut planner(stage), &mut world());
        let before_frontends = frontends(&kernel);
        let (lost, value) = before_frontends[5];
        kernel.maps().v4.frontends.remove(&lost).unwrap();
        let stranger = FrontendKey { port: Port::new(9_999), ..lost };
        kernel.maps().v4.frontends.put(&stranger, &value).unwrap();
        drop(kernel);

        let mut kernel = stage.open();
        start(&mut kernel, &mut planner(stage), &mut world());
        let keys = |entries: Vec<(_, Frontend)>| entries.into_iter().map(|(key, _)| key).collect::<Vec<_>>();
        assert_eq!(keys(frontends(&kernel)), keys(before_frontends));
        let state = kernel.state().clone();
        assert_eq!((state.written, state.deleted), (1, 1), "{state:?}");
    });
}

#[test]
fn slots_and_frontends_can_be_read_without_an_agent() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        start(&mut kernel, &mut planner(stage), &mut world());
        drop(kernel);
        let pinned = pins::open(&stage.settings.bpf_root).unwrap();
        let six: Vec<_> = pinned.v6.frontends.entries().unwrap();
        let mut backends: Vec<String> = six
            .iter()
            .flat_map(|(_, frontend)| pinned.v6.segment(frontend.cluster).unwrap())
            .map(|backend| format!("[{}]:{}", backend.addr, backend.port))
            .collect();
        backends.sort();
        assert_eq!(backends, ["[fd01::1]:8001", "[fd01::1]:8002", "[fd01::2]:8001", "[fd01::2]:8002"]);
        let frontends = pinned.occupancy().unwrap().into_iter().find(|map| map.map == "frontends4").unwrap();
        assert_eq!((frontends.used, frontends.size), (Some(63), 1_000));
        assert!(pinned.counters().unwrap().iter().all(|(_, count)| *count == 0));
        let refused = pinned.v4.frontends.remove(&FrontendKey::default()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(libc::EPERM), "opened for reading");
    });
}

#[test]
fn another_size_of_the_tables_keeps_their_content() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        start(&mut kernel, &mut planner(stage), &mut world());
        let before = frontends(&kernel);
        let before_links = links(stage);
        let counted = (ServiceId(7), Tally { opened: 3, ..Tally::default() });
        kernel.maps().counts.tallies.put(&counted.0, &counted.1).unwrap();
        drop(kernel);

        stage.settings.sizes.frontends = 2_000;
        stage.settings.sizes.backends = 8_000;
        let mut kernel = stage.open();
        assert_eq!(kernel.maps().v4.frontends.raw().max_entries(), 2_000);
        assert_eq!(kernel.maps().v4.backends.count(), 8_000);
        assert_eq!(kernel.maps().counts.tallies.raw().max_entries(), 2_000);
        assert_eq!(kernel.maps().counts.tallies.entries().unwrap(), [counted]);
        let plan = start(&mut kernel, &mut planner(stage), &mut world());
        assert!(plan.is_empty(), "{plan:?}");
        assert_eq!(frontends(&kernel), before);
        let ids =
            |links: BTreeMap<String, (u32, u32)>| links.into_values().map(|(id, _)| id).collect::<Vec<_>>();
        assert_eq!(ids(links(stage)), ids(before_links));
        assert!(stage.pins("maps").iter().all(|pin| !pin.ends_with("-old")));
    });
}

#[test]
fn another_road_lets_go_of_the_hooks_that_it_does_not_need() {
    on_a_node(|stage| {
        drop(stage.open());
        assert_eq!(stage.pins("links").len(), 9);
        stage.settings.socket_road = SocketRoad::Off;
        drop(stage.open());
        assert_eq!(stage.pins("links"), Vec::<String>::new());
    });
}

#[test]
fn sockets_are_served_in_the_cgroup_that_is_named_now() {
    on_a_node(|stage| {
        use std::os::unix::fs::MetadataExt;
        drop(stage.open());
        let before = links(stage);
        let first = stage.settings.cgroup_root.clone();
        stage.settings.cgroup_root = first.join("below");
        std::fs::create_dir(&stage.settings.cgroup_root).unwrap();
        drop(stage.open());
        let inode = std::fs::metadata(&stage.settings.cgroup_root).unwrap().ino();
        let pins = Pins::below(&stage.settings.bpf_root).links().unwrap();
        let cgroups: Vec<_> = pins.iter().map(|link| pins::link_facts(link).unwrap().cgroup).collect();
        std::fs::remove_dir(&stage.settings.cgroup_root).unwrap();
        stage.settings.cgroup_root = first;
        assert_eq!(cgroups, [inode; 9]);
        assert!(links(stage).iter().all(|(pin, link)| before[pin].0 != link.0));
        // That cgroup is gone: its links are dead, and no reason not to start.
        let kernel = stage.open();
        assert_eq!(kernel.state().links_created, 9);
    });
}

#[test]
fn what_an_earlier_run_serves_is_known_by_its_frontends() {
    on_a_node(|stage| {
        let root = stage.settings.bpf_root.clone();
        assert_eq!(served::families(&root), None);
        let kernel = stage.open();
        let (four, six) = (&kernel.maps().v4.frontends, &kernel.maps().v6.frontends);
        assert_eq!(served::families(&root), None, "maps without frontends");
        six.put(&FrontendKey::wildcard(Addr6::default()), &Frontend::default()).unwrap();
        assert_eq!(served::families(&root), Some(Families::Ipv6));
        for last in 1..=600_u32 {
            four.put(&FrontendKey::wildcard(Addr4::from_word(last)), &Frontend::default()).unwrap();
        }
        assert_eq!(served::families(&root), Some(Families::Dual));
    });
}
