//! What whoever listens is told.

use proxy_common::{
    Address, Family, Port, Proto, Reason, RuleId, RuleSetId, V4, V6,
    policy::{Notice, PolicyFlags},
};
use tests::dataplane::Hook;
use tests::packet::{Packet, addr, flags};

use super::{OTHER, OTHER_RULES, POD, RULE, RULES, arrive, enter, friends, leave};
use crate::family::{FAMILIES, Names};

fn words(name: &str) -> [u32; 4] {
    let ip = addr(name).ip();
    match ip {
        std::net::IpAddr::V4(_) => <V4 as Family>::Addr::from_ip(ip).map(Address::to_words),
        std::net::IpAddr::V6(_) => <V6 as Family>::Addr::from_ip(ip).map(Address::to_words),
    }
    .expect("an address of the family")
}

fn notice(packet: &Packet, dst: &str, reason: Reason, rules: RuleSetId, by: u64, device: u32) -> Notice {
    Notice {
        at: 0,
        rules,
        by: RuleId(by),
        src: words(&packet.from.to_string()),
        dst: words(dst),
        device,
        sport: Port::new(packet.from.port()),
        dport: Port::new(addr(dst).port()),
        proto: Proto::TCP,
        reason: u8::try_from(reason.index()).expect("few reasons"),
        family: if packet.from.is_ipv4() { 4 } else { 6 },
        pad: 0,
        length: u32::try_from(packet.bytes().len()).expect("short"),
    }
}

#[test]
fn judgements_and_ends_are_told_while_somebody_listens_and_not_otherwise() {
    for n in &FAMILIES {
        let Names { client, backend, other_backend, vip, stranger, .. } = n;
        let mut dataplane = friends(n);
        dataplane.serve(Proto::TCP, vip, &[other_backend], |_| {});
        dataplane.serve(Proto::TCP, n.unowned, &[], |_| {});
        let syn = |from, to| Packet::tcp(flags::SYN, from, to);
        let denied = syn(client, stranger);
        leave(&mut dataplane, &denied.bytes());
        assert_eq!(dataplane.notices(), []);

        dataplane.enforce(1, PolicyFlags::WATCHED);
        let (allowed, translated) = (syn(client, backend), syn(client, vip));
        let (refused, entering, forged) =
            (syn(client, n.unowned), syn(stranger, n.own_backend), syn(stranger, backend));
        for packet in [&denied, &allowed, &translated, &refused, &forged] {
            leave(&mut dataplane, &packet.bytes());
        }
        enter(&mut dataplane, &entering.bytes());
        // What was told at its sender's hook, and its answer, are not told again.
        let at = Hook { device: OTHER, arrived_by: POD };
        let told = dataplane.run_at("to_pod", at, &allowed.bytes());
        let answer = Packet::tcp(flags::SYN_ACK, backend, client);
        assert_eq!(
            (told.reason, enter(&mut dataplane, &answer.bytes()).reason),
            (Reason::Judged, Reason::Judged)
        );
        let unknown = syn(n.outside, n.vip_other_port);
        arrive(&mut dataplane, &unknown.bytes());
        let nobody = RuleSetId::OPEN;
        let want = [
            notice(&denied, stranger, Reason::DeniedEgress, RULES, 0, POD),
            notice(&allowed, backend, Reason::Judged, RULES, RULE, POD),
            notice(&translated, other_backend, Reason::DeniedEgress, RULES, 0, POD),
            notice(&refused, n.unowned, Reason::NoEndpoints, nobody, 0, POD),
            notice(&forged, backend, Reason::ForgedSource, nobody, 0, POD),
            notice(&entering, n.own_backend, Reason::DeniedIngress, OTHER_RULES, 0, POD),
            notice(&unknown, n.vip_other_port, Reason::UnknownPort, nobody, 0, 1),
        ];
        let mut last = 0;
        let told: Vec<_> = dataplane
            .notices()
            .into_iter()
            .map(|notice| {
                assert!(notice.at > last, "in the order of time");
                last = notice.at;
                Notice { at: 0, ..notice }
            })
            .collect();
        assert_eq!(told, want);
    }
}
