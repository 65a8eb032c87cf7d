//! The workspace's own programs that tests start. A dependency's binaries are not built by `cargo test`, and stale ones would
//! be tested unnoticed, so they are brought up to date first.

use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

/// A package with programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// The probe process of the lab.
    Lab,
    /// The product.
    Agent,
}

impl Package {
    fn name(self) -> &'static str {
        match self {
            Self::Lab => "sluice-lab",
            Self::Agent => "proxy-agent",
        }
    }
}

/// Builds the programs of a package in the profile of the running test, once per process. Not if the lab is told by the
/// environment to use another one: `SLUICE_LAB_PROBE`, `SLUICE_AGENT`.
///
/// # Errors
/// They do not build; with what cargo said.
pub fn build(package: Package) -> Result<()> {
    static LAB: OnceLock<Result<(), String>> = OnceLock::new();
    static AGENT: OnceLock<Result<(), String>> = OnceLock::new();
    let (once, instead) = match package {
        Package::Lab => (&LAB, "SLUICE_LAB_PROBE"),
        Package::Agent => (&AGENT, "SLUICE_AGENT"),
    };
    if std::env::var_os(instead).is_some() {
        return Ok(());
    }
    let built = once.get_or_init(|| run_cargo(package).map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))
}

fn run_cargo(package: Package) -> Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", package.name(), "--bins"])
        .current_dir(crate::repository());
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    let output = command.output().context("starting cargo")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo build --package {} --bins failed:\n{said}", package.name());
    Ok(())
}
