//! `cargo xtask bench`: hands on to the binaries that measure, the packet programs alone (`packets`) or in the lab.

use anyhow::Result;

use crate::{child, setup};

/// Arguments, handed on as they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// `packets [--json FILE]`: nanoseconds per path and verified instructions; all else goes to the lab
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    args: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    let (verb, rest): (&[&str], _) = match options.args.split_first() {
        Some((what, rest)) if what == "packets" => {
            (&["run", "-q", "-p", "tests", "--bin", "bench-packets", "--"], rest)
        }
        _ => (&["run", "-q", "-p", "sluice-lab", "--", "bench"], &options.args[..]),
    };
    child::run(child::cargo(verb).args(rest))
}
