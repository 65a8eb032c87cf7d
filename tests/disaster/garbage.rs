//! Objects that make no sense, by the hundred thousand. Each is named once, what makes sense is served, and the agent does not grow.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests::apiserver::Resource;

use crate::loads::{Flows, Loads, Removals};
use crate::objects;
use crate::stage::{NODE, PATIENCE, SERVERS, Stage, WEB};

/// Events, if `SLUICE_DISASTER_GARBAGE` says no other number.
const EVENTS: usize = 20_000;
/// Objects that make no sense; every event is a new version of one of them.
const OBJECTS: usize = 100;
/// Events that the server is ahead of the agent at most.
const AHEAD: usize = 2_000;
/// Growth of the agent that an allocator may need for its own ends, in KiB.
const GROWTH: u64 = 12 * 1024;
const GOOD: [&str; 2] = ["10.96.0.90", "fd00:96::90"];

/// The version of that number of an object that makes no sense: a Service or a slice.
fn nonsense(event: usize) -> Value {
    let object = event % OBJECTS;
    let mut value = if object.is_multiple_of(2) {
        objects::service(&format!("bad-{object}"), &["999.96.0.1", "fd00:zz::1"])
    } else {
        let mut slice = objects::slice(&format!("bad-{object}"), sluice_lab::Family::Ipv4, &[]);
        slice["endpoints"] = json!([{"addresses": ["nowhere"], "conditions": {"ready": true}}]);
        slice
    };
    value["metadata"]["annotations"] = json!({"version": event.to_string()});
    value
}

/// Memory of the agent, in KiB.
fn resident(stage: &Stage) -> u64 {
    let pid = stage.lab.agent_process(NODE).unwrap().unwrap().pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn garbage_from_the_api_is_named_once_and_costs_neither_memory_nor_connections() {
    let events = std::env::var("SLUICE_DISASTER_GARBAGE").ok().and_then(|text| text.parse().ok());
    let events = events.unwrap_or(EVENTS);
    let stage = Stage::begin(&[]);
    let size = stage.occupancy();
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    let both = [Resource::Services, Resource::EndpointSlices];
    (0..AHEAD).for_each(|event| stage.put(&nonsense(event)));
    stage.told(&both);
    let (before, from) = (resident(&stage), stage.log().len());
    for event in AHEAD..events {
        stage.put(&nonsense(event));
        if event.is_multiple_of(AHEAD) {
            stage.told(&both);
        }
    }
    stage.told(&both);
    stage.put_service("good", &GOOD, &["web-1"]);
    stage.reaches(&GOOD, &["web-1"]);
    let (after, log) = (resident(&stage), stage.log());
    println!("{events} events: {before} KiB, then {after} KiB; {} bytes of log", log.len());
    assert!(after < before + GROWTH, "the agent grew from {before} to {after} KiB");
    let lines = log[from..].lines().filter(|line| line.contains("bad-")).count();
    assert_eq!(lines, 0, "what was named is not named again:\n{}", &log[from..]);
    for object in 0..OBJECTS {
        let name =
            if object % 2 == 0 { format!("demo/bad-{object} ") } else { format!("demo/bad-{object}-ipv4 ") };
        let said: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(&name))
            .filter_map(|line| line.split_once("Z "))
            .map(|(_, said)| said)
            .collect();
        let different: BTreeSet<&str> = said.iter().copied().collect();
        assert!(!said.is_empty() && said.len() == different.len(), "{name}: {said:#?}");
    }
    stage.delete_service("good");
    (0..OBJECTS).for_each(|object| stage.delete(&nonsense(object)));
    stage.holds(&size);
    stage.reaches(&WEB, &SERVERS);
    stage.lab.agent_ready(NODE, PATIENCE).unwrap();
    flows.still_stand();
    loads.end(Removals(0));
}
