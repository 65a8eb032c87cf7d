//! The kernel refuses what the agent asks for. The agent goes on, says what it is about, tries again, and repairs what is
//! wrong once the fault is over; connections and Services that are not concerned notice nothing.

use sluice_lab::{PodSpec, Stop};

use crate::gate::{Call, Verb, Verdict};
use crate::loads::{Flows, Loads, Removals};
use crate::stage::{NODE, PATIENCE, SERVERS, Stage, WEB};

/// Requests of each load while a fault lasts.
const MEANWHILE: u32 = 20;
const ERRORS: [i32; 6] = [libc::ENOMEM, libc::E2BIG, libc::EBUSY, libc::EAGAIN, libc::ENOSPC, libc::EPERM];
const ONE: [&str; 2] = ["10.96.0.70", "fd00:96::70"];
const OTHER: [&str; 2] = ["10.96.0.71", "fd00:96::71"];
/// Lines that a fault may cost the log while it lasts for some seconds: each try one, and tries get rarer.
const LINES: usize = 20;

#[test]
fn writes_that_the_kernel_refuses_are_named_tried_again_and_made_once_it_takes_them() {
    let stage = Stage::set(&[]);
    stage.put_service("one", &ONE, &["web-1"]);
    stage.start();
    stage.reaches(&WEB, &SERVERS);
    stage.reaches(&ONE, &["web-1"]);
    let size = stage.occupancy();
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    let (mut here, mut there) = (("one", ONE), ("other", OTHER));
    for errno in ERRORS {
        let from = stage.log().len();
        stage.gate.judge(move |call| match call.writes_frontends() {
            true => Verdict::Fail(errno),
            false => Verdict::Go,
        });
        stage.put_service(there.0, &there.1, &["web-2"]);
        stage.delete_service(here.0);
        let number = format!("os error {errno}");
        stage.says(from, &["writes to the maps failed (", "frontends", "demo/", &number]);
        stage.until("an Event on the Service says so", || {
            stage.api.events().iter().any(|event| {
                let note = event["note"].as_str().unwrap_or_default();
                event["reason"] == "NotWritten"
                    && event["regarding"]["name"] == there.0
                    && note.contains("frontends")
                    && note.contains(&number)
            })
        });
        loads.go_on_for(MEANWHILE);
        // What cannot be deleted goes on to be served.
        let lines = stage.log()[from..].lines().count();
        assert!(lines < LINES, "{lines} lines");
        stage.gate.open();
        stage.reaches(&there.1, &["web-2"]);
        stage.holds(&size);
        std::mem::swap(&mut here, &mut there);
    }
    assert!(stage.metric("sluice_plan_write_failures_total").is_some_and(|count| count > 0.0));
    assert!(stage.metric("sluice_kernel_errors_total{step=\"services\"}").is_some_and(|count| count > 0.0));
    assert!(stage.api.events().iter().all(|event| event["regarding"]["name"] != "web"));
    flows.still_stand();
    println!("{} writes refused", stage.gate.stopped().len());
    loads.end(Removals(0));
}

#[test]
fn maps_that_cannot_be_read_links_that_cannot_be_made_and_a_full_bpf_file_system_end_nothing() {
    let stage = Stage::begin(&[]);
    let size = stage.occupancy();
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    // Tables of connections are read every ten seconds, to remove what is over.
    let from = stage.log().len();
    refuse(&stage, Verb::LookupBatch, libc::ENOMEM);
    stage
        .says(from, &["what is over could not be removed", "cannot clean map", "no memory", "(os error 12)"]);
    for (index, (verb, errno)) in
        [(Verb::LinkCreate, libc::ENOMEM), (Verb::Pin, libc::ENOSPC)].into_iter().enumerate()
    {
        let from = stage.log().len();
        refuse(&stage, verb, errno);
        let name = format!("late-{index}");
        let ips = [format!("10.244.1.{}", 50 + index), format!("fd00:244:1::{}", 50 + index)];
        let spec = PodSpec {
            name: name.clone(),
            node: NODE.to_owned(),
            ips: ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        };
        let pod = stage.lab.pod_add(&spec).unwrap();
        let remedy = if verb == Verb::Pin { "room on that file system" } else { "raise the memory limit" };
        stage.says(from, &["a device is not served", remedy, &format!("os error {errno}")]);
        loads.go_on_for(MEANWHILE);
        stage.gate.open();
        let probes: Vec<_> = crate::stage::frontends(&WEB);
        stage.until("the late pod is served", || {
            pod.probe(&probes).unwrap().iter().all(|tally| tally.failures() == 0)
        });
        stage.lab.pod_remove(&name).unwrap();
        stage.holds(&size);
    }
    flows.still_stand();
    loads.end(Removals(0));
}

#[test]
fn an_agent_that_cannot_start_for_want_of_memory_says_so_and_leaves_all_as_it_was() {
    let stage = Stage::begin(&[]);
    let size = stage.occupancy();
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    stage.lab.stop_agent(NODE, Stop::Kill).unwrap();
    for (verb, errno, words) in [
        (Verb::ProgramLoad, libc::ENOMEM, "the kernel refused the program"),
        (Verb::LinkUpdate, libc::EBUSY, "cannot replace the program of"),
        (Verb::LookupBatch, libc::ENOMEM, "cannot read map"),
    ] {
        let from = stage.log().len();
        refuse(&stage, verb, errno);
        stage.launch();
        stage.dies();
        assert!(stage.log()[from..].contains(words), "{verb:?}: {}", &stage.log()[from..]);
        loads.go_on_for(MEANWHILE);
    }
    stage.gate.open();
    stage.start();
    stage.lab.agent_ready(NODE, PATIENCE).unwrap();
    stage.holds(&size);
    stage.reaches(&WEB, &SERVERS);
    flows.still_stand();
    loads.end(Removals(0));
}

#[test]
fn a_first_start_that_finds_no_room_names_the_map_and_leaves_the_next_one_to_serve() {
    let stage = Stage::set(&[]);
    for (verb, errno, words) in [
        (Verb::MapCreate, libc::ENOMEM, ["cannot make map ", "raise the memory limit", "(os error 12)"]),
        (Verb::Pin, libc::ENOSPC, ["cannot pin map ", "room on that file system", "(os error 28)"]),
    ] {
        let from = stage.log().len();
        refuse(&stage, verb, errno);
        stage.launch();
        stage.dies();
        let said = stage.log()[from..].to_owned();
        assert!(said.lines().any(|line| words.iter().all(|word| line.contains(word))), "{verb:?}: {said}");
        stage.gate.open();
    }
    stage.start();
    stage.reaches(&WEB, &SERVERS);
}

/// Every call of a kind fails so.
fn refuse(stage: &Stage, verb: Verb, errno: i32) {
    stage.gate.judge(move |call: &Call| match call.verb == verb {
        true => Verdict::Fail(errno),
        false => Verdict::Go,
    });
}
