//! `cargo xtask cluster-vm`: the manifests and the image on nodes with a real kubelet, containerd, runc and CNI plugins, each an
//! emulated machine with the distribution's kernel. The control plane runs on the host.
//!
//! Nothing is installed: packages are unpacked into `target/cluster-vm`, the machines see the host's files and write to memory.

mod control;
mod network;
mod node;
mod parts;
mod proof;

use std::{
    fs,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    build, child,
    kernels::{
        machine::{self, Machine},
        package::{self, Kernel},
    },
    manifests, setup,
};
use control::ControlPlane;
use network::Network;
use node::Node;
use parts::Parts;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Series of the nodes' kernel
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// Nodes, each an emulated machine
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=2))]
    nodes: u8,
    /// The image that `cargo xtask image` made [default: target/image/sluice.tar]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Leave the cluster running until Enter is pressed
    #[arg(long)]
    hold: bool,
}

/// How long nodes may take until they are Ready: a processor is emulated, and other work may go on beside it.
const NODES_READY: Duration = Duration::from_secs(30 * 60);
/// How often what runs is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Values of the chart: what every cluster must say of itself, and all that needs a right that the rest does not.
const VALUES: &str = include_str!("values.yaml");

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    setup::have("emulator")?;
    let image = options.image.clone().unwrap_or_else(|| build::artefacts("image").join("sluice.tar"));
    ensure!(
        image.is_file(),
        "there is no {}: run `cargo xtask image --platform amd64` first",
        image.display()
    );
    let room = child::root().join("target/cluster-vm");
    fs::create_dir_all(&room).with_context(|| format!("cannot make {}", room.display()))?;
    let parts = Parts::gather(&room, &image)?;
    let Some(release) = package::newest(&options.kernel) else {
        bail!("apt offers no package linux-image-{}.*; run apt-get update", options.kernel);
    };
    let kernel = Kernel::fetch(&options.kernel, &release, &child::root().join("target/kernels"))?;
    let values = room.join("values.yaml");
    fs::write(&values, VALUES).with_context(|| format!("cannot write {}", values.display()))?;
    let manifest = room.join("sluice.yaml");
    fs::write(&manifest, manifests::rendered(&values)?).context("cannot write the manifests")?;

    let nodes: Vec<Node> = (1..=options.nodes).map(Node::new).collect();
    let network = Network::lay(&nodes)?;
    let control = ControlPlane::start(&room, &parts, &nodes)?;
    let mut machines = Vec::new();
    for node in &nodes {
        control.apply(&node.object())?;
        let out = node.prepare(&room, &parts, &control, &nodes)?;
        machines.push(machine::boot(&kernel, node::JOB, &out, Some(&network.cable(node)))?);
    }
    println!("{} nodes with Linux {}; logs in {}", nodes.len(), kernel.release, room.join("nodes").display());
    ready(&control, &mut machines, nodes.len())?;
    let result = proof::run(&control, &nodes, &manifest);
    if options.hold {
        println!("KUBECONFIG={} in the network namespace {}", control.kubeconfig().display(), network::NETNS);
        std::io::stdin().read_line(&mut String::new()).context("no input to wait for")?;
    }
    result
}

/// Waits until all kubelets say that they are Ready.
fn ready(control: &ControlPlane, machines: &mut [Machine], wanted: usize) -> Result<()> {
    let began = Instant::now();
    let path = "{range .items[*]}{.status.conditions[?(@.type==\"Ready\")].status} {end}";
    loop {
        for machine in &mut *machines {
            ensure!(machine.runs()?, "a node turned itself off; its console said:\n{}", machine.said());
        }
        let said = control.ask(&["get", "nodes", "-o", &format!("jsonpath={path}")]).unwrap_or_default();
        if said.split_whitespace().filter(|status| *status == "True").count() == wanted {
            println!("all nodes are Ready after {} s", began.elapsed().as_secs());
            return Ok(());
        }
        ensure!(began.elapsed() < NODES_READY, "the nodes are not Ready after {} s", NODES_READY.as_secs());
        thread::sleep(LOOK);
    }
}
