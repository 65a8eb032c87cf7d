//! Pings of Services' addresses (item 54).

use proxy_common::{ClientRule, DatapathConfig, Frontend, FrontendFlags, FrontendKey, Proto, Reason, V4, V6};
use tests::dataplane::{Dataplane, Run, code, config, endpoint};
use tests::object::{self, Cell};
use tests::packet::{Link, Packet, Transport};

use crate::family::{FAMILIES, Names, dropped, next};

fn ping(from: &str, to: &str) -> Packet {
    Packet::new(Transport::Echo, from, to).with_payload(b"are you there?")
}

/// The answer, with the request's count of routers.
fn pong(ping: &Packet) -> Run {
    let link = Link { to: ping.link.from, from: ping.link.to };
    let reply =
        Packet { transport: Transport::EchoReply, link, from: ping.to, to: ping.from, ..ping.clone() };
    Run { reason: Reason::Echo, code: code::REDIRECT, bytes: reply.bytes() }
}

/// Says of the frontend's address that somebody is behind it, as the agent does.
fn answer_pings(dataplane: &mut Dataplane, n: &Names, flags: FrontendFlags) {
    let owner = Frontend { flags: flags.with(FrontendFlags::ECHO), ..Frontend::default() };
    if n.vip.starts_with('[') {
        let key = FrontendKey::wildcard(endpoint::<V6>(n.vip).0);
        object::hash(dataplane.object(), "frontends6").insert(Cell(key), Cell(owner), 0).expect("it fits");
    } else {
        let key = FrontendKey::wildcard(endpoint::<V4>(n.vip).0);
        object::hash(dataplane.object(), "frontends4").insert(Cell(key), Cell(owner), 0).expect("it fits");
    }
}

#[test]
fn a_service_with_a_backend_answers_whoever_asks_on_either_road() {
    for n in &FAMILIES {
        for pod_packets in [0, 1] {
            let mut dataplane = Dataplane::new(DatapathConfig { pod_packets, ..config() });
            dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
            for flags in [FrontendFlags::WILDCARD, FrontendFlags::EXTERNAL] {
                answer_pings(&mut dataplane, n, flags);
                let asked = ping(n.client, n.vip);
                assert_eq!(dataplane.run("from_pod", &asked.bytes()), pong(&asked));
                let asked = ping(n.outside, n.vip);
                assert_eq!(dataplane.run("from_wire", &asked.bytes()), pong(&asked));
                let asked = ping(n.node, n.vip);
                assert_eq!(dataplane.run("to_wire", &asked.bytes()), pong(&asked));
            }
            assert_eq!(dataplane.half_open(), [""; 0]);
        }
    }
}

#[test]
fn a_cluster_address_whose_entry_does_not_say_so_is_unreachable_by_ping() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[], |frontend| frontend.rules = [ClientRule::CLUSTER; 3]);
        let asked = ping(n.client, n.vip);
        let run = dataplane.run("from_pod", &asked.bytes());
        let bytes = asked.port_unreachable();
        assert_eq!(run, Run { reason: Reason::UnknownPort, code: code::REDIRECT, bytes });
    }
}

#[test]
fn an_address_that_no_service_owns_is_silent() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        let asked = ping(n.client, n.unowned);
        assert_eq!(dataplane.run("from_pod", &asked.bytes()), dropped(Reason::UnallocatedAddress, &asked));
    }
}

#[test]
fn pings_of_nodes_and_of_strangers_and_answers_to_pings_pass() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        answer_pings(&mut dataplane, n, FrontendFlags::WILDCARD);
        for to in [n.node, n.stranger, n.backend] {
            let asked = ping(n.client, to);
            assert_eq!(dataplane.run("from_pod", &asked.bytes()), next(Reason::NoPorts, &asked));
        }
        let reply = Packet { transport: Transport::EchoReply, ..ping(n.client, n.vip) };
        assert_eq!(dataplane.run("from_pod", &reply.bytes()), next(Reason::NoPorts, &reply));
    }
}

#[test]
fn who_is_no_one_host_gets_no_answer() {
    for (n, many) in FAMILIES.iter().zip(["224.0.0.9:1", "[ff02::9]:1"]) {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        answer_pings(&mut dataplane, n, FrontendFlags::WILDCARD);
        let asked = ping(many, n.vip);
        assert_eq!(dataplane.run("from_pod", &asked.bytes()), dropped(Reason::RewriteFailed, &asked));
    }
}
