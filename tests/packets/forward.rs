//! The life of a translated connection: opened, answered, established, closed, and its ports used again.

use proxy_common::{DatapathConfig, FlowFlags, FrontendKey, Port, Proto, Reason, V4};
use tests::dataplane::{Dataplane, config};
use tests::object::{self, Cell};
use tests::packet::{Packet, Transport, flags};

use crate::family::{FAMILIES, Names, next};

/// Both entries of the connection client → vip → backend, as text.
fn entries(n: &Names, proto: &str, forward: &str, reply: &str) -> Vec<String> {
    let Names { client, vip, backend, .. } = n;
    let mut lines = vec![
        format!("{client} > {vip} {proto} = {client} > {backend} {forward} service 1 generation 1"),
        format!("{backend} > {client} {proto} = {vip} > {client} {reply} service 1 generation 1"),
    ];
    lines.sort_unstable();
    lines
}

/// Opens and answers a TCP connection.
fn establish(dataplane: &mut Dataplane, n: &Names) {
    dataplane.run("from_pod", &Packet::tcp(flags::SYN, n.client, n.vip).bytes());
    dataplane.run("from_wire", &Packet::tcp(flags::SYN_ACK, n.backend, n.client).bytes());
}

#[test]
fn a_tcp_connection_is_translated_both_ways_and_promoted_by_its_answer() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        let from = |flags, data: &[u8]| Packet::tcp(flags, n.client, n.vip).with_payload(data);
        let answer = |flags, data: &[u8]| Packet::tcp(flags, n.backend, n.client).with_payload(data);

        let syn = from(flags::SYN, b"");
        assert_eq!(
            dataplane.run("from_pod", &syn.bytes()),
            next(Reason::ServiceNew, &syn.between(n.client, n.backend))
        );
        assert_eq!(dataplane.half_open(), entries(n, "TCP", "{routed} stack", "{reply} stack"));
        assert_eq!(dataplane.flows(), [""; 0]);

        let answered = answer(flags::SYN_ACK, b"");
        assert_eq!(
            dataplane.run("from_wire", &answered.bytes()),
            next(Reason::FlowReply, &answered.between(n.vip, n.client))
        );
        assert_eq!(dataplane.half_open(), [""; 0]);
        assert_eq!(dataplane.flows(), entries(n, "TCP", "{brief} stack", "{reply, routed} stack"));

        let data = from(flags::ACK, b"an odd number of bytes!");
        assert_eq!(
            dataplane.run("from_pod", &data.bytes()),
            next(Reason::FlowForward, &data.between(n.client, n.backend))
        );
        let data = answer(flags::ACK, b"and an answer");
        assert_eq!(
            dataplane.run("from_wire", &data.bytes()),
            next(Reason::FlowReply, &data.between(n.vip, n.client))
        );
        assert_eq!(dataplane.flows(), entries(n, "TCP", "{routed} stack", "{reply, routed} stack"));
    }
}

/// Whoever opens under an address that is not its own never hears the answer, and never acknowledges it.
#[test]
fn a_connection_is_brief_until_its_client_acknowledges_whatever_else_comes() {
    for n in &FAMILIES {
        let from = |flags| Packet::tcp(flags, n.client, n.vip);
        let answer = |flags| Packet::tcp(flags, n.backend, n.client);
        for end in [flags::ACK, flags::FIN, flags::SYN_ACK] {
            let mut dataplane = Dataplane::new(config());
            dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
            let brief = entries(n, "TCP", "{routed, brief} stack", "{reply, routed} stack");
            establish(&mut dataplane, n);
            for packet in [
                // Sent again, with data, and answered again; and what the backend has to say before it hears more.
                from(flags::SYN),
                from(flags::SYN).with_payload(b"data"),
                from(flags::SYN),
            ] {
                let run = dataplane.run("from_pod", &packet.bytes());
                assert_eq!(run, next(Reason::FlowForward, &packet.between(n.client, n.backend)));
                assert_eq!(dataplane.flows(), brief);
            }
            for packet in [answer(flags::SYN_ACK), answer(flags::ACK).with_payload(b"data")] {
                let run = dataplane.run("from_wire", &packet.bytes());
                assert_eq!(run, next(Reason::FlowReply, &packet.between(n.vip, n.client)));
                assert_eq!(dataplane.flows(), brief);
            }
            let packet = from(end);
            let run = dataplane.run("from_pod", &packet.bytes());
            assert_eq!(run, next(Reason::FlowForward, &packet.between(n.client, n.backend)));
            let forward =
                if end & flags::FIN == flags::FIN { "{fin, routed} stack" } else { "{routed} stack" };
            assert_eq!(dataplane.flows(), entries(n, "TCP", forward, "{reply, routed} stack"));
        }
    }
}

