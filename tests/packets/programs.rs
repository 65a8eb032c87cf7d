//! The programs themselves: the kernel takes them, and they are cheap to verify.

use std::collections::BTreeMap;

use proxy_common::DatapathConfig;
use tests::dataplane::{Dataplane, config};

const PROGRAMS: [&str; 6] = ["from_pod", "to_pod", "from_wire", "to_wire", "empty", "clock"];

fn verified(config: DatapathConfig) -> BTreeMap<&'static str, u32> {
    let mut dataplane = Dataplane::new(config);
    let count = |name: &'static str| {
        let info = dataplane.program(name).info().expect("a loaded program has facts");
        (name, info.verified_instruction_count().expect("the kernel counts since 5.16"))
    };
    PROGRAMS.map(count).into()
}

#[test]
fn every_program_is_accepted_and_cheap_to_verify() {
    let verified = verified(config());
    println!("verified instructions: {verified:#?}");
    assert!(verified.values().all(|count| *count < 50_000), "{verified:?}");
}

#[test]
fn a_family_that_is_not_served_costs_nothing() {
    let both = verified(config());
    for one in [DatapathConfig { ipv6: 0, ..config() }, DatapathConfig { ipv4: 0, ..config() }] {
        let one = verified(one);
        for name in ["from_pod", "to_pod", "from_wire", "to_wire"] {
            assert!(one[name] * 4 < both[name] * 3, "{name}: {} of {}", one[name], both[name]);
        }
    }
}
