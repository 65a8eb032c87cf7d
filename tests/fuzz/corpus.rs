//! Right packets of every kind, and the Services that they meet.

use proxy_common::{ClientRule, DatapathConfig, FrontendFlags, Proto, RuleSetId, policy::Effect};
use tests::{
    dataplane::{Dataplane, config},
    packet::{Extra, Fragment, Packet, Transport, addr, flags},
    policy::allow,
};

/// Client, outside client, frontend, refusing frontend, nobody's address, backend, and the node.
const PLACES: [[&str; 7]; 2] = [
    [
        "10.244.1.2:40000",
        "203.0.113.9:40000",
        "10.96.0.10:80",
        "10.96.0.11:80",
        "10.96.7.7:80",
        "10.244.2.3:8080",
        "192.168.0.1:30080",
    ],
    [
        "[fd00:244:1::2]:40000",
        "[2001:db8::9]:40000",
        "[fd00:96::10]:80",
        "[fd00:96::11]:80",
        "[fd00:96::77]:80",
        "[fd00:244:2::3]:8080",
        "[fd00:168::1]:30080",
    ],
];

/// Services that translate, masquerade and refuse.
pub fn stage() -> Dataplane {
    let mut dataplane = Dataplane::new(DatapathConfig { node_packets: 1, ..config() });
    for [client, _, vip, refusing, _, backend, node] in PLACES {
        for proto in [Proto::TCP, Proto::UDP, Proto::SCTP] {
            dataplane.serve(proto, vip, &[backend], |_| {});
            dataplane.serve(proto, refusing, &[], |_| {});
            dataplane.serve(proto, node, &[backend], |frontend| {
                frontend.flags = FrontendFlags::NODE_PORT;
                frontend.rules = [ClientRule::MASQUERADE; 3];
            });
        }
        isolate(&mut dataplane, client, backend);
    }
    dataplane
}

/// The client may talk to the backend at some ports, once policies are in force, and the backend to nobody.
fn isolate(dataplane: &mut Dataplane, client: &str, backend: &str) {
    let host = |name| addr(name).ip().to_string();
    let rules = RuleSetId(1);
    dataplane.put_under(&host(client), rules, rules, 0);
    dataplane.put_under(&host(backend), RuleSetId::CLOSED, RuleSetId::OPEN, 0);
    dataplane.class(&host(backend), 2);
    let says = [allow(Proto::TCP, 80, 9_000, 3), allow(Proto::UDP, 80, 9_000, 3)];
    dataplane.say(rules, 2, &says, (Effect::ALLOW, 4));
}

/// The seeds.
pub fn packets() -> Vec<Vec<u8>> {
    PLACES.iter().flat_map(family).collect()
}

fn family(&[client, outside, vip, refusing, nobody, backend, node]: &[&str; 7]) -> Vec<Vec<u8>> {
    let transports = [flags::SYN, flags::SYN_ACK, flags::ACK, flags::FIN, flags::RST]
        .map(Transport::Tcp)
        .into_iter()
        .chain([Transport::Udp, Transport::UdpUnsummed, Transport::Sctp, Transport::Echo]);
    let ways = [
        (client, vip),
        (client, node),
        (outside, node),
        (outside, vip),
        (client, refusing),
        (client, nobody),
        (backend, client),
        (backend, node),
        (outside, backend),
    ];
    let mut seeds = Vec::new();
    for transport in transports {
        for (from, to) in ways {
            let plain = Packet::new(transport, from, to).with_payload(b"some odd payload.");
            seeds.extend(variants(&plain).map(|packet| packet.bytes()));
            // The error that somebody on the way sends about it.
            seeds.push(plain.between(to, from).port_unreachable());
        }
    }
    seeds
}

/// The packet itself, in fragments, with options and with extension headers.
fn variants(plain: &Packet) -> impl Iterator<Item = Packet> {
    let extra = match plain.from.is_ipv4() {
        true => vec![Extra { kind: 0, bytes: vec![1; 8] }],
        false => vec![
            Extra { kind: 0, bytes: vec![0, 0, 1, 4, 0, 0, 0, 0] },
            Extra { kind: 60, bytes: vec![0, 0, 1, 4, 0, 0, 0, 0] },
        ],
    };
    let options = if matches!(plain.transport, Transport::Tcp(_)) { vec![1; 12] } else { Vec::new() };
    [
        plain.clone(),
        Packet { fragment: Some(Fragment::First), ..plain.clone() },
        Packet { fragment: Some(Fragment::Later(8)), ..plain.clone() },
        Packet { fragment: Some(Fragment::Later(1480)), ..plain.clone() },
        Packet { extra, ..plain.clone() },
        Packet { options, hops: 1, ..plain.clone() },
    ]
    .into_iter()
}