#[test]
fn udp_is_translated_both_ways_and_promoted_by_its_answer() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::UDP, n.vip, &[n.backend], |_| {});
        let query = Packet::udp(n.client, n.vip);
        let answer = Packet::udp(n.backend, n.client).with_payload(b"an answer");

        let translated = query.between(n.client, n.backend);
        assert_eq!(dataplane.run("from_pod", &query.bytes()), next(Reason::ServiceNew, &translated));
        assert_eq!(dataplane.run("from_pod", &query.bytes()), next(Reason::FlowForward, &translated));
        assert_eq!(dataplane.half_open(), entries(n, "UDP", "{routed} stack", "{reply} stack"));

        let shown = answer.between(n.vip, n.client);
        assert_eq!(dataplane.run("to_pod", &answer.bytes()), next(Reason::FlowReply, &shown));
        assert_eq!(dataplane.flows(), entries(n, "UDP", "{} stack", "{reply} stack"));
        assert_eq!(dataplane.half_open(), [""; 0]);
        assert_eq!(dataplane.run("from_pod", &query.bytes()), next(Reason::FlowForward, &translated));
    }
}

#[test]
fn an_ipv4_datagram_without_checksum_keeps_none() {
    let n = &FAMILIES[0];
    let mut dataplane = Dataplane::new(config());
    dataplane.serve(Proto::UDP, n.vip, &[n.backend], |_| {});
    let query = Packet::new(Transport::UdpUnsummed, n.client, n.vip);
    assert_eq!(
        dataplane.run("from_pod", &query.bytes()),
        next(Reason::ServiceNew, &query.between(n.client, n.backend))
    );
}

/// The checksum of a datagram is never written as zero, which would say that there is none (RFC 768).
#[test]
fn a_udp_checksum_that_comes_out_as_zero_is_written_as_all_ones() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::UDP, n.vip, &[n.backend], |_| {});
        let translated = |data: u16| Packet::udp(n.client, n.backend).with_payload(&data.to_be_bytes());
        let transport = if n.vip.starts_with('[') { 54 } else { 34 };
        let sum = |data: u16| translated(data).bytes()[transport + 6..transport + 8].to_vec();
        let data = (0..=u16::MAX).find(|data| sum(*data) == [0xff, 0xff]).expect("one of all words does it");
        let query = Packet::udp(n.client, n.vip).with_payload(&data.to_be_bytes());
        assert_eq!(dataplane.run("from_pod", &query.bytes()), next(Reason::ServiceNew, &translated(data)));
    }
}

/// The start of an INIT, of a DATA and of an ABORT chunk (RFC 9260 section 3.3), and data of odd length.
const CHUNKS: [&[u8]; 4] = [
    &[1, 0, 0, 20, 0, 0, 0, 7, 0, 1, 0, 0, 0, 10, 0, 10, 0, 0, 0, 1],
    &[0, 3, 0, 20, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, b'd', b'a', b't', b'a'],
    &[6, 0, 0, 4],
    &[7; 1001],
];

#[test]
fn sctp_is_translated_both_ways_with_its_crc() {
    for n in &FAMILIES {
        let backends = [n.backend.to_owned(), n.backend.replace("8080", "80")];
        // 0: where sockets are translated; no hook is asked when one of SCTP connects.
        for (backend, pod_packets) in backends.iter().flat_map(|backend| [(backend, 0), (backend, 1)]) {
            let mut dataplane = Dataplane::new(DatapathConfig { pod_packets, ..config() });
            dataplane.serve(Proto::SCTP, n.vip, &[backend], |_| {});
            for (index, chunk) in CHUNKS.iter().enumerate() {
                let reason = if index == 0 { Reason::ServiceNew } else { Reason::FlowForward };
                let sent = Packet::new(Transport::Sctp, n.client, n.vip).with_payload(chunk);
                assert_eq!(
                    dataplane.run("from_pod", &sent.bytes()),
                    next(reason, &sent.between(n.client, backend))
                );
                let answer = Packet::new(Transport::Sctp, backend, n.client).with_payload(chunk);
                assert_eq!(
                    dataplane.run("from_wire", &answer.bytes()),
                    next(Reason::FlowReply, &answer.between(n.vip, n.client))
                );
            }
        }
    }
}

