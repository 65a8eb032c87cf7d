//! A contender in namespaces of its own: a lab with servers and clients, and Sluice's agent if it is Sluice's turn. It stays up
//! while others are measured, so that switching costs nothing.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};
use sluice_lab::{AgentOptions, Lab, SocketLb, Topology};
use sluice_load::order::{Mode, Order, Report, Turn};

use super::contender::{Contender, Policies, Who};
use super::driver::{Driver, ELSEWHERE, Server, measured};
use super::scene::{Aim, Asker, Place, Scene};
use super::world::{self, CLIENT, FAR_WEB, NODE, OUTSIDER, PORT, TARGET, WEBS};
use crate::cluster::Road;
use crate::ports;

/// A hundred thousand Services are read from a file and written into maps meanwhile.
const PATIENCE: Duration = Duration::from_secs(180);
/// Of a client, so that no port is used twice within a slice.
const PORTS: &str = "1024 65535";

/// A contender, ready to be measured. Dropping it takes its lab down.
pub struct Stage {
    /// Who it is.
    pub contender: Contender,
    client: Driver,
    outsider: Driver,
    servers: Vec<Server>,
    /// Numbers of the Service that is found last, and of how many there are.
    last: usize,
    /// The nodes, the pods and the hosts outside.
    pub lab: Lab,
}

impl Stage {
    /// Brings it up. kube-proxy's rules are not there yet.
    ///
    /// # Errors
    /// Says which step failed; what was made until then is removed again.
    pub fn up(contender: Contender) -> Result<Self> {
        let lab = Lab::up(&world::topology()?)?;
        for place in [lab.pod(CLIENT)?, lab.place(OUTSIDER)?] {
            ports::give(&place, PORTS)?;
        }
        if let Some((road, policies)) = contender.sluice() {
            start_agent(&lab, road, policies, contender.services)?;
        }
        let serve = |name: &&str| {
            let place = lab.pod(name)?;
            Server::start(&place, SocketAddr::new(first_ip(&place.ips)?, TARGET))
        };
        let servers = WEBS.iter().chain([&FAR_WEB]).map(serve).collect::<Result<_>>()?;
        let (client, outsider) = (Driver::start(&lab.pod(CLIENT)?)?, Driver::start(&lab.place(OUTSIDER)?)?);
        let last = contender.services.saturating_sub(1);
        Ok(Self { contender, client, outsider, servers, last, lab })
    }

    /// Names the Service that is found after all others.
    pub fn found_last(&mut self, number: usize) {
        self.last = number;
    }

    /// Where the contender's clients find what a scene aims at.
    ///
    /// # Errors
    /// The lab lacks a pod.
    pub fn targets(&self, aim: Aim) -> Result<Vec<SocketAddr>> {
        let pod = |name: &str| -> Result<SocketAddr> {
            Ok(SocketAddr::new(first_ip(&self.lab.pod(name)?.ips)?, TARGET))
        };
        let node = || -> Result<IpAddr> { first_ip(&self.lab.node(NODE)?.ips) };
        let service = |number| SocketAddr::new(world::cluster_ip(number).into(), PORT);
        let served = !matches!(self.contender.who, Who::Direct | Who::Twin);
        Ok(match aim {
            Aim::Last if served => vec![service(self.last)],
            Aim::Random if served => (0..self.contender.services).map(service).collect(),
            Aim::Datagrams if served => vec![world::udp_frontend()],
            Aim::Near if served => vec![SocketAddr::new(node()?, world::NEAR)],
            Aim::Far if served => vec![SocketAddr::new(node()?, world::FAR)],
            Aim::Last | Aim::Random | Aim::Near => {
                WEBS.iter().map(|name| pod(name)).collect::<Result<_>>()?
            }
            Aim::Datagrams => vec![pod(WEBS[0])?],
            Aim::Far => vec![pod(FAR_WEB)?],
        })
    }

    /// Measures one slice of a scene.
    ///
    /// # Errors
    /// A client has ended.
    pub fn slice(&mut self, scene: &Scene, seed: u64) -> Result<Report> {
        if scene.aim == Aim::Random {
            self.forget_flows()?;
        }
        let order = Order { seed, ..self.order(scene)? };
        self.driver(scene.asker).ask(&order)
    }

