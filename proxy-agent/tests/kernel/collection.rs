//! Flows and affinities that are over leave the maps; the others stay.

use std::{net::Ipv4Addr, time::Instant};

use proxy_agent::kernel::{Caretaker, Collected};
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
    caretaker.collect(Instant::now()).unwrap()
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
fn a_udp_flow_ends_when_its_backend_is_gone_and_has_stopped_to_answer() {
    on_a_node(|stage| {
        let mut kernel = stage.open();
        let mut caretaker = kernel.caretaker().unwrap();
        let now = eventually("the clock's rate", || caretaker.jiffies(Instant::now()).unwrap());
        let ago = |seconds: u32| now.now.wrapping_sub(seconds * now.rate);
        let none = FlowFlags::default();
        // Service 1 leads to backend 201, Service 2 to nobody, Service 3 is not there.
        let backend = Backend::new(ip(201), Port::new(8_080), BackendFlags::LOCAL);
        let mut plan = Plan::default();
        plan.v4.push(Write::Slots { start: 7, slots: vec![backend] });
        for (service, len) in [(1, 1), (2, 0)] {
            let cluster = Segment { start: if len > 0 { 7 } else { 0 }, len };
            let value = Frontend { service: ServiceId(service), cluster, ..Frontend::default() };
            let key = FrontendKey::new(ip(96 + service as u8), Port::new(80), Proto::UDP);
            plan.v4.push(Write::PutFrontend { key, value });
        }
        assert!(kernel.apply(&plan).is_complete());
        // Client, protocol, Service, seconds since the backend (200, which is nobody's) has answered; gone?
        let cases = [
            (1, Proto::UDP, 1, 6, true),
            (2, Proto::UDP, 1, 1, false),
            (3, Proto::UDP, 2, 6, true),
            (4, Proto::UDP, 3, 6, false),
            (5, Proto::TCP, 1, 6, false),
        ];
        let put = |entries: [(FlowKey<Addr4>, Flow<Addr4>); 2], service, answered| {
            let [(forward_key, forward), (reply_key, reply)] = entries;
            let service = ServiceId(service);
            kernel.maps().v4.flows.put(&forward_key, &Flow { service, ..forward }).unwrap();
            kernel.maps().v4.flows.put(&reply_key, &Flow { service, seen: ago(answered), ..reply }).unwrap();
        };
        for (host, proto, service, answered, _) in cases {
            put(flow(host, proto, none, ago(0)), service, answered);
        }
        // The backend that Service 1 has.
        let [(key, mut forward), (mut reply_key, reply)] = flow(6, Proto::UDP, none, ago(0));
        (forward.dst, reply_key.src) = (ip(201), ip(201));
        put([(key, forward), (reply_key, reply)], 1, 60);

        assert_eq!(collect(&mut caretaker).flows, 4);
        let left =
            |host| kernel.maps().v4.flows.get(&flow(host, Proto::UDP, none, 0)[0].0).unwrap().is_some();
        let left_tcp =
            |host| kernel.maps().v4.flows.get(&flow(host, Proto::TCP, none, 0)[0].0).unwrap().is_some();
        for (host, proto, _, _, gone) in cases {
            assert_eq!(if proto == Proto::UDP { left(host) } else { left_tcp(host) }, !gone, "client {host}");
        }
        assert!(left(6));
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
