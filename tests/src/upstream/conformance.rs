//! The published conformance suite of ClusterNetworkPolicy (`tests/conformance`): built, listed, run, and what it prints read.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Upstream;
use super::spec::{Outcome, ends_within};

/// What the names of its tests begin with, so that they are not taken for specs of another suite.
const PREFIX: &str = "ClusterNetworkPolicy conformance: ";

/// The built suite.
#[derive(Clone, Debug)]
pub struct Conformance {
    program: PathBuf,
}

impl Conformance {
    /// Builds it, or finds what was built before.
    ///
    /// # Errors
    /// The Go toolchain is missing or the build fails; the script says more on standard error.
    pub fn build() -> Result<Self> {
        let script = crate::repository().join("tests/conformance/build.sh");
        let output = Command::new(&script).stderr(Stdio::inherit()).output();
        let output = output.with_context(|| format!("starting {}", script.display()))?;
        ensure!(output.status.success(), "{} failed ({})", script.display(), output.status);
        let said = String::from_utf8(output.stdout).context("the path of the program")?;
        let path = said.lines().last().context("build.sh named no program")?;
        Ok(Self { program: PathBuf::from(path) })
    }

    /// The names of all tests.
    ///
    /// # Errors
    /// It does not start.
    pub fn list(&self) -> Result<Vec<String>> {
        let output = Command::new(&self.program).arg("list").output().context("starting the suite")?;
        ensure!(output.status.success(), "listing the conformance tests failed");
        let said = String::from_utf8(output.stdout).context("names")?;
        Ok(said.lines().map(|name| format!("{PREFIX}{name}")).collect())
    }

    /// The definition of its resource, for the API server.
    ///
    /// # Errors
    /// The file is missing.
    pub fn definition(&self) -> Result<String> {
        let file = self.program.with_file_name("crd.yaml");
        fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))
    }

    /// Runs these tests, one after the other, in one process; its output goes to `log`.
    ///
    /// # Errors
    /// It does not start, or says nothing of a test.
    pub fn run(
        &self,
        upstream: &Upstream,
        tests: &[String],
        deadline: Duration,
        log: &Path,
    ) -> Result<Vec<(String, Verdict)>> {
        let names: Vec<&str> = tests.iter().map(|test| test.trim_start_matches(PREFIX)).collect();
        let mut command = upstream.beside_control(&self.program)?;
        command.args(["run", "-test.v", "-test.run", &format!("^CNP$/^({})$", names.join("|"))]);
        command.arg(format!("-test.timeout={}s", deadline.as_secs()));
        let output = File::create(log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let mut child = command.spawn().context("starting the suite")?;
        let ended = ends_within(&mut child, deadline)?;
        let said = fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
        let verdict = |name: &&str| {
            let missing = || {
                let outcome =
                    if ended { Outcome::Failed("it was not run".into()) } else { Outcome::TimedOut };
                Verdict { outcome, took: Duration::ZERO }
            };
            (format!("{PREFIX}{name}"), read(&said, name).unwrap_or_else(missing))
        };
        Ok(names.iter().map(verdict).collect())
    }
}

/// What became of one test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Passed, failed or skipped.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// A part of a test, by its name below the test's.
struct Part<'a> {
    name: &'a str,
    failed: bool,
    /// The last command that was not answered as it should.
    command: &'a str,
}

/// Reads the outcome of a test in what Go prints with `-test.v`. Tests that fail only where they speak SCTP, which the kernel at
/// hand does not, count as skipped.
fn read(said: &str, test: &str) -> Option<Verdict> {
    let own = format!("CNP/{test}");
    let line = said.lines().find(|line| word_after(line, ": ") == Some(&own) && line.contains("--- "))?;
    let seconds = line.rsplit_once('(').and_then(|(_, rest)| rest.trim_end_matches("s)").parse().ok());
    let took = Duration::from_secs_f64(seconds.unwrap_or(0.0));
    if line.contains("--- PASS") {
        return Some(Verdict { outcome: Outcome::Passed, took });
    }
    if line.contains("--- SKIP") {
        return Some(Verdict { outcome: Outcome::Skipped("by the suite".to_owned()), took });
    }
    let parts = parts(said, &own);
    let lost: Vec<&Part<'_>> = parts.iter().filter(|part| part.failed).collect();
    let names = |parts: &[&Part<'_>]| parts.iter().map(|part| part.name).collect::<Vec<_>>().join(", ");
    let real: Vec<&Part<'_>> =
        lost.iter().filter(|part| !part.command.contains("--protocol=sctp")).copied().collect();
    let outcome = if lost.is_empty() || !real.is_empty() {
        Outcome::Failed(format!("{} of {} parts: {}", lost.len(), parts.len(), names(&real)))
    } else {
        let (ended, all) = (lost.len(), parts.len());
        Outcome::Skipped(format!(
            "{ended} of {all} parts ended at a step that needs SCTP, {} passed",
            all - ended
        ))
    };
    Some(Verdict { outcome, took })
}

fn parts<'a>(said: &'a str, test: &str) -> Vec<Part<'a>> {
    let mut parts: Vec<Part<'a>> = Vec::new();
    let below = |name: &'a str| name.strip_prefix(test)?.strip_prefix('/');
    let mut open = false;
    for line in said.lines() {
        if let Some(name) = line.strip_prefix("=== RUN").map(str::trim) {
            open = below(name).is_some();
            parts.extend(below(name).map(|name| Part { name, failed: false, command: "" }));
        } else if line.contains("FAILED Command was ") && open {
            if let Some(part) = parts.last_mut() {
                part.command = line;
            }
        } else if line.contains("--- FAIL: ") {
            let name = word_after(line, ": ").and_then(below);
            parts.iter_mut().filter(|part| Some(part.name) == name).for_each(|part| part.failed = true);
        }
    }
    parts
}

fn word_after<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    line.split_once(mark)?.1.split(' ').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
=== RUN   CNP
=== RUN   CNP/A
=== RUN   CNP/A/one
    x.go:3: FAILED Command was [/agnhost connect --timeout=3s --protocol=tcp 10.0.0.1:80]
    x.go:3: FAILED Command was [/agnhost connect --timeout=3s --protocol=sctp 10.0.0.1:80]
=== RUN   CNP/A/two
=== RUN   CNP/B
=== RUN   CNP/B/one
    x.go:3: FAILED Command was [/agnhost connect --timeout=3s --protocol=udp 10.0.0.1:80]
=== RUN   CNP/C
--- FAIL: CNP (3.00s)
    --- FAIL: CNP/A (1.50s)
        --- FAIL: CNP/A/one (1.00s)
        --- PASS: CNP/A/two (0.50s)
    --- FAIL: CNP/B (1.00s)
        --- FAIL: CNP/B/one (1.00s)
    --- PASS: CNP/C (0.25s)
";

    #[test]
    fn what_ends_at_sctp_is_told_from_what_fails() {
        let verdict = |test| read(SAID, test).map(|verdict| (verdict.outcome, verdict.took.as_millis()));
        let sctp = "1 of 2 parts ended at a step that needs SCTP, 1 passed".to_owned();
        assert_eq!(verdict("A"), Some((Outcome::Skipped(sctp), 1500)));
        assert_eq!(verdict("B"), Some((Outcome::Failed("1 of 1 parts: one".to_owned()), 1000)));
        assert_eq!(verdict("C"), Some((Outcome::Passed, 250)));
        assert_eq!(verdict("D"), None);
    }
}
