//! What a packet costs on each path, without policies.

use proxy_common::{Flow, FlowKey, maps::MapType};
use tests::dataplane::{Dataplane, Named};
use tests::packet::{Packet, flags};

use crate::figure::{Figure, looped, single};
use crate::node::{Names, POD, add_identity, node};

/// The figures of one family.
pub(crate) fn family<F: Named>(names: &Names) -> Vec<Figure>
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
        // A flow asks for its way once a second: that is no part of a packet's cost.
        let warm = |dataplane: &mut Dataplane| {
            for packet in &packets {
                dataplane.time("from_pod", POD, packet, 1);
            }
        };
        line("established, out of the uplink", "once", flows, single(&mut dataplane, warm, next));
    }

    let mut dataplane = node(names, 1 << 17);
    let opening = |call: u32| Packet::tcp(flags::SYN, &from(1_024 + call), names.vip).bytes();
    line("new TCP connection", "once", 0, single(&mut dataplane, |_| {}, opening));
    let answer = |call: u32| Packet::tcp(flags::SYN_ACK, names.backend, &from(1_024 + call)).bytes();
    line("its answer", "once", 0, single(&mut dataplane, |_| {}, answer));
    let mut dataplane = node(names, 1 << 17);
    let refused = |call: u32| Packet::tcp(flags::SYN, &from(1_024 + call), names.empty_vip).bytes();
    line("reject", "once", 0, single(&mut dataplane, |_| {}, refused));
    figures
}
