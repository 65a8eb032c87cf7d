//! Direct server return: the node with the frontend sends a client's packets in a tunnel to the backend's node, which
//! takes them out, translates them, and answers the client itself. Both nodes, one at a time.

use proxy_common::{
    Algorithm, ClientRule, DatapathConfig, ForwardingMode, Frontend, FrontendFlags, Proto, Reason,
};
use tests::dataplane::{Dataplane, Run, code, config};
use tests::icmp::{IcmpError, Wrong};
use tests::packet::{Fragment, Link, Packet, addr, flags};
use tests::tunnel::wrapped;

use crate::family::{FAMILIES, Names, next};
use crate::route::{
    GATEWAY_MAC, HOST_MAC, POD, POD_MAC, UPLINK, UPLINK_MAC, neighbour, node_with, redirected, route,
};

const IN: Link = Link { to: UPLINK_MAC, from: GATEWAY_MAC };
const OUT: Link = Link { to: GATEWAY_MAC, from: UPLINK_MAC };
const TO_POD: Link = Link { to: POD_MAC, from: HOST_MAC };

fn ip(name: &str) -> String {
    addr(name).ip().to_string()
}

/// The other node of the cluster.
fn other_node(n: &Names) -> &'static str {
    if n.vip.starts_with('[') { "fd00:168::2" } else { "192.168.0.2" }
}

fn router(n: &Names) -> &'static str {
    if n.vip.starts_with('[') { "2001:db8:ff::1" } else { "198.51.100.254" }
}

fn outer_length(n: &Names) -> usize {
    if n.vip.starts_with('[') { 40 } else { 20 }
}

fn tunnelling(frontend: &mut Frontend) {
    frontend.flags = FrontendFlags::EXTERNAL;
    frontend.mode = ForwardingMode::TUNNEL;
    frontend.rules = [ClientRule::MASQUERADE; 3];
}

fn serve(dataplane: &mut Dataplane, n: &Names, backends: &[&str], change: impl Fn(&mut Frontend)) {
    for proto in [Proto::TCP, Proto::UDP] {
        dataplane.serve(proto, n.vip, backends, |frontend| {
            tunnelling(frontend);
            change(frontend);
        });
    }
}

fn with_tunnels() -> DatapathConfig {
    DatapathConfig { tunnels: 1, ..config() }
}

/// The node that clients send to; the backend is behind another node.
fn entrance(n: &Names) -> Dataplane {
    let mut dataplane = node_with(n, with_tunnels());
    serve(&mut dataplane, n, &[&format!("{}^", n.backend)], |_| {});
    for end in [n.backend, n.other_backend, n.outside] {
        route(end, "uplink");
        neighbour(end, "uplink", GATEWAY_MAC);
    }
    dataplane
}

/// The backend's node.
fn exit(n: &Names) -> Dataplane {
    let mut dataplane = node_with(n, with_tunnels());
    serve(&mut dataplane, n, &[&format!("{}*", n.backend)], |frontend| frontend.local = frontend.cluster);
    dataplane.add_node(other_node(n));
    route(n.backend, "pod");
    neighbour(n.backend, "pod", POD_MAC);
    route(n.outside, "uplink");
    neighbour(n.outside, "uplink", GATEWAY_MAC);
    dataplane
}

/// What the client sends, as it comes in by the uplink.
fn sent(packet: Packet) -> Packet {
    Packet { link: IN, ..packet }
}

/// What leaves for the backend's node.
fn in_tunnel(n: &Names, packet: &Packet, backend: &str) -> Vec<u8> {
    let inside = packet.clone().forwarded(OUT).bytes();
    wrapped(&inside, OUT, &ip(n.node), &ip(backend))
}

/// What comes from the other node.
fn from_tunnel(n: &Names, frame: &[u8], backend: &str) -> Vec<u8> {
    wrapped(frame, IN, other_node(n), &ip(backend))
}

fn left(reason: Reason, bytes: Vec<u8>) -> Run {
    Run { reason, code: code::REDIRECT, bytes }
}

fn tcp(n: &Names, flags: u8) -> Packet {
    sent(Packet::tcp(flags, n.outside, n.vip))
}

