//! `cargo xtask fixtures`: plays folders of cases; the lab's binary does it.

use anyhow::Result;

use crate::lab;

/// Arguments, handed on as they are.
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    args: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    lab::hand_on("fixtures", &options.args)
}
