//! Fragments of translated datagrams, in order and out of order (item 111).

use proxy_common::{ClientRule, Proto, Reason};
use tests::dataplane::{Dataplane, Run, code, config};
use tests::packet::{Fragment, Packet, Transport};

use crate::family::{FAMILIES, Names, dropped, next};

fn serving(n: &Names, rule: ClientRule) -> Dataplane {
    let mut dataplane = Dataplane::new(config());
    dataplane.serve(Proto::UDP, n.vip, &[n.backend], |frontend| frontend.rules = [rule; 3]);
    dataplane
}

/// The first fragment of a datagram, and two that follow.
fn pieces(from: &str, to: &str) -> [Packet; 3] {
    let rest = |offset: u16, data: &[u8]| Packet {
        fragment: Some(Fragment::Later(offset)),
        ..Packet::new(Transport::UdpRest, from, to).with_payload(data)
    };
    let first = Packet { fragment: Some(Fragment::First), ..Packet::udp(from, to).with_payload(&[1; 1472]) };
    [first, rest(1480, &[2; 1480]), rest(2960, b"the end")]
}

#[test]
fn the_fragments_of_a_datagram_go_where_its_first_goes() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        for (index, piece) in pieces(n.client, n.vip).iter().enumerate() {
            let reason = if index == 0 { Reason::ServiceNew } else { Reason::FlowForward };
            assert_eq!(
                dataplane.run("from_pod", &piece.bytes()),
                next(reason, &piece.between(n.client, n.backend)),
                "{index}"
            );
        }
        for piece in pieces(n.backend, n.client) {
            assert_eq!(
                dataplane.run("from_wire", &piece.bytes()),
                next(Reason::FlowReply, &piece.between(n.vip, n.client))
            );
        }
    }
}

#[test]
fn the_fragments_of_a_masqueraded_datagram_are_masqueraded() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::MASQUERADE);
        for (index, piece) in pieces(n.outside, n.vip).iter().enumerate() {
            let reason = if index == 0 { Reason::ServiceNew } else { Reason::FlowForward };
            assert_eq!(
                dataplane.run("from_wire", &piece.bytes()),
                next(reason, &piece.between(n.node, n.backend))
            );
        }
        for piece in pieces(n.backend, n.node) {
            assert_eq!(
                dataplane.run("to_wire", &piece.bytes()),
                next(Reason::FlowReply, &piece.between(n.vip, n.outside))
            );
        }
    }
}

#[test]
fn fragments_of_what_is_not_ours_pass() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        let [first, later @ ..] = pieces(n.client, n.stranger);
        assert_eq!(dataplane.run("from_pod", &first.bytes()), next(Reason::NotAService, &first));
        for piece in later {
            assert_eq!(dataplane.run("from_pod", &piece.bytes()), next(Reason::Fragment, &piece));
        }
    }
}

/// The copy of the first becomes those that were held; what is left here is the last of them.
fn comes_around(dataplane: &mut Dataplane, first: &Packet, last_held: &Packet) {
    assert_eq!(
        dataplane.run("from_pod", &first.bytes()),
        Run { reason: Reason::FragmentHeld, code: code::DROP, bytes: last_held.bytes() }
    );
}

#[test]
fn fragments_before_the_first_are_held_and_sent_again_when_its_copy_comes_around() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        let [first, middle, last] = pieces(n.client, n.vip);
        for piece in [&last, &middle] {
            assert_eq!(dataplane.run("from_pod", &piece.bytes()), dropped(Reason::FragmentHeld, piece));
        }
        let translated = first.between(n.client, n.backend);
        assert_eq!(dataplane.run("from_pod", &first.bytes()), next(Reason::ServiceNew, &translated));
        comes_around(&mut dataplane, &first, &middle);
        // Nothing is held any more.
        for piece in [&last, &middle, &first] {
            let translated = piece.between(n.client, n.backend);
            assert_eq!(dataplane.run("from_pod", &piece.bytes()), next(Reason::FlowForward, &translated));
        }
    }
}

/// They stand in the device's queue already when the first puts its copy behind them.
#[test]
fn a_fragment_between_the_first_and_its_copy_goes_where_the_first_went() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        let [first, middle, last] = pieces(n.client, n.vip);
        assert_eq!(dataplane.run("from_pod", &middle.bytes()), dropped(Reason::FragmentHeld, &middle));
        for (piece, reason) in [(&first, Reason::ServiceNew), (&last, Reason::FlowForward)] {
            let translated = piece.between(n.client, n.backend);
            assert_eq!(dataplane.run("from_pod", &piece.bytes()), next(reason, &translated));
        }
        comes_around(&mut dataplane, &first, &middle);
        let translated = middle.between(n.client, n.backend);
        assert_eq!(dataplane.run("from_pod", &middle.bytes()), next(Reason::FlowForward, &translated));
    }
}

/// Its name at that hook is the one that it had where it came in: nothing was translated.
#[test]
fn a_first_fragment_leaves_although_others_of_its_datagram_are_held() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        let [first, middle, _] = pieces(n.client, n.stranger);
        assert_eq!(dataplane.run("from_pod", &middle.bytes()), dropped(Reason::FragmentHeld, &middle));
        for hook in ["from_pod", "to_pod"] {
            assert_eq!(dataplane.run(hook, &first.bytes()), next(Reason::NotAService, &first), "{hook}");
        }
    }
}

#[test]
fn a_fragment_before_the_first_passes_where_packets_leave() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        let [_, piece, _] = pieces(n.client, n.vip);
        for hook in ["to_pod", "to_wire"] {
            assert_eq!(dataplane.run(hook, &piece.bytes()), next(Reason::Fragment, &piece));
        }
    }
}

#[test]
fn a_first_fragment_without_its_whole_header_is_dropped() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        let piece = Packet {
            fragment: Some(Fragment::First),
            ..Packet::new(Transport::UdpRest, n.client, n.vip).with_payload(&[0; 7])
        };
        assert_eq!(dataplane.run("from_pod", &piece.bytes()), dropped(Reason::Malformed, &piece));
        assert_eq!(dataplane.half_open(), [""; 0]);
    }
}

#[test]
fn a_fragment_of_tcp_that_begins_inside_of_the_header_is_dropped() {
    for n in &FAMILIES {
        let mut dataplane = serving(n, ClientRule::CLUSTER);
        let piece = Packet {
            fragment: Some(Fragment::Later(8)),
            ..Packet::tcp(tests::packet::flags::ACK, n.client, n.vip)
        };
        assert_eq!(dataplane.run("from_pod", &piece.bytes()), dropped(Reason::Malformed, &piece));
    }
}
