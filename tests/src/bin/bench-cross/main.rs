//! Measures the same things with tools of others: round trips with `sockperf`, streams with `iperf3`, beside our own load
//! generator in the same rounds. What is compared is the ratio of Sluice to nobody that each tool sees.
//!
//! `cargo xtask bench cross` is the way to call it.

mod tool;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use serde_json::{Value, json};
use sluice_bench::statistics::{median, paired_ratio};
use sluice_bench::{Estimate, Version};
use sluice_load::order::{Mode, Turn};
use sluice_load::pairing;
use tests::contest::contender::{Contender, Policies, Who};
use tests::contest::scene::{Aim, Asker, Place, Scene};
use tests::contest::stage::Stage;
use tests::contest::world;

use tool::{Server, Tool};

/// Measures with sockperf and iperf3 beside our own load generator.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask bench cross", bin_name = "cargo xtask bench cross")]
struct Options {
    /// There and back so often
    #[arg(long, default_value_t = 6)]
    rounds: usize,
}

/// What is measured, with which instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Measure {
    /// Requests and responses, ours.
    OurTrips,
    /// The same, sockperf's.
    TheirTrips,
    /// Bytes of a stream, ours.
    OurStream,
    /// The same, iperf3's.
    TheirStream,
}

const MEASURES: [(Measure, &str, f64, &str); 4] = [
    (Measure::OurTrips, "round trips, sluice-load", 1.0, "/s"),
    (Measure::TheirTrips, "round trips, sockperf", 1.0, "/s"),
    (Measure::OurStream, "stream, sluice-load", 8e-9, " Gbit/s"),
    (Measure::TheirStream, "stream, iperf3", 8e-9, " Gbit/s"),
];

/// A server that has been started listens within that.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);
/// The Service of the tools.
const FRONTEND: [u8; 4] = [10, 96, 1, 9];

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    let few = |who| Contender { who, services: 10 };
    let players = [
        Contender::direct(),
        Contender { who: Who::Twin, services: 0 },
        few(Who::Socket(Policies::Absent)),
        few(Who::Packet(Policies::Absent)),
    ];
    let mut stages = Vec::new();
    for player in players {
        stages.push(Player::up(player).with_context(|| format!("bringing up {player}"))?);
    }
    let mut samples: BTreeMap<(Measure, Contender), Vec<f64>> = BTreeMap::new();
    for (measure, ..) in MEASURES {
        for turn in 0..options.rounds {
            for index in pairing::round(stages.len(), turn) {
                let value = stages[index].measure(measure)?;
                samples.entry((measure, players[index])).or_default().push(value);
            }
        }
    }
    for (measure, name, scale, unit) in MEASURES {
        for player in players {
            let [ours, direct] = [player, players[0]].map(|one| &samples[&(measure, one)]);
            let ratio = paired_ratio(&pairing::folded(ours), &pairing::folded(direct));
            let Estimate { value, low, high, .. } = ratio.context("there are no rounds")?;
            let level = median(ours).unwrap_or_default() * scale;
            println!("{name:<26} {player:<14} {level:>10.1}{unit:<7} {value:.3} [{low:.3}, {high:.3}]");
        }
    }
    for version in Version::machine().iter().chain(&tool::versions()) {
        println!("{}: {}", version.name, version.version);
    }
    stages.into_iter().try_for_each(Player::down)?;
    Ok(ExitCode::SUCCESS)
}

/// A contender with the tools' servers beside ours.
struct Player {
    servers: Vec<Server>,
    stage: Stage,
}

impl Player {
    fn up(contender: Contender) -> Result<Self> {
        let stage = Stage::up(contender)?;
        let web = stage.lab.pod(world::WEBS[0])?;
        if contender.sluice().is_some() {
            for object in service(&stage)? {
                stage.lab.manifests().put(&object)?;
            }
        }
        let servers = Tool::ALL.map(|tool| Server::start(tool, &web)).into_iter().collect::<Result<_>>()?;
        let mut player = Self { servers, stage };
        player.reached()?;
        Ok(player)
    }

    /// The servers before the namespaces that they are in.
    fn down(self) -> Result<()> {
        drop(self.servers);
        self.stage.down()
    }

    /// Waits until the Service of the tools is reached.
    fn reached(&mut self) -> Result<()> {
        for tool in Tool::ALL {
            self.stage.watch(self.frontend(tool)?, Turn::Served, PATIENCE)?;
            self.stage.watched().with_context(|| format!("connecting to {tool:?}"))?;
        }
        Ok(())
    }

    fn frontend(&self, tool: Tool) -> Result<std::net::SocketAddr> {
        let served = self.stage.contender.sluice().is_some();
        let pod = *self.stage.lab.pod(world::WEBS[0])?.ips.first().context("a pod without address")?;
        Ok(if served { (FRONTEND, tool.port()).into() } else { (pod, tool.port()).into() })
    }

    /// Transactions, or bytes, in a second.
    fn measure(&mut self, measure: Measure) -> Result<f64> {
        let scene = |mode| Scene {
            name: "cross",
            mode,
            aim: Aim::Last,
            asker: Asker::Pod,
            place: Place::Same,
            millis: 1_000,
            rounds: 1,
        };
        let client = self.stage.lab.pod(world::CLIENT)?;
        match measure {
            Measure::OurTrips => Ok(self.stage.slice(&scene(Mode::Rr), 1)?.rate()),
            Measure::OurStream => Ok(self.stage.slice(&scene(Mode::Stream), 1)?.rate()),
            Measure::TheirTrips => Tool::Sockperf.measure(&client, self.frontend(Tool::Sockperf)?),
            Measure::TheirStream => Tool::Iperf3.measure(&client, self.frontend(Tool::Iperf3)?),
        }
    }
}

/// A Service with a port for each tool, and its slice.
fn service(stage: &Stage) -> Result<[Value; 2]> {
    let topology = stage.lab.topology();
    let address = std::net::Ipv4Addr::from(FRONTEND);
    let port = |tool: &Tool| json!({"name": format!("{tool:?}").to_lowercase(), "protocol": "TCP", "port": tool.port()});
    let ports: Vec<Value> = Tool::ALL.iter().map(port).collect();
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "tools", "namespace": world::NAMESPACE},
        "spec": {"type": "ClusterIP", "clusterIP": address, "clusterIPs": [address], "ipFamilies": ["IPv4"], "ports": ports},
    });
    let mut slice = world::slice("tools", "TCP", &topology, &world::WEBS[..1]);
    slice["ports"] = ports.into();
    Ok([service, slice])
}
