//! Measures the packet programs: nanoseconds per path and instructions that the verifier looks at.
//!
//! Each figure is the kernel's own clock around `BPF_PROG_TEST_RUN`, minus that of the program `empty` run the same
//! way in the same round. Two ways:
//!
//! - *loop*: one packet, many times in one call: what a packet costs while everything is in the caches. A run finds
//!   the packet as the last one left it, so the flow's entry here translates a tuple to itself, with checksum
//!   differences that are not zero: the same loads, stores and calls as for any other flow. A hop is counted down by
//!   each run, so a call makes fewer runs than there are hops.
//! - *once*: one run per call, each with the packet of another flow: what a packet costs when nothing is warm,
//!   and the only way to measure what happens once per connection.

use std::{fs, path::PathBuf, process::ExitCode};

use proxy_common::{
    Address as _, DatapathConfig, DeviceKind, Flow, FlowFlags, FlowKey, Port, Proto, RuleSetId, V4, V6,
    maps::MapType,
    policy::{Effect, PolicyFlags},
};
use tests::dataplane::{Dataplane, Named, config, endpoint, ip};
use tests::packet::{Packet, flags};
use tests::policy::allow;

/// Rounds per figure; median and minimum are over these.
const ROUNDS: usize = 9;
/// Runs in one call of a loop: fewer than the hops of a packet.
const REPEAT: u32 = 200;
/// Calls per round of a loop: 300 000 runs in a round.
const CALLS: u32 = 1_500;
/// Calls per round of single runs: all rounds together stay below the size of the half-open table.
const SINGLE: u32 = 1_500;
const POD: u32 = 10;
const UPLINK: u32 = 20;

/// One line of the table.
struct Figure {
    family: &'static str,
    path: &'static str,
    way: &'static str,
    flows: u32,
    median: f64,
    min: f64,
}

struct Names {
    client: &'static str,
    vip: &'static str,
    empty_vip: &'static str,
    backend: &'static str,
    stranger: &'static str,
    gateway: &'static str,
}

const NAMES4: Names = Names {
    client: "10.244.1.2",
    vip: "10.96.0.10:80",
    empty_vip: "10.96.0.11:80",
    backend: "10.244.2.3:8080",
    stranger: "198.51.100.1:80",
    gateway: "10.244.2.4",
};
const NAMES6: Names = Names {
    client: "[fd00:244:1::2]",
    vip: "[fd00:96::10]:80",
    empty_vip: "[fd00:96::11]:80",
    backend: "[fd00:244:2::3]:8080",
    stranger: "[2001:db8:1::1]:80",
    gateway: "[fd00:244:2::4]",
};

fn main() -> ExitCode {
    let json = match arguments() {
        Ok(json) => json,
        Err(message) => {
            eprintln!("error: {message}");
            return ExitCode::FAILURE;
        }
    };
    let mut figures = family::<V4>(&NAMES4);
    figures.extend(family::<V6>(&NAMES6));
    let verified = verified();
    print_table(&figures, &verified);
    if let Some(path) = json
        && let Err(error) = fs::write(&path, to_json(&figures, &verified))
    {
        eprintln!("error: cannot write {}: {error}", path.display());
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// `--json FILE` is all there is.
fn arguments() -> Result<Option<PathBuf>, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Ok(None),
        ["--json", file] => Ok(Some(PathBuf::from(file))),
        _ => Err("usage: cargo xtask bench packets [--json FILE]".to_owned()),
    }
}

/// A node with a pod behind one veth, an uplink, one Service with and one without backends.
fn node(names: &Names, entries: u32) -> Dataplane {
    let mut dataplane = Dataplane::with_entries(config(), entries);
    for (name, index) in [("pod", POD), ("uplink", UPLINK)] {
        ip(&format!("link add {name} index {index} type veth peer name {name}-peer"));
        ip(&format!("link set {name} up"));
        ip(&format!("link set {name}-peer up"));
    }
    for file in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        fs::write(format!("/proc/sys/{file}"), "1").expect("a namespace has its own switches");
    }
    let local = names.backend.rsplit_once(':').expect("a port").0.trim_matches(['[', ']']);
    let remote = names.gateway.trim_matches(['[', ']']);
    for (to, device) in [(local, "pod"), (remote, "uplink")] {
        let family = if to.contains(':') { "-6" } else { "-4" };
        ip(&format!("{family} route add {to} dev {device}"));
        ip(&format!("neigh add {to} lladdr 02:00:00:00:00:99 dev {device} nud permanent"));
    }
    dataplane.add_device(POD, DeviceKind::POD);
    dataplane.add_device(UPLINK, DeviceKind::UPLINK);
    for proto in [Proto::TCP, Proto::UDP] {
        dataplane.serve(proto, names.vip, &[names.backend], |_| {});
        dataplane.serve(proto, names.empty_vip, &[], |_| {});
    }
    dataplane
}

