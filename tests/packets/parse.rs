//! What the programs can read: options, extension headers, fragments, frames cut short, other protocols.

use proxy_common::{DatapathConfig, Proto, Reason, limits};
use tests::dataplane::{Dataplane, Run, code, config};
use tests::packet::{Extra, Packet, flags};

use crate::family::{FAMILIES, Names, dropped, next};

fn serving(n: &Names) -> Dataplane {
    let mut dataplane = Dataplane::new(config());
    dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
    dataplane.serve(Proto::UDP, n.vip, &[n.backend], |_| {});
    dataplane
}

fn extension(kind: u8, units: u8) -> Extra {
    let mut bytes = vec![0; 8 * (units as usize + 1)];
    bytes[1] = units;
    Extra { kind, bytes }
}

#[test]
fn ipv4_options_of_every_length_are_skipped() {
    let n = &FAMILIES[0];
    let mut dataplane = serving(n);
    for words in 0..=10 {
        let client = n.client.replace("40000", &(41_000 + words).to_string());
        let extra = vec![Extra { kind: 0, bytes: vec![1; 4 * words] }];
        let syn = Packet { extra, ..Packet::tcp(flags::SYN, &client, n.vip) };
        assert_eq!(
            dataplane.run("from_pod", &syn.bytes()),
            next(Reason::ServiceNew, &syn.between(&client, n.backend))
        );
    }
}

#[test]
fn ipv6_extension_headers_are_walked_as_far_as_the_limit() {
    let n = &FAMILIES[1];
    let mut dataplane = serving(n);
    let chain = [
        extension(0, 0),
        extension(60, 1),
        extension(43, 2),
        extension(60, 0),
        extension(60, 0),
        extension(60, 0),
    ];
    assert_eq!(chain.len(), limits::EXTENSION_HEADERS);
    for count in 0..=chain.len() {
        let client = n.client.replace("40000", &(41_000 + count).to_string());
        for packet in [Packet::tcp(flags::SYN, &client, n.vip), Packet::udp(&client, n.vip)] {
            let packet = Packet { extra: chain[..count].to_vec(), ..packet };
            assert_eq!(
                dataplane.run("from_pod", &packet.bytes()),
                next(Reason::ServiceNew, &packet.between(&client, n.backend)),
                "{count} headers"
            );
        }
    }
    let extra = [&chain[..], &[extension(60, 0)]].concat();
    let packet = Packet { extra, ..Packet::tcp(flags::SYN, n.client, n.vip) };
    assert_eq!(dataplane.run("from_pod", &packet.bytes()), dropped(Reason::Malformed, &packet));
    let extra = vec![extension(60, 255)];
    let packet = Packet { extra, ..Packet::tcp(flags::SYN, n.client, n.vip) };
    assert_eq!(
        dataplane.run("from_pod", &packet.bytes()),
        dropped(Reason::Malformed, &packet),
        "2 KiB of options"
    );
}

#[test]
fn a_packet_that_ends_before_its_headers_is_dropped() {
    for (n, network) in FAMILIES.iter().zip([20, 40]) {
        let mut dataplane = serving(n);
        for (whole, transport) in [
            (Packet::tcp(flags::SYN, n.client, n.vip).bytes(), 20),
            (Packet::udp(n.client, n.vip).bytes(), 8),
        ] {
            // The kernel does not run a program on less than a network header.
            for length in [14 + network, 14 + network + transport - 1] {
                let bytes = whole[..length].to_vec();
                let run = dataplane.run("from_pod", &bytes);
                assert_eq!(run, Run { reason: Reason::Malformed, code: code::DROP, bytes });
            }
        }
    }
}

#[test]
fn an_ipv4_header_that_claims_to_be_shorter_than_it_must_be_is_dropped() {
    let n = &FAMILIES[0];
    let mut bytes = Packet::tcp(flags::SYN, n.client, n.vip).bytes();
    bytes[14] = 0x44;
    let run = serving(n).run("from_pod", &bytes);
    assert_eq!(run, Run { reason: Reason::Malformed, code: code::DROP, bytes });
}

#[test]
fn what_is_not_ip_passes() {
    let mut arp = vec![0xff; 6];
    arp.extend([2, 0, 0, 0, 0, 1, 0x08, 0x06]);
    arp.extend([0; 28]);
    let mut dataplane = Dataplane::new(config());
    for program in ["from_pod", "to_pod", "from_wire", "to_wire"] {
        let run = dataplane.run(program, &arp);
        assert_eq!(run, Run { reason: Reason::NotIp, code: code::NEXT, bytes: arp.clone() });
    }
}

#[test]
fn a_family_that_is_not_served_passes() {
    for (n, config) in
        FAMILIES.iter().zip([DatapathConfig { ipv4: 0, ..config() }, DatapathConfig { ipv6: 0, ..config() }])
    {
        let mut dataplane = Dataplane::new(config);
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        assert_eq!(dataplane.run("from_pod", &syn.bytes()), next(Reason::NotIp, &syn));
    }
}

#[test]
fn a_frame_that_an_uplink_overhears_is_not_ours() {
    for n in &FAMILIES {
        let mut dataplane = serving(n);
        let mut syn = Packet::tcp(flags::SYN, n.outside, n.vip);
        syn.link.to = [2, 0, 0, 0, 0, 99];
        assert_eq!(dataplane.run("from_wire", &syn.bytes()), next(Reason::NotIp, &syn));
        assert_eq!(
            dataplane.run("from_pod", &syn.bytes()).reason,
            Reason::ServiceNew,
            "a bridge port sees such"
        );
    }
}
