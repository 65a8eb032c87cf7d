//! `cargo xtask lab`, and what `demo` and `fixtures` have in common with it: the lab's own binary does the work.
//!
//! xtask only sees to it that the machine is ready and that agent, probe and lab are built from the same sources, side by
//! side, where the lab looks for them.

use std::{
    ffi::{OsStr, OsString},
    os::unix::process::CommandExt as _,
    process::Command,
};

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

/// A binary that plays in a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    /// The lab's own.
    Lab,
    /// The fixture runner with kube-proxy in the product's place.
    FixturesPeer,
}

/// Builds what a lab is made of, and becomes the lab's binary.
pub(crate) fn hand_on<I: IntoIterator<Item: AsRef<OsStr>>>(verb: &str, args: I) -> Result<()> {
    let args = args.into_iter().map(|arg| arg.as_ref().to_owned());
    let all: Vec<OsString> = std::iter::once(verb.into()).chain(args).collect();
    become_binary(Binary::Lab, &all)
}

/// Builds a binary and what it starts, and becomes it: a signal from the terminal reaches it directly.
pub(crate) fn become_binary<S: AsRef<OsStr>>(binary: Binary, args: &[S]) -> Result<()> {
    setup::ensure()?;
    let (name, build): (_, &[&str]) = match binary {
        Binary::Lab => ("sluice-lab", &["build", "-p", "proxy-agent", "-p", "sluice-lab", "--bins"]),
        // With `--workspace`, since the package alone would have its dependencies built once more, with fewer features.
        Binary::FixturesPeer => {
            ("fixtures-peer", &["build", "--workspace", "--bin", "fixtures-peer", "--bin", "lab-probe"])
        }
    };
    let program = artefacts("debug").join(name);
    let mut cargo = child::cargo(build);
    if program.exists() {
        // The first build takes minutes and shows what it does; later ones have nothing to say.
        cargo.arg("--quiet");
    }
    child::run(&mut cargo)?;
    let error = Command::new(&program).args(args).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}
