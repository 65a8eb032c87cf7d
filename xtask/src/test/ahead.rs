//! What takes minutes of somebody else's compiler and can go on beside the first steps.

use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::steps::{AHEAD, Errand, Step};
use crate::child;

/// Errands under way.
pub(super) struct Ahead(Vec<(&'static Errand, Result<Child>)>);

impl Ahead {
    /// Starts, with the lowest priority, what the chosen steps will wait for. On a person's machine nothing runs ahead:
    /// the step does its own errand then, in the foreground, where its progress is seen.
    pub(super) fn start(chosen: &[&Step]) -> Self {
        if std::env::var_os("CI").is_none() {
            return Self(Vec::new());
        }
        let wanted = AHEAD.iter().filter(|errand| chosen.iter().any(|step| step.name == errand.before));
        Self(wanted.map(|errand| (errand, spawn(errand))).collect())
    }

    /// Waits for what `step` needs.
    pub(super) fn wait(&mut self, step: &Step) -> Result<()> {
        for (errand, child) in self.0.extract_if(.., |(errand, _)| errand.before == step.name) {
            let status = child?.wait().with_context(|| format!("cannot wait for {}", errand.name))?;
            if !status.success() {
                bail!("{}: {status}", errand.name);
            }
        }
        Ok(())
    }
}

fn spawn(errand: &Errand) -> Result<Child> {
    println!("=== {} · in the background", errand.name);
    let mut nice = Command::new("nice");
    nice.args(["-n", "10"])
        .args(errand.command)
        .current_dir(child::root())
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    nice.spawn().with_context(|| format!("cannot start {}", errand.name))
}
