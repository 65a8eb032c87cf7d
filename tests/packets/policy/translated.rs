//! Connections to Services: judged by the client's own address and the backend that was chosen, once.

use proxy_common::{ClientRule, Frontend, Proto, Reason, RuleSetId, policy::PolicyFlags};
use tests::dataplane::{Dataplane, Hook};
use tests::packet::{Packet, flags};

use super::{
    FRIENDS, NOBODY, OTHER, OTHER_RULES, POD, RULE, RULES, WIRE, arrive, friends, host, leave, world,
};
use crate::family::{FAMILIES, Names, dropped, next, other_port};
use tests::policy::allow;

fn opening(from: &str, to: &str) -> [Packet; 2] {
    [Packet::tcp(flags::SYN, from, to), Packet::udp(from, to)]
}

fn serve(dataplane: &mut Dataplane, n: &Names, backend: &str, change: fn(&mut Frontend)) {
    for proto in [Proto::TCP, Proto::UDP] {
        dataplane.serve(proto, n.vip, &[backend], change);
    }
}

#[test]
fn policy_items_29_and_37_a_pod_reaches_a_service_if_it_may_reach_the_backend_at_the_backends_port() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        serve(&mut dataplane, n, n.backend, |_| {});
        for packet in opening(n.client, n.vip) {
            let translated = packet.between(n.client, n.backend);
            assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::ServiceNew, &translated));
            assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::FlowForward, &translated));
        }
        // The Service's own address has no part in it, nor its port; and of what is denied nothing stays.
        for (backend, peer) in [(n.other_backend, n.vip), (n.vip_other_port, n.backend)] {
            dataplane.forget_flows();
            dataplane.put_under(&host(n.client), OTHER_RULES, RuleSetId::OPEN, POD);
            for known in [n.backend, n.other_backend, n.vip] {
                dataplane.class(&host(known), if known == peer { FRIENDS } else { 0 });
            }
            let says: Vec<_> = [80, 8080].map(|port| allow(Proto::TCP, port, port, RULE)).into();
            dataplane.say(OTHER_RULES, FRIENDS, &says, NOBODY);
            serve(&mut dataplane, n, backend, |_| {});
            for packet in opening(n.client, n.vip) {
                assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(Reason::DeniedEgress, &packet));
            }
            assert_eq!((dataplane.half_open(), dataplane.flows()), (vec![], vec![]));
        }
    }
}

/// The policed pod is the backend of a Service that masquerades its clients; friends may ask it.
fn behind_a_service(n: &Names, friend: &str) -> Dataplane {
    let mut dataplane = world();
    dataplane.put_under(&host(n.own_backend), RuleSetId::OPEN, RULES, POD);
    dataplane.class(&host(friend), FRIENDS);
    let says: Vec<_> = [Proto::TCP, Proto::UDP].map(|proto| allow(proto, 8080, 8080, RULE)).into();
    dataplane.say(RULES, FRIENDS, &says, NOBODY);
    dataplane.enforce(1, PolicyFlags::default());
    let backend = format!("{}*", n.own_backend);
    serve(&mut dataplane, n, &backend, |frontend| frontend.rules = [ClientRule::MASQUERADE; 3]);
    dataplane
}

#[test]
fn policy_item_38_a_masqueraded_client_is_judged_by_its_own_address_and_not_by_the_nodes() {
    for n in &FAMILIES {
        let mut dataplane = behind_a_service(n, n.outside);
        for packet in opening(n.outside, n.vip) {
            let translated = packet.between(n.node, n.own_backend);
            assert_eq!(arrive(&mut dataplane, &packet.bytes()), next(Reason::ServiceNew, &translated));
            // Through the stack to the pod: what the translation has made of it is not judged again.
            let at = Hook { device: POD, arrived_by: WIRE };
            let run = dataplane.run_at("to_pod", at, &translated.bytes());
            let why = Reason::NotAService;
            assert_eq!(run, next(why, &translated));
            let answer = translated.between(n.own_backend, n.node);
            let answer = if packet.transport == tests::packet::Transport::Udp {
                answer
            } else {
                Packet::tcp(flags::SYN_ACK, n.own_backend, n.node)
            };
            let shown = answer.between(n.vip, n.outside);
            assert_eq!(leave(&mut dataplane, &answer.bytes()), next(Reason::FlowReply, &shown));
        }
        let data = Packet::tcp(flags::ACK, n.node, n.own_backend).with_payload(b"data");
        let run = dataplane.run_at("to_pod", Hook { device: POD, arrived_by: WIRE }, &data.bytes());
        assert_eq!(run, next(Reason::MidStream, &data), "nor is what follows");

        // The node's address is no key: not for clients that are masqueraded here, nor for those of another node.
        dataplane.forget_flows();
        dataplane.class(&host(n.outside), 0);
        dataplane.class(&host(n.node), FRIENDS);
        for packet in opening(n.outside, n.vip) {
            assert_eq!(arrive(&mut dataplane, &packet.bytes()), dropped(Reason::DeniedIngress, &packet));
        }
        assert_eq!((dataplane.half_open(), dataplane.flows()), (vec![], vec![]));
    }
}

