//! The programs over spoiled packets.

use std::collections::HashSet;

use aya::programs::{TestRun as _, TestRunOptions};
use proxy_common::{Address as _, Flow, FlowFlags, FlowKey, V4, V6, maps::MapType, policy::PolicyFlags};
use tests::{
    dataplane::{Dataplane, Named, code},
    object::{self, Cell},
};

use crate::corpus;
use crate::judge::{Judged, Sums, Tuple, judge};
use crate::mutation::{self, SHORTEST};
use crate::numbers::Numbers;

const PROGRAMS: [&str; 4] = ["from_pod", "from_wire", "to_pod", "to_wire"];
/// Packets between two looks at the counters and the tables.
const BATCH: usize = 512;

/// Spoiled packets to send; `SLUICE_MUTATIONS` asks for more.
fn mutations() -> usize {
    let asked = std::env::var("SLUICE_MUTATIONS");
    asked.map_or(40_000, |number| number.parse().expect("SLUICE_MUTATIONS is a number"))
}

/// Where the numbers begin: always the same, unless `SLUICE_SEED` says otherwise.
fn seed() -> u64 {
    std::env::var("SLUICE_SEED").map_or(0x51_0c_e0, |number| number.parse().expect("SLUICE_SEED is a number"))
}

/// The programs and what they may know by now.
struct Trial {
    dataplane: Dataplane,
    /// Every packet with ports that was sent.
    sent: HashSet<Tuple>,
    since_check: u64,
    counted: u64,
    /// Looks at the maps so far: in every other time between two of them policies are in force, by another epoch each.
    checks: u32,
    /// Packets with right checksums that came out changed, with right checksums.
    intact: u64,
}

impl Trial {
    fn new() -> Self {
        Self {
            dataplane: corpus::stage(),
            sent: HashSet::new(),
            since_check: 0,
            counted: 0,
            checks: 0,
            intact: 0,
        }
    }

    fn send(&mut self, program: &str, frame: &[u8]) {
        let judged = judge(frame);
        if let Some(Judged { tuple, .. }) = judged {
            self.sent.insert(tuple);
        }
        let mut out = vec![0; frame.len() + 256];
        let options =
            TestRunOptions { data_in: Some(frame), data_out: Some(&mut out), ..TestRunOptions::default() };
        let run = match self.dataplane.program(program).test_run(options) {
            Ok(run) => run,
            // Newer kernels take no frame for a test run that is shorter than the header it announces.
            Err(_) if mutation::is_headless(frame) => return,
            Err(error) => panic!("{program}: {error} on {frame:02x?}"),
        };
        out.truncate(run.data_size_out as usize);
        self.intact += check_frame(program, frame, judged, run.return_value.cast_signed(), &out);
        self.since_check += 1;
        if self.since_check >= BATCH as u64 {
            self.check_maps();
        }
    }

    /// One reason per packet, and nothing remembered of what is no packet.
    fn check_maps(&mut self) {
        let counted: u64 = self.dataplane.counters().values().sum();
        assert_eq!(counted - self.counted, self.since_check, "packets and reasons do not match");
        self.counted = counted;
        self.since_check = 0;
        self.check_flows::<V4>();
        self.check_flows::<V6>();
        self.checks += 1;
        let flags = if self.checks % 4 == 3 { PolicyFlags::WATCHED } else { PolicyFlags::default() };
        self.dataplane.enforce(if self.checks % 2 == 1 { self.checks } else { 0 }, flags);
    }

    fn check_flows<F: Named>(&mut self)
    where
        FlowKey<F::Addr>: MapType,
        Flow<F::Addr>: MapType,
    {
        for name in [F::HALF_OPEN, F::FLOWS] {
            let map = object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(self.dataplane.object(), name);
            for entry in map.iter() {
                // The kernel may have given the place of an LRU's entry to another one meanwhile.
                let Ok((Cell(key), Cell(flow))) = entry else { continue };
                let forward = if flow.flags.has(FlowFlags::REPLY) { flow.other(key.proto) } else { key };
                // A ping's is made of its identifier.
                if key.proto == F::ICMP {
                    continue;
                }
                // Of a connection that is older than what is remembered, an answer may have been the first.
                let [tuple, answer] = [tuple::<F>(&forward), tuple::<F>(&forward.reversed())];
                let known = self.sent.contains(&tuple)
                    || flow.flags.has(FlowFlags::PLAIN) && self.sent.contains(&answer);
                assert!(known, "{name} holds {tuple:?}, which nobody sent");
            }
        }
    }
}

fn tuple<F: Named>(key: &FlowKey<F::Addr>) -> Tuple {
    Tuple {
        src: key.src.to_ip(),
        sport: key.sport.number(),
        dst: key.dst.to_ip(),
        dport: key.dport.number(),
        proto: key.proto.0,
    }
}

/// What may come out of one packet. Gives 1 where checksums were compared.
fn check_frame(program: &str, frame: &[u8], judged: Option<Judged>, code: i32, out: &[u8]) -> u64 {
    let say = || format!("{program} {code}\n in {frame:02x?}\nout {out:02x?}");
    assert!([code::NEXT, code::DROP, code::REDIRECT].contains(&code), "no code of ours: {}", say());
    if code == code::DROP || out == frame || out.len() != frame.len() {
        return 0;
    }
    match (judged, judge(out)) {
        (Some(Judged { sums: Sums::Right, .. }), Some(after)) => {
            assert_eq!(after.sums, Sums::Right, "a checksum was broken: {}", say());
            1
        }
        _ => 0,
    }
}

#[test]
fn every_packet_cut_anywhere_is_survived() {
    let mut trial = Trial::new();
    for seed in corpus::packets() {
        for end in SHORTEST..=seed.len() {
            for program in PROGRAMS {
                trial.send(program, &seed[..end]);
            }
        }
    }
    trial.check_maps();
}

#[test]
fn spoiled_packets_are_survived_and_nothing_is_remembered_of_them() {
    let (seeds, mut numbers, mut trial) = (corpus::packets(), Numbers(seed()), Trial::new());
    for _ in 0..mutations() {
        let frame = mutation::spoil(&seeds, &mut numbers);
        trial.send(PROGRAMS[numbers.below(PROGRAMS.len())], &frame);
    }
    trial.check_maps();
    println!(
        "{} spoiled packets from seed {}, counted as {:?}",
        mutations(),
        seed(),
        trial.dataplane.counters()
    );
}

#[test]
fn headers_of_ones_and_of_zeros_are_survived() {
    let mut trial = Trial::new();
    for seed in corpus::packets() {
        for start in (0..seed.len()).step_by(2) {
            for end in [start + 2, start + 8, start + 20, start + 40] {
                for fill in [0x00, 0xff] {
                    let mut frame = seed.clone();
                    let end = end.min(frame.len());
                    frame[start..end].fill(fill);
                    trial.send(PROGRAMS[start / 2 % 4], &frame);
                }
            }
        }
    }
    trial.check_maps();
}