fn family<F: Named>(names: &Names) -> Vec<Figure>
where
    FlowKey<F::Addr>: MapType,
    Flow<F::Addr>: MapType,
{
    let mut figures = Vec::new();
    let mut line = |path, way, flows, (median, min)| {
        figures.push(Figure { family: F::NAME, path, way, flows, median, min });
    };
    let mut dataplane = node(names, 1 << 10);
    let from = |port: u32| format!("{}:{port}", names.client);

    let ack = |to: &str| Packet { hops: 255, ..Packet::tcp(flags::ACK, &from(40_000), to) }.bytes();
    line("not a service, mid-stream TCP", "loop", 0, looped(&mut dataplane, &ack(names.stranger)));
    let syn = Packet::tcp(flags::SYN, &from(40_000), names.stranger).bytes();
    line("not a service, opening TCP", "loop", 0, looped(&mut dataplane, &syn));
    let query = Packet::udp(&from(40_000), names.stranger).bytes();
    line("not a service, UDP", "loop", 0, looped(&mut dataplane, &query));

    let remote = format!("{}:8080", names.gateway);
    for (path, to) in [
        ("established, through the stack", names.stranger),
        ("established, into a local pod", names.backend),
        ("established, out of the uplink", remote.as_str()),
    ] {
        add_identity::<F>(&mut dataplane, &from(40_000), to);
        line(path, "loop", 1, looped(&mut dataplane, &ack(to)));
    }

    for flows in [1, 1 << 10, 1 << 16] {
        let mut dataplane = node(names, 1 << 17);
        let packets: Vec<Vec<u8>> = (0..flows)
            .map(|number| {
                let to = format!("{}:{}", names.gateway, 1 + (number >> 15));
                let from = from(1_024 + (number & 0x7fff));
                add_identity::<F>(&mut dataplane, &from, &to);
                Packet::tcp(flags::ACK, &from, &to).bytes()
            })
            .collect();
        // An odd step visits all flows in an order that no prefetcher guesses.
        let next = |call: u32| packets[(call.wrapping_mul(40_503) % flows) as usize].clone();
        line("established, out of the uplink", "once", flows, single(&mut dataplane, next));
    }

    let mut dataplane = node(names, 1 << 17);
    let opening = |call: u32| Packet::tcp(flags::SYN, &from(1_024 + call), names.vip).bytes();
    line("new TCP connection", "once", 0, single(&mut dataplane, opening));
    let answer = |call: u32| Packet::tcp(flags::SYN_ACK, names.backend, &from(1_024 + call)).bytes();
    line("its answer", "once", 0, single(&mut dataplane, answer));
    let mut dataplane = node(names, 1 << 17);
    let refused = |call: u32| Packet::tcp(flags::SYN, &from(1_024 + call), names.empty_vip).bytes();
    line("reject", "once", 0, single(&mut dataplane, refused));
    figures.extend(policies::<F>(names));
    figures
}

/// What the other rules of a node with policies are about.
const OTHERS: RuleSetId = RuleSetId(2);
/// The rules of the pod.
const RULES: RuleSetId = RuleSetId(1);

/// What policies add: each figure is the difference between policies in use and none, of the same packets in the same
/// round. `FLOWS` is the number of verdicts and classes that there are.
fn policies<F: Named>(names: &Names) -> Vec<Figure>
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
        let ack = Packet { hops: 255, ..Packet::tcp(flags::ACK, &from(40_000), &remote) }.bytes();
        line("policies +: established", "loop", added(&mut dataplane, flags, REPEAT, |_| ack.clone()));
        // No verdict is about its class: nothing is remembered, so this is what judging takes.
        let denied = if F::INDEX == 0 { "198.51.100.9:80" } else { "[2001:db8:1::9]:80" };
        dataplane.class(&host(denied), 3);
        let syn = Packet { hops: 255, ..Packet::tcp(flags::SYN, &from(40_000), denied) }.bytes();
        line("policies +: denied", "loop", added(&mut dataplane, flags, REPEAT, |_| syn.clone()));
        for (path, blocked, to) in [
            ("policies +: new to a Service", "policies +: the same, by a block", names.vip),
            ("policies +: new, not translated", "policies +: the same, by a block", names.stranger),
        ] {
            let opening = |call: u32| Packet::tcp(flags::SYN, &from(1_024 + call), to).bytes();
            let path = if blocks { blocked } else { path };
            line(path, "once", added(&mut dataplane, flags, 1, opening));
        }
    }
    figures
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

