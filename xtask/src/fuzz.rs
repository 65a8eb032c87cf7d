//! `cargo xtask fuzz`: spoiled packets and random worlds through the real programs, as many as asked for. The tests of
//! every day run a small number of each.

use std::num::NonZeroU32;

use anyhow::Result;

use crate::{child, setup};

/// How much.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Spoiled packets
    #[arg(long, value_name = "N", default_value = "1000000")]
    mutations: NonZeroU32,
    /// Random worlds that are compared with the reference
    #[arg(long, value_name = "N", default_value = "1000")]
    worlds: NonZeroU32,
    /// Where the random packets begin; a failure prints it
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    let mut cargo = child::cargo(["test", "--workspace", "--test", "fuzz", "--test", "worlds"]);
    cargo.args(["--", "--show-output"]);
    cargo.env("SLUICE_MUTATIONS", options.mutations.to_string());
    cargo.env("SLUICE_WORLDS", options.worlds.to_string());
    if let Some(seed) = options.seed {
        cargo.env("SLUICE_SEED", seed.to_string());
    }
    child::run(&mut cargo)?;
    // The planner of policies needs no programs: verdicts of maps in memory against a naive evaluator.
    let mut cargo =
        child::cargo(["test", "-p", "proxy-model", "--test", "policy", "agreement", "--", "--show-output"]);
    cargo.env("SLUICE_POLICY_WORLDS", options.worlds.to_string());
    child::run(&mut cargo)
}
