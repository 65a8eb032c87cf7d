//! What a packet costs when each is another flow's, in the kernel's own loop: established ones beside a control that looks the
//! tuple up in a table of the same size and does nothing else, and connections that are opened and answered.

use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};

use proxy_common::{Flow, FlowKey, limits::FLOWS, maps::MapType};
use tests::dataplane::{Dataplane, Named};
use tests::generator::{Generator, Order, Template, lookup};
use tests::packet::{Packet, flags};

use crate::figure::{Figure, ROUNDS};
use crate::node::{Names, POD, add_identity, node};

/// Runs of a round, at least: more, if there are more flows.
const MANY: u32 = 1 << 17;
/// Connections that are opened in a round: there are ports for those of all rounds.
const NEW: u32 = 3 << 10;

/// Where a packet's addresses and ports are, and how many words they take together.
pub(crate) struct Shape {
    addresses_at: i16,
    words: i16,
    ports_at: usize,
}

/// Of the family.
pub(crate) fn shape<F: Named>() -> Shape {
    if F::INDEX == 0 {
        Shape { addresses_at: 26, words: 3, ports_at: 34 }
    } else {
        Shape { addresses_at: 22, words: 9, ports_at: 54 }
    }
}

/// The client's first packet, whose port is the number of the flow.
pub(crate) fn sent<F: Named>(packet: &Packet) -> Template {
    let at = shape::<F>().ports_at;
    // Beyond 32,768 another destination port; connections that are opened are fewer.
    Template { bytes: packet.bytes(), port_at: at, high_at: at + 2 }
}

/// The same, with the number of the flow in the server's port.
pub(crate) fn to_any_port<F: Named>(packet: &Packet) -> Template {
    let at = shape::<F>().ports_at;
    Template { bytes: packet.bytes(), port_at: at + 2, high_at: at }
}

/// The same, with the number of the flow at the end of the server's address.
pub(crate) fn to_any_host<F: Named>(packet: &Packet) -> Template {
    let at = shape::<F>().ports_at;
    Template { bytes: packet.bytes(), port_at: at - 2, high_at: at }
}

/// The server's answer.
pub(crate) fn got<F: Named>(packet: &Packet) -> Template {
    to_any_port::<F>(packet)
}

/// Median and least of the difference between two measures of the same round.
pub(crate) fn differences(measure: impl FnMut(u32) -> f64) -> (f64, f64) {
    differences_of(ROUNDS, measure)
}

/// The same of so many rounds.
pub(crate) fn differences_of(rounds: usize, measure: impl FnMut(u32) -> f64) -> (f64, f64) {
    let mut found: Vec<f64> = (0..rounds as u32).map(measure).collect();
    found.sort_by(f64::total_cmp);
    (found[rounds / 2], found[0])
}

/// The figures of one family.
pub(crate) fn family<F: Named>(names: &Names) -> Vec<Figure>
where
    FlowKey<F::Addr>: MapType,
    Flow<F::Addr>: MapType,
{
    let mut figures = Vec::new();
    let mut line = |path, flows, (median, min)| {
        figures.push(Figure { family: F::NAME, path, way: "flows", flows, median, min });
    };
    for flows in [1, 1 << 10, 1 << 16, 1 << 19] {
        let mut dataplane = node(names, FLOWS.max(2 * flows));
        for number in 0..flows {
            let to = format!("{}:{}", names.gateway, 1 + (number >> 15));
            let from = format!("{}:{}", names.client, 1_024 + (number & 0x7fff));
            add_identity::<F>(&mut dataplane, &from, &to);
        }
        let first =
            Packet::tcp(flags::ACK, &format!("{}:1024", names.client), &format!("{}:1", names.gateway));
        let generator = Generator::new(&[sent::<F>(&first)], flows, Order::Scattered);
        let shape = shape::<F>();
        let control = lookup(dataplane.map(F::FLOWS), shape.addresses_at, shape.words);
        let (program, empty) = (fd(&mut dataplane, "from_pod"), fd(&mut dataplane, "empty"));
        // Each flow's way is looked up by its first packet.
        time(&generator, program, 0, flows);
        let runs = flows.max(MANY);
        let of =
            |program| differences(|_| time(&generator, program, 0, runs) - time(&generator, empty, 0, runs));
        let (ours, plain) = (of(program), of(control.as_raw_fd()));
        line("established, out of the uplink", flows, ours);
        line("control: one lookup in its table", flows, plain);
    }
    let client = format!("{}:1024", names.client);
    let syn = sent::<F>(&Packet::tcp(flags::SYN, &client, names.vip));
    let syn_ack = got::<F>(&Packet::tcp(flags::SYN_ACK, names.backend, &client));
    for (path, templates) in
        [("new TCP connection", vec![syn.clone()]), ("new TCP connection, with answer", vec![syn, syn_ack])]
    {
        let mut dataplane = node(names, 1 << 17);
        let (program, empty) = (fd(&mut dataplane, "from_pod"), fd(&mut dataplane, "empty"));
        let generator = Generator::new(&templates, 1 << 15, Order::Rising);
        let packets = templates.len() as u32;
        let new = |round| {
            let [ours, nothing] = [program, empty]
                .map(|program| time(&generator, program, round * packets * NEW, packets * NEW));
            f64::from(packets) * (ours - nothing)
        };
        line(path, 9 * NEW, differences(new));
    }
    figures
}

/// Nanoseconds of one run.
pub(crate) fn time(generator: &Generator, program: RawFd, first: u32, repeat: u32) -> f64 {
    generator.time(program, POD, first, repeat).as_nanos() as f64
}

/// A loaded program.
pub(crate) fn fd(dataplane: &mut Dataplane, name: &str) -> RawFd {
    let program = dataplane.program(name).fd().expect("it is loaded");
    program.as_fd().as_raw_fd()
}
