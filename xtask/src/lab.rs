//! `cargo xtask lab`, and what `demo` and `fixtures` have in common with it: the lab's own binary does the work.
//!
//! xtask only sees to it that the machine is ready and that agent, probe and lab are built from the same sources, side by
//! side, where the lab looks for them.

use std::{ffi::OsStr, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};

use crate::{build::artefacts, child, setup};

/// Arguments, handed on as they are.
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Options {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, num_args = 0..)]
    args: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    hand_on("lab", &options.args)
}

/// Builds what a lab is made of, and becomes the lab's binary: a signal from the terminal reaches it directly.
pub(crate) fn hand_on<I: IntoIterator<Item: AsRef<OsStr>>>(verb: &str, args: I) -> Result<()> {
    setup::ensure()?;
    let lab = artefacts("debug").join("sluice-lab");
    let mut cargo = child::cargo(["build", "-p", "proxy-agent", "-p", "sluice-lab", "--bins"]);
    if lab.exists() {
        // The first build takes minutes and shows what it does; later ones have nothing to say.
        cargo.arg("--quiet");
    }
    child::run(&mut cargo)?;
    let error = Command::new(&lab).arg(verb).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", lab.display()))
}
