//! What policies add.

use std::slice;

use proxy_common::{
    Flow, FlowKey, Proto, RuleSetId,
    maps::MapType,
    policy::{Effect, PolicyFlags},
};
use tests::dataplane::{Dataplane, Named};
use tests::generator::{Generator, Order, Template};
use tests::packet::{Packet, flags as tcp};
use tests::policy::allow;

use crate::figure::{Figure, REPEAT, ROUNDS, SINGLE};
use crate::flows::{differences_of, fd, sent, time, to_any_host, to_any_port};
use crate::node::{Names, POD, add_identity, node};

/// Connections that differ in two bytes.
const FLOWS: u32 = 1 << 16;
/// Rounds of connections that make entries: all of them together fill no table.
const MADE: usize = ROUNDS;
/// Rounds of connections that are only judged, which takes 20 ms for all of nine.
const JUDGED: usize = 31;
/// What the other rules of a node with policies are about.
const OTHERS: RuleSetId = RuleSetId(2);
/// The rules of the pod.
const RULES: RuleSetId = RuleSetId(1);

/// What policies add: each figure is the difference between policies in use and none, of the same packets in the same
/// round. `FLOWS` is the number of verdicts and classes that there are.
pub(crate) fn policies<F: Named>(names: &Names) -> Vec<Figure>
where
    FlowKey<F::Addr>: MapType,
    Flow<F::Addr>: MapType,
{
    let mut figures = Vec::new();
    let from = |port: u32| format!("{}:{port}", names.client);
    let host = |name: &str| tests::packet::addr(name).ip().to_string();
    let one_way = [PolicyFlags::default(), PolicyFlags::BLOCKS4.with(PolicyFlags::BLOCKS6)];
    for (entries, flags) in [(10, one_way[0]), (100_000, one_way[0]), (100_000, one_way[1])] {
        let mut dataplane = node(names, 1 << 17);
        crowd::<F>(&mut dataplane, entries);
        dataplane.put_under(&host(&from(1)), RULES, RuleSetId::OPEN, POD);
        for class in [0, 1, 2] {
            dataplane.say(RULES, class, &[allow(Proto::TCP, 1, u16::MAX, 1)], (Effect::DENY, 0));
        }
        let blocks = flags != PolicyFlags::default();
        if blocks {
            block::<F>(&mut dataplane);
        } else {
            dataplane.class(&host(names.backend), 1);
            dataplane.class(&host(names.stranger), 1);
        }
        let mut line = |path, way, (median, min)| {
            figures.push(Figure { family: F::NAME, path, way, flows: entries, median, min });
        };
        let remote = format!("{}:8080", names.gateway);
        add_identity::<F>(&mut dataplane, &from(40_000), &remote);
        let ack = Packet { hops: 255, ..Packet::tcp(tcp::ACK, &from(40_000), &remote) }.bytes();
        line("policies +: established", "loop", added(&mut dataplane, flags, REPEAT, |_| ack.clone()));
        // No verdict is about its class: nothing is remembered, so this is what judging takes.
        let denied = if F::INDEX == 0 { "198.51.100.9:80" } else { "[2001:db8:1::9]:80" };
        dataplane.class(&host(denied), 3);
        let syn = Packet { hops: 255, ..Packet::tcp(tcp::SYN, &from(40_000), denied) }.bytes();
        line("policies +: denied", "loop", added(&mut dataplane, flags, REPEAT, |_| syn.clone()));
        for (path, blocked, to) in [
            ("policies +: new to a Service", "policies +: the same, by a block", names.vip),
            ("policies +: new, not translated", "policies +: the same, by a block", names.stranger),
        ] {
            let packet = Packet::tcp(tcp::SYN, &from(1_024), to);
            let opening = |call: u32| Packet::tcp(tcp::SYN, &from(1_024 + call), to).bytes();
            let path = if blocks { blocked } else { path };
            line(path, "once", added(&mut dataplane, flags, 1, opening));
            line(path, "flows", added_to_new(&mut dataplane, flags, &sent::<F>(&packet), MADE));
        }
        for (path, opening) in strange::<F>(names, flags) {
            line(path, "flows", added_to_new(&mut dataplane, flags, &opening, JUDGED));
        }
        if blocks {
            for (path, opening, hosts) in apart::<F>(names) {
                line(path, "flows", added_to_new_of(&mut dataplane, flags, &opening, hosts, JUDGED));
            }
        }
    }
    figures
}

