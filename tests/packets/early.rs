//! The XDP program: what it ends, ends as it would at the tc hook, byte for byte; everything else passes untouched.

use proxy_common::{ClientRule, FlowFlags, FrontendFlags, Proto, Reason, V4, V6, policy::PolicyFlags};
use tests::dataplane::{self, Dataplane, Run};
use tests::early::{Fate, code};
use tests::packet::{Extra, Fragment, Link, Packet, Transport, flags};

use crate::family::{FAMILIES, Names};
use crate::route::{GATEWAY_MAC, POD, POD_MAC, UPLINK, UPLINK_MAC, neighbour, node, route};

/// The source that the backend sees.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Source {
    Kept,
    Masqueraded,
}

/// A node between the outside and a remote backend, both behind its uplink.
fn stage(n: &Names, source: Source) -> Dataplane {
    let mut dataplane = node(n);
    dataplane.attach_early("uplink");
    for proto in [Proto::TCP, Proto::UDP] {
        dataplane.serve(proto, n.vip, &[n.backend], |frontend| {
            frontend.flags = FrontendFlags::EXTERNAL;
            if source == Source::Masqueraded {
                frontend.rules = [ClientRule::MASQUERADE; 3];
            }
        });
    }
    for end in [n.backend, n.outside] {
        route(end, "uplink");
        neighbour(end, "uplink", GATEWAY_MAC);
    }
    dataplane
}

/// As it comes in by the uplink.
fn arriving(packet: Packet) -> Packet {
    Packet { link: Link { to: UPLINK_MAC, from: GATEWAY_MAC }, ..packet }
}

/// Who the backend sees.
fn seen(n: &Names, source: Source) -> &'static str {
    match source {
        Source::Kept => n.outside,
        Source::Masqueraded => n.node,
    }
}

/// Opens a connection of each protocol, with an answer and a packet more, at the tc hook.
fn establish(dataplane: &mut Dataplane, n: &Names, source: Source) {
    let client = seen(n, source);
    for packet in [
        Packet::tcp(flags::SYN, n.outside, n.vip),
        Packet::tcp(flags::SYN_ACK, n.backend, client),
        Packet::tcp(flags::ACK, n.outside, n.vip),
        Packet::udp(n.outside, n.vip),
        Packet::udp(n.backend, client),
        Packet::udp(n.outside, n.vip),
    ] {
        let packet = arriving(packet);
        if packet.transport != Transport::Tcp(flags::ACK) {
            assert_eq!(dataplane.run_early(UPLINK, &packet.bytes()), Fate::Passed, "{packet:?}");
        }
        let run = dataplane.run_on("from_wire", UPLINK, &packet.bytes());
        assert_eq!(run.code, dataplane::code::REDIRECT, "{packet:?}: {run:?}");
    }
}

/// Runs both programs on a packet. What ends in the driver ends at the tc hook with the same reason and the same bytes.
fn both(dataplane: &mut Dataplane, packet: &Packet) -> Fate {
    let early = dataplane.run_early(UPLINK, &packet.bytes());
    let late = dataplane.run_on("from_wire", UPLINK, &packet.bytes());
    if let Fate::Ended(run) = &early {
        let code = match run.code {
            code::RETURN => dataplane::code::REDIRECT,
            code::DROP => dataplane::code::DROP,
            other => panic!("{packet:?}: {other}"),
        };
        assert_eq!(late, Run { code, ..run.clone() }, "{packet:?}");
    }
    early
}

/// Data of two bytes with which a translated datagram's checksum comes out as zero, and so is written as all ones.
fn payload_that_sums_to_zero(from: &str, to: &str) -> Vec<u8> {
    let transport = if from.starts_with('[') { 54 } else { 34 };
    let sum = |data: u16| {
        Packet::udp(from, to).with_payload(&data.to_be_bytes()).bytes()[transport + 6..transport + 8].to_vec()
    };
    let data = (0..=u16::MAX).find(|data| sum(*data) == [0xff, 0xff]).expect("one of all words does it");
    data.to_be_bytes().to_vec()
}

