//! What nobody can judge, and whose a packet is that enters a pod: the node's own, our own, or somebody's who looks so.

use proxy_common::{DatapathConfig, Reason, RuleSetId, policy::PolicyFlags};
use tests::dataplane::{Dataplane, Hook, Run, code, config, ip};
use tests::icmp::{IcmpError, Wrong};
use tests::packet::{Extra, Packet, Transport, flags};

use super::{OTHER, POD, WIRE, enter, enter_from_node, host, leave, world};
use crate::family::{FAMILIES, Names, dropped, next};

/// The pod may send nothing, and get nothing.
fn closed(n: &Names) -> Dataplane {
    let mut dataplane = world();
    dataplane.put_under(&host(n.client), RuleSetId::CLOSED, RuleSetId::CLOSED, POD);
    dataplane.enforce(1, PolicyFlags::default());
    dataplane
}

#[test]
fn policy_items_2_and_9_a_family_that_is_not_served_does_not_pass_a_policed_pods_device() {
    for (served, n) in [
        (DatapathConfig { ipv6: 0, ..config() }, &FAMILIES[1]),
        (DatapathConfig { ipv4: 0, ..config() }, &FAMILIES[0]),
    ] {
        let mut dataplane = Dataplane::new(served);
        for index in [POD, OTHER, WIRE] {
            ip(&format!("link add name d{index} index {index} type veth peer name p{index}"));
            ip(&format!("link set d{index} up"));
        }
        let packet = Packet::udp(n.client, n.backend);
        let passes = next(Reason::NotIp, &packet);
        let unpoliced = Hook { device: OTHER, arrived_by: OTHER };
        assert_eq!(leave(&mut dataplane, &packet.bytes()), passes, "there are no policies");
        let [_, other] = &FAMILIES;
        let policed = if n.client == other.client { &FAMILIES[0] } else { other };
        dataplane.put_under(&host(policed.client), RuleSetId::OPEN, RuleSetId::CLOSED, POD);
        dataplane.enforce(1, PolicyFlags::default());
        assert_eq!(leave(&mut dataplane, &packet.bytes()), dropped(Reason::Unjudged, &packet));
        assert_eq!(enter(&mut dataplane, &packet.bytes()), dropped(Reason::Unjudged, &packet));
        assert_eq!(dataplane.run_at("from_pod", unpoliced, &packet.bytes()), passes);
        assert_eq!(dataplane.run("from_wire", &packet.bytes()), passes);
        // Neither family: addresses are asked for by it.
        let mut question = packet.bytes();
        question[12..14].copy_from_slice(&[0x08, 0x06]);
        let want = Run { reason: Reason::NotIp, code: code::NEXT, bytes: question.clone() };
        assert_eq!(leave(&mut dataplane, &question), want);
    }
}

#[test]
fn policy_item_31_what_we_tell_a_pod_ourselves_reaches_it_whatever_its_rules_say() {
    let turned = Hook { device: POD, arrived_by: POD };
    for n in &FAMILIES {
        let mut dataplane = closed(n);
        let asked = Packet::udp(n.client, n.vip);
        let told = IcmpError::new(Wrong::Port, &host(n.vip), &asked).bytes();
        let refusal = Packet::tcp(flags::RST, n.vip, n.client);
        let reply = Packet::new(Transport::EchoReply, n.vip, n.client);
        for (bytes, reason) in
            [(told, Reason::NoPorts), (refusal.bytes(), Reason::MidStream), (reply.bytes(), Reason::NoPorts)]
        {
            let passes = Run { reason, code: code::NEXT, bytes: bytes.clone() };
            let ends = Run { reason: Reason::DeniedIngress, code: code::DROP, bytes: bytes.clone() };
            assert_eq!(dataplane.run_at("to_pod", turned, &bytes), passes);
            assert_eq!(enter(&mut dataplane, &bytes), ends, "from elsewhere");
        }
    }
}

/// The kernel cuts a packet that it forwards anew: the pieces of one of IPv6 have come by no device then.
#[test]
fn policy_item_34_a_packet_that_came_by_no_device_is_the_nodes_own_only_with_its_address() {
    for n in &FAMILIES {
        let is_ipv6 = n.vip.starts_with('[');
        // The header of a fragment that is a whole datagram, or options that say nothing.
        let extra = if is_ipv6 {
            Extra { kind: 60, bytes: vec![0, 0, 1, 4, 0, 0, 0, 0] }
        } else {
            Extra { kind: 0, bytes: vec![1; 4] }
        };
        let mut dataplane = closed(n);
        dataplane.add_local(&host(n.node));
        let from = |sender| Packet { extra: vec![extra.clone()], ..Packet::udp(sender, n.own_backend) };
        let (stranger, node) = (from(n.stranger), from(n.node));
        assert_eq!(
            enter_from_node(&mut dataplane, &stranger.bytes()),
            dropped(Reason::DeniedIngress, &stranger)
        );
        assert_eq!(dataplane.half_open(), [""; 0]);
        assert_eq!(enter_from_node(&mut dataplane, &node.bytes()), next(Reason::Judged, &node));
        // A transparent proxy of the node's shows its clients' addresses.
        let proxied = Packet::udp(n.outside, n.own_backend);
        assert_eq!(enter_from_node(&mut dataplane, &proxied.bytes()), next(Reason::Judged, &proxied));
    }
}
