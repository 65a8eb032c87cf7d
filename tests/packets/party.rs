//! Packets of pods that no connection in the tables can have (decision 0043), on a node whose pods' sockets are translated. That
//! each entry's source is named is looked at wherever a test ends (`tests::parties`).

use proxy_common::{DatapathConfig, Proto, Reason, party::Parties, policy::PolicyFlags};
use tests::dataplane::{Dataplane, Named, Run, config, endpoint};
use tests::object;
use tests::packet::{Fragment, Packet, Transport, flags};

use proxy_common::{Addr4, Addr6, V4, V6};

use crate::family::{FAMILIES, Names, dropped, next};

const STATES: [Parties; 3] = [Parties::UNKNOWN, Parties::BEING_NAMED, Parties::NAMED];

fn sockets() -> DatapathConfig {
    DatapathConfig { pod_packets: 0, ..config() }
}

fn from_pod(dataplane: &mut Dataplane, packet: &Packet) -> Run {
    dataplane.run("from_pod", &packet.bytes())
}

/// Whose entries a host outside has left that asks a Service whose backend is a pod of this node; and the pod's answer, as it
/// comes and as it goes.
fn answered(dataplane: &mut Dataplane, n: &Names) -> (Packet, Packet) {
    dataplane.serve(Proto::TCP, n.vip, &[n.own_backend], |_| {});
    let syn = Packet::tcp(flags::SYN, n.outside, n.vip);
    assert_eq!(
        dataplane.run("from_wire", &syn.bytes()),
        next(Reason::ServiceNew, &syn.between(n.outside, n.own_backend))
    );
    let answer = Packet::tcp(flags::SYN_ACK, n.own_backend, n.outside);
    assert_eq!(
        from_pod(dataplane, &answer),
        next(Reason::FlowReply, &answer.between(n.vip, n.outside)),
        "its bit was set before the entry was made"
    );
    let data = Packet::tcp(flags::ACK, n.own_backend, n.outside).with_payload(b"data");
    (data.clone(), data.between(n.vip, n.outside))
}

/// Takes the pod's bit away, or gives it back.
fn set_named(dataplane: &mut Dataplane, n: &Names, is_named: bool) {
    fn one<F: Named>(dataplane: &mut Dataplane, text: &str, is_named: bool) {
        let (addr, _) = endpoint::<F>(text);
        if is_named { dataplane.name_party(&addr) } else { dataplane.forget_party(&addr) }
    }
    if n.vip.starts_with('[') {
        one::<V6>(dataplane, n.own_backend, is_named);
    } else {
        one::<V4>(dataplane, n.own_backend, is_named);
    }
}

#[test]
fn an_entry_is_looked_for_if_its_source_is_named_or_nobody_trusts_the_names() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(sockets());
        let (data, translated) = answered(&mut dataplane, n);
        let found = next(Reason::FlowReply, &translated);
        for state in STATES {
            dataplane.trust_parties(state);
            assert_eq!(from_pod(&mut dataplane, &data), found, "{state:?}");
        }
        set_named(&mut dataplane, n, false);
        for state in STATES {
            dataplane.trust_parties(state);
            let seen = from_pod(&mut dataplane, &data);
            let overlooked = state == Parties::NAMED;
            assert_eq!(seen, if overlooked { next(Reason::MidStream, &data) } else { found.clone() });
        }
        // Policies have a say in what nobody translates.
        dataplane.enforce(1, PolicyFlags::default());
        assert_eq!(from_pod(&mut dataplane, &data), found);
        set_named(&mut dataplane, n, true);
    }
}

#[test]
fn where_pods_packets_are_served_names_mean_nothing() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(config());
        let (data, translated) = answered(&mut dataplane, n);
        set_named(&mut dataplane, n, false);
        assert_eq!(from_pod(&mut dataplane, &data), next(Reason::FlowReply, &translated));
        set_named(&mut dataplane, n, true);
    }
}

#[test]
fn who_opens_a_connection_to_an_address_that_has_some_is_told_apart_from_them() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(sockets());
        answered(&mut dataplane, n);
        // As the host outside would, whose own address has its bit; and from an address that has none.
        let syn = Packet::tcp(flags::SYN, n.outside, n.own_backend);
        assert_eq!(from_pod(&mut dataplane, &syn).reason, Reason::PortClash);
        let other = Packet::tcp(flags::SYN, n.backend, n.own_backend);
        assert_eq!(from_pod(&mut dataplane, &other), next(Reason::NotAService, &other));
    }
}

/// Everything that a pod may send, of which some is cut short.
fn frames(from: &str, to: &str) -> Vec<Vec<u8>> {
    let tcp = (0..64).map(|flags| Packet::tcp(flags, from, to));
    let others =
        [Transport::Udp, Transport::UdpUnsummed, Transport::Sctp, Transport::Echo, Transport::EchoReply];
    let others = others.map(|transport| Packet::new(transport, from, to));
    let fragment = |fragment| Packet { fragment: Some(fragment), ..Packet::udp(from, to) };
    let fragments = [Fragment::First, Fragment::Middle(8), Fragment::Later(16)].map(fragment);
    let whole: Vec<_> = tcp.chain(others).chain(fragments).map(|packet| packet.bytes()).collect();
    let short = whole.iter().flat_map(|bytes| [1, 5].map(|less| bytes[..bytes.len() - less].to_vec()));
    short.chain(whole.iter().cloned()).collect()
}

#[test]
fn what_passes_at_once_passes_for_the_reason_that_all_lookups_come_to() {
    let mut passed = 0;
    for n in &FAMILIES {
        for ranges in [0, 1] {
            let mut dataplane = Dataplane::new(sockets());
            answered(&mut dataplane, n);
            if n.vip.starts_with('[') {
                object::change_node::<Addr6>(dataplane.object(), "node6", |node| node.ranges = ranges);
            } else {
                object::change_node::<Addr4>(dataplane.object(), "node4", |node| node.ranges = ranges);
            }
            for (from, to) in [
                (n.backend, n.stranger),
                (n.backend, n.vip),
                (n.backend, n.own_backend),
                (n.own_backend, n.stranger),
                (n.own_backend, n.backend),
            ] {
                for frame in frames(from, to) {
                    let [long, short] = [Parties::UNKNOWN, Parties::NAMED].map(|state| {
                        dataplane.trust_parties(state);
                        dataplane.run("from_pod", &frame)
                    });
                    assert_eq!(long, short, "{from} {to}");
                    passed += usize::from(short.code == tests::dataplane::code::NEXT);
                }
            }
        }
    }
    assert!(passed > 1_000, "{passed}");
}

#[test]
fn a_stranger_who_opens_with_less_than_a_packet_is_dropped() {
    for n in &FAMILIES {
        let mut dataplane = Dataplane::new(sockets());
        for packet in [Packet::tcp(flags::SYN, n.client, n.stranger), Packet::udp(n.client, n.stranger)] {
            assert_eq!(from_pod(&mut dataplane, &packet), next(Reason::NotAService, &packet));
            let bytes = packet.bytes();
            let cut = &bytes[..bytes.len() - 1];
            let run = dataplane.run("from_pod", cut);
            assert_eq!(run, Run { bytes: cut.to_vec(), ..dropped(Reason::Malformed, &packet) });
        }
    }
}