#[test]
fn an_answered_connection_is_translated_in_the_driver_as_at_the_tc_hook() {
    for n in &FAMILIES {
        for source in [Source::Kept, Source::Masqueraded] {
            let mut dataplane = stage(n, source);
            establish(&mut dataplane, n, source);
            let client = seen(n, source);
            let directions = [
                (Reason::FlowForward, n.outside, n.vip, client, n.backend),
                (Reason::FlowReply, n.backend, client, n.vip, n.outside),
            ];
            for (reason, from, to, new_from, new_to) in directions {
                let tcp = |flags| Packet::tcp(flags, from, to);
                let options = Packet { options: vec![1; 12], ..tcp(flags::ACK) };
                let mut packets = vec![
                    tcp(flags::ACK),
                    tcp(flags::ACK).with_payload(b"an odd number of bytes!"),
                    tcp(flags::ACK).with_payload(&[0xa5; 1400]),
                    options,
                    Packet::udp(from, to),
                    Packet::udp(from, to).with_payload(&payload_that_sums_to_zero(new_from, new_to)),
                    tcp(flags::FIN),
                ];
                if !n.vip.starts_with('[') {
                    packets.push(Packet::new(Transport::UdpUnsummed, from, to));
                    let no_operations = Extra { kind: 0, bytes: vec![1; 8] };
                    packets.push(Packet { extra: vec![no_operations], ..tcp(flags::ACK) });
                }
                for packet in packets {
                    let link = Link { to: GATEWAY_MAC, from: UPLINK_MAC };
                    let bytes = packet.between(new_from, new_to).forwarded(link).bytes();
                    let expected = Fate::Ended(Run { reason, code: code::RETURN, bytes });
                    assert_eq!(both(&mut dataplane, &arriving(packet)), expected, "{source:?}");
                }
            }
            let rst = arriving(Packet::tcp(flags::RST, n.outside, n.vip));
            assert!(matches!(both(&mut dataplane, &rst), Fate::Ended(_)));
        }
    }
}

#[test]
fn what_the_stack_must_see_passes_the_driver_as_it_came() {
    for n in &FAMILIES {
        let mut dataplane = stage(n, Source::Kept);
        establish(&mut dataplane, n, Source::Kept);
        let ack = arriving(Packet::tcp(flags::ACK, n.outside, n.vip));
        let overheard = Packet { link: Link { to: POD_MAC, from: GATEWAY_MAC }, ..ack.clone() };
        let new_client = n.outside.replace("40000", "40001");
        let mut packets = vec![
            arriving(Packet::tcp(flags::SYN, n.outside, n.vip)),
            Packet { hops: 1, ..ack.clone() },
            Packet { fragment: Some(Fragment::First), ..ack.clone() },
            Packet { fragment: Some(Fragment::Later(1480)), ..ack.clone() },
            overheard,
            arriving(Packet::tcp(flags::SYN, &new_client, n.vip)),
            arriving(Packet::udp(&new_client, n.vip)),
            arriving(Packet::tcp(flags::SYN, n.outside, n.vip_other_port)),
            arriving(Packet::tcp(flags::SYN, n.outside, n.stranger)),
            arriving(Packet::tcp(flags::ACK, n.outside, n.stranger)),
            arriving(Packet::udp(n.outside, n.stranger)),
            arriving(Packet::new(Transport::Sctp, n.outside, n.vip)),
            arriving(Packet::new(Transport::Echo, n.outside, n.vip)),
        ];
        if n.vip.starts_with('[') {
            let options = Extra { kind: 60, bytes: vec![0, 0, 1, 4, 0, 0, 0, 0] };
            packets.push(Packet { extra: vec![options], ..ack.clone() });
        }
        for packet in packets {
            assert_eq!(dataplane.run_early(UPLINK, &packet.bytes()), Fate::Passed, "{packet:?}");
        }
        for cut in 0..ack.bytes().len() - 1 {
            if cut >= 14 {
                assert_eq!(dataplane.run_early(UPLINK, &ack.bytes()[..cut]), Fate::Passed, "cut at {cut}");
            }
        }
    }
}

