//! The cable between the nodes: a bridge in a network namespace of its own, with a tap device for each machine. The control
//! plane and clients from outside are on it, too. Nothing of it is seen by the host's own network.

use std::process::Command;

use anyhow::{Context as _, Result};

use super::node::Node;
use crate::{child, kernels::machine::Cable};

/// Its name under `/run/netns`.
pub(super) const NETNS: &str = "sluice-cluster-vm";
/// Of the control plane, and of clients from outside.
pub(super) const ADDRESSES: [&str; 2] = ["192.168.78.1", "fd00:78::1"];

/// The namespace; dropped, it is gone.
#[derive(Debug)]
pub(super) struct Network;

impl Drop for Network {
    fn drop(&mut self) {
        // One that is left behind is removed by the next run.
        let _ = ip(&["netns", "del", NETNS]);
    }
}

impl Network {
    /// Makes it, with a tap for each node.
    pub(super) fn lay(nodes: &[Node]) -> Result<Self> {
        if child::ask("ip", &["netns", "pids", NETNS]).is_some() {
            ip(&["netns", "del", NETNS]).context("the network of an earlier run cannot be removed")?;
        }
        ip(&["netns", "add", NETNS])?;
        let network = Self;
        let within = |args: &[&str]| ip(&[&["-n", NETNS], args].concat());
        within(&["link", "set", "lo", "up"])?;
        within(&["link", "add", "nodes", "type", "bridge"])?;
        within(&["address", "add", &format!("{}/24", ADDRESSES[0]), "dev", "nodes"])?;
        within(&["address", "add", &format!("{}/64", ADDRESSES[1]), "dev", "nodes", "nodad"])?;
        for node in nodes {
            within(&["tuntap", "add", &node.tap(), "mode", "tap"])?;
            within(&["link", "set", &node.tap(), "master", "nodes", "up"])?;
        }
        within(&["link", "set", "nodes", "up"])?;
        Ok(network)
    }

    /// The end of the cable that a node's machine gets.
    #[expect(clippy::unused_self, reason = "there is no cable without the network")]
    pub(super) fn cable(&self, node: &Node) -> Cable {
        Cable { netns: NETNS.to_owned(), tap: node.tap(), mac: node.mac() }
    }
}

/// A command whose network is this one.
pub(super) fn within(program: &std::path::Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{NETNS}")).arg(program);
    command
}

fn ip(args: &[&str]) -> Result<()> {
    child::run(Command::new("ip").args(args))
}