#[test]
fn a_client_from_outside_is_sent_to_the_backends_node_as_it_is_and_stays_there() {
    for n in &FAMILIES {
        let mut dataplane = entrance(n);
        for (packet, reason) in [
            (tcp(n, flags::SYN), Reason::ServiceNew),
            (tcp(n, flags::SYN), Reason::FlowForward),
            (tcp(n, flags::ACK).with_payload(b"GET /"), Reason::FlowForward),
            (tcp(n, flags::FIN), Reason::FlowForward),
            (tcp(n, flags::SYN), Reason::ServiceNew),
            (sent(Packet::udp(n.outside, n.vip)), Reason::ServiceNew),
            (sent(Packet::udp(n.outside, n.vip)), Reason::FlowForward),
        ] {
            let expected = left(reason, in_tunnel(n, &packet, n.backend));
            assert_eq!(dataplane.run_on("from_wire", UPLINK, &packet.bytes()), expected, "{packet:?}");
        }
        let of = |proto| format!("{} > {} {proto} = {}", n.outside, n.vip, n.backend);
        assert_eq!(dataplane.tunnels(), ["TCP", "UDP"].map(of));
        assert_eq!([dataplane.flows(), dataplane.half_open()].concat(), Vec::<String>::new());
    }
}

#[test]
fn clients_that_are_not_from_outside_and_backends_whose_node_takes_no_tunnel_are_translated() {
    for n in &FAMILIES {
        for (hook, client) in [("from_wire", n.client), ("from_pod", n.client), ("from_pod", n.outside)] {
            let mut dataplane = entrance(n);
            let syn = sent(Packet::tcp(flags::SYN, client, n.vip));
            let expected = redirected(Reason::ServiceNew, &syn.between(n.node, n.backend).forwarded(OUT));
            assert_eq!(dataplane.run_on(hook, UPLINK, &syn.bytes()), expected, "{hook} {client}");
            assert_eq!(dataplane.tunnels(), Vec::<String>::new());
        }
        let mut dataplane = entrance(n);
        serve(&mut dataplane, n, &[n.other_backend], |_| {});
        let syn = tcp(n, flags::SYN);
        let expected = syn.between(n.node, n.other_backend).forwarded(OUT);
        assert_eq!(
            dataplane.run_on("from_wire", UPLINK, &syn.bytes()),
            redirected(Reason::ServiceNew, &expected)
        );
        assert_eq!(dataplane.tunnels(), Vec::<String>::new());
    }
}

#[test]
fn a_backend_of_this_node_sees_the_client_without_a_tunnel() {
    for n in &FAMILIES {
        let mut dataplane = exit(n);
        let syn = tcp(n, flags::SYN);
        let delivered = syn.between(n.outside, n.backend).forwarded(TO_POD);
        assert_eq!(
            dataplane.run_on("from_wire", UPLINK, &syn.bytes()),
            redirected(Reason::ServiceNew, &delivered)
        );
    }
}

#[test]
fn the_backends_node_delivers_what_was_in_the_tunnel_and_answers_the_client_from_the_frontend() {
    for n in &FAMILIES {
        let mut dataplane = exit(n);
        let answer = |packet: Packet| Packet { link: Link { to: HOST_MAC, from: POD_MAC }, ..packet };
        let size = |bytes: [u8; 2]| vec![2, 4, bytes[0], bytes[1], 1, 1, 1, 0];
        for (question, reason) in [
            (tcp(n, flags::SYN), Reason::ServiceNew),
            (sent(Packet::udp(n.outside, n.vip)), Reason::ServiceNew),
        ] {
            let frame = from_tunnel(n, &question.bytes(), n.backend);
            let delivered = question.between(n.outside, n.backend).forwarded(TO_POD);
            assert_eq!(dataplane.run_on("from_wire", UPLINK, &frame), redirected(reason, &delivered));
        }
        let offer = 1460_u16;
        let options = size(offer.to_be_bytes());
        let syn_ack = answer(Packet { options, ..Packet::tcp(flags::SYN_ACK, n.backend, n.outside) });
        let lowered = size((offer - outer_length(n) as u16).to_be_bytes());
        // Once as the answer to the SYN, once more of a connection that is answered.
        for _ in 0..2 {
            let sent = Packet { options: lowered.clone(), ..syn_ack.between(n.vip, n.outside) };
            assert_eq!(
                dataplane.run_on("from_pod", POD, &syn_ack.bytes()),
                redirected(Reason::FlowReply, &sent.forwarded(OUT))
            );
        }
        for packet in [
            answer(Packet::tcp(flags::ACK, n.backend, n.outside).with_payload(b"data")),
            answer(Packet::udp(n.backend, n.outside)),
        ] {
            let sent = packet.between(n.vip, n.outside).forwarded(OUT);
            assert_eq!(
                dataplane.run_on("from_pod", POD, &packet.bytes()),
                redirected(Reason::FlowReply, &sent)
            );
        }
        let more = tcp(n, flags::ACK).with_payload(b"more");
        let frame = from_tunnel(n, &more.bytes(), n.backend);
        let delivered = more.between(n.outside, n.backend).forwarded(TO_POD);
        assert_eq!(
            dataplane.run_on("from_wire", UPLINK, &frame),
            redirected(Reason::FlowForward, &delivered)
        );
    }
}

