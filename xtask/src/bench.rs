//! `cargo xtask bench`: hands on to the lab's binary, which measures.

use anyhow::Result;

use crate::{child, setup};

/// Arguments, handed on as they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// See `cargo xtask bench --help`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    args: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    let verb = ["run", "-q", "-p", "sluice-lab", "--", "bench"];
    child::run(child::cargo(verb).args(&options.args))
}