/// Ten thousand prefixes, and those of everybody else.
fn block<F: Named>(dataplane: &mut Dataplane) {
    for number in 0..10_000_u32 {
        let [_, _, a, b] = number.to_be_bytes();
        let prefix =
            if F::INDEX == 0 { format!("100.{a}.{b}.0/24") } else { format!("fd64:{a:x}:{b:x}::/48") };
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

/// An entry whose translation is its own tuple, so that a run leaves the packet as it found it.
fn add_identity<F: Named>(dataplane: &mut Dataplane, from: &str, to: &str)
where
    FlowKey<F::Addr>: MapType,
    Flow<F::Addr>: MapType,
{
    let ((src, sport), (dst, dport)): ((F::Addr, Port), (F::Addr, Port)) =
        (endpoint::<F>(from), endpoint::<F>(to));
    debug_assert!(src != F::Addr::from_padded([0; 4]));
    let flow = Flow {
        src,
        dst,
        sport,
        dport,
        addr_delta: 0x1234_5678,
        port_delta: 0x4321,
        flags: FlowFlags::default(),
        ..Flow::default()
    };
    dataplane.add_flow::<F>(FlowKey::new(src, sport, dst, dport, Proto::TCP), flow);
}

/// Median and minimum of a path in a hot loop.
fn looped(dataplane: &mut Dataplane, packet: &[u8]) -> (f64, f64) {
    // Looks the route up, if the flow has one.
    dataplane.time("from_pod", POD, packet, 1);
    rounds(|program| {
        let total: u128 = (0..CALLS).map(|_| dataplane.time(program, POD, packet, REPEAT).as_nanos()).sum();
        total as f64 / f64::from(CALLS)
    })
}

/// Median and minimum of a path of which each run gets another packet. Connections are made in the order of the
/// calls over all rounds, so that none is made twice.
fn single(dataplane: &mut Dataplane, packet: impl Fn(u32) -> Vec<u8>) -> (f64, f64) {
    let mut made = 0;
    rounds(|program| {
        let start = if program == "empty" { 0 } else { made };
        let packets: Vec<Vec<u8>> = (start..start + SINGLE).map(&packet).collect();
        let total: u128 = packets.iter().map(|bytes| dataplane.time(program, POD, bytes, 1).as_nanos()).sum();
        if program != "empty" {
            made += SINGLE;
        }
        total as f64 / f64::from(SINGLE)
    })
}

/// Measures the program and `empty` in turn; gives median and minimum of the differences.
fn rounds(mut measure: impl FnMut(&str) -> f64) -> (f64, f64) {
    let mut differences: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let empty = measure("empty");
            measure("from_pod") - empty
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    (differences[ROUNDS / 2], differences[0])
}

/// Instructions that the verifier looked at, per program: with both families, and with one.
fn verified() -> Vec<(&'static str, [u32; 3])> {
    let configs = [config(), DatapathConfig { ipv6: 0, ..config() }, DatapathConfig { ipv4: 0, ..config() }];
    let mut dataplanes = configs.map(Dataplane::new);
    ["from_pod", "to_pod", "from_wire", "to_wire", "empty"]
        .map(|name| {
            let counts = dataplanes.each_mut().map(|dataplane| {
                let info = dataplane.program(name).info().expect("a loaded program has facts");
                info.verified_instruction_count().expect("kernels count since 5.16")
            });
            (name, counts)
        })
        .into()
}

fn print_table(figures: &[Figure], verified: &[(&str, [u32; 3])]) {
    println!(
        "{:<6} {:<32} {:<5} {:>6} {:>10} {:>10}",
        "FAMILY", "PATH", "WAY", "FLOWS", "MEDIAN ns", "MIN ns"
    );
    for Figure { family, path, way, flows, median, min } in figures {
        println!("{family:<6} {path:<32} {way:<5} {flows:>6} {median:>10.1} {min:>10.1}");
    }
    println!("\n{:<12} {:>10} {:>10} {:>10}", "VERIFIED", "BOTH", "IPV4", "IPV6");
    for (name, [both, ipv4, ipv6]) in verified {
        println!("{name:<12} {both:>10} {ipv4:>10} {ipv6:>10}");
    }
}

fn to_json(figures: &[Figure], verified: &[(&str, [u32; 3])]) -> String {
    let paths: Vec<String> = figures
        .iter()
        .map(|Figure { family, path, way, flows, median, min }| {
            format!(
                r#"    {{"family": "{family}", "path": "{path}", "way": "{way}", "flows": {flows}, "median_ns": {median:.1}, "min_ns": {min:.1}}}"#
            )
        })
        .collect();
    let programs: Vec<String> = verified
        .iter()
        .map(|(name, [both, ipv4, ipv6])| {
            format!(r#"    {{"program": "{name}", "both": {both}, "ipv4": {ipv4}, "ipv6": {ipv6}}}"#)
        })
        .collect();
    format!(
        "{{\n  \"paths\": [\n{}\n  ],\n  \"verified\": [\n{}\n  ]\n}}\n",
        paths.join(",\n"),
        programs.join(",\n")
    )
}