/// The backend's own node, or whatever judges behind this one, has nothing but that address to go by.
#[test]
fn a_client_whose_port_is_taken_is_judged_by_its_own_address_and_keeps_it() {
    for n in &FAMILIES {
        let mut dataplane = behind_a_service(n, n.outside);
        let backend = format!("{}*", n.own_backend);
        for vip in [n.vip, n.vip_other_port] {
            for proto in [Proto::TCP, Proto::UDP] {
                dataplane.serve(proto, vip, &[&backend], |_| {});
            }
        }
        for packet in opening(n.outside, n.vip) {
            let translated = packet.between(n.outside, n.own_backend);
            assert_eq!(arrive(&mut dataplane, &packet.bytes()), next(Reason::ServiceNew, &translated));
        }
        for packet in opening(n.outside, n.vip_other_port) {
            let run = arrive(&mut dataplane, &packet.bytes());
            let translated = packet.between(&other_port(&run, n.outside), n.own_backend);
            assert_eq!(run, next(Reason::ServiceNew, &translated));
            let at = Hook { device: POD, arrived_by: WIRE };
            let run = dataplane.run_at("to_pod", at, &translated.bytes());
            assert_eq!(run, next(Reason::NotAService, &translated), "it was judged");
        }
        // Nor is what it would be told apart by a way around the rules.
        let mut dataplane = behind_a_service(n, n.outside);
        for vip in [n.vip, n.vip_other_port] {
            dataplane.serve(Proto::TCP, vip, &[&backend], |_| {});
        }
        arrive(&mut dataplane, &Packet::tcp(flags::SYN, n.outside, n.vip).bytes());
        dataplane.class(&host(n.outside), 0);
        dataplane.class(&host(n.node), FRIENDS);
        let packet = Packet::tcp(flags::SYN, n.outside, n.vip_other_port);
        assert_eq!(arrive(&mut dataplane, &packet.bytes()), dropped(Reason::DeniedIngress, &packet));
    }
}

#[test]
fn policy_item_61_a_pod_that_reaches_itself_through_a_service_is_judged() {
    for n in &FAMILIES {
        let mut dataplane = behind_a_service(n, n.client);
        for (class, passes) in [(FRIENDS, true), (0, false)] {
            dataplane.forget_flows();
            dataplane.class(&host(n.client), class);
            for packet in opening(n.client, n.vip) {
                let translated = packet.between(n.node, n.own_backend);
                let want = if passes {
                    next(Reason::ServiceNew, &translated)
                } else {
                    dropped(Reason::DeniedIngress, &packet)
                };
                assert_eq!(leave(&mut dataplane, &packet.bytes()), want);
            }
        }
    }
}

#[test]
fn policy_item_34_the_node_reaches_a_service_of_its_pods_also_when_the_rules_change() {
    for n in &FAMILIES {
        let config = proxy_common::DatapathConfig { node_packets: 1, ..tests::dataplane::config() };
        let mut dataplane = Dataplane::new(config);
        tests::dataplane::ip(&format!("link add name pod index {POD} type veth peer name peer"));
        dataplane.put_under(&host(n.own_backend), RuleSetId::CLOSED, RuleSetId::CLOSED, POD);
        dataplane.enforce(1, PolicyFlags::default());
        serve(&mut dataplane, n, n.own_backend, |_| {});
        let packet = Packet::udp(n.node, n.vip);
        let translated = packet.between(n.node, n.own_backend);
        assert_eq!(dataplane.run("to_wire", &packet.bytes()), next(Reason::ServiceNew, &translated));
        let answer = packet.between(n.own_backend, n.node);
        for epoch in [1, 2] {
            dataplane.enforce(epoch, PolicyFlags::default());
            let shown = answer.between(n.vip, n.node);
            assert_eq!(leave(&mut dataplane, &answer.bytes()), next(Reason::FlowReply, &shown));
        }
    }
}

#[test]
fn a_backend_on_the_same_node_is_judged_where_its_client_sends() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        dataplane.class(&host(n.client), FRIENDS);
        serve(&mut dataplane, n, n.backend, |_| {});
        for (ingress, reason) in
            [(OTHER_RULES, Reason::ServiceNew), (RuleSetId::CLOSED, Reason::DeniedIngress)]
        {
            dataplane.forget_flows();
            dataplane.put_under(&host(n.backend), RuleSetId::CLOSED, ingress, OTHER);
            for packet in opening(n.client, n.vip) {
                assert_eq!(leave(&mut dataplane, &packet.bytes()).reason, reason);
            }
        }
    }
}