/// Each to another port of the server, of which no judgement is known from a moment ago; and each to a server of which nothing
/// is known at all.
fn strange<F: Named>(names: &Names, flags: PolicyFlags) -> [(&'static str, Template); 2] {
    let packet = Packet::tcp(tcp::SYN, &format!("{}:1024", names.client), names.stranger);
    let (port, host) = (to_any_port::<F>(&packet), to_any_host::<F>(&packet));
    if flags.has(PolicyFlags::BLOCKS4) {
        [("policies +: the same, to another port", port), ("policies +: the same, to another host", host)]
    } else {
        [("policies +: new, to another port", port), ("policies +: new, to another host", host)]
    }
}

/// Each to a server of which nothing is known: inside of one of 256 of the blocks, the first one of its block, and the first
/// one of its neighbourhood, of which one in five has blocks.
fn apart<F: Named>(names: &Names) -> [(&'static str, Template, u32); 3] {
    /// From what numbers blocks and neighbourhoods to the end of an address.
    const BEHIND: [(usize, usize); 2] = [(3, 4), (12, 14)];
    let to = |server| to_any_host::<F>(&Packet::tcp(tcp::SYN, &format!("{}:1024", names.client), server));
    let within = to(if F::INDEX == 0 { "100.1.2.1:80" } else { "[fd64:1:2::1]:80" });
    let behind =
        |template: &Template, bytes| Template { port_at: template.port_at + 2 - bytes, ..template.clone() };
    let (block, neighbourhood) = BEHIND[F::INDEX];
    // Each of these has one of the blocks, and most are in no cache of the processor's.
    let of_each = behind(&within, block);
    let afar = behind(&to(names.stranger), neighbourhood);
    [
        ("policies +: to any host of 256 blocks", within, FLOWS),
        ("policies +: to the first host of each block", of_each, 1 << 12),
        ("policies +: to the first host of each neighbourhood", afar, 1 << 12),
    ]
}

/// As many verdicts and classes of others.
fn crowd<F: Named>(dataplane: &mut Dataplane, entries: u32) {
    for number in 0..entries {
        dataplane.say(OTHERS, u64::from(number), &[allow(Proto::TCP, 80, 80, 1)], (Effect::DENY, 0));
        let [_, a, b, c] = number.to_be_bytes();
        let peer = match F::INDEX {
            0 => format!("172.{a}.{b}.{c}"),
            _ => format!("fd00:ffff::{a:x}:{b:x}:{c:x}"),
        };
        dataplane.class(&peer, u64::from(number));
    }
}

/// Ten thousand prefixes, most of them side by side and the others anywhere, and those of everybody else.
fn block<F: Named>(dataplane: &mut Dataplane) {
    for number in 0..6_000_u32 {
        let [_, _, a, b] = number.to_be_bytes();
        let prefix =
            if F::INDEX == 0 { format!("100.{a}.{b}.0/24") } else { format!("fd64:1:{number:x}::/48") };
        dataplane.block(&prefix, 2);
    }
    for number in 0..4_000_u32 {
        let [a, b, c, d] = number.wrapping_mul(0x9e37_79b9).to_be_bytes();
        let prefix = match F::INDEX {
            0 => format!("{}.{b}.{c}.0/24", a % 100),
            _ => format!("2001:{:x}:{c:x}{d:02x}::/48", u16::from_be_bytes([a, b]) % 0x4000),
        };
        dataplane.block(&prefix, 2);
    }
    dataplane.block(if F::INDEX == 0 { "0.0.0.0/0" } else { "::/0" }, 2);
}

/// Median and minimum of what policies add to a packet; `flags` say what is in use of them.
fn added(
    dataplane: &mut Dataplane,
    flags: PolicyFlags,
    repeat: u32,
    packet: impl Fn(u32) -> Vec<u8>,
) -> (f64, f64) {
    let mut made = 0;
    let mut measure = |epoch| {
        dataplane.enforce(epoch, flags);
        let calls: Vec<Vec<u8>> = (made..made + SINGLE).map(&packet).collect();
        made += SINGLE;
        // The first packet of an established connection is judged again.
        dataplane.time("from_pod", POD, &calls[0], 1);
        let total: u128 =
            calls.iter().map(|bytes| dataplane.time("from_pod", POD, bytes, repeat).as_nanos()).sum();
        total as f64 / f64::from(SINGLE)
    };
    let mut differences: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let without = measure(0);
            measure(1) - without
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    (differences[ROUNDS / 2], differences[0])
}

/// The same of connections that a loop in the kernel opens, each once with policies and another without.
fn added_to_new(
    dataplane: &mut Dataplane,
    flags: PolicyFlags,
    opening: &Template,
    rounds: usize,
) -> (f64, f64) {
    added_to_new_of(dataplane, flags, opening, FLOWS, rounds)
}

/// The same of so many different ones.
fn added_to_new_of(
    dataplane: &mut Dataplane,
    flags: PolicyFlags,
    opening: &Template,
    different: u32,
    rounds: usize,
) -> (f64, f64) {
    const NEW: u32 = 1 << 10;
    let generator = Generator::new(slice::from_ref(opening), different, Order::Rising);
    let program = fd(dataplane, "from_pod");
    dataplane.forget_flows();
    let mut measure = |epoch, first| {
        dataplane.enforce(epoch, flags);
        time(&generator, program, first, NEW)
    };
    // What filled the tables has left nothing of the programs in the processor's caches. These are others than those of the rounds.
    for epoch in [0, 1] {
        measure(epoch, (2 * rounds as u32 + epoch) * NEW);
    }
    differences_of(rounds, |round| {
        let [first, second] = [2 * round, 2 * round + 1].map(|part| part * NEW);
        // There and back: a machine that becomes faster or slower favours neither.
        let (with, without) = if round % 2 == 0 {
            let without = measure(0, first);
            (measure(1, second), without)
        } else {
            (measure(1, first), measure(0, second))
        };
        with - without
    })
}
