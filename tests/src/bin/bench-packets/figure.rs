//! One line of the table, and the ways to find it.

use tests::dataplane::Dataplane;

use crate::node::POD;

/// Rounds per figure; median and minimum are over these.
pub(crate) const ROUNDS: usize = 9;
/// Runs in one call of a loop: fewer than the hops of a packet.
pub(crate) const REPEAT: u32 = 200;
/// Calls per round of a loop: 300 000 runs in a round.
const CALLS: u32 = 1_500;
/// Calls per round of single runs: all rounds together stay below the size of the half-open table.
pub(crate) const SINGLE: u32 = 1_500;

/// One line of the table.
pub(crate) struct Figure {
    pub(crate) family: &'static str,
    pub(crate) path: &'static str,
    pub(crate) way: &'static str,
    pub(crate) flows: u32,
    pub(crate) median: f64,
    pub(crate) min: f64,
}

/// Median and minimum of a path in a hot loop.
pub(crate) fn looped(dataplane: &mut Dataplane, packet: &[u8]) -> (f64, f64) {
    // Looks the route up, if the flow has one.
    dataplane.time("from_pod", POD, packet, 1);
    rounds(|program| {
        let total: u128 = (0..CALLS).map(|_| dataplane.time(program, POD, packet, REPEAT).as_nanos()).sum();
        total as f64 / f64::from(CALLS)
    })
}

/// Median and minimum of a path of which each run gets another packet. Connections are made in the order of the
/// calls over all rounds, so that none is made twice. `prepare` is done before each round.
pub(crate) fn single(
    dataplane: &mut Dataplane,
    prepare: impl Fn(&mut Dataplane),
    packet: impl Fn(u32) -> Vec<u8>,
) -> (f64, f64) {
    let mut made = 0;
    rounds(|program| {
        let start = if program == "empty" { 0 } else { made };
        prepare(dataplane);
        let packets: Vec<Vec<u8>> = (start..start + SINGLE).map(&packet).collect();
        let total: u128 = packets.iter().map(|bytes| dataplane.time(program, POD, bytes, 1).as_nanos()).sum();
        if program != "empty" {
            made += SINGLE;
        }
        total as f64 / f64::from(SINGLE)
    })
}

/// Measures the program and `empty` in turn; gives median and minimum of the differences.
pub(crate) fn rounds(mut measure: impl FnMut(&str) -> f64) -> (f64, f64) {
    let mut differences: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let empty = measure("empty");
            measure("from_pod") - empty
        })
        .collect();
    differences.sort_by(f64::total_cmp);
    (differences[ROUNDS / 2], differences[0])
}