#[test]
fn a_connection_to_a_local_pod_passes_the_driver_and_so_does_one_that_leaves_by_another_device() {
    for n in &FAMILIES {
        for (device, mac) in [("pod", POD_MAC), ("other", GATEWAY_MAC)] {
            let mut dataplane = stage(n, Source::Kept);
            establish(&mut dataplane, n, Source::Kept);
            route(n.backend, device);
            neighbour(n.backend, device, mac);
            let renew = |dataplane: &mut Dataplane| {
                dataplane
                    .change_flows::<proxy_common::V4>(|_, flow| flow.seen = flow.seen.wrapping_sub(1000));
                dataplane
                    .change_flows::<proxy_common::V6>(|_, flow| flow.seen = flow.seen.wrapping_sub(1000));
            };
            let ack = arriving(Packet::tcp(flags::ACK, n.outside, n.vip));
            renew(&mut dataplane);
            // The move is noticed in the driver itself.
            assert_eq!(dataplane.run_early(UPLINK, &ack.bytes()), Fate::Passed);
            assert_eq!(dataplane.run_early(UPLINK, &ack.bytes()), Fate::Passed);
            // And the way back to the driver, at the tc hook.
            route(n.backend, "uplink");
            neighbour(n.backend, "uplink", GATEWAY_MAC);
            renew(&mut dataplane);
            dataplane.run_on("from_wire", UPLINK, &ack.bytes());
            assert!(matches!(dataplane.run_early(UPLINK, &ack.bytes()), Fate::Ended(_)));
        }
    }
    assert_ne!(POD, UPLINK);
}

#[test]
fn what_would_be_dropped_is_dropped_in_the_driver() {
    for n in &FAMILIES {
        let mut dataplane = stage(n, Source::Kept);
        for proto in [Proto::TCP, Proto::UDP] {
            dataplane.serve(proto, n.vip, &[n.backend], |frontend| {
                frontend.flags = FrontendFlags::EXTERNAL.with(FrontendFlags::RANGES);
            });
            dataplane.serve(proto, n.stranger, &[], |frontend| {
                frontend.rules = [ClientRule::LOCAL.with(ClientRule::DROP_IF_EMPTY); 3];
            });
        }
        let cases = [
            (n.vip, Reason::SourceRange),
            (n.unowned, Reason::UnallocatedAddress),
            (n.stranger, Reason::NoLocalEndpoints),
        ];
        for (to, reason) in cases {
            for packet in [Packet::tcp(flags::SYN, n.outside, to), Packet::udp(n.outside, to)] {
                let packet = arriving(packet);
                let expected = Run { reason, code: code::DROP, bytes: packet.bytes() };
                assert_eq!(both(&mut dataplane, &packet), Fate::Ended(expected));
            }
        }
    }
}

#[test]
fn what_the_rules_of_now_have_not_judged_and_what_is_not_translated_is_left_to_the_tc_hook() {
    for n in &FAMILIES {
        let mut dataplane = stage(n, Source::Kept);
        establish(&mut dataplane, n, Source::Kept);
        let packet = arriving(Packet::udp(n.outside, n.vip)).bytes();
        assert!(matches!(dataplane.run_early(UPLINK, &packet), Fate::Ended(_)));
        dataplane.enforce(1, PolicyFlags::default());
        assert_eq!(dataplane.run_early(UPLINK, &packet), Fate::Passed);
        assert_eq!(dataplane.run_on("from_wire", UPLINK, &packet).reason, Reason::FlowForward);
        assert!(matches!(dataplane.run_early(UPLINK, &packet), Fate::Ended(_)), "judged by now");
        dataplane.change_flows::<V4>(|_, flow| flow.flags = flow.flags.with(FlowFlags::PLAIN));
        dataplane.change_flows::<V6>(|_, flow| flow.flags = flow.flags.with(FlowFlags::PLAIN));
        assert_eq!(dataplane.run_early(UPLINK, &packet), Fate::Passed);

        let lost = arriving(Packet::udp(n.outside, n.unowned)).bytes();
        assert!(matches!(dataplane.run_early(UPLINK, &lost), Fate::Ended(_)));
        dataplane.enforce(1, PolicyFlags::WATCHED);
        assert_eq!(
            dataplane.run_early(UPLINK, &lost),
            Fate::Passed,
            "whoever listens is told by the tc hook"
        );
    }
}
