//! New connections that are not translated.

use std::collections::BTreeMap;

use proxy_common::{
    Reason, RuleSetId,
    policy::{Effect, PolicyFlags},
};
use tests::packet::{Packet, Transport, flags};
use tests::policy::Half;

use super::{
    FRIENDS, NOBODY, OTHER, OTHER_RULES, POD, RULES, enter, enter_from_node, friends, host, leave,
    plain_entries, world,
};
use crate::family::{FAMILIES, dropped, next};

fn opening(from: &str, to: &str) -> [(Packet, &'static str); 3] {
    [
        (Packet::tcp(flags::SYN, from, to), "TCP"),
        (Packet::udp(from, to), "UDP"),
        (Packet::new(Transport::Sctp, from, to), "SCTP"),
    ]
}

/// What the next packet in the same direction counts as: TCP's first makes no entry (decision 0025).
fn repeated(packet: &Packet) -> Reason {
    if is_tcp(packet) { Reason::Judged } else { Reason::JudgedFlow }
}

/// What the first answer counts as: of TCP it is judged.
fn answered(packet: &Packet) -> Reason {
    repeated(packet)
}

fn is_tcp(packet: &Packet) -> bool {
    matches!(packet.transport, Transport::Tcp(_))
}

/// What stands in `halfopen` after the first packet of a connection.
fn unanswered(packet: &Packet, client: &str, server: &str, proto: &str) -> Vec<String> {
    if is_tcp(packet) { Vec::new() } else { plain_entries(client, server, proto) }
}

/// Both entries once the server has answered: of TCP the client's is brief until it says more.
fn answered_entries(client: &str, server: &str, proto: &str) -> Vec<String> {
    let entries = plain_entries(client, server, proto).into_iter();
    let brief = |line: String| if proto == "TCP" { line.replace("{plain}", "{brief, plain}") } else { line };
    entries.map(brief).collect()
}

fn answer(packet: &Packet) -> Packet {
    let (from, to) = (packet.to.to_string(), packet.from.to_string());
    match packet.transport {
        Transport::Tcp(_) => Packet::tcp(flags::SYN_ACK, &from, &to),
        Transport::Udp
        | Transport::UdpUnsummed
        | Transport::Sctp
        | Transport::SctpUnsummed
        | Transport::UdpRest
        | Transport::Echo
        | Transport::EchoReply => packet.between(&from, &to),
    }
}

#[test]
fn policy_items_2_and_6_what_an_isolated_pod_may_send_passes_with_its_answers_and_nothing_else_does() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        for (packet, proto) in opening(n.client, n.backend) {
            dataplane.forget_flows();
            assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::Judged, &packet));
            assert_eq!(dataplane.half_open(), unanswered(&packet, n.client, n.backend, proto));
            assert_eq!(leave(&mut dataplane, &packet.bytes()), next(repeated(&packet), &packet));
            let answer = answer(&packet);
            assert_eq!(enter(&mut dataplane, &answer.bytes()), next(answered(&packet), &answer));
            assert_eq!(dataplane.half_open(), [""; 0]);
            assert_eq!(dataplane.flows(), answered_entries(n.client, n.backend, proto));
            for packet in [&packet, &answer] {
                let hook = if packet.from == answer.from { enter } else { leave };
                assert_eq!(hook(&mut dataplane, &packet.bytes()), next(Reason::JudgedFlow, packet));
            }
            assert_eq!(dataplane.denials(), BTreeMap::new());
        }
        for to in [n.other_backend, n.stranger, &n.backend.replace("8080", "8091")] {
            dataplane.forget_flows();
            for (packet, _) in opening(n.client, to) {
                assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(Reason::DeniedEgress, &packet));
            }
            assert_eq!(dataplane.half_open(), [""; 0]);
        }
        assert_eq!(dataplane.denials(), BTreeMap::from([((RULES, 0), 9)]));
    }
}

