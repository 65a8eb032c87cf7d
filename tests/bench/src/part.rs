//! What one bench found out: its figures and plots, and on what they were measured. One file, `target/bench/<what>.json`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use serde::{Deserialize, Serialize};

use crate::{figure::Figure, plot::Plot};

/// Everything that one bench has to say.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// `connect`, `packets`, `sync`, `churn`.
    pub what: String,
    /// How much of it ran.
    pub mode: Mode,
    /// How to run it again.
    pub command: String,
    /// Kernel, machine, peers.
    pub versions: Vec<Version>,
    /// How long it took.
    pub seconds: f64,
    /// In the order in which they are told.
    pub figures: Vec<Figure>,
    /// In the order in which they are drawn.
    #[serde(default)]
    pub plots: Vec<Plot>,
    /// Whole sentences: method, what is special about this run.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// How much of a bench ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Everything.
    Full,
    /// What fits in a few minutes.
    Quick,
}

/// Of something that figures depend on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// `kernel`, `processor`, `nft`.
    pub name: String,
    /// As it says itself.
    pub version: String,
}

impl Version {
    /// A pair of words.
    #[must_use]
    pub fn new(name: &str, version: impl Into<String>) -> Self {
        Self { name: name.to_owned(), version: version.into() }
    }

    /// The first line that a program prints when asked; "not there" if it cannot be run.
    #[must_use]
    pub fn of(program: &str, args: &[&str]) -> Self {
        let output = Command::new(program).args(args).output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let line = text.ok().and_then(|text| text.lines().next().map(|line| line.trim().to_owned()));
        Self::new(program, line.unwrap_or_else(|| "not there".to_owned()))
    }

    /// Kernel and processors of this machine.
    #[must_use]
    pub fn machine() -> Vec<Self> {
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let count = cpus.lines().filter(|line| line.starts_with("processor")).count();
        let model = model.trim_matches([' ', '\t', ':']);
        vec![Self::new("kernel", kernel.trim()), Self::new("processors", format!("{count} × {model}"))]
    }
}

impl Part {
    /// Where a part is in the folder of reports.
    #[must_use]
    pub fn path(folder: &Path, what: &str) -> PathBuf {
        folder.join(format!("{what}.json"))
    }

    /// Writes it into the folder, which is made if need be.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, folder: &Path) -> io::Result<PathBuf> {
        let path = Self::path(folder, &self.what);
        fs::create_dir_all(folder)?;
        fs::write(&path, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(path)
    }

    /// Reads it back.
    ///
    /// # Errors
    /// If there is none, or what is there is something else.
    pub fn read(folder: &Path, what: &str) -> io::Result<Self> {
        Ok(serde_json::from_slice(&fs::read(Self::path(folder, what))?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Axis, Estimate, Series};

    #[test]
    fn a_part_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let part = Part {
            what: "sync".to_owned(),
            mode: Mode::Quick,
            command: "cargo xtask bench sync --quick".to_owned(),
            versions: vec![Version::new("kernel", "6.1")],
            seconds: 1.5,
            figures: vec![
                Figure::of(13, "10k", "v4", Some(Estimate::exact(0.2)))
                    .controlled(Some(Estimate::exact(1.0))),
                Figure::missing(12, "cilium", "", "no sources"),
            ],
            plots: vec![Plot {
                title: "t".to_owned(),
                x: Axis::log("Services"),
                y: Axis::linear("µs"),
                series: vec![Series::new("p50", vec![(1.0, 2.0)])],
            }],
            notes: vec!["One core.".to_owned()],
        };
        part.write(folder.path()).expect("written");
        assert_eq!(Part::read(folder.path(), "sync").expect("read"), part);
        assert!(Part::read(folder.path(), "churn").is_err());
    }
}
