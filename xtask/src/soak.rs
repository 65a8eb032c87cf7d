//! `cargo xtask soak`: mixed load and churn for as long as one likes, and whether anything grows, stays or diverges.
//! `cargo xtask test` does it for some seconds.

use anyhow::Result;

use crate::{child, setup};

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Minutes of load, of which each road has half
    #[arg(long, default_value_t = 30)]
    minutes: u64,
    /// Two minutes
    #[arg(long, conflicts_with = "minutes")]
    quick: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    let minutes = if options.quick { 2 } else { options.minutes };
    child::run(&mut child::cargo(["build", "-p", "proxy-agent", "-p", "sluice-lab", "--bins"]))?;
    let mut cargo = child::cargo(["test", "--workspace", "--test", "soak", "--"]);
    cargo.args(["--nocapture", "--test-threads=1"]);
    cargo.env("SLUICE_SOAK_SECONDS", (60 * minutes).to_string());
    child::run(&mut cargo)
}
