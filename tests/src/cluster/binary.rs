//! The programs of `tests/cluster`, built once per content of that folder. Knows where they are, not what they do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, ensure};

/// A built program and the links beside it, which pick a command by name.
#[derive(Clone, Debug)]
pub struct ClusterBinary {
    folder: PathBuf,
}

impl ClusterBinary {
    /// Builds it, or finds what was built before. A cold build takes minutes and reports its progress on standard error.
    ///
    /// # Errors
    /// The Go toolchain is missing or the build fails; `build.sh` says more on standard error.
    pub fn build() -> Result<Self> {
        static ONCE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        Self::once(&ONCE, "cluster")
    }

    /// The program `suite` likewise: upstream's specs, the real kubelet, CoreDNS, and the programs of container images.
    ///
    /// # Errors
    /// As [`ClusterBinary::build`].
    pub fn build_suite() -> Result<Self> {
        static ONCE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
        Self::once(&ONCE, "suite")
    }

    fn once(once: &OnceLock<Result<PathBuf, String>>, name: &str) -> Result<Self> {
        let path = once.get_or_init(|| run_script(name).map_err(|error| format!("{error:#}"))).clone();
        let path = path.map_err(|error| anyhow!(error))?;
        let folder = path.parent().context("the program lies in no folder")?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// The path of `cluster`, `kubectl`, `agnhost` or another of the links.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The folder with all of them, for `PATH`.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn run_script(name: &str) -> Result<PathBuf> {
    let script = crate::repository().join("tests/cluster/build.sh");
    let output = Command::new(&script)
        .arg(name)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {}", script.display()))?;
    ensure!(output.status.success(), "{} failed ({})", script.display(), output.status);
    let said = String::from_utf8(output.stdout).context("the path of the program")?;
    let path = said.lines().last().context("build.sh named no program")?;
    Ok(PathBuf::from(path))
}
