//! `lab up | down | exec | status`.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use sluice_lab::state::State;
use sluice_lab::{AgentOptions, Lab, LabId, Lifetime, Place, PlaceKind, SocketLb, Source, Topology, down};

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Bring a lab up and keep it until Ctrl-C
    Up(UpOptions),
    /// Take a lab down
    Down(DownOptions),
    /// Run a command on a node, in a pod or on an outside client
    Exec(ExecOptions),
    /// Say which labs there are and what is in them
    Status(StatusOptions),
}

#[derive(Debug, Args)]
pub(crate) struct UpOptions {
    /// Topology (YAML)
    file: PathBuf,
    /// Return at once and leave the lab until `lab down`
    #[arg(long)]
    hold: bool,
    /// Start an agent on every node
    #[arg(long, value_enum)]
    agents: Option<AgentRoad>,
    /// Where the agents read their objects [default: the lab's own folder]
    #[arg(long, value_name = "DIR", requires = "agents")]
    manifests: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum AgentRoad {
    /// Translate at the socket
    Socket,
    /// Translate pods' connections packet by packet
    Packet,
}

#[derive(Debug, Args)]
pub(crate) struct DownOptions {
    /// Which; needed only where there are several
    id: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct ExecOptions {
    /// Which lab; needed only where there are several
    #[arg(long, value_name = "ID")]
    lab: Option<String>,
    /// NODE, NODE/POD or outside client
    place: String,
    /// Command and arguments
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct StatusOptions {
    /// Form of the report
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

pub(crate) fn run(verb: Verb) -> Result<ExitCode> {
    match verb {
        Verb::Up(options) => up(&options),
        Verb::Down(options) => {
            let id = which(options.id.as_deref())?;
            down::by_id(&id)?;
            println!("lab {id} is down");
            Ok(ExitCode::SUCCESS)
        }
        Verb::Exec(options) => exec(&options),
        Verb::Status(options) => status(&options),
    }
}

fn up(options: &UpOptions) -> Result<ExitCode> {
    let topology = Topology::read(&options.file)?;
    // Listened for before anything is made, so that an early Ctrl-C leaves nothing behind.
    let mut signals = Signals::new([SIGINT, SIGTERM]).context("listening for signals")?;
    let start = Instant::now();
    let lab = Lab::up_for(&topology, if options.hold { Lifetime::Held } else { Lifetime::Owner })?;
    let took = start.elapsed();
    if let Some(road) = options.agents {
        let mut agents = AgentOptions::new(match road {
            AgentRoad::Socket => SocketLb::On,
            AgentRoad::Packet => SocketLb::Host,
        });
        agents.cluster_cidrs =
            topology.nodes.iter().flat_map(|node| node.pod_cidrs.iter().copied()).collect();
        if let Some(dir) = &options.manifests {
            agents.source = Source::Manifests(std::path::absolute(dir)?);
        }
        lab.start_agents(&agents, Duration::from_secs(20))?;
    }
    println!("lab {} is up ({:.2} s)\n", lab.id(), took.as_secs_f64());
    println!("{}", places(&lab));
    println!("manifests  {}", lab.manifests().path().display());
    println!("look round cargo xtask lab exec --lab {} PLACE -- COMMAND", lab.id());
    println!("end        cargo xtask lab down {}", lab.id());
    if !options.hold {
        println!("\nup until Ctrl-C");
        signals.forever().next();
        lab.down()?;
    }
    Ok(ExitCode::SUCCESS)
}

fn exec(options: &ExecOptions) -> Result<ExitCode> {
    let lab = Lab::open(&which(options.lab.as_deref())?)?;
    let place = find(&lab, &options.place)?;
    let (program, arguments) = options.command.split_first().context("which command?")?;
    let error = place.command(program)?.args(arguments).exec();
    Err(error).with_context(|| format!("running {program}"))
}

/// A place by `NODE`, `NODE/POD`, `POD` or outside client.
fn find(lab: &Lab, name: &str) -> Result<Place> {
    let Some((node, pod)) = name.split_once('/') else { return lab.place(name) };
    let place = lab.pod(pod)?;
    match &place.kind {
        PlaceKind::Pod { node: at, .. } if at == node => Ok(place),
        PlaceKind::Pod { node: at, .. } => bail!("pod {pod} is on {at}, not on {node}"),
        PlaceKind::Node | PlaceKind::Outside => bail!("{pod} is no pod"),
    }
}

/// The lab that is meant: the named one, or the only one.
fn which(id: Option<&str>) -> Result<LabId> {
    if let Some(id) = id {
        return LabId::parse(id);
    }
    match State::all()?.as_slice() {
        [] => bail!("there is no lab; cargo xtask lab up FILE --hold"),
        [lab] => Ok(lab.id.clone()),
        several => {
            let ids: Vec<String> = several.iter().map(|lab| lab.id.to_string()).collect();
            bail!("there are several labs, name one: {}", ids.join(" "))
        }
    }
}

fn status(options: &StatusOptions) -> Result<ExitCode> {
    let labs = State::all()?;
    let mut documents = Vec::new();
    for state in &labs {
        let lab = Lab::open(&state.id)?;
        let owner = match (state.lifetime, state.owner.is_alive()) {
            (Lifetime::Held, _) => "held".to_owned(),
            (Lifetime::Owner, true) => format!("owned by process {}", state.owner.pid),
            (Lifetime::Owner, false) => "orphan, goes with the next lab up".to_owned(),
        };
        match options.output {
            Output::Table => println!("lab {} ({owner})\n\n{}", state.id, places(&lab)),
            Output::Json => documents.push(json!({
                "id": state.id,
                "owner": owner,
                "places": lab.places().iter().map(|place| row(&lab, place)).collect::<Vec<_>>(),
            })),
        }
    }
    match options.output {
        Output::Json => println!("{:#}", json!(documents)),
        Output::Table if labs.is_empty() => println!("there is no lab"),
        Output::Table => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Place, kind, addresses and agent, one a line: nodes with their pods below, then outside clients.
fn places(lab: &Lab) -> String {
    let mut rows: Vec<[String; 4]> = lab.places().iter().map(|place| row(lab, place)).collect();
    rows.sort();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths = [width(0), width(1), width(2)];
    let line = |row: &[String; 4]| {
        let [place, kind, ips, agent] = row;
        let text = format!("{place:<0$}  {kind:<1$}  {ips:<2$}  {agent}", widths[0], widths[1], widths[2]);
        text.trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

fn row(lab: &Lab, place: &Place) -> [String; 4] {
    let (name, kind) = match &place.kind {
        PlaceKind::Node => (place.name.clone(), "node"),
        PlaceKind::Pod { node, .. } => (format!("{node}/{}", place.name), "pod"),
        PlaceKind::Outside => (place.name.clone(), "outside"),
    };
    let ips: Vec<String> = place.ips.iter().map(ToString::to_string).collect();
    let agent = match lab.agent_process(&place.name) {
        Ok(Some(process)) if place.kind == PlaceKind::Node => format!("agent {}", process.pid),
        _ => String::new(),
    };
    [name, kind.to_owned(), ips.join(" "), agent]
}
