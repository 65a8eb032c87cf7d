//! From one map layout to another and back, in order, and with agents that are killed on the way.

use std::time::Duration;

use proxy_common::maps::LAYOUT_VERSION;
use serde_json::{Value, json};
use sluice_lab::Stop;
use sluice_lab::binary::Program;

use crate::loads::{Flows, Loads, Removals};
use crate::scene::{self, Denied, asked, change, pinned};
use crate::stage::{FRONTENDS, NODES, SERVERS, Stage, WEB};

/// Requests of each load between two changes.
const MEANWHILE: u32 = 60;
/// Changes; `SLUICE_UPGRADES` makes it more.
const UPGRADES: usize = 3;
/// Agents that are killed while they take over; `SLUICE_UPGRADES` makes it more.
const KILLED: usize = 6;

fn asked_for(otherwise: usize) -> usize {
    std::env::var("SLUICE_UPGRADES").ok().and_then(|count| count.parse().ok()).unwrap_or(otherwise)
}

fn version(program: Program) -> String {
    match program {
        Program::NextAgent => format!("v{}", LAYOUT_VERSION + 1_000),
        Program::Agent | Program::Probe => format!("v{LAYOUT_VERSION}"),
    }
}

/// The agents of both nodes have taken over everything, and nothing is left of the other layout.
fn has_taken_over(stage: &Stage) {
    for node in NODES {
        assert_eq!(pinned(stage, node), (vec![version(stage.options.program)], vec![]), "{node}");
        let status = asked(stage, node, &["status"]);
        let start = &status["start"];
        let wrote = json!([start["adopted"], start["kept"], start["written"], start["deleted"]]);
        assert_eq!(wrote, json!([true, 2 * FRONTENDS, 0, 0]), "{node}: {start}");
        let hooks = status["hooks"].as_array().unwrap();
        let links = (&start["linksReplaced"], &start["linksCreated"]);
        assert_eq!(links, (&json!(hooks.len()), &json!(0)), "{node}");
        assert!(hooks.iter().all(|hook| hook["state"] == hooks[0]["state"]), "{node}: {hooks:?}");
    }
}

#[test]
fn the_map_layout_changes_up_and_down_under_load_and_nothing_is_lost() {
    let mut stage = scene::begin();
    stage.reaches(&WEB, &SERVERS);
    let client = stage.lab.pod("client").unwrap();
    let favourites = scene::favourites(&client);
    assert!(favourites.iter().all(|servers| servers.len() == 1), "{favourites:?}");
    let epochs = |stage: &Stage| -> Vec<Value> {
        NODES.into_iter().map(|node| asked(stage, node, &["status"])["policy"]["epoch"].clone()).collect()
    };
    let before = epochs(&stage);
    let flows = Flows::open(&stage);
    let (loads, denied) = (Loads::start(&stage), Denied::begin(&stage));
    loads.go_on_for(MEANWHILE);
    let programs = [Program::NextAgent, Program::Agent].into_iter().cycle();
    let stops = [Stop::Terminate, Stop::Kill].into_iter().cycle();
    for (program, stop) in programs.zip(stops).take(asked_for(UPGRADES)) {
        change(&mut stage, program, stop);
        has_taken_over(&stage);
        loads.go_on_for(MEANWHILE);
        flows.still_stand();
        assert_eq!(scene::favourites(&client), favourites, "whom affinity has led to one server");
        assert_eq!(epochs(&stage), before, "what was judged stays judged");
    }
    denied.end();
    loads.end(Removals(0));
    // Two clients, two families; those of the pod are seen by both nodes' programs only where they are translated.
    scene::comes_to_rest(&stage, 2);
}

#[test]
fn a_port_that_is_used_again_for_another_service_of_the_same_servers_is_no_old_connection() {
    let mut stage = scene::begin();
    stage.reaches(&WEB, &SERVERS);
    let client = stage.lab.pod("client").unwrap();
    scene::few_ports(&client);
    let loads = scene::crowd(&client);
    for program in [Program::NextAgent, Program::Agent] {
        loads.go_on_for(MEANWHILE);
        change(&mut stage, program, Stop::Terminate);
    }
    loads.go_on_for(MEANWHILE);
    loads.end(Removals(0));
}

#[test]
fn an_agent_that_is_killed_while_it_takes_over_is_missed_by_nobody_and_the_next_one_goes_on() {
    let mut stage = scene::begin();
    stage.reaches(&WEB, &SERVERS);
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    stage.stop_agents(Stop::Kill);
    let programs = [Program::NextAgent, Program::NextAgent, Program::Agent].into_iter().cycle();
    for (number, program) in (0_u32..).zip(programs).take(asked_for(KILLED)) {
        stage.options.program = program;
        NODES.into_iter().for_each(|node| stage.lab.start_agent(node, &stage.options).unwrap());
        // Not a wait for anything: the moments of death are spread over a start.
        std::thread::sleep(Duration::from_millis(150 + 350 * u64::from(number)));
        stage.stop_agents(Stop::Kill);
        loads.go_on_for(MEANWHILE / 4);
        flows.still_stand();
    }
    for program in [Program::NextAgent, Program::Agent] {
        change(&mut stage, program, Stop::Kill);
        for node in NODES {
            assert_eq!(pinned(&stage, node), (vec![version(program)], vec![]), "{node}");
        }
        loads.go_on_for(MEANWHILE);
        flows.still_stand();
    }
    loads.end(Removals(0));
    stage.reaches(&WEB, &SERVERS);
}

#[test]
fn a_layout_that_nobody_can_read_serves_until_the_new_one_is_filled() {
    let mut stage = scene::begin();
    stage.reaches(&WEB, &SERVERS);
    for node in NODES {
        let abi = stage.lab.node_bpf_root(node).join(version(Program::Agent)).join("abi");
        std::fs::remove_file(abi).unwrap();
    }
    change(&mut stage, Program::NextAgent, Stop::Terminate);
    for node in NODES {
        assert_eq!(pinned(&stage, node), (vec![version(Program::NextAgent)], vec![]), "{node}");
        let log = stage.lab.agent_log(node, 200);
        assert!(log.contains("the maps of another layout cannot be read"), "{log}");
    }
    stage.reaches(&WEB, &SERVERS);
}