#[test]
fn only_nodes_may_send_tunnels() {
    for n in &FAMILIES {
        let mut dataplane = exit(n);
        for packet in [tcp(n, flags::SYN), sent(Packet::udp(n.outside, n.vip))] {
            let frame = wrapped(&packet.bytes(), IN, router(n), &ip(n.backend));
            let expected = Run { reason: Reason::ForeignTunnel, code: code::DROP, bytes: frame.clone() };
            assert_eq!(dataplane.run_on("from_wire", UPLINK, &frame), expected);
        }
        assert_eq!(dataplane.half_open(), Vec::<String>::new());
    }
}

#[test]
fn a_tunnel_to_no_backend_of_this_node_and_one_in_the_middle_of_nothing_are_dropped() {
    for n in &FAMILIES {
        let mut dataplane = exit(n);
        for (packet, end) in [
            (tcp(n, flags::SYN), n.other_backend),
            (sent(Packet::udp(n.outside, n.vip)), n.other_backend),
            (tcp(n, flags::ACK), n.backend),
            (tcp(n, flags::RST), n.backend),
        ] {
            let frame = from_tunnel(n, &packet.bytes(), end);
            let expected = Run { reason: Reason::StrayTunnel, code: code::DROP, bytes: packet.bytes() };
            assert_eq!(dataplane.run_on("from_wire", UPLINK, &frame), expected, "{packet:?}");
        }
        assert_eq!(dataplane.half_open(), Vec::<String>::new());
    }
}

#[test]
fn tunnels_of_others_pass_untouched() {
    for n in &FAMILIES {
        let mut dataplane = exit(n);
        let to_pod = sent(Packet::tcp(flags::SYN, n.outside, n.backend));
        let in_fragments =
            Packet { fragment: Some(Fragment::Later(1480)), ..sent(Packet::udp(n.outside, n.vip)) };
        let ping = sent(Packet::new(tests::packet::Transport::Echo, n.outside, n.vip));
        for packet in [to_pod, in_fragments, ping] {
            let frame = from_tunnel(n, &packet.bytes(), n.backend);
            let expected = Run { reason: Reason::NoPorts, code: code::NEXT, bytes: frame.clone() };
            assert_eq!(dataplane.run_on("from_wire", UPLINK, &frame), expected, "{packet:?}");
        }
        let mut without = node_with(n, config());
        let frame = from_tunnel(n, &tcp(n, flags::SYN).bytes(), n.backend);
        let expected = Run { reason: Reason::NoPorts, code: code::NEXT, bytes: frame.clone() };
        assert_eq!(without.run_on("from_wire", UPLINK, &frame), expected);
    }
}

#[test]
fn what_is_too_large_for_the_tunnel_is_told_so_whether_or_not_it_may_be_cut() {
    for n in &FAMILIES {
        let mut dataplane = entrance(n);
        tests::dataplane::ip("link set uplink mtu 1400");
        let room = 1400 - outer_length(n);
        for may_be_cut in [false, true] {
            let of_size = |size: usize| Packet {
                payload: vec![7; size - outer_length(n) - 8],
                may_be_cut,
                ..sent(Packet::udp(n.outside, n.vip))
            };
            let fits = dataplane.run_on("from_wire", UPLINK, &of_size(room).bytes());
            assert_eq!(fits, left(fits.reason, in_tunnel(n, &of_size(room), n.backend)));
            let large = of_size(room + 1);
            let told = IcmpError {
                link: OUT,
                quoted: outer_length(n) + 8,
                service: 0xc0,
                ..IcmpError::new(Wrong::TooLarge(room as u16), &ip(n.vip), &large)
            };
            let expected = left(Reason::TooLarge, told.bytes());
            assert_eq!(dataplane.run_on("from_wire", UPLINK, &large.bytes()), expected, "{may_be_cut}");
        }
    }
}

