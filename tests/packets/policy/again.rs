//! Connections that are older than the rules of now.

use proxy_common::{Proto, Reason, RuleSetId, policy::PolicyFlags};
use tests::packet::{Packet, flags};

use super::{FRIENDS, OTHER_RULES, POD, arrive, enter, friends, host, leave, plain_entries, world};
use crate::family::{FAMILIES, dropped, next};

#[test]
fn policy_item_41_a_change_cuts_the_connections_that_it_denies_and_no_other() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        for (epoch, opened) in [(1, true), (4, false)] {
            dataplane.class(&host(n.backend), FRIENDS);
            dataplane.enforce(epoch, PolicyFlags::default());
            let syn = Packet::tcp(flags::SYN, n.client, n.backend);
            let syn_ack = Packet::tcp(flags::SYN_ACK, n.backend, n.client);
            let [sent, got] = [(n.client, n.backend), (n.backend, n.client)]
                .map(|(from, to)| Packet::tcp(flags::ACK, from, to).with_payload(b"data"));
            assert_eq!(leave(&mut dataplane, &syn.bytes()).reason, Reason::Judged);
            if opened {
                assert_eq!(enter(&mut dataplane, &syn_ack.bytes()).reason, Reason::Judged);
            }
            // Of what was not answered nothing is remembered: it is judged by the rules of now.
            let passes = if opened { Reason::JudgedFlow } else { Reason::Judged };
            let (sent, got) = if opened { (sent, got) } else { (syn, syn_ack) };
            dataplane.enforce(epoch + 1, PolicyFlags::default());
            for _ in 0..2 {
                assert_eq!(leave(&mut dataplane, &sent.bytes()), next(passes, &sent));
            }
            // The pod loses its friend: no packet passes any more, whichever way it goes.
            dataplane.class(&host(n.backend), 0);
            dataplane.enforce(epoch + 2, PolicyFlags::default());
            for _ in 0..2 {
                assert_eq!(enter(&mut dataplane, &got.bytes()), dropped(Reason::DeniedEgress, &got));
                assert_eq!(leave(&mut dataplane, &sent.bytes()), dropped(Reason::DeniedEgress, &sent));
            }
            // They are friends again.
            dataplane.class(&host(n.backend), FRIENDS);
            dataplane.enforce(epoch + 3, PolicyFlags::default());
            assert_eq!(leave(&mut dataplane, &sent.bytes()), next(passes, &sent));
            dataplane.forget_flows();
        }
    }
}

#[test]
fn policy_item_41_a_translated_connection_is_judged_again_by_its_client_and_its_backend() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        assert_eq!(leave(&mut dataplane, &syn.bytes()).reason, Reason::ServiceNew);
        let syn_ack = Packet::tcp(flags::SYN_ACK, n.backend, n.client);
        assert_eq!(
            arrive(&mut dataplane, &syn_ack.bytes()),
            next(Reason::FlowReply, &syn_ack.between(n.vip, n.client))
        );
        dataplane.enforce(2, PolicyFlags::default());
        let data = Packet::tcp(flags::ACK, n.backend, n.client);
        assert_eq!(
            arrive(&mut dataplane, &data.bytes()),
            next(Reason::FlowReply, &data.between(n.vip, n.client))
        );
        dataplane.class(&host(n.backend), 0);
        dataplane.enforce(3, PolicyFlags::default());
        for _ in 0..2 {
            assert_eq!(arrive(&mut dataplane, &data.bytes()), dropped(Reason::DeniedEgress, &data));
        }
    }
}

#[test]
fn policy_item_41_a_connection_that_is_cut_does_not_go_on_as_the_answer_to_another() {
    for n in &FAMILIES {
        // The pod may send what it likes, so an answer of it to its old friend would pass.
        let mut dataplane = friends(n);
        dataplane.put_under(&host(n.client), RuleSetId::OPEN, OTHER_RULES, POD);
        let syn = Packet::tcp(flags::SYN, n.backend, n.own_backend);
        let syn_ack = Packet::tcp(flags::SYN_ACK, n.own_backend, n.backend);
        assert_eq!(enter(&mut dataplane, &syn.bytes()).reason, Reason::Judged);
        assert_eq!(leave(&mut dataplane, &syn_ack.bytes()).reason, Reason::Judged);
        dataplane.class(&host(n.backend), 0);
        dataplane.enforce(2, PolicyFlags::default());
        let [sent, got] = [(n.own_backend, n.backend), (n.backend, n.own_backend)]
            .map(|(from, to)| Packet::tcp(flags::ACK, from, to).with_payload(b"data"));
        for _ in 0..2 {
            assert_eq!(enter(&mut dataplane, &got.bytes()), dropped(Reason::DeniedIngress, &got));
            assert_eq!(leave(&mut dataplane, &sent.bytes()), dropped(Reason::DeniedIngress, &sent));
        }
    }
}

#[test]
fn a_connection_that_is_older_than_the_first_policy_goes_on_if_the_rules_allow_it_in_either_direction() {
    for n in &FAMILIES {
        // Its own, and that of a friend to it.
        let mut dataplane = friends(n);
        for (client, server) in [(n.client, n.backend), (n.backend, n.own_backend)] {
            for first_from_client in [true, false] {
                dataplane.forget_flows();
                let (from, to) = if first_from_client { (client, server) } else { (server, client) };
                let packet = Packet::tcp(flags::ACK, from, to).with_payload(b"data");
                let hook = if from.starts_with(&host(n.client)) || from.contains(&host(n.client)) {
                    leave
                } else {
                    enter
                };
                assert_eq!(
                    hook(&mut dataplane, &packet.bytes()),
                    next(Reason::Judged, &packet),
                    "{from} {to}"
                );
                // Two friends' ports are allowed both ways here; then it is taken for what the packet looks like.
                let flows = dataplane.flows();
                assert!(
                    flows == plain_entries(client, server, "TCP")
                        || flows == plain_entries(server, client, "TCP"),
                    "{flows:?}"
                );
                assert_eq!(hook(&mut dataplane, &packet.bytes()), next(Reason::JudgedFlow, &packet));
            }
        }
        dataplane.forget_flows();
        for (from, to, hook, why) in [
            (n.client, n.stranger, leave as fn(&mut _, &[u8]) -> _, Reason::DeniedEgress),
            (n.stranger, n.client, enter, Reason::DeniedIngress),
        ] {
            let packet = Packet::tcp(flags::ACK, from, to).with_payload(b"data");
            assert_eq!(hook(&mut dataplane, &packet.bytes()), dropped(why, &packet));
        }
        assert_eq!(dataplane.flows(), [""; 0]);
    }
}

#[test]
fn without_a_policy_in_use_nothing_is_judged_or_remembered() {
    for n in &FAMILIES {
        let mut dataplane = world();
        dataplane.put_under(&host(n.client), RuleSetId::CLOSED, RuleSetId::CLOSED, POD);
        for packet in [Packet::tcp(flags::SYN, n.client, n.backend), Packet::udp(n.client, n.backend)] {
            assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::NotAService, &packet));
            assert_eq!(enter(&mut dataplane, &packet.bytes()), next(Reason::NotAService, &packet));
        }
        assert_eq!(dataplane.half_open(), [""; 0]);
    }
}