#[test]
fn an_sctp_crc_that_the_device_is_to_fill_in_stays_zero() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::SCTP, n.vip, &[n.backend], |_| {});
        let init = Packet::new(Transport::SctpUnsummed, n.client, n.vip).with_payload(CHUNKS[0]);
        assert_eq!(
            dataplane.run("from_pod", &init.bytes()),
            next(Reason::ServiceNew, &init.between(n.client, n.backend))
        );
    }
}

#[test]
fn a_middle_of_a_connection_that_nobody_knows_is_the_stacks() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        for flags in [flags::ACK, flags::FIN, flags::RST, flags::SYN_ACK] {
            for program in ["from_pod", "to_pod", "from_wire", "to_wire"] {
                let packet = Packet::tcp(flags, n.client, n.vip);
                assert_eq!(dataplane.run(program, &packet.bytes()), next(Reason::MidStream, &packet));
            }
        }
    }
}

#[test]
fn a_client_that_tries_again_keeps_its_backend_while_the_backends_stay() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend, n.other_backend], |_| {});
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        let first = dataplane.run("from_pod", &syn.bytes());
        for _ in 0..16 {
            let again = dataplane.run("from_pod", &syn.bytes());
            assert_eq!((again.reason, again.bytes), (Reason::FlowForward, first.bytes.clone()));
        }
        // The backends change: a new segment under a new generation, which has only the other backend.
        dataplane.serve(Proto::TCP, n.vip, &[n.other_backend], |frontend| {
            frontend.service = proxy_common::ServiceId(1);
            frontend.generation = 2;
        });
        assert_eq!(
            dataplane.run("from_pod", &syn.bytes()),
            next(Reason::ServiceNew, &syn.between(n.client, n.other_backend))
        );
        assert_eq!(dataplane.half_open().len(), 2, "the old entries are gone: {:?}", dataplane.half_open());
    }
}

#[test]
fn items_101_and_103_datagrams_that_nobody_answers_stay_with_their_backend_while_others_come_and_go() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::UDP, n.vip, &[n.backend], |_| {});
        let sent = Packet::udp(n.client, n.vip);
        let arrives = sent.between(n.client, n.backend);
        assert_eq!(dataplane.run("from_pod", &sent.bytes()), next(Reason::ServiceNew, &arrives));
        dataplane.serve(Proto::UDP, n.vip, &[n.other_backend], |frontend| {
            frontend.service = proxy_common::ServiceId(1);
            frontend.generation = 2;
        });
        assert_eq!(dataplane.run("from_pod", &sent.bytes()), next(Reason::FlowForward, &arrives));
    }
}

#[test]
fn a_refused_client_chooses_anew_and_the_refusal_is_translated() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        let refusal = Packet::tcp(flags::RST, n.backend, n.client);
        dataplane.run("from_pod", &syn.bytes());
        assert_eq!(
            dataplane.run("from_wire", &refusal.bytes()),
            next(Reason::FlowReply, &refusal.between(n.vip, n.client))
        );
        assert_eq!(dataplane.flows(), [""; 0], "a refusal is no answer that deserves a place for good");
        assert_eq!(
            dataplane.run("from_pod", &syn.bytes()),
            next(Reason::ServiceNew, &syn.between(n.client, n.backend))
        );
    }
}

#[test]
fn the_ends_of_a_connection_are_noted_and_its_ports_may_be_used_again() {
    for n in &FAMILIES {
        for closing in [
            vec![("from_pod", flags::FIN), ("from_wire", flags::FIN)],
            vec![("from_wire", flags::RST)],
            vec![("from_pod", flags::RST)],
        ] {
            let mut dataplane = Dataplane::new(config());
            dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
            establish(&mut dataplane, n);
            let syn = Packet::tcp(flags::SYN, n.client, n.vip);
            let translated = syn.between(n.client, n.backend);
            assert_eq!(
                dataplane.run("from_pod", &syn.bytes()),
                next(Reason::FlowForward, &translated),
                "a repeated SYN does not open a live connection again"
            );
            for (program, flags) in closing {
                let packet = match program {
                    "from_pod" => Packet::tcp(flags, n.client, n.vip),
                    _ => Packet::tcp(flags, n.backend, n.client),
                };
                dataplane.run(program, &packet.bytes());
            }
            assert_eq!(dataplane.flows().len(), 2, "whoever is late still gets the last packets");
            assert_eq!(dataplane.run("from_pod", &syn.bytes()), next(Reason::ServiceNew, &translated));
            assert_eq!(dataplane.flows(), [""; 0]);
            assert_eq!(dataplane.half_open().len(), 2);
        }
    }
}

