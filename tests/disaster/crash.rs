//! The agent is killed at every write of a change and at every step of its start, under load: each frontend in the kernel leads
//! to complete segments of the old state or the new (invariant 4), and the next agent finishes what this one began.

use std::collections::BTreeMap;

use sluice_lab::{Probe, Stop};

use crate::gate::{Call, Gate, Verb, Verdict};
use crate::loads::{Flows, Loads, Removals};
use crate::stage::{NODE, SERVERS, Stage, WEB, frontends};

/// Requests of each load while no agent runs.
const MEANWHILE: u32 = 20;
/// Of a change, the writes before which the agent is killed, unless `SLUICE_DISASTER_KILLS` is set: then before each.
const WRITES: [usize; 3] = [1, 2, 9];
/// Of a start, the calls before which it is killed: which of those of a kind.
const STEPS: [(Verb, usize); 3] = [(Verb::ProgramLoad, 4), (Verb::LinkUpdate, 1), (Verb::LinkUpdate, 12)];
/// With the variable set: before every call of this distance.
const EVERY: usize = 40;
const MOVED: [&str; 2] = ["10.96.0.50", "fd00:96::50"];

/// Two worlds of one size, between which every change replaces four Services and the backends of a fifth.
#[derive(Clone, Copy, PartialEq, Eq)]
enum World {
    Even,
    Odd,
}

impl World {
    fn other(self) -> Self {
        match self {
            Self::Even => Self::Odd,
            Self::Odd => Self::Even,
        }
    }

    fn services(self) -> Vec<(String, [String; 2])> {
        let first = match self {
            Self::Even => 60,
            Self::Odd => 64,
        };
        let service =
            |number| (format!("s{number}"), [format!("10.96.0.{number}"), format!("fd00:96::{number}")]);
        (first..first + 4).map(service).collect()
    }

    fn servers(self) -> &'static [&'static str] {
        match self {
            Self::Even => &["web-1", "web-2"],
            Self::Odd => &["web-3"],
        }
    }

    /// Makes it so; what was put last is told last.
    fn make(self, stage: &Stage) {
        stage.put_service("moved", &MOVED, self.servers());
        for (name, [four, six]) in self.services() {
            stage.put_service(&name, &[&four, &six], self.servers());
        }
        for (name, _) in self.other().services() {
            stage.delete_service(&name);
        }
    }

    /// Whether the last Service that it puts answers.
    fn is_served(self, stage: &Stage) -> bool {
        let services = self.services();
        let Some((_, [four, six])) = services.last() else { return true };
        let tallies = stage.clients()[1].probe(&frontends(&[four, six])).unwrap();
        tallies.iter().all(|tally| tally.failures() == 0)
    }

    /// Waits until it is so.
    fn is(self, stage: &Stage) {
        stage.reaches(&MOVED, self.servers());
        for (_, [four, six]) in self.services() {
            stage.reaches(&[&four, &six], self.servers());
        }
    }
}

/// An agent that serves one of the worlds, under load.
struct Scene {
    stage: Stage,
    world: World,
    size: BTreeMap<String, u64>,
    flows: Flows,
    loads: Loads,
}

impl Scene {
    fn begin() -> Self {
        let stage = Stage::set(&[]);
        let world = World::Even;
        world.make(&stage);
        stage.start();
        world.is(&stage);
        stage.reaches(&WEB, &SERVERS);
        let size = stage.occupancy();
        let flows = Flows::open(&stage);
        let loads = Loads::start(&stage);
        Self { stage, world, size, flows, loads }
    }
}

fn all_points() -> bool {
    std::env::var_os("SLUICE_DISASTER_KILLS").is_some()
}

/// Kills before the call of that number, of those that `counts`; the first is 1.
fn kill_before(gate: &Gate, number: usize, counts: impl Fn(&Call) -> bool + Send + 'static) {
    let mut seen = 0;
    gate.judge(move |call| {
        seen += usize::from(counts(call));
        if seen == number { Verdict::Kill } else { Verdict::Go }
    });
}

/// While nobody is there: whatever a change is about to move still answers, from where it was or is to be.
fn serves_without_agent(stage: &Stage, loads: &Loads) {
    loads.go_on_for(MEANWHILE);
    let probes: Vec<Probe> = frontends(&MOVED).into_iter().map(|probe| probe.times(MEANWHILE)).collect();
    for client in stage.clients() {
        for tally in client.probe(&probes).unwrap() {
            assert_eq!((tally.answers(), tally.failures()), (MEANWHILE, 0), "{}: {tally}", client.name);
        }
    }
}

#[test]
fn an_agent_that_is_killed_at_any_write_of_a_change_costs_no_connection_and_leaves_nothing() {
    let Scene { stage, mut world, size, flows, loads } = Scene::begin();
    let mut deaths = 0;
    let numbers: Vec<usize> = if all_points() { (1..1_000).collect() } else { WRITES.to_vec() };
    for number in numbers {
        world = world.other();
        kill_before(&stage.gate, number, Call::writes_frontends);
        world.make(&stage);
        // A change has fewer writes than that once it is made and the agent lives.
        let is_made = || stage.occupancy() == size && world.is_served(&stage);
        let lives = || stage.lab.agent_process(NODE).unwrap().is_some();
        stage.until("the agent dies, or the change is made", || !lives() || is_made());
        if stage.gate.stopped().len() == deaths {
            break;
        }
        stage.dies();
        deaths += 1;
        serves_without_agent(&stage, &loads);
        stage.gate.open();
        stage.start();
        world.is(&stage);
        stage.holds(&size);
        flows.still_stand();
    }
    println!("killed before {deaths} writes");
    loads.end(Removals(0));
}

#[test]
fn an_agent_that_is_killed_at_any_step_of_its_start_costs_no_connection_and_leaves_nothing() {
    let Scene { stage, mut world, size, flows, loads } = Scene::begin();
    stage.lab.stop_agent(NODE, Stop::Kill).unwrap();
    let mut deaths = 0;
    let mut dies = |number: usize, counts: Box<dyn Fn(&Call) -> bool + Send>| {
        world = world.other();
        world.make(&stage);
        kill_before(&stage.gate, number, counts);
        stage.launch();
        // A start makes fewer calls than that, once it is over.
        let lives = || stage.lab.agent_process(NODE).unwrap().is_some();
        stage.until("the start is over", || !lives() || stage.is_ready());
        if lives() && stage.gate.stopped().len() == deaths {
            stage.gate.open();
            return false;
        }
        stage.dies();
        deaths += 1;
        serves_without_agent(&stage, &loads);
        true
    };
    if all_points() {
        let mut number = 1;
        while dies(number, Box::new(|_| true)) {
            number += EVERY;
        }
    } else {
        for (verb, number) in STEPS {
            assert!(dies(number, Box::new(move |call| call.verb == verb)), "{verb:?} {number}");
        }
        stage.gate.open();
        stage.start();
    }
    world.is(&stage);
    stage.holds(&size);
    flows.still_stand();
    println!("killed at {deaths} steps of a start");
    loads.end(Removals(0));
}
