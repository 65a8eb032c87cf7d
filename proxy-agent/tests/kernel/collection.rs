//! Flows and affinities that are over leave the maps; the others stay.

use std::{net::Ipv4Addr, time::Instant};

use proxy_agent::kernel::{Caretaker, Collected, Serving};
use proxy_common::{
    Addr4, Address, AffinityKey, AffinityValue, Algorithm, Backend, BackendFlags, Flow, FlowFlags, FlowKey,
    Frontend, FrontendKey, LoadKey, Port, Proto, Segment, ServiceId, algorithm::LoadKind,
};
use proxy_model::{Plan, Write};

use crate::stage::{eventually, on_a_node};

fn ip(host: u8) -> Addr4 {
    Ipv4Addr::new(10, 0, 0, host).into()
}

/// Both entries of a translated connection from client `host`.
fn flow(host: u8, proto: Proto, flags: FlowFlags, seen: u32) -> [(FlowKey<Addr4>, Flow<Addr4>); 2] {
    let forward = FlowKey::new(ip(host), Port::new(4_000), ip(96), Port::new(80), proto);
    let reply = FlowKey::new(ip(200), Port::new(8_080), ip(host), Port::new(4_000), proto);
    let entry = |other: FlowKey<Addr4>, flags| Flow {
        src: other.dst,
        dst: other.src,
        sport: other.dport,
        dport: other.sport,
        seen,
        flags,
        ..Flow::default()
    };
    [(forward, entry(reply, flags)), (reply, entry(forward, flags.with(FlowFlags::REPLY)))]
}

fn collect(caretaker: &mut Caretaker) -> Collected {
    caretaker.collect(Instant::now(), &Serving::default()).unwrap()
}

#[test]
fn flows_go_by_their_state_and_both_directions_together() {
    on_a_node(|stage| {
        let kernel = stage.open();
        let mut caretaker = kernel.caretaker().unwrap();
        // The rate of the kernel's clock is measured, which takes a second of it.
        let now = eventually("the clock's rate", || caretaker.jiffies(Instant::now()).unwrap());
        let ago = |seconds: u32| now.now.wrapping_sub(seconds * now.rate);
        let (none, fin, rst) = (FlowFlags::default(), FlowFlags::FIN, FlowFlags::RST);
        let over = [
            flow(1, Proto::TCP, rst, ago(11)),
            flow(2, Proto::TCP, fin, ago(11)),
            flow(3, Proto::TCP, none, ago(86_401)),
            flow(4, Proto::UDP, none, ago(121)),
            flow(5, Proto::SCTP, none, ago(211)),
        ];
        let alive = [
            flow(11, Proto::TCP, none, ago(3_600)),
            flow(12, Proto::UDP, none, ago(60)),
            flow(13, Proto::TCP, rst, ago(2)),
        ];
        let flows = &kernel.maps().v4.flows;
        for (key, value) in over.iter().chain(&alive).flatten() {
            flows.put(key, value).unwrap();
        }
        // Only one side has closed: an hour.
        let [(key, open), (other_key, other)] = flow(14, Proto::TCP, none, ago(60));
        flows.put(&key, &Flow { flags: fin, ..open }).unwrap();
        flows.put(&other_key, &other).unwrap();
        // One direction has been heard of lately: both live.
        let [(fresh_key, fresh), (idle_key, idle)] = flow(15, Proto::UDP, none, ago(121));
        flows.put(&fresh_key, &Flow { seen: ago(1), ..fresh }).unwrap();
        flows.put(&idle_key, &idle).unwrap();
        // Half a flow that is old enough to be judged alone.
        let [(half_key, half), _] = flow(16, Proto::UDP, none, ago(121));
        flows.put(&half_key, &half).unwrap();
        // Never answered.
        for (key, value) in flow(17, Proto::TCP, none, ago(61)) {
            kernel.maps().v4.half_open.put(&key, &value).unwrap();
        }
        let collected = collect(&mut caretaker);
        assert_eq!(collected, Collected { flows: 11, half_open: 2, affinity: 0 });
        let mut left: Vec<_> =
            kernel.maps().v4.flows.entries().unwrap().into_iter().map(|(key, _)| key).collect();
        left.sort();
        let mut expected: Vec<_> = alive.iter().flatten().map(|(key, _)| *key).collect();
        expected.extend([key, other_key, fresh_key, idle_key]);
        expected.sort();
        assert_eq!(left, expected);
        assert_eq!(kernel.maps().v4.half_open.count().unwrap(), 0);
    });
}

#[test]
fn affinity_is_forgotten_after_its_services_own_time() {
    on_a_node(|stage| {
        let kernel = stage.open();
        let mut caretaker = kernel.caretaker().unwrap();
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime).tv_sec as u32;
        let frontend =
            |service, affinity| Frontend { service: ServiceId(service), affinity, ..Frontend::default() };
        for (host, value) in [(1, frontend(1, 10)), (2, frontend(2, 100)), (3, frontend(3, 0))] {
            kernel
                .maps()
                .v4
                .frontends
                .put(&FrontendKey::new(ip(host), Port::new(80), Proto::TCP), &value)
                .unwrap();
        }
        let key = |service| AffinityKey { service: ServiceId(service), ..AffinityKey::default() };
        for service in 1..=4 {
            let value = AffinityValue { seen: boot.wrapping_sub(20), ..AffinityValue::default() };
            kernel.maps().affinity.put(&key(service), &value).unwrap();
        }
        assert_eq!(collect(&mut caretaker).affinity, 3);
        let left: Vec<_> =
            kernel.maps().affinity.entries().unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(left, [key(2)]);
    });
}

