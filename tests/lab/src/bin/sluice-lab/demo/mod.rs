//! `demo`: the main job of Sluice on one machine, told step by step. Two nodes, their pods, one Service, both roads.
//!
//! The story only; what is measured and how it is shown is in the files beside it.

mod cluster;
mod requests;
mod rescale;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use sluice_lab::binary::Program;
use sluice_lab::{AgentOptions, Lab, Lifetime, SocketLb, Stop, Topology};

/// An agent reads a handful of files and loads its programs.
const READY: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Leave the lab up at the end and say how to look around
    #[arg(long)]
    hold: bool,
    /// Folder of the topology (lab.yaml) and the manifests (web.yaml)
    #[arg(long, default_value = "examples")]
    examples: PathBuf,
}

/// Where Services are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Road {
    Socket,
    Packet,
}

impl Road {
    fn title(self) -> &'static str {
        match self {
            Self::Socket => {
                "socket road: an address is translated when a socket connects, no packet afterwards"
            }
            Self::Packet => "packet road: tc programs translate the packets of pods and of outside clients",
        }
    }

    fn flag(self) -> SocketLb {
        match self {
            Self::Socket => SocketLb::On,
            Self::Packet => SocketLb::Host,
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let topology = Topology::read(&options.examples.join("lab.yaml"))?;
    heading("a lab of two nodes, five pods and a host outside, made of network namespaces");
    let lab = Lab::up_for(&topology, if options.hold { Lifetime::Held } else { Lifetime::Owner })?;
    match story(&lab, options) {
        Ok(()) if options.hold => {
            look_around(&lab)?;
            Ok(ExitCode::SUCCESS)
        }
        Ok(()) => {
            heading("clean up");
            lab.down()?;
            println!("  agents, programs, maps, namespaces and cgroups are gone\n\nthe demo has passed");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            // What is held for a look around is worth nothing after a failure.
            lab.down().context("taking the lab down after a failure")?;
            Err(error)
        }
    }
}

fn story(lab: &Lab, options: &Options) -> Result<()> {
    let objects = cluster::objects(&lab.topology(), &options.examples.join("web.yaml"))?;
    cluster::serve(lab)?;
    for object in &objects {
        lab.manifests().put(object)?;
    }
    println!(
        "  one agent per node reads {} objects from {}",
        objects.len(),
        lab.manifests().path().display()
    );
    for road in [Road::Socket, Road::Packet] {
        let mut agents = AgentOptions::new(road.flag());
        agents.cluster_cidrs = vec!["10.244.0.0/16".parse()?, "fd00:244::/32".parse()?];
        heading(road.title());
        lab.start_agents(&agents, READY)?;
        requests::spread(lab)?;
        requests::refused(lab)?;
        rescale::under_load(lab)?;
        restart_under_load(lab)?;
        proxyctl(lab, &["service", "list"])?;
        if !(options.hold && road == Road::Packet) {
            for node in lab.topology().nodes {
                lab.stop_agent(&node.name, Stop::Terminate)?;
                lab.clean_agent(&node.name)?;
            }
        }
    }
    Ok(())
}

/// Kills the agent of a node while its pod goes on connecting, and starts it again.
fn restart_under_load(lab: &Lab) -> Result<()> {
    let load = rescale::load(lab)?;
    lab.restart_agent("node-1", Stop::Kill)?;
    lab.agent_ready("node-1", READY)?;
    let report = load.stop()?;
    println!("  agent of node-1 killed and started again: {}", rescale::summary(&report)?);
    proxyctl(lab, &["status"])
}

fn proxyctl(lab: &Lab, arguments: &[&str]) -> Result<()> {
    let program = Program::Agent.find()?.with_file_name("proxyctl");
    let node = lab.node("node-1")?;
    let root = lab.node_bpf_root(&node.name);
    let output = node
        .command(&program.to_string_lossy())?
        .args(arguments)
        .arg("--bpf-root")
        .arg(&root)
        .output()
        .with_context(|| format!("running {}", program.display()))?;
    println!("\n  node-1$ proxyctl {}", arguments.join(" "));
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        println!("    {line}");
    }
    if !output.status.success() {
        bail!("proxyctl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn look_around(lab: &Lab) -> Result<()> {
    let root = lab.node_bpf_root("node-1");
    let (probe, proxyctl) = (Program::Probe.find()?, Program::Agent.find()?.with_file_name("proxyctl"));
    let exec = format!("cargo xtask lab exec --lab {}", lab.id());
    heading("the lab stays up");
    println!("  cargo xtask lab status");
    println!("  {exec} node-1/client-1 -- ip address");
    println!("  {exec} node-1/client-1 -- {} get tcp/10.96.0.10:80", probe.display());
    println!("  {} service get demo/web --bpf-root {}", proxyctl.display(), root.display());
    println!("  edit the objects in {}", lab.manifests().path().display());
    println!("  cargo xtask lab down {}", lab.id());
    Ok(())
}

fn heading(text: &str) {
    println!("\n== {text}");
}