#[test]
fn both_directions_note_their_fin() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        establish(&mut dataplane, n);
        dataplane.run("from_pod", &Packet::tcp(flags::FIN, n.client, n.vip).bytes());
        assert_eq!(dataplane.flows(), entries(n, "TCP", "{fin, routed} stack", "{reply, routed} stack"));
        dataplane.run("from_wire", &Packet::tcp(flags::FIN, n.backend, n.client).bytes());
        assert_eq!(dataplane.flows(), entries(n, "TCP", "{fin, routed} stack", "{reply, fin, routed} stack"));
    }
}

#[test]
fn an_entry_is_stamped_at_most_once_in_256_ticks() {
    let n = &FAMILIES[0];
    let mut dataplane = Dataplane::new(config());
    dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
    establish(&mut dataplane, n);
    let stamp = |dataplane: &mut Dataplane, by: u32| {
        dataplane.change_flows::<V4>(|_, flow| flow.seen = flow.seen.wrapping_sub(by));
    };
    let seen = |dataplane: &mut Dataplane| {
        let cell = std::cell::Cell::new(0);
        dataplane.change_flows::<V4>(|_, flow| {
            if !flow.flags.has(FlowFlags::REPLY) {
                cell.set(flow.seen);
            }
        });
        cell.get()
    };
    let packet = Packet::tcp(flags::ACK, n.client, n.vip).bytes();
    dataplane.run("from_pod", &packet);
    let fresh = seen(&mut dataplane);
    stamp(&mut dataplane, 100_000);
    dataplane.run("from_pod", &packet);
    let stamped = seen(&mut dataplane);
    assert!(stamped.wrapping_sub(fresh) < 60_000, "an old stamp is renewed: {fresh} {stamped}");
    stamp(&mut dataplane, 20);
    let set = seen(&mut dataplane);
    dataplane.run("from_pod", &packet);
    let after = seen(&mut dataplane);
    assert!(after == set || after.wrapping_sub(set) >= 256, "a young stamp is left alone: {set} {after}");
}

#[test]
fn a_full_table_of_flows_drops_the_answer_and_says_so() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::with_entries(config(), 8);
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |_| {});
        // The table promises eight entries; the kernel may have a few more, one per processor.
        let mut last = None;
        for port in 40_000..40_064 {
            let client = n.client.replace("40000", &port.to_string());
            dataplane.run("from_pod", &Packet::tcp(flags::SYN, &client, n.vip).bytes());
            let answer = Packet::tcp(flags::SYN_ACK, n.backend, &client);
            last = Some((dataplane.run("from_wire", &answer.bytes()), answer));
        }
        let (run, answer) = last.expect("the loop ran");
        assert_eq!(run, crate::family::dropped(Reason::FlowTableFull, &answer));
        assert_eq!(dataplane.flows().len() % 2, 0, "no entry without its other half");
    }
}

#[test]
fn a_broken_segment_drops_and_says_so() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        dataplane.serve(Proto::TCP, n.vip, &[n.backend], |frontend| frontend.cluster.start = 1 << 30);
        let syn = Packet::tcp(flags::SYN, n.client, n.vip);
        assert_eq!(dataplane.run("from_pod", &syn.bytes()), crate::family::dropped(Reason::BadSegment, &syn));
    }
}

#[test]
fn a_frontend_that_is_gone_takes_its_unanswered_connections_along() {
    let n = &FAMILIES[0];
    let mut dataplane = Dataplane::new(config());
    dataplane.serve(Proto::UDP, n.vip, &[n.backend], |_| {});
    let query = Packet::udp(n.client, n.vip);
    dataplane.run("from_pod", &query.bytes());
    let key = FrontendKey::new(
        proxy_common::Addr4::from(std::net::Ipv4Addr::new(10, 96, 0, 10)),
        Port::new(80),
        Proto::UDP,
    );
    object::hash::<FrontendKey<_>, proxy_common::Frontend>(dataplane.object(), "frontends4")
        .remove(&Cell(key))
        .expect("the frontend was there");
    assert_eq!(dataplane.run("from_pod", &query.bytes()).reason, Reason::UnknownPort);
    assert_eq!(dataplane.half_open(), [""; 0]);
}
