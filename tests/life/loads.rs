//! New connections as fast as they can be made and datagrams at a steady pace, from a pod and from its node, over both
//! families, and connections that stay open. Not one may fail.

use std::time::{Duration, Instant};

use sluice_lab::wire::Outcome;
use sluice_lab::{Load, Place, Protocol};

use crate::stage::{PATIENCE, Stage, WEB, frontends};

/// Between two datagrams of a client to a frontend, so that ports are seldom used twice: a datagram flow outlives its
/// endpoint for as long as the server answers, and a new socket with the port of an old one would join its flow.
const PAUSE: Duration = Duration::from_millis(5);

/// Requests that go on until they are ended.
pub(crate) struct Loads {
    running: Vec<(String, Load)>,
}

impl Loads {
    /// Begins.
    pub(crate) fn start(stage: &Stage) -> Self {
        let mut running = Vec::new();
        for client in stage.clients() {
            for mut probe in frontends(&WEB) {
                probe.pause = if probe.protocol == Protocol::Udp { PAUSE } else { Duration::ZERO };
                let name = format!("{} {} {}", client.name, probe.protocol, probe.to);
                let load = client.load(&name, &probe).unwrap();
                running.push((name, load));
            }
        }
        Self { running }
    }

    /// Waits until each load has had so many more answers.
    pub(crate) fn go_on_for(&self, answers: u32) {
        let so_far = |load: &Load| load.read().unwrap().tally.answers();
        let goals: Vec<u32> = self.running.iter().map(|(_, load)| so_far(load) + answers).collect();
        let deadline = Instant::now() + PATIENCE;
        for ((name, load), goal) in self.running.iter().zip(goals) {
            while so_far(load) < goal {
                assert!(Instant::now() < deadline, "{name}: stands still");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Ends them. Every request must have been answered.
    pub(crate) fn end_without_a_failure(self) {
        let mut answers = 0;
        for (name, load) in self.running {
            let report = load.stop().unwrap();
            assert_eq!(report.tally.failures(), 0, "{name}: {:?}", report.first_failures);
            assert!(report.tally.answers() > 0, "{name}: no answer");
            answers += report.tally.answers();
        }
        println!("{answers} requests, 0 failed");
    }
}

/// TCP connections that stay open, from both clients over both families.
pub(crate) struct Flows {
    open: Vec<(Place, String, String)>,
}

impl Flows {
    /// Opens them.
    pub(crate) fn open(stage: &Stage) -> Self {
        let mut open = Vec::new();
        for client in stage.clients() {
            for probe in frontends(&WEB).into_iter().filter(|probe| probe.protocol == Protocol::Tcp) {
                let id = probe.to.to_string();
                let server = server(&client.name, client.open(&id, &probe).unwrap());
                open.push((client.clone(), id, server));
            }
        }
        Self { open }
    }

    /// Each still speaks with its first server.
    pub(crate) fn still_stand(&self) {
        for (client, id, first) in &self.open {
            let outcome = client.use_flow(id, Duration::from_secs(2), 1).unwrap();
            assert_eq!(&server(&client.name, outcome), first, "{} to {id}", client.name);
        }
    }
}

fn server(client: &str, outcome: Outcome) -> String {
    match outcome {
        Outcome::Answered(answer) => answer.at,
        Outcome::Failed(failure) => panic!("the flow of {client} broke: {failure}"),
    }
}