#[test]
fn items_101_to_103_a_udp_flow_ends_when_its_backend_serves_no_more_and_has_stopped_to_answer() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let mut caretaker = kernel.caretaker().unwrap();
        let now = eventually("the clock's rate", || caretaker.jiffies(Instant::now()).unwrap());
        let ago = |seconds: u32| now.now.wrapping_sub(seconds * now.rate);
        // New flows of Service 1 go to backends 201 and 203, of Service 2 to nobody; Service 3 is not there.
        let backend = |host| Backend::new(ip(host), Port::new(8_080), BackendFlags::LOCAL);
        let mut plan = Plan::default();
        plan.v4.push(Write::Slots { start: 7, slots: vec![backend(201), backend(203)] });
        for (service, len) in [(1, 2), (2, 0)] {
            let cluster = Segment { start: if len > 0 { 7 } else { 0 }, len };
            let value = Frontend { service: ServiceId(service), cluster, ..Frontend::default() };
            let key = FrontendKey::new(ip(96 + service as u8), Port::new(80), Proto::UDP);
            plan.v4.push(Write::PutFrontend { key, value });
        }
        assert!(kernel.apply(&plan).is_complete());
        // Backend 202 drains, or hints lead past it: it serves. Backend 203 is published and does not serve.
        let servers = [201, 202].map(|host| (ip(host), Port::new(8_080)));
        let serving = Serving { v4: [(ServiceId(1), servers.into())].into(), ..Serving::default() };
        // Client, protocol, Service, backend, seconds since that has answered; gone?
        let cases = [
            (1, Proto::UDP, 1, 200, 6, true),
            (2, Proto::UDP, 1, 200, 1, false),
            (3, Proto::UDP, 1, 201, 60, false),
            (4, Proto::UDP, 1, 202, 60, false),
            (5, Proto::UDP, 1, 203, 60, false),
            // Items 102, 76, 105.
            (6, Proto::UDP, 2, 200, 6, false),
            (7, Proto::UDP, 3, 200, 6, false),
            (8, Proto::TCP, 1, 200, 6, false),
        ];
        let flows = &kernel.maps().v4.flows;
        for (host, proto, service, backend, answered, _) in cases {
            let [(key, forward), (reply_key, reply)] = flow(host, proto, FlowFlags::default(), ago(0));
            let service = ServiceId(service);
            flows.put(&key, &Flow { service, dst: ip(backend), ..forward }).unwrap();
            let reply_key = FlowKey { src: ip(backend), ..reply_key };
            flows.put(&reply_key, &Flow { service, seen: ago(answered), ..reply }).unwrap();
        }
        let collected = caretaker.collect(Instant::now(), &serving).unwrap();
        assert_eq!(collected, Collected { flows: 2, ..Collected::default() });
        let mut left: Vec<_> = flows
            .entries()
            .unwrap()
            .into_iter()
            .filter(|(_, flow)| !flow.flags.has(FlowFlags::REPLY))
            .collect();
        left.sort_by_key(|(key, _)| *key);
        let stays = cases.into_iter().filter(|(.., gone)| !gone).map(|(host, ..)| ip(host));
        assert_eq!(left.into_iter().map(|(key, _)| key.src).collect::<Vec<_>>(), stays.collect::<Vec<_>>());
    });
}

/// Sockets say when they are over; flows are counted again.
#[test]
fn connections_of_the_least_loaded_backend_are_counted_again_and_entries_of_nobody_go() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let mut caretaker = kernel.caretaker().unwrap();
        let now = eventually("the clock's rate", || caretaker.jiffies(Instant::now()).unwrap());
        let mut plan = Plan::default();
        let backend = Backend::new(ip(200), Port::new(8_080), BackendFlags::LOCAL);
        plan.v4.push(Write::Slots { start: 7, slots: vec![backend] });
        let cluster = Segment { start: 7, len: 1 };
        let algorithm = Algorithm::LEAST_CONNECTIONS;
        let value = Frontend { service: ServiceId(1), cluster, algorithm, ..Frontend::default() };
        let key = FrontendKey::new(ip(96), Port::new(80), Proto::TCP);
        plan.v4.push(Write::PutFrontend { key, value });
        assert!(kernel.apply(&plan).is_complete());

        let (none, fin) = (FlowFlags::default(), FlowFlags::FIN);
        // Two that are open, one that its client has closed, one of another Service.
        for (host, flags, service) in [(1, none, 1), (2, none, 1), (3, fin, 1), (4, none, 2)] {
            for (key, entry) in flow(host, Proto::TCP, flags, now.now) {
                let entry = Flow { service: ServiceId(service), ..entry };
                kernel.maps().v4.flows.put(&key, &entry).unwrap();
            }
        }
        let load = |host, kind| LoadKey {
            service: ServiceId(1),
            addr: ip(host).to_words(),
            port: Port::new(8_080),
            kind,
        };
        let loads = &kernel.maps().counts.loads;
        for (host, kind, count) in [
            (200, LoadKind::FLOWS, 17),
            (200, LoadKind::SOCKETS, 5),
            // Of a backend that is gone: nothing is left of the one, a socket is open of the other.
            (201, LoadKind::FLOWS, 4),
            (201, LoadKind::SOCKETS, 0),
            (202, LoadKind::SOCKETS, 1),
        ] {
            loads.put(&load(host, kind), &count).unwrap();
        }
        collect(&mut caretaker);
        let mut left = kernel.maps().counts.loads.entries().unwrap();
        left.sort();
        let mut expected = vec![
            (load(200, LoadKind::FLOWS), 2),
            (load(200, LoadKind::SOCKETS), 5),
            (load(202, LoadKind::SOCKETS), 1),
        ];
        expected.sort();
        assert_eq!(left, expected);
    });
}
