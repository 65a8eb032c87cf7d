//! Backends that have another connection of the same ports: to the SYN they say what they know of that one, by a bare
//! acknowledgement (RFC 9293 section 3.10.7.4). A client that hears that resets the other one, and tries again within
//! milliseconds. If the ports are this node's, the other one is over, and is reset; if they are the client's own, it may be one
//! that the client has with the backend itself, and lives on.

use proxy_common::{ClientRule, Proto, Reason};
use tests::dataplane::{Dataplane, config};
use tests::packet::{Packet, flags};

use crate::family::{FAMILIES, Names, dropped, next, other_port};

/// A Service with one backend, and the way of its client's packets.
struct Case {
    client: &'static str,
    /// Whom the backend sees.
    seen: &'static str,
    hook: &'static str,
}

fn cases(n: &Names) -> [Case; 2] {
    [
        Case { client: n.client, seen: n.client, hook: "from_pod" },
        Case { client: n.outside, seen: n.node, hook: "from_wire" },
    ]
}

fn serve(n: &Names, case: &Case) -> Dataplane {
    let mut dataplane = Dataplane::new(config());
    let rule = if case.seen == n.node { ClientRule::MASQUERADE } else { ClientRule::CLUSTER };
    dataplane.serve(Proto::TCP, n.vip, &[n.backend], |frontend| frontend.rules = [rule; 3]);
    dataplane
}

/// With the options that stacks send, and as long as options can be.
fn options() -> [Vec<u8>; 2] {
    [vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2], vec![1; 40]]
}

#[test]
fn a_backends_doubt_and_the_clients_reset_are_translated_and_the_next_try_is_answered() {
    for n in &FAMILIES {
        let [_, case] = cases(n);
        let mut dataplane = serve(n, &case);
        let from_client = |flags| Packet::tcp(flags, case.client, n.vip);
        let from_backend = |flags| Packet::tcp(flags, n.backend, case.seen);
        let to_backend = |packet: &Packet| packet.between(case.seen, n.backend);
        let to_client = |packet: &Packet| packet.between(n.vip, case.client);

        let syn = from_client(flags::SYN);
        assert_eq!(dataplane.run(case.hook, &syn.bytes()), next(Reason::ServiceNew, &to_backend(&syn)));
        for options in options() {
            let doubt = Packet { options, ..from_backend(flags::ACK) };
            let run = dataplane.run("from_wire", &doubt.bytes());
            assert_eq!(run, next(Reason::FlowReply, &to_client(&doubt)));
            assert_eq!(dataplane.flows(), [""; 0], "this is no answer");
        }
        let reset = from_client(flags::RST);
        let run = dataplane.run(case.hook, &reset.bytes());
        assert_eq!(run, next(Reason::FlowForward, &to_backend(&reset)));
        // The same backend, also where there are others: they may have something to say, too, and a client tries at
        // once only once.
        let run = dataplane.run(case.hook, &syn.bytes());
        assert_eq!(run, next(Reason::FlowForward, &to_backend(&syn)));
        let answer = from_backend(flags::SYN_ACK);
        let run = dataplane.run("from_wire", &answer.bytes());
        assert_eq!(run, next(Reason::FlowReply, &to_client(&answer)));
        assert_eq!((dataplane.flows().len(), dataplane.half_open()), (2, vec![]));
    }
}

/// The client has a connection with the backend itself, of a port that it uses for the Service, too: it is left alone, and the
/// client's next try has another port.
#[test]
fn a_connection_that_a_backend_has_with_the_client_itself_is_not_reset() {
    for n in &FAMILIES {
        for options in options() {
            let [case, _] = cases(n);
            let mut dataplane = serve(n, &case);
            let syn = Packet::tcp(flags::SYN, n.client, n.vip);
            let run = dataplane.run("from_pod", &syn.bytes());
            assert_eq!(run, next(Reason::ServiceNew, &syn.between(n.client, n.backend)));
            let doubt = Packet { options, ..Packet::tcp(flags::ACK, n.backend, n.client) };
            let run = dataplane.run("from_wire", &doubt.bytes());
            assert_eq!(run, next(Reason::FlowReply, &doubt.between(n.vip, n.client)));
            let reset = Packet::tcp(flags::RST, n.client, n.vip);
            assert_eq!(dataplane.run("from_pod", &reset.bytes()), dropped(Reason::ForeignReset, &reset));
            // Whatever the backend says on the other connection from now on, and the client to it.
            for flags in [flags::ACK, flags::FIN, flags::RST, flags::SYN_ACK] {
                let other = Packet::tcp(flags, n.backend, n.client);
                assert_eq!(dataplane.run("from_wire", &other.bytes()), next(Reason::MidStream, &other));
                let other = other.between(n.client, n.backend);
                assert_eq!(dataplane.run("from_pod", &other.bytes()), next(Reason::MidStream, &other));
            }

            let run = dataplane.run("from_pod", &syn.bytes());
            let told = other_port(&run, n.client);
            assert_eq!(run, next(Reason::ServiceNew, &syn.between(&told, n.backend)));
            let answer = Packet::tcp(flags::SYN_ACK, n.backend, &told);
            let run = dataplane.run("from_wire", &answer.bytes());
            assert_eq!(run, next(Reason::FlowReply, &answer.between(n.vip, n.client)));
            let ack = Packet::tcp(flags::ACK, n.client, n.vip);
            let run = dataplane.run("from_pod", &ack.bytes());
            assert_eq!(run, next(Reason::FlowForward, &ack.between(&told, n.backend)));
            assert_eq!(dataplane.flows().len(), 2);
        }
    }
}

#[test]
fn what_carries_data_before_the_answer_is_no_doubt_and_is_the_stacks() {
    for n in &FAMILIES {
        for case in cases(n) {
            let mut dataplane = serve(n, &case);
            dataplane.run(case.hook, &Packet::tcp(flags::SYN, case.client, n.vip).bytes());
            let before = dataplane.half_open();
            let data = Packet::tcp(flags::ACK, n.backend, case.seen).with_payload(&[7; 41]);
            let end = Packet::tcp(flags::FIN, n.backend, case.seen);
            for packet in [data, end] {
                let run = dataplane.run("from_wire", &packet.bytes());
                assert_eq!(run, next(Reason::MidStream, &packet));
            }
            // The client has nothing to acknowledge yet.
            let early = Packet::tcp(flags::ACK, case.client, n.vip);
            assert_eq!(dataplane.run(case.hook, &early.bytes()), next(Reason::MidStream, &early));
            assert_eq!((dataplane.flows(), dataplane.half_open()), (vec![], before));
        }
    }
}

#[test]
fn a_client_that_resets_an_earlier_connection_tries_the_same_backend_again() {
    for n in &FAMILIES {
        for case in cases(n) {
            let mut dataplane = Dataplane::new(config());
            let rule = if case.seen == n.node { ClientRule::MASQUERADE } else { ClientRule::CLUSTER };
            dataplane.serve(Proto::TCP, n.vip, &[n.backend, n.other_backend], |frontend| {
                frontend.rules = [rule; 3];
            });
            for port in 41_000..41_016 {
                let client = case.client.replace("40000", &port.to_string());
                let syn = Packet::tcp(flags::SYN, &client, n.vip).bytes();
                let first = dataplane.run(case.hook, &syn);
                for _ in 0..2 {
                    dataplane.run(case.hook, &Packet::tcp(flags::RST, &client, n.vip).bytes());
                    let again = dataplane.run(case.hook, &syn);
                    assert_eq!((again.reason, again.bytes), (Reason::FlowForward, first.bytes.clone()));
                }
            }
        }
    }
}
