//! Finds the programs that a lab starts: named by the environment, or beside the running program in cargo's target folder.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// A program of the workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// The process in every namespace.
    Probe,
    /// The product.
    Agent,
    /// The product with other map layouts, for upgrades.
    NextAgent,
}

impl Program {
    /// Where it is.
    ///
    /// # Errors
    /// It is not built; says how to build it.
    pub fn find(self) -> Result<PathBuf> {
        let (variable, name, package) = match self {
            Self::Probe => ("SLUICE_LAB_PROBE", "lab-probe", "sluice-lab"),
            Self::Agent => ("SLUICE_AGENT", "proxy-agent", "proxy-agent"),
            Self::NextAgent => {
                ("SLUICE_AGENT_NEXT", "proxy-agent-next", "proxy-agent --features layout-next")
            }
        };
        if let Some(path) = std::env::var_os(variable) {
            let path = PathBuf::from(path);
            if path.is_file() {
                return Ok(path);
            }
            bail!("{variable} names {}, which does not exist", path.display());
        }
        let own = std::env::current_exe().context("finding the running program")?;
        // target/debug/PROGRAM, and for tests target/debug/deps/TEST-HASH.
        let beside = own.ancestors().skip(1).take(2).map(|dir| dir.join(name)).find(|path| path.is_file());
        beside.with_context(|| {
            format!("there is no {name} beside {}; cargo build -p {package} --bins", own.display())
        })
    }
}
