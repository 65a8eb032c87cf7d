//! `cargo xtask e2e`: Kubernetes' own sig-network specs against Sluice, or kube-proxy, in the lab; a binary of the package
//! `tests` does it.
//!
//! xtask only sees to it that the machine is ready and that agent, probe and suite runner are built from the same sources.

use std::{os::unix::process::CommandExt as _, process::Command};

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
    setup::ensure()?;
    setup::have("pod tools")?;
    let runner = artefacts("debug").join("upstream-suite");
    // The tests' own binary with --workspace, as in the test steps: naming its package would build its dependencies once more.
    let builds: [&[&str]; 2] = [
        &["build", "-p", "proxy-agent", "-p", "sluice-lab", "--bins"],
        &["build", "--workspace", "--bin", "upstream-suite"],
    ];
    let built = runner.exists();
    for build in builds {
        let mut cargo = child::cargo(build);
        if built {
            // The first build takes minutes and shows what it does; later ones have nothing to say.
            cargo.arg("--quiet");
        }
        child::run(&mut cargo)?;
    }
    let error = Command::new(&runner).args(&options.args).exec();
    Err(error).with_context(|| format!("cannot run {}", runner.display()))
}