#[test]
fn policy_items_2_and_6_what_an_isolated_pod_may_get_passes_with_its_answers_and_nothing_else_does() {
    for n in &FAMILIES {
        let (friend, enemy) = (n.backend, n.stranger);
        let mut dataplane = friends(n);
        for (packet, proto) in opening(friend, n.own_backend) {
            dataplane.forget_flows();
            assert_eq!(enter(&mut dataplane, &packet.bytes()), next(Reason::Judged, &packet));
            assert_eq!(dataplane.half_open(), unanswered(&packet, friend, n.own_backend, proto));
            let answer = answer(&packet);
            assert_eq!(leave(&mut dataplane, &answer.bytes()), next(answered(&packet), &answer));
            assert_eq!(dataplane.flows(), answered_entries(friend, n.own_backend, proto));
            assert_eq!(enter(&mut dataplane, &packet.bytes()), next(Reason::JudgedFlow, &packet));
        }
        dataplane.forget_flows();
        for (packet, _) in opening(enemy, n.own_backend) {
            assert_eq!(enter(&mut dataplane, &packet.bytes()), dropped(Reason::DeniedIngress, &packet));
        }
        assert_eq!(dataplane.denials(), BTreeMap::from([((OTHER_RULES, 0), 3)]));
        assert_eq!(dataplane.half_open(), [""; 0]);
    }
}

#[test]
fn policy_item_36_what_a_pod_may_send_nobody_may_send_back_on_his_own() {
    for n in &FAMILIES {
        let mut dataplane = world();
        dataplane.put_under(&host(n.client), RuleSetId::OPEN, RULES, POD);
        dataplane.say(RULES, 0, &[], NOBODY);
        dataplane.enforce(1, PolicyFlags::default());
        for (packet, _) in opening(n.client, n.backend) {
            assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::Judged, &packet));
        }
        let from = n.backend.replace("8080", "8081");
        for (packet, _) in opening(&from, n.client) {
            assert_eq!(enter(&mut dataplane, &packet.bytes()), dropped(Reason::DeniedIngress, &packet));
        }
    }
}

#[test]
fn an_answer_is_judged_as_the_answer_to_what_it_answers_and_a_reset_is_not_remembered() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        let from = |from: &str, to: &str, flags| Packet::tcp(flags, from, to);
        // Nobody has asked, but somebody may.
        for (packet, want) in [
            (from(n.backend, n.client, flags::RST), Reason::Judged),
            (from(n.stranger, n.client, flags::RST), Reason::DeniedIngress),
            (from(n.stranger, n.client, flags::SYN_ACK), Reason::DeniedEgress),
        ] {
            let want = if want == Reason::Judged { next(want, &packet) } else { dropped(want, &packet) };
            assert_eq!(enter(&mut dataplane, &packet.bytes()), want);
            assert_eq!((dataplane.flows(), dataplane.half_open()), (vec![], vec![]));
        }
        // The client may not be asked at its port, whatever the server has said before.
        let syn_ack = from(n.backend, n.client, flags::SYN_ACK);
        assert_eq!(enter(&mut dataplane, &syn_ack.bytes()), next(Reason::Judged, &syn_ack));
        assert_eq!(dataplane.flows(), answered_entries(n.client, n.backend, "TCP"));
        let data = from(n.backend, n.client, flags::ACK);
        assert_eq!(enter(&mut dataplane, &data.bytes()), next(Reason::JudgedFlow, &data));
        let syn = from(n.backend, n.client, flags::SYN);
        assert_eq!(enter(&mut dataplane, &syn.bytes()), dropped(Reason::DeniedIngress, &syn));
        // Its own connection goes on.
        let data = from(n.client, n.backend, flags::ACK);
        assert_eq!(leave(&mut dataplane, &data.bytes()), next(Reason::JudgedFlow, &data));
        // And is one only now.
        assert_eq!(dataplane.flows(), plain_entries(n.client, n.backend, "TCP"));
    }
}

