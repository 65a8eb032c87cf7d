//! New connections as fast as they can be made and datagrams at a steady pace, from a pod and from its node, over both
//! families, and connections that stay open.

use std::time::{Duration, Instant};

use sluice_lab::wire::Outcome;
use sluice_lab::{Load, Place, Protocol};

use crate::stage::{PATIENCE, Stage, WEB, frontends};

/// Between two datagrams of a client to a frontend, so that ports are seldom used twice while their flows live.
const PAUSE: Duration = Duration::from_millis(5);

/// How often an endpoint was taken away. What is on its way to it over UDP may be lost then (item 101), one datagram of
/// each client at most; nothing else is ever lost.
#[derive(Clone, Copy)]
pub(crate) struct Removals(pub(crate) u32);

/// Requests that go on until they are ended.
pub(crate) struct Loads {
    running: Vec<(String, Protocol, Load)>,
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
                running.push((name, probe.protocol, load));
            }
        }
        Self { running }
    }

    /// Waits until each load has had so many more answers.
    pub(crate) fn go_on_for(&self, answers: u32) {
        let so_far = |load: &Load| load.read().unwrap().tally.answers();
        let goals: Vec<u32> = self.running.iter().map(|(_, _, load)| so_far(load) + answers).collect();
        let deadline = Instant::now() + PATIENCE;
        for ((name, _, load), goal) in self.running.iter().zip(goals) {
            while so_far(load) < goal {
                assert!(Instant::now() < deadline, "{name}: stands still");
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Ends them. Every request must have been answered, but for what removals excuse.
    pub(crate) fn end(self, Removals(removals): Removals) {
        let (mut answers, mut lost) = (0, 0);
        for (name, protocol, load) in self.running {
            let report = load.stop().unwrap();
            let excused = if protocol == Protocol::Udp { removals } else { 0 };
            let failures = report.tally.failures();
            assert!(failures <= excused, "{name}: {failures} failed: {:?}", report.first_failures);
            assert!(report.tally.answers() > 0, "{name}: no answer");
            answers += report.tally.answers();
            lost += failures;
        }
        println!("{answers} requests answered, {lost} datagrams lost with their endpoints");
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