#[test]
fn an_error_about_an_answer_takes_the_tunnel_and_reaches_the_backend() {
    for n in &FAMILIES {
        for (question, answer) in [
            (tcp(n, flags::SYN), Packet::tcp(flags::SYN_ACK, n.backend, n.outside)),
            (sent(Packet::udp(n.outside, n.vip)), Packet::udp(n.backend, n.outside)),
        ] {
            let about = answer.between(n.vip, n.outside);
            let error = IcmpError { link: IN, ..IcmpError::new(Wrong::TooLarge(1280), router(n), &about) };

            let mut entrance = entrance(n);
            entrance.run_on("from_wire", UPLINK, &question.bytes());
            let inside = IcmpError { hops: 63, ..error.clone() }.bytes();
            let expected = left(Reason::RelatedError, wrapped(&inside, OUT, &ip(n.node), &ip(n.backend)));
            assert_eq!(entrance.run_on("from_wire", UPLINK, &error.bytes()), expected);

            let mut exit = exit(n);
            exit.run_on("from_wire", UPLINK, &from_tunnel(n, &question.bytes(), n.backend));
            let delivered = IcmpError {
                link: TO_POD,
                to: addr(n.backend).ip(),
                hops: 63,
                about: answer.clone(),
                ..error.clone()
            };
            let frame = from_tunnel(n, &error.bytes(), n.backend);
            let expected = left(Reason::RelatedError, delivered.bytes());
            assert_eq!(exit.run_on("from_wire", UPLINK, &frame), expected);
            let foreign = wrapped(&error.bytes(), IN, router(n), &ip(n.backend));
            let expected = Run { reason: Reason::ForeignTunnel, code: code::DROP, bytes: foreign.clone() };
            assert_eq!(exit.run_on("from_wire", UPLINK, &foreign), expected);
        }
    }
}

#[test]
fn a_connection_met_in_its_middle_goes_on_only_where_every_node_chooses_alike() {
    for n in &FAMILIES {
        let ack = tcp(n, flags::ACK).with_payload(b"data");
        let mut dataplane = entrance(n);
        assert_eq!(dataplane.run_on("from_wire", UPLINK, &ack.bytes()), next(Reason::MidStream, &ack));
        serve(&mut dataplane, n, &[&format!("{}^", n.backend)], |f| f.algorithm = Algorithm::MAGLEV);
        let expected = left(Reason::ServiceNew, in_tunnel(n, &ack, n.backend));
        assert_eq!(dataplane.run_on("from_wire", UPLINK, &ack.bytes()), expected);
        // A local backend has the connection in the tables of flows, or has it not.
        let mut local = entrance(n);
        serve(&mut local, n, &[&format!("{}*", n.backend)], |f| f.algorithm = Algorithm::MAGLEV);
        assert_eq!(local.run_on("from_wire", UPLINK, &ack.bytes()), next(Reason::MidStream, &ack));
    }
}

#[test]
fn a_new_try_and_a_datagram_choose_anew_when_their_backend_is_gone_and_a_connection_stays() {
    for n in &FAMILIES {
        let mut dataplane = entrance(n);
        let (syn, ack, udp) = (tcp(n, flags::SYN), tcp(n, flags::ACK), sent(Packet::udp(n.outside, n.vip)));
        for packet in [&syn, &udp] {
            dataplane.run_on("from_wire", UPLINK, &packet.bytes());
        }
        dataplane.age_tunnels();
        let flow = |packet: &Packet, backend| left(Reason::FlowForward, in_tunnel(n, packet, backend));
        assert_eq!(dataplane.run_on("from_wire", UPLINK, &udp.bytes()), flow(&udp, n.backend));
        dataplane.age_tunnels();
        serve(&mut dataplane, n, &[&format!("{}^", n.other_backend)], |frontend| frontend.generation = 2);
        assert_eq!(dataplane.run_on("from_wire", UPLINK, &ack.bytes()), flow(&ack, n.backend));
        for packet in [&udp, &syn] {
            let expected = left(Reason::ServiceNew, in_tunnel(n, packet, n.other_backend));
            assert_eq!(dataplane.run_on("from_wire", UPLINK, &packet.bytes()), expected);
        }
    }
}

#[test]
fn a_datagram_in_fragments_is_translated() {
    for n in &FAMILIES {
        let mut dataplane = entrance(n);
        let first = Packet {
            fragment: Some(Fragment::First),
            payload: vec![7; 64],
            ..sent(Packet::udp(n.outside, n.vip))
        };
        let expected = first.between(n.node, n.backend).forwarded(OUT);
        assert_eq!(
            dataplane.run_on("from_wire", UPLINK, &first.bytes()),
            redirected(Reason::ServiceNew, &expected)
        );
    }
}

#[test]
fn without_a_device_to_the_backends_node_or_a_hop_left_there_is_no_tunnel() {
    for n in &FAMILIES {
        let mut dataplane = entrance(n);
        let last = Packet { hops: 1, ..tcp(n, flags::SYN) };
        let dropped =
            |packet: &Packet| Run { reason: Reason::NoTunnel, code: code::DROP, bytes: packet.bytes() };
        assert_eq!(dataplane.run_on("from_wire", UPLINK, &last.bytes()), dropped(&last));
        let family = if n.vip.starts_with('[') { "-6" } else { "-4" };
        tests::dataplane::ip(&format!("{family} route del {}", ip(n.backend)));
        let udp = sent(Packet::udp(n.outside, n.vip));
        assert_eq!(dataplane.run_on("from_wire", UPLINK, &udp.bytes()), dropped(&udp));
    }
}