#[test]
fn both_ends_on_one_node_are_judged_where_the_packet_is_sent() {
    let cases = [
        (RuleSetId::OPEN, RuleSetId::OPEN, Reason::Judged),
        (RULES, RuleSetId::OPEN, Reason::Judged),
        (RuleSetId::OPEN, RULES, Reason::Judged),
        (RULES, RULES, Reason::Judged),
        (RuleSetId::CLOSED, RULES, Reason::DeniedEgress),
        (RULES, RuleSetId::CLOSED, Reason::DeniedIngress),
        (RuleSetId::CLOSED, RuleSetId::CLOSED, Reason::DeniedEgress),
    ];
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        dataplane.class(&host(n.client), FRIENDS);
        for (egress, ingress, expected) in cases {
            dataplane.forget_flows();
            dataplane.put_under(&host(n.client), egress, RuleSetId::CLOSED, POD);
            dataplane.put_under(&host(n.backend), RuleSetId::CLOSED, ingress, OTHER);
            for (packet, _) in opening(n.client, n.backend) {
                let want = if expected == Reason::Judged {
                    next(expected, &packet)
                } else {
                    dropped(expected, &packet)
                };
                assert_eq!(leave(&mut dataplane, &packet.bytes()), want, "{egress:?} {ingress:?}");
            }
        }
    }
}

#[test]
fn policy_item_34_the_node_reaches_its_pods_and_is_answered_whatever_the_policies_say() {
    for n in &FAMILIES {
        let mut dataplane = world();
        dataplane.put_under(&host(n.client), RuleSetId::CLOSED, RuleSetId::CLOSED, POD);
        dataplane.enforce(1, PolicyFlags::default());
        for (packet, _) in opening(n.node, n.own_backend) {
            assert_eq!(enter_from_node(&mut dataplane, &packet.bytes()).code, -1);
            let answer = answer(&packet);
            assert_eq!(leave(&mut dataplane, &answer.bytes()), next(Reason::JudgedFlow, &answer));
            assert_eq!(enter_from_node(&mut dataplane, &packet.bytes()), next(Reason::JudgedFlow, &packet));
            // The same from another host.
            let from = n.node.replace(":40000", ":40001");
            let packet = packet.between(&from, n.own_backend);
            assert_eq!(enter(&mut dataplane, &packet.bytes()), dropped(Reason::DeniedIngress, &packet));
            // And to the node: it is a peer as any.
            let packet = packet.between(n.client, n.host_backend);
            assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(Reason::DeniedEgress, &packet));
        }
    }
}

#[test]
fn a_pod_sends_with_its_own_address_or_not_at_all() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        dataplane.put_under(&host(n.other_backend), RuleSetId::OPEN, RuleSetId::OPEN, OTHER);
        for (packet, _) in
            opening(n.other_backend, n.backend).into_iter().chain(opening(n.stranger, n.backend))
        {
            assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(Reason::ForgedSource, &packet));
        }
        // Nor does a pod without a policy send with the address of one that has one.
        for (packet, _) in opening(n.client, n.backend) {
            let run = dataplane.run_on("from_pod", 1, &packet.bytes());
            assert_eq!(run, dropped(Reason::ForgedSource, &packet));
            assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::Judged, &packet));
            let run = dataplane.run_on("from_pod", 1, &packet.bytes());
            assert_eq!(run, dropped(Reason::ForgedSource, &packet), "in a connection that is known");
        }
        assert_eq!(dataplane.half_open().len(), 4, "whoever's connection it is keeps it");
    }
}