    /// Lets netfilter forget connections that have ended. All Services have the same two pods, so connections of one port to two
    /// Services clash where their answers are told apart, for the two minutes for which an ended one is kept: more than in a
    /// cluster, and nothing that should count against a peer.
    ///
    /// # Errors
    /// `conntrack` cannot be run.
    pub fn forget_flows(&self) -> Result<()> {
        if self.contender.rules().is_some() {
            let mut command = self.lab.node(NODE)?.command("conntrack")?;
            let output = command.arg("-F").output().context("starting conntrack")?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "conntrack -F: {}", said.trim());
        }
        Ok(())
    }

    /// What a scene asks of the contender's client.
    ///
    /// # Errors
    /// As [`Stage::targets`].
    pub fn order(&self, scene: &Scene) -> Result<Order> {
        let servers = self.servers.iter().map(Server::pids).collect::<Result<Vec<_>>>()?;
        Ok(Order {
            mode: scene.mode,
            targets: self.targets(scene.aim)?,
            millis: scene.millis,
            limit: 10_000_000,
            seed: 1,
            cpu: Some(match scene.place {
                Place::Same => measured(),
                Place::Other => ELSEWHERE,
            }),
            servers: servers.concat(),
            raw: None,
        })
    }

    /// Whether one connection to each of these succeeds, in order of chance, within a time.
    ///
    /// # Errors
    /// The client has ended.
    pub fn reaches(&mut self, targets: Vec<SocketAddr>, millis: u64, limit: u64) -> Result<Report> {
        let cpu = Some(measured());
        let mode = Mode::Crr;
        self.client.ask(&Order { mode, targets, millis, limit, seed: 7, cpu, servers: Vec::new(), raw: None })
    }

    /// Lets the pod connect there again and again from now on, until it happens otherwise.
    ///
    /// # Errors
    /// The client has ended.
    pub fn watch(&mut self, target: SocketAddr, turn: Turn, patience: Duration) -> Result<()> {
        let order = Order {
            mode: Mode::Until(turn),
            targets: vec![target],
            millis: u64::try_from(patience.as_millis())?,
            limit: u64::MAX,
            seed: 1,
            cpu: Some(measured()),
            servers: Vec::new(),
            raw: None,
        };
        self.client.begin(&order)
    }

    /// When what [`Stage::watch`] waits for has happened: nanoseconds of the monotonic clock.
    ///
    /// # Errors
    /// It has not, or the client has ended.
    pub fn watched(&mut self) -> Result<u64> {
        let report = self.client.answer()?;
        ensure!(report.transactions == 1, "nothing has changed for {} s", report.nanos / 1_000_000_000);
        Ok(report.ended)
    }

    /// The client of a kind.
    pub fn driver(&mut self, asker: Asker) -> &mut Driver {
        match asker {
            Asker::Pod => &mut self.client,
            Asker::Outside => &mut self.outsider,
        }
    }

    /// Takes it down.
    ///
    /// # Errors
    /// Names what did not go.
    pub fn down(self) -> Result<()> {
        let Self { client, outsider, servers, lab, .. } = self;
        drop((client, outsider, servers));
        lab.down()
    }
}

fn first_ip(ips: &[IpAddr]) -> Result<IpAddr> {
    ips.first().copied().context("a place without address")
}

/// A world as text.
struct Written {
    services: usize,
    policies: Policies,
    text: Arc<[u8]>,
}

/// The one that was written last: whoever comes next has often the same, and a hundred thousand Services take longer to be written
/// than to be served.
static LAST: Mutex<Option<Written>> = Mutex::new(None);

/// The world as one list.
fn world_file(topology: &Topology, services: usize, policies: Policies) -> Arc<[u8]> {
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let same = |last: &&Written| (last.services, last.policies) == (services, policies);
    if let Some(Written { text, .. }) = last.as_ref().filter(same) {
        return Arc::clone(text);
    }
    let mut before = world::surroundings(topology);
    if let Policies::Present(others) = policies {
        before.extend(world::policies(others));
    }
    let text: Arc<[u8]> = world::list(&before, topology, services).into();
    *last = Some(Written { services, policies, text: Arc::clone(&text) });
    text
}

/// Writes the world as one file, and starts the agent of the node where all of it happens, as kube-proxy runs there only.
fn start_agent(lab: &Lab, road: Road, policies: Policies, services: usize) -> Result<()> {
    let file = lab.manifests().path().join("world.json");
    fs::write(&file, world_file(&lab.topology(), services, policies))
        .with_context(|| format!("writing {}", file.display()))?;
    let mut options = AgentOptions::new(match road {
        Road::Socket => SocketLb::On,
        Road::Packet => SocketLb::Host,
    });
    options.cluster_cidrs = vec![world::CLUSTER_CIDR.parse()?];
    lab.start_agent(NODE, &options)?;
    lab.agent_ready(NODE, PATIENCE)?;
    keep_away(lab)
}

/// The agent's own threads stay where nothing is measured; so would anything else of a node with more than one processor.
///
/// # Errors
/// The agent is gone.
pub fn keep_away(lab: &Lab) -> Result<()> {
    let agent = lab.agent_process(NODE)?.context("the agent has ended")?;
    let mut elsewhere = CpuSet::new();
    elsewhere.set(ELSEWHERE);
    for task in fs::read_dir(format!("/proc/{}/task", agent.pid))? {
        let task = task?.file_name().to_string_lossy().parse()?;
        // A thread that has ended meanwhile needs no processor.
        let _ = sched_setaffinity(Pid::from_raw(task), &elsewhere);
    }
    Ok(())
}
