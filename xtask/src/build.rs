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
    for name in ["proxy-agent", "proxyctl"] {
        let path = artefacts(options).join(name);
        let size = path.metadata().with_context(|| format!("cargo left no {}", path.display()))?.len();
        println!("{} ({:.1} MiB)", path.display(), size as f64 / f64::from(1 << 20));
    }
    Ok(())
}

/// The directory of the profile's binaries.
fn artefacts(options: &Options) -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| child::root().join("target"), PathBuf::from);
    target.join(if options.release { "release" } else { "debug" })
}