#[test]
fn policy_item_52_a_rule_that_denies_is_counted_under_its_name_and_pages_are_searched() {
    use proxy_common::Proto;
    use tests::policy::{allow, deny};
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        // Forty intervals: six pages.
        let says: Vec<_> = (0..40_u16)
            .map(|i| {
                if i % 2 == 0 {
                    deny(Proto::TCP, i * 10, i * 10 + 3, 100 + u64::from(i))
                } else {
                    allow(Proto::TCP, i * 10, i * 10, 200)
                }
            })
            .collect();
        dataplane.say(RULES, FRIENDS, &says, (Effect::ALLOW, 7));
        for port in 1..=402_u16 {
            let packet = Packet::tcp(flags::SYN, n.client, &n.backend.replace("8080", &port.to_string()));
            let (interval, offset) = (port / 10, port % 10);
            let denied = interval < 40 && interval % 2 == 0 && offset <= 3;
            let want =
                if denied { dropped(Reason::DeniedEgress, &packet) } else { next(Reason::Judged, &packet) };
            assert_eq!(leave(&mut dataplane, &packet.bytes()), want, "{port}");
        }
        let counted: Vec<_> = dataplane.denials().into_values().collect();
        assert_eq!(counted, [vec![3], vec![4; 19]].concat());
    }
}

#[test]
fn policy_items_20_to_22_the_longest_prefix_says_who_an_address_is_unless_it_has_a_class_of_its_own() {
    for (n, (wide, narrow)) in
        FAMILIES.iter().zip([("10.0.0.0/8", "10.244.2.4/32"), ("fd00::/8", "fd00:244:2::4/128")])
    {
        let mut dataplane = friends(n);
        dataplane.class(&host(n.backend), 0);
        dataplane.block(wide, FRIENDS);
        dataplane.block(narrow, 0);
        for flags in [PolicyFlags::BLOCKS4.with(PolicyFlags::BLOCKS6), PolicyFlags::default()] {
            dataplane.enforce(1, flags);
            for (to, in_block) in
                [(n.backend, false), (n.other_backend, false), (n.own_backend, true), (n.host_backend, false)]
            {
                let to = to.replace("10.244.1.2", "10.244.3.9").replace("fd00:244:1::2", "fd00:244:3::9");
                // One port per run, so that no entry answers for the rules.
                let from = n
                    .client
                    .replace("40000", if flags == PolicyFlags::default() { "40001" } else { "40000" });
                let packet = Packet::udp(&from, &to);
                let passes = in_block && flags != PolicyFlags::default()
                    || to.starts_with("[fd00:168") && flags != PolicyFlags::default();
                let want = if passes {
                    next(Reason::Judged, &packet)
                } else {
                    dropped(Reason::DeniedEgress, &packet)
                };
                assert_eq!(leave(&mut dataplane, &packet.bytes()), want, "{to}");
            }
        }
    }
}

#[test]
fn policy_item_2_what_is_left_of_a_connection_lets_no_other_one_in() {
    for n in &FAMILIES {
        let (friend, enemy) = (n.backend, 0);
        let mut dataplane = friends(n);
        let syn = Packet::tcp(flags::SYN, friend, n.own_backend);
        let syn_ack = Packet::tcp(flags::SYN_ACK, n.own_backend, friend);
        assert_eq!(enter(&mut dataplane, &syn.bytes()).reason, Reason::Judged);
        assert_eq!(leave(&mut dataplane, &syn_ack.bytes()).reason, Reason::Judged);
        dataplane.class(&host(friend), enemy);
        dataplane.enforce(2, PolicyFlags::default());
        dataplane.forget_half(Half::Requests);
        assert_eq!(enter(&mut dataplane, &syn.bytes()), dropped(Reason::DeniedIngress, &syn));
    }
}

#[test]
fn policy_item_6_an_answer_without_its_entry_passes_by_that_of_what_it_answers() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        let syn = Packet::tcp(flags::SYN, n.client, n.backend);
        let syn_ack = Packet::tcp(flags::SYN_ACK, n.backend, n.client);
        assert_eq!(leave(&mut dataplane, &syn.bytes()).reason, Reason::Judged);
        assert_eq!(enter(&mut dataplane, &syn_ack.bytes()).reason, Reason::Judged);
        dataplane.forget_half(Half::Answers);
        let data = Packet::tcp(flags::ACK, n.backend, n.client).with_payload(b"data");
        assert_eq!(enter(&mut dataplane, &data.bytes()), next(Reason::MidStream, &data));
    }
}
