//! The real kubectl on a kubeconfig: what an operator types is what a test does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use sluice_lab::process::in_netns;

/// kubectl, for one cluster and user.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
    netns: Option<PathBuf>,
}

impl Kubectl {
    /// The program and the kubeconfig it uses.
    #[must_use]
    pub fn new(program: PathBuf, kubeconfig: &Path) -> Self {
        Self { program, kubeconfig: kubeconfig.to_owned(), netns: None }
    }

    /// The same, run in a network namespace.
    #[must_use]
    pub fn inside(self, netns: &Path) -> Self {
        Self { netns: Some(netns.to_owned()), ..self }
    }

    /// Runs it; the words of `line` are separated by blanks. Answers what it printed.
    ///
    /// # Errors
    /// It failed; with what it said.
    pub fn run(&self, line: &str) -> Result<String> {
        self.run_with(&line.split_whitespace().collect::<Vec<_>>(), "")
    }

    /// Runs it with these arguments, and `input` as its standard input.
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if let Some(netns) = &self.netns {
            in_netns(&mut command, netns)?;
        }
        let mut child = command.spawn().context("starting kubectl")?;
        if let Some(mut stdin) = child.stdin.take() {
            // Should it end early, its own message says more than a broken pipe.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output().context("waiting for kubectl")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl {}: {}", arguments.join(" "), said.trim());
        String::from_utf8(output.stdout).context("what kubectl printed")
    }

    /// Applies objects, as YAML or JSON.
    ///
    /// # Errors
    /// As [`Kubectl::run`].
    pub fn apply(&self, objects: &str) -> Result<()> {
        self.run_with(&["apply", "-f", "-"], objects).map(drop)
    }

    /// `kubectl get LINE`, as JSON.
    ///
    /// # Errors
    /// As [`Kubectl::run`], or it printed no JSON.
    pub fn get(&self, line: &str) -> Result<Value> {
        let text = self.run(&format!("get -o json {line}"))?;
        serde_json::from_str(&text).with_context(|| format!("reading kubectl get {line}"))
    }
}
