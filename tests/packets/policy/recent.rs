//! Connections that are judged by what was found a moment ago (decisions 0034 and 0039).

use std::collections::BTreeMap;

use proxy_common::{
    Proto, Reason, RuleSetId,
    policy::{Effect, PolicyFlags},
};
use tests::dataplane::{Dataplane, Hook};
use tests::packet::{Packet, flags};
use tests::policy::{allow, deny};

use super::{FRIENDS, NOBODY, OTHER, OTHER_RULES, POD, RULE, RULES, enter, friends, host, leave, world};
use crate::family::{FAMILIES, dropped, next};

#[test]
fn the_same_two_ends_are_judged_once_per_server_port_and_hook_until_a_write_is_counted() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        let again = n.client.rsplit_once(':').map(|(host, _)| format!("{host}:50123")).expect("a port");
        let direct = |from: &str| Packet::tcp(flags::SYN, from, n.backend);
        let by_service = |from: &str| Packet::tcp(flags::SYN, from, n.vip);
        let to_other_port = Packet::tcp(flags::SYN, n.client, &n.backend.replace("8080", "8081"));
        let first = direct(n.client);
        assert_eq!(leave(&mut dataplane, &first.bytes()), next(Reason::Judged, &first));
        dataplane.class_uncounted(&host(n.backend), 0);
        // The client's own port does not count, nor by which address the backend was found.
        let second = direct(&again);
        assert_eq!(leave(&mut dataplane, &second.bytes()), next(Reason::Judged, &second));
        assert_eq!(leave(&mut dataplane, &by_service(&again).bytes()).reason, Reason::ServiceNew);
        // Nor is an end that is known looked up for another port or at another hook (decision 0039).
        let (packet, entering) = (&to_other_port, &first);
        assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::Judged, packet));
        assert_eq!(enter(&mut dataplane, &entering.bytes()), next(Reason::Judged, entering));
        // What was not asked yet is found by the maps as they are.
        let third = Packet::tcp(flags::SYN, n.client, &format!("{}:8080", bracketed(n.stranger)));
        dataplane.class_uncounted(&host(n.stranger), FRIENDS);
        assert_eq!(leave(&mut dataplane, &third.bytes()), next(Reason::Judged, &third));
        // Any write is enough.
        dataplane.class(&host(n.stranger), 0);
        for packet in [&first, &to_other_port, &by_service(n.client), &third, &first] {
            assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(Reason::DeniedEgress, packet));
        }
        assert_eq!(enter(&mut dataplane, &first.bytes()), dropped(Reason::DeniedEgress, &first));
        // A denial is counted each time.
        assert_eq!(dataplane.denials(), BTreeMap::from([((RULES, 0), 6)]));
        dataplane.class(&host(n.backend), FRIENDS);
        assert_eq!(leave(&mut dataplane, &first.bytes()), next(Reason::Judged, &first));
    }
}

/// The host of an address with a port, as it stands before one.
fn bracketed(name: &str) -> &str {
    name.rsplit_once(':').expect("a port").0
}

#[test]
fn two_thousand_ends_share_places_and_are_never_taken_for_each_other() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        let pod = host(n.client);
        let peers: Vec<String> = (1..=2_000_u32)
            .map(|number| {
                let [_, _, high, low] = number.to_be_bytes();
                if pod.contains(':') { format!("fd00:77::{number:x}") } else { format!("10.77.{high}.{low}") }
            })
            .collect();
        // Every third one is a friend, and every seventh under rules that let nobody in.
        let is = |number: usize, of: usize| number.is_multiple_of(of);
        for (number, peer) in peers.iter().enumerate() {
            if is(number, 3) {
                dataplane.class(peer, FRIENDS);
            }
            if is(number, 7) {
                dataplane.put_under(peer, RuleSetId::OPEN, RuleSetId::CLOSED, 0);
            }
        }
        for turn in 0..2 {
            for (number, peer) in peers.iter().enumerate() {
                let to = if peer.contains(':') { format!("[{peer}]:8080") } else { format!("{peer}:8080") };
                let packet = Packet::tcp(flags::SYN, n.client, &to);
                let expected = match (is(number, 3), is(number, 7)) {
                    (true, false) => next(Reason::Judged, &packet),
                    (true, true) => dropped(Reason::DeniedIngress, &packet),
                    (false, _) => dropped(Reason::DeniedEgress, &packet),
                };
                assert_eq!(leave(&mut dataplane, &packet.bytes()), expected, "{peer}, turn {turn}");
            }
        }
    }
}

