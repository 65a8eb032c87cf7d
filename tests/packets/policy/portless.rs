//! Packets that have no ports, or not their own: pings, errors, neighbours, fragments (policy items 31, 59).

use proxy_common::{
    Reason, RuleSetId,
    policy::{Effect, PolicyFlags},
};
use tests::dataplane::{Dataplane, Run, code};
use tests::icmp::{IcmpError, Wrong};
use tests::packet::{Fragment, Packet, Transport, flags};

use super::{FRIENDS, POD, RULES, enter, enter_from_node, friends, host, leave, world};
use crate::family::{FAMILIES, Names, dropped, next};

/// The pod may send friends everything, of whatever protocol, and get nothing.
fn pinging(n: &Names) -> Dataplane {
    let mut dataplane = world();
    dataplane.put_under(&host(n.client), RULES, RuleSetId::CLOSED, POD);
    dataplane.class(&host(n.backend), FRIENDS);
    dataplane.say(RULES, FRIENDS, &[], (Effect::ALLOW, 5));
    dataplane.enforce(1, PolicyFlags::default());
    dataplane
}

#[test]
fn a_ping_passes_with_its_reply_if_a_rule_allows_everything_and_nobody_pings_back() {
    for n in &FAMILIES {
        let mut dataplane = pinging(n);
        let request = Packet::new(Transport::Echo, n.client, n.backend);
        let reply = Packet::new(Transport::EchoReply, n.backend, n.client);
        assert_eq!(
            enter(&mut dataplane, &reply.bytes()),
            dropped(Reason::DeniedIngress, &reply),
            "nobody asked"
        );
        assert_eq!(leave(&mut dataplane, &request.bytes()), next(Reason::Judged, &request));
        assert_eq!(dataplane.half_open().len(), 2);
        for _ in 0..2 {
            assert_eq!(enter(&mut dataplane, &reply.bytes()), next(Reason::JudgedFlow, &reply));
            assert_eq!(leave(&mut dataplane, &request.bytes()), next(Reason::JudgedFlow, &request));
        }
        assert_eq!((dataplane.half_open().len(), dataplane.flows().len()), (0, 2));
        let back = Packet::new(Transport::Echo, n.backend, n.client);
        assert_eq!(enter(&mut dataplane, &back.bytes()), dropped(Reason::DeniedIngress, &back));
        let other = Packet::new(Transport::Echo, n.client, n.stranger);
        assert_eq!(leave(&mut dataplane, &other.bytes()), dropped(Reason::DeniedEgress, &other));
        // The rules change while the ping is running.
        dataplane.class(&host(n.backend), 0);
        dataplane.enforce(2, PolicyFlags::default());
        for _ in 0..2 {
            assert_eq!(enter(&mut dataplane, &reply.bytes()), dropped(Reason::DeniedEgress, &reply));
            assert_eq!(leave(&mut dataplane, &request.bytes()), dropped(Reason::DeniedEgress, &request));
        }
    }
}

#[test]
fn rules_about_ports_allow_no_ping() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        let request = Packet::new(Transport::Echo, n.client, n.backend);
        assert_eq!(leave(&mut dataplane, &request.bytes()), dropped(Reason::DeniedEgress, &request));
        let request = Packet::new(Transport::Echo, n.backend, n.client);
        assert_eq!(enter(&mut dataplane, &request.bytes()), dropped(Reason::DeniedIngress, &request));
    }
}

#[test]
fn policy_item_34_the_node_pings_its_pods_and_is_answered() {
    for n in &FAMILIES {
        let mut dataplane = world();
        dataplane.put_under(&host(n.client), RuleSetId::CLOSED, RuleSetId::CLOSED, POD);
        dataplane.enforce(1, PolicyFlags::default());
        let request = Packet::new(Transport::Echo, n.node, n.client);
        let reply = Packet::new(Transport::EchoReply, n.client, n.node);
        assert_eq!(enter_from_node(&mut dataplane, &request.bytes()), next(Reason::Judged, &request));
        assert_eq!(leave(&mut dataplane, &reply.bytes()), next(Reason::JudgedFlow, &reply));
        let request = Packet::new(Transport::Echo, n.client, n.node);
        assert_eq!(leave(&mut dataplane, &request.bytes()), dropped(Reason::DeniedEgress, &request));
    }
}

