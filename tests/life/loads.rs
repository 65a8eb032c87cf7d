//! New connections as fast as they can be made and datagrams at a steady pace, from a pod and from its node, over both
//! families, and connections that stay open.

use std::time::{Duration, Instant};

use sluice_lab::wire::{LoadReport, Outcome, UdpStyle};
use sluice_lab::{Failure, Load, Place, Probe, Protocol};

use crate::stage::{PATIENCE, Stage, WEB, frontends};

/// Between two datagrams of a client to a frontend, so that ports are seldom used twice while their flows live.
const PAUSE: Duration = Duration::from_millis(5);

/// How often an endpoint was taken away. The kernel hands a connected UDP socket only what its one backend sends, so the
/// socket is closed then (item 101), and a request that is under way on it at that moment fails with `ECONNABORTED`: one of
/// each client at most. Nothing else ever fails, and nothing is ever lost.
#[derive(Clone, Copy)]
pub(crate) struct Removals(pub(crate) u32);

/// `ECONNABORTED`, and `EDESTADDRREQ` for who sends at that very moment: the kernel has taken the peer away, and looks for
/// it before it looks for the error that it has noted.
const ABORTED: [&str; 2] = ["errno 103", "errno 89"];

/// Requests that go on until they are ended.
pub(crate) struct Loads {
    running: Vec<(String, Load)>,
}

impl Loads {
    /// Begins.
    pub(crate) fn start(stage: &Stage) -> Self {
        Self::of(&stage.clients())
    }

    /// Begins, from these places.
    pub(crate) fn of(clients: &[Place]) -> Self {
        let pairs: Vec<_> = clients.iter().map(|client| (client.clone(), frontends(&WEB))).collect();
        Self::at(&pairs)
    }

    /// Begins, each place with requests of its own, in every style.
    pub(crate) fn at(pairs: &[(Place, Vec<Probe>)]) -> Self {
        let styled = |(place, probes): &(Place, Vec<Probe>)| {
            (place.clone(), probes.iter().cloned().flat_map(styles).collect())
        };
        Self::exactly(&pairs.iter().map(styled).collect::<Vec<_>>())
    }

    /// Begins with these requests as they are.
    pub(crate) fn exactly(pairs: &[(Place, Vec<Probe>)]) -> Self {
        let mut running = Vec::new();
        for (client, probes) in pairs {
            for probe in probes {
                let name = format!("{} {} {:?} {}", client.name, probe.protocol, probe.udp, probe.to);
                let load = client.load(&name, probe).unwrap();
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
                assert!(Instant::now() < deadline, "{name}: stands still: {:?}", load.read().unwrap());
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }

    /// Ends them. Every request must have been answered, but for what removals excuse.
    pub(crate) fn end(self, Removals(removals): Removals) {
        let (mut answers, mut aborted, mut failed) = (0, 0, Vec::new());
        for (name, load) in self.running {
            let LoadReport { mut tally, first_failures, .. } = load.stop().unwrap();
            let closed: u32 = ABORTED
                .iter()
                .filter_map(|errno| tally.failed.remove(&Failure::Errno((*errno).to_owned())))
                .sum();
            if tally.failures() > 0 || closed > removals {
                failed.push(format!("{name}: {tally}: {first_failures:?}"));
            }
            assert!(tally.answers() > 0, "{name}: no answer");
            answers += tally.answers();
            aborted += closed;
        }
        println!("{answers} requests answered, {aborted} cut short with the sockets that they were made on");
        assert_eq!(failed, [""; 0], "of {answers} that were answered");
    }
}

/// A request as it is made: datagrams by sockets of both kinds, at a steady pace.
fn styles(probe: Probe) -> Vec<Probe> {
    match probe.protocol {
        Protocol::Udp => [UdpStyle::Connected, UdpStyle::Unconnected]
            .map(|udp| Probe { udp, pause: PAUSE, ..probe.clone() })
            .to_vec(),
        Protocol::Tcp | Protocol::Sctp | Protocol::Icmp => vec![Probe { pause: Duration::ZERO, ..probe }],
    }
}

/// TCP connections that stay open, each with its name at its client and the server that it spoke with first.
pub(crate) struct Flows {
    pub(crate) open: Vec<(Place, String, String)>,
}

impl Flows {
    /// Opens one from each of both clients over each family.
    pub(crate) fn open(stage: &Stage) -> Self {
        let pairs = stage.clients().map(|client| (client, frontends(&WEB)));
        Self::at("", &pairs)
    }

    /// Opens one for each place's requests of TCP. Those of another name are others.
    pub(crate) fn at(name: &str, pairs: &[(Place, Vec<Probe>)]) -> Self {
        let mut open = Vec::new();
        for (client, probes) in pairs {
            for probe in probes.iter().filter(|probe| probe.protocol == Protocol::Tcp) {
                let id = format!("{name}{}", probe.to);
                let server = server(&client.name, client.open(&id, probe).unwrap());
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
