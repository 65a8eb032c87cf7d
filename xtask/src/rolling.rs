//! `cargo xtask rolling`: many rolling updates under new connections, on both roads and with kube-proxy; `cargo xtask test` does
//! two on one.

use anyhow::Result;

use crate::{child, setup};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Updates on each road
    #[arg(long, default_value_t = 10)]
    rounds: u32,
    /// Only tests whose name holds this, as `packet_road`, `socket_road` or `kube_proxy`
    #[arg(long)]
    filter: Option<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    let mut cargo = child::cargo(["test", "--workspace", "--test", "rolling", "--"]);
    cargo.args(["--nocapture", "--test-threads=1"]).args(&options.filter);
    cargo.env("SLUICE_ROLLING_ROUNDS", options.rounds.to_string());
    child::run(&mut cargo)
}
