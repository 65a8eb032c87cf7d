//! The array by which the program at a pod's device hands on to the one behind it: each generation of programs has one, which is
//! there as long as a link has the program, with an agent and without.

use std::{fs, path::PathBuf};

use aya::programs::loaded_programs;
use proxy_agent::kernel::{
    Kernel, SocketRoad,
    hook::Hook,
    load::Programs,
    onward,
    pins::{self, Pins},
    sys::{self, Access, RawMap},
};
use proxy_common::maps::LAYOUT_VERSION;

use crate::audit::{audited, served};
use crate::stage::{Stage, on_a_node};

const AHEAD: &str = "strangers";
const BEHIND: &str = "from_pod";

/// The program of the link at the only pod's device, where packets come from it.
fn attached(stage: &Stage) -> u32 {
    let links = Pins::below(&stage.settings.bpf_root).links().unwrap();
    let links: Vec<_> = links.into_iter().filter(|link| link.hook == Hook::FromPod).collect();
    let [link] = &links[..] else { panic!("{links:?}") };
    pins::link_facts(link).unwrap().program
}

fn name_of(program: u32) -> String {
    let found = loaded_programs().flatten().find(|info| info.id() == program);
    found.and_then(|info| info.name_as_str().map(str::to_owned)).unwrap_or_default()
}

fn dir(stage: &Stage) -> PathBuf {
    stage.settings.bpf_root.join(format!("v{LAYOUT_VERSION}/onward"))
}

/// To which program this one hands on.
fn behind(stage: &Stage, ahead: u32) -> String {
    let slots = sys::open_pin(&dir(stage).join(ahead.to_string()), Access::Read).unwrap();
    let mut program = [0; 4];
    RawMap::new(slots, 1).unwrap().lookup(&[0; 4], &mut program).unwrap();
    name_of(u32::from_ne_bytes(program))
}

/// The program at the device hands on, and nobody else does.
fn handing_on(stage: &Stage) -> u32 {
    let ahead = attached(stage);
    assert_eq!((name_of(ahead).as_str(), behind(stage, ahead).as_str()), (AHEAD, BEHIND));
    assert_eq!(stage.pins("onward"), [ahead.to_string()]);
    ahead
}

fn with_a_pod(stage: &Stage) -> Kernel {
    let mut kernel = stage.open();
    served(stage, &mut kernel);
    kernel
}

#[test]
fn each_start_hands_on_by_an_array_of_its_own_which_is_there_while_nobody_runs() {
    on_a_node(|stage| {
        stage.pod("pod0");
        let kernel = with_a_pod(stage);
        let first = handing_on(stage);
        drop(kernel);
        assert_eq!(handing_on(stage), first, "as it was, with no agent");
        // As a start leaves it that was killed before it attached anything.
        drop(
            Programs::load(&Pins::below(&stage.settings.bpf_root), &stage.settings, SocketRoad::On).unwrap(),
        );
        assert_eq!(stage.pins("onward").len(), 2);
        let kernel = stage.open();
        assert_ne!(handing_on(stage), first, "the link has the new program, and nothing else is left");
        drop(kernel);
    });
}

#[test]
fn an_array_goes_when_no_link_has_its_program() {
    on_a_node(|stage| {
        stage.pod("pod0");
        drop(with_a_pod(stage));
        let (first, pins) = (attached(stage), Pins::below(&stage.settings.bpf_root));
        // A start that is killed before it attaches anything.
        let programs = Programs::load(&pins, &stage.settings, SocketRoad::On).unwrap();
        let second = programs.ahead().unwrap();
        assert_eq!(onward::let_go_of_others(&pins, programs.ahead()).unwrap(), 0);
        assert_eq!([first, second].map(|ahead| behind(stage, ahead)), [BEHIND, BEHIND]);
        drop(programs);
        assert_eq!(behind(stage, second), BEHIND, "it may be attached by then");
        assert_eq!(onward::let_go_of_others(&pins, None).unwrap(), 1);
        assert_eq!(handing_on(stage), first);
    });
}

#[test]
fn where_pods_packets_are_served_nothing_is_ahead_of_their_program() {
    on_a_node(|stage| {
        stage.pod("pod0");
        drop(with_a_pod(stage));
        for road in [SocketRoad::Host, SocketRoad::Off] {
            stage.settings.socket_road = road;
            drop(stage.open());
            assert_eq!((name_of(attached(stage)).as_str(), stage.pins("onward")), (BEHIND, Vec::new()));
        }
        stage.settings.socket_road = SocketRoad::On;
        drop(stage.open());
        handing_on(stage);
    });
}

#[test]
fn an_audit_gives_an_array_its_pin_back() {
    on_a_node(|stage| {
        stage.pod("pod0");
        let mut kernel = stage.open();
        let topology = served(stage, &mut kernel);
        let ahead = handing_on(stage);
        fs::remove_file(dir(stage).join(ahead.to_string())).unwrap();
        assert_eq!(audited(&mut kernel, &topology), "pins 1");
        drop(kernel);
        assert_eq!(handing_on(stage), ahead);
    });
}
