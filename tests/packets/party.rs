//! Packets of pods that no connection in the tables can have (decision 0043), on a node whose pods' sockets are translated. That
//! each entry's source is named is looked at wherever a test ends (`tests::parties`).

use proxy_common::{DatapathConfig, Proto, Reason, party::Parties, policy::PolicyFlags};
use tests::dataplane::{Dataplane, Named, Run, config, endpoint};
use tests::object;
use tests::packet::{Fragment, Packet, Transport, flags};

use proxy_common::{Addr4, Addr6, V4, V6};

use crate::family::{FAMILIES, Names, dropped, next};

const STATES: [Parties; 3] = [Parties::UNKNOWN, Parties::BEING_NAMED, Parties::NAMED];

/// Who passes strangers' packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum First {
    /// The program of pods' packets.
    FromPod,
    /// The one ahead of it.
    Strangers,
}

const FIRST: [First; 2] = [First::FromPod, First::Strangers];

impl First {
    /// The name of the program that hangs at a pod's device.
    fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::Strangers => "strangers",
        }
    }

    /// A node whose pods' sockets are translated.
    fn node(self) -> Dataplane {
        self.prepared(Dataplane::new(self.config()))
    }

    fn config(self) -> DatapathConfig {
        DatapathConfig { pod_packets: 0, ahead: u8::from(self == Self::Strangers), ..config() }
    }

    fn prepared(self, mut dataplane: Dataplane) -> Dataplane {
        match self {
            Self::FromPod => {}
            Self::Strangers => dataplane.put_ahead(),
        }
        dataplane
    }

    fn send(self, dataplane: &mut Dataplane, packet: &Packet) -> Run {
        dataplane.run(self.name(), &packet.bytes())
    }
}

/// Both programs at pods' devices, packets of both families.
fn nodes() -> impl Iterator<Item = (First, &'static Names)> {
    FIRST.into_iter().flat_map(|first| FAMILIES.iter().map(move |n| (first, n)))
}

/// Whose entries a host outside has left that asks a Service whose backend is a pod of this node; and the pod's answer, as it
/// comes and as it goes.
fn answered(first: First, dataplane: &mut Dataplane, n: &Names) -> (Packet, Packet) {
    dataplane.serve(Proto::TCP, n.vip, &[n.own_backend], |_| {});
    let syn = Packet::tcp(flags::SYN, n.outside, n.vip);
    assert_eq!(
        dataplane.run("from_wire", &syn.bytes()),
        next(Reason::ServiceNew, &syn.between(n.outside, n.own_backend))
    );
    let answer = Packet::tcp(flags::SYN_ACK, n.own_backend, n.outside);
    assert_eq!(
        first.send(dataplane, &answer),
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
    for (first, n) in nodes() {
        let mut dataplane = first.node();
        let (data, translated) = answered(first, &mut dataplane, n);
        let found = next(Reason::FlowReply, &translated);
        for state in STATES {
            dataplane.trust_parties(state);
            assert_eq!(first.send(&mut dataplane, &data), found, "{state:?}");
        }
        set_named(&mut dataplane, n, false);
        for state in STATES {
            dataplane.trust_parties(state);
            let seen = first.send(&mut dataplane, &data);
            let overlooked = state == Parties::NAMED;
            assert_eq!(seen, if overlooked { next(Reason::MidStream, &data) } else { found.clone() });
        }
        // Policies have a say in what nobody translates.
        dataplane.enforce(1, PolicyFlags::default());
        assert_eq!(first.send(&mut dataplane, &data), found);
        set_named(&mut dataplane, n, true);
    }
}

#[test]
fn where_pods_packets_are_served_names_mean_nothing() {
    for (first, n) in nodes() {
        let served = DatapathConfig { pod_packets: 1, ..first.config() };
        let mut dataplane = first.prepared(Dataplane::new(served));
        let (data, translated) = answered(first, &mut dataplane, n);
        set_named(&mut dataplane, n, false);
        assert_eq!(first.send(&mut dataplane, &data), next(Reason::FlowReply, &translated));
        set_named(&mut dataplane, n, true);
    }
}

#[test]
fn who_opens_a_connection_to_an_address_that_has_some_is_told_apart_from_them() {
    for (first, n) in nodes() {
        let mut dataplane = first.node();
        answered(first, &mut dataplane, n);
        // As the host outside would, whose own address has its bit; and from an address that has none.
        let syn = Packet::tcp(flags::SYN, n.outside, n.own_backend);
        assert_eq!(first.send(&mut dataplane, &syn).reason, Reason::PortClash);
        let other = Packet::tcp(flags::SYN, n.backend, n.own_backend);
        assert_eq!(first.send(&mut dataplane, &other), next(Reason::NotAService, &other));
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
    for (first, n) in nodes() {
        for ranges in [0, 1] {
            let mut dataplane = first.node();
            answered(first, &mut dataplane, n);
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
                        dataplane.run(first.name(), &frame)
                    });
                    assert_eq!(long, short, "{from} {to}");
                    passed += usize::from(short.code == tests::dataplane::code::NEXT);
                }
            }
        }
    }
    assert!(passed > 2_000, "{passed}");
}

#[test]
fn a_stranger_who_opens_with_less_than_a_packet_is_dropped() {
    for (first, n) in nodes() {
        let mut dataplane = first.node();
        for packet in [Packet::tcp(flags::SYN, n.client, n.stranger), Packet::udp(n.client, n.stranger)] {
            assert_eq!(first.send(&mut dataplane, &packet), next(Reason::NotAService, &packet));
            let bytes = packet.bytes();
            let cut = &bytes[..bytes.len() - 1];
            let run = dataplane.run(first.name(), cut);
            assert_eq!(run, Run { bytes: cut.to_vec(), ..dropped(Reason::Malformed, &packet) });
        }
    }
}

#[test]
fn behind_the_one_ahead_nobody_is_asked_again_who_is_a_stranger() {
    for n in &FAMILIES {
        let first = First::Strangers;
        let mut dataplane = first.node();
        let (data, translated) = answered(first, &mut dataplane, n);
        set_named(&mut dataplane, n, false);
        assert_eq!(dataplane.run("from_pod", &data.bytes()), next(Reason::FlowReply, &translated));
        assert_eq!(first.send(&mut dataplane, &data), next(Reason::MidStream, &data));
        set_named(&mut dataplane, n, true);
    }
}

#[test]
fn what_cannot_be_handed_on_is_dropped_and_strangers_pass_all_the_same() {
    for n in &FAMILIES {
        let first = First::Strangers;
        let mut dataplane = first.prepared(Dataplane::alone(first.config()));
        let (data, translated) = answered(first, &mut dataplane, n);
        let other = Packet::tcp(flags::ACK, n.backend, n.outside);
        dataplane.take_behind();
        assert_eq!(first.send(&mut dataplane, &data), dropped(Reason::NotHandedOn, &data));
        assert_eq!(first.send(&mut dataplane, &other), next(Reason::MidStream, &other));
        // With policies nobody is a stranger.
        dataplane.enforce(1, PolicyFlags::default());
        assert_eq!(first.send(&mut dataplane, &other), dropped(Reason::NotHandedOn, &other));
        dataplane.enforce(0, PolicyFlags::default());
        dataplane.put_ahead();
        assert_eq!(first.send(&mut dataplane, &data), next(Reason::FlowReply, &translated));
    }
}