#[test]
fn whoever_is_free_behind_one_device_is_not_behind_that_of_a_policed_pod() {
    for n in &FAMILIES {
        // The backend is policed, behind the other device; the client is not, behind that of the pod.
        let mut dataplane = world();
        dataplane.put_under(&host(n.backend), RuleSetId::OPEN, OTHER_RULES, OTHER);
        dataplane.say(OTHER_RULES, 0, &[allow(Proto::TCP, 1, u16::MAX, RULE)], NOBODY);
        dataplane.enforce(1, PolicyFlags::default());
        let packet = Packet::tcp(flags::SYN, n.client, n.backend);
        for _ in 0..2 {
            assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::Judged, &packet));
            let other = Hook { device: OTHER, arrived_by: OTHER };
            let forged = dataplane.run_at("from_pod", other, &packet.bytes());
            assert_eq!(forged, dropped(Reason::ForgedSource, &packet));
        }
        // The pod of its own device comes under a policy: its address is not among those that may be sent with.
        dataplane.put_under(&host(n.other_backend), RULES, RULES, POD);
        assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(Reason::ForgedSource, &packet));
    }
}

#[test]
fn what_a_pod_may_send_as_itself_nobody_else_may_send_as_it() {
    for n in &FAMILIES {
        let mut dataplane = friends(n);
        let packet = Packet::tcp(flags::SYN, n.client, n.backend);
        for _ in 0..2 {
            assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::Judged, &packet));
            let other = Hook { device: OTHER, arrived_by: OTHER };
            let forged = dataplane.run_at("from_pod", other, &packet.bytes());
            assert_eq!(forged, dropped(Reason::ForgedSource, &packet));
        }
        // The server's answer is judged as the client's request, at the server's device: it does not make the server the client.
        let mut dataplane = world();
        dataplane.put_under(&host(n.backend), OTHER_RULES, RuleSetId::OPEN, POD);
        dataplane.enforce(1, PolicyFlags::default());
        let answer = Packet::tcp(flags::SYN_ACK, n.backend, n.client);
        assert_eq!(leave(&mut dataplane, &answer.bytes()), next(Reason::Judged, &answer));
        dataplane.forget_flows();
        assert_eq!(leave(&mut dataplane, &answer.bytes()), next(Reason::Judged, &answer));
        dataplane.forget_flows();
        assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(Reason::ForgedSource, &packet));
    }
}

#[test]
fn every_kind_of_write_is_seen_by_the_next_connection() {
    type Write = fn(&mut Dataplane, &str, &str);
    let writes: [(&str, Write, Reason); 5] = [
        ("rule set", |d, pod, _| d.put_under(pod, RuleSetId::CLOSED, RULES, POD), Reason::DeniedEgress),
        ("class", |d, _, friend| d.class(friend, 0), Reason::DeniedEgress),
        (
            "verdict",
            |d, _, _| d.say(RULES, FRIENDS, &[deny(Proto::TCP, 8080, 8080, RULE)], NOBODY),
            Reason::DeniedEgress,
        ),
        ("another pod's", |d, pod, _| d.put_under(pod, RULES, RULES, OTHER), Reason::ForgedSource),
        (
            "the other end",
            |d, _, friend| {
                d.say(OTHER_RULES, 0, &[], (Effect::DENY, 0));
                d.put_under(friend, RuleSetId::OPEN, OTHER_RULES, OTHER);
            },
            Reason::DeniedIngress,
        ),
    ];
    for n in &FAMILIES {
        for (name, write, reason) in writes {
            let mut dataplane = friends(n);
            let packet = Packet::tcp(flags::SYN, n.client, n.backend);
            for _ in 0..2 {
                assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::Judged, &packet));
            }
            write(&mut dataplane, &host(n.client), &host(n.backend));
            assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(reason, &packet), "{name}");
        }
    }
}

#[test]
fn a_pod_that_comes_under_its_first_policy_is_not_free_any_more() {
    for n in &FAMILIES {
        let mut dataplane = world();
        dataplane.enforce(1, PolicyFlags::default());
        let packet = Packet::tcp(flags::SYN, n.client, n.backend);
        for _ in 0..2 {
            assert_eq!(leave(&mut dataplane, &packet.bytes()), next(Reason::NotAService, &packet));
        }
        dataplane.put_under(&host(n.client), RuleSetId::CLOSED, RuleSetId::CLOSED, POD);
        assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(Reason::DeniedEgress, &packet));
    }
}