#[test]
fn policy_item_31_neighbours_are_found_whatever_the_policies_say() {
    let n = &FAMILIES[1];
    let mut dataplane = world();
    dataplane.put_under(&host(n.client), RuleSetId::CLOSED, RuleSetId::CLOSED, POD);
    dataplane.enforce(1, PolicyFlags::default());
    for kind in [130, 131, 132, 133, 134, 135, 136, 137, 143] {
        for (from, to) in
            [("[fe80::1]:0", "[ff02::1]:0"), (n.client, "[ff02::2]:0"), ("[::]:0", "[ff02::3]:0")]
        {
            let packet = Packet::new(Transport::Echo, from, to);
            let mut bytes = packet.bytes();
            bytes[54] = kind;
            let want = Run { reason: Reason::NoPorts, code: code::NEXT, bytes: bytes.clone() };
            assert_eq!(leave(&mut dataplane, &bytes), want, "{kind} {from}");
            assert_eq!(enter(&mut dataplane, &bytes), want, "{kind} {from}");
        }
    }
    // Others with such an address are not.
    let packet = Packet::new(Transport::Echo, "[fe80::1]:0", "[fe80::2]:0");
    assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(Reason::ForgedSource, &packet));
}

#[test]
fn an_error_about_a_packet_that_passed_passes_and_one_about_another_is_judged_by_itself() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        let router = if n.vip.starts_with('[') { "2001:db8:ff::1" } else { "198.51.100.254" };
        let (sent, got) = (Packet::udp(n.client, n.backend), Packet::udp(n.backend, n.own_backend));
        assert_eq!(leave(&mut dataplane, &sent.bytes()).reason, Reason::Judged);
        assert_eq!(enter(&mut dataplane, &got.bytes()).reason, Reason::Judged);
        for wrong in [Wrong::Port, Wrong::TooLarge(1400), Wrong::TimeExceeded] {
            let passes = |bytes: Vec<u8>| Run { reason: Reason::JudgedFlow, code: code::NEXT, bytes };
            let error = IcmpError::new(wrong, router, &sent).bytes();
            assert_eq!(enter(&mut dataplane, &error), passes(error));
            let error = IcmpError::new(wrong, &host(n.own_backend), &got).bytes();
            assert_eq!(leave(&mut dataplane, &error), passes(error));
            let other = sent.between(n.client, n.other_backend);
            let error = IcmpError::new(wrong, router, &other).bytes();
            let want = Run { reason: Reason::DeniedIngress, code: code::DROP, bytes: error.clone() };
            assert_eq!(enter(&mut dataplane, &error), want);
        }
    }
}

#[test]
fn an_error_about_the_first_packet_of_a_connection_passes_if_that_packet_may() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        let router = if n.vip.starts_with('[') { "2001:db8:ff::1" } else { "198.51.100.254" };
        let syn = Packet::tcp(flags::SYN, n.client, n.backend);
        assert_eq!(leave(&mut dataplane, &syn.bytes()), next(Reason::Judged, &syn));
        for (to, reason, code) in [
            (n.backend, Reason::JudgedFlow, code::NEXT),
            (n.other_backend, Reason::DeniedIngress, code::DROP),
        ] {
            let bytes = IcmpError::new(Wrong::Port, router, &syn.between(n.client, to)).bytes();
            let want = Run { reason, code, bytes: bytes.clone() };
            assert_eq!(enter(&mut dataplane, &bytes), want, "{to}");
        }
        assert_eq!(dataplane.denials().into_values().sum::<u64>(), 1, "of the error, not of what it quotes");
    }
}

#[test]
fn later_fragments_go_with_the_first_and_not_without_it() {
    for n in &FAMILIES {
        let piece = |to: &str, fragment, transport| {
            let payload = vec![7; 64];
            Packet { fragment: Some(fragment), payload, ..Packet::new(transport, n.client, to) }
        };
        let first = |to| piece(to, Fragment::First, Transport::Udp);
        let last = |to| piece(to, Fragment::Later(72), Transport::UdpRest);
        let mut dataplane = friends(n);
        assert_eq!(leave(&mut dataplane, &first(n.backend).bytes()), next(Reason::Judged, &first(n.backend)));
        let rest = last(n.backend);
        assert_eq!(leave(&mut dataplane, &rest.bytes()), next(Reason::JudgedFlow, &rest));
        for to in [n.stranger, n.other_backend] {
            let (first, rest) = (first(to), last(to));
            assert_eq!(leave(&mut dataplane, &first.bytes()), dropped(Reason::DeniedEgress, &first));
            assert_eq!(leave(&mut dataplane, &rest.bytes()), dropped(Reason::DeniedEgress, &rest));
        }
        // To a pod whose first fragment never came.
        let stray = Packet {
            fragment: Some(Fragment::Later(72)),
            payload: vec![7; 64],
            ..Packet::new(Transport::UdpRest, n.backend, n.own_backend)
        };
        assert_eq!(enter(&mut dataplane, &stray.bytes()), dropped(Reason::DeniedIngress, &stray));
    }
}
