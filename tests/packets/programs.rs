//! The programs themselves: the kernel takes them, and they are cheap to verify.

use std::collections::BTreeMap;

use aya::programs::{ProgramError, ProgramInfo, TestRun as _, TestRunOptions};
use proxy_common::DatapathConfig;
use tests::dataplane::{Dataplane, config};

const PROGRAMS: [&str; 8] =
    ["from_pod", "strangers", "to_pod", "from_wire", "to_wire", "ferry", "empty", "clock"];

fn verified(config: DatapathConfig) -> BTreeMap<&'static str, u32> {
    let mut dataplane = Dataplane::new(config);
    let of = |info: Result<ProgramInfo, ProgramError>| {
        let info = info.expect("a loaded program has facts");
        info.verified_instruction_count().expect("the kernel counts since 5.16")
    };
    let early = ("early_wire", of(dataplane.early_program().info()));
    PROGRAMS.map(|name| (name, of(dataplane.program(name).info()))).into_iter().chain([early]).collect()
}

#[test]
fn every_program_is_accepted_and_cheap_to_verify() {
    // A third of them is about policies, which each hook of a pod asks in three places.
    for (config, most) in [
        (config(), 125_000),
        (DatapathConfig { tunnels: 1, in_order: 0, ..config() }, 140_000),
        (DatapathConfig { pod_packets: 0, ahead: 1, ..config() }, 125_000),
    ] {
        let verified = verified(config);
        println!("verified instructions: {verified:#?}");
        assert!(verified.values().all(|count| *count < most), "{verified:?}");
    }
}

#[test]
fn a_family_that_is_not_served_costs_nothing() {
    let both = verified(config());
    for one in [DatapathConfig { ipv6: 0, ..config() }, DatapathConfig { ipv4: 0, ..config() }] {
        let one = verified(one);
        for name in ["from_pod", "to_pod", "from_wire", "to_wire", "early_wire"] {
            assert!(one[name] * 4 < both[name] * 3, "{name}: {} of {}", one[name], both[name]);
        }
    }
}

#[test]
fn the_clock_tells_the_tick_that_flows_are_stamped_with_and_the_time_since_boot() {
    let mut dataplane = Dataplane::new(config());
    let read = |dataplane: &mut Dataplane| {
        let mut out = [0; 64];
        let options =
            TestRunOptions { data_in: Some(&[0; 64]), data_out: Some(&mut out), ..TestRunOptions::default() };
        dataplane.program("clock").test_run(options).expect("the program runs");
        [0, 8].map(|at| u64::from_ne_bytes(out[at..at + 8].try_into().expect("eight bytes")))
    };
    let boot = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        (time.tv_sec * 1_000_000_000 + time.tv_nsec).cast_unsigned()
    };
    let before = boot();
    let [tick, nanoseconds] = read(&mut dataplane);
    let after = boot();
    assert!((before..=after).contains(&nanoseconds), "{before} {nanoseconds} {after}");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while read(&mut dataplane)[0] == tick {
        assert!(std::time::Instant::now() < deadline, "the tick advances");
    }
}
