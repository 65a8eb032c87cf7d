//! `cargo xtask build`: the agent and `proxyctl`, with the kernel programs inside.

use std::path::PathBuf;

use anyhow::{Context as _, Result};

use crate::{child, setup};

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Optimise, as for a release
    #[arg(long)]
    release: bool,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    setup::ensure()?;
    let mut cargo = child::cargo(["build", "-p", "proxy-agent", "--bins"]);
    if options.release {
        cargo.arg("--release");
    }
    child::run(&mut cargo)?;
    let profile = if options.release { "release" } else { "debug" };
    for name in ["proxy-agent", "proxyctl"] {
        let path = artefacts(profile).join(name);
        let size = path.metadata().with_context(|| format!("cargo left no {}", path.display()))?.len();
        println!("{} ({:.1} MiB)", path.display(), size as f64 / f64::from(1 << 20));
    }
    Ok(())
}

/// Where cargo leaves the binaries of a profile (`debug`, `release`).
pub(crate) fn artefacts(profile: &str) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| child::root().join("target"), PathBuf::from);
    target.join(profile)
}
