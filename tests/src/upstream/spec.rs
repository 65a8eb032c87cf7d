//! One spec of the upstream suite: listed by a dry run, run alone in a process of its own, its outcome read from the report that
//! it writes. So a spec that hangs takes nothing along, and every run can be resumed.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;

use super::Upstream;
use crate::cluster::binary::ClusterBinary;

const POLL: Duration = Duration::from_millis(100);
/// What the suite gets to clean up after its own deadline.
const MERCY: Duration = Duration::from_secs(60);

/// Whether a spec may run beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Company {
    /// It may.
    Any,
    /// Its labels say that it must be alone.
    Alone,
}

/// A spec.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Spec {
    /// With whom it runs.
    pub company: Company,
    /// Its whole name.
    pub name: String,
}

/// What became of a spec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It failed; with its first words.
    Failed(String),
    /// The suite itself skipped it; with the reason it gives.
    Skipped(String),
    /// It did not end in time.
    TimedOut,
}

/// Which specs are meant: those whose name matches `focus`, if there is one, and not `skip`.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Regular expression, as ginkgo takes it.
    pub focus: Option<String>,
    /// Regular expression.
    pub skip: Option<String>,
}

impl Choice {
    fn flags(&self) -> Vec<String> {
        let focus = self.focus.iter().map(|focus| format!("--ginkgo.focus={focus}"));
        focus.chain(self.skip.iter().map(|skip| format!("--ginkgo.skip={skip}"))).collect()
    }
}

/// All specs of that choice, sorted: first those that may run beside others.
///
/// # Errors
/// The suite does not start, or refuses an expression.
pub fn list(suite: &ClusterBinary, choice: &Choice, folder: &Path) -> Result<Vec<Spec>> {
    // Another run may be listing beside this one.
    let report = folder.join(format!("list-{}.json", std::process::id()));
    let mut command = Command::new(suite.program("specs"));
    command.args(["--provider=skeleton", "--kubeconfig=/dev/null", "--ginkgo.dry-run"]).args(choice.flags());
    command.arg(format!("--ginkgo.json-report={}", report.display()));
    let output = command.output().context("starting the suite")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "listing the specs failed: {}", said.trim());
    let listed = reports(&report)?;
    fs::remove_file(&report).with_context(|| format!("removing {}", report.display()))?;
    let mut specs: Vec<Spec> =
        listed.iter().filter(|report| leaf(report) == "It" && is(report, "passed")).map(spec_of).collect();
    specs.sort();
    Ok(specs)
}

impl Spec {
    /// Runs it; its output goes to `log`. The deadline is upstream's own, who then cleans up.
    ///
    /// # Errors
    /// The suite does not start or writes no report, which says nothing about the spec.
    pub fn run(&self, upstream: &Upstream, deadline: Duration, log: &Path) -> Result<Outcome> {
        let report = log.with_extension("json");
        // What an earlier run wrote must not be taken for this one's.
        let _ = fs::remove_file(&report);
        let mut command = upstream.suite("specs")?;
        command.arg(format!("--kubeconfig={}", upstream.kubeconfig().display()));
        command.args(["--provider=skeleton", "--ginkgo.v", "--ginkgo.no-color"]);
        command.arg(format!("--num-nodes={}", upstream.nodes()));
        // What is matched is the name of the suite, a blank and the name of the spec.
        command.arg(format!("--ginkgo.focus=e2e suite {}$", regex::escape(&self.name)));
        command.arg(format!("--ginkgo.timeout={}s", deadline.as_secs()));
        command.arg(format!("--ginkgo.json-report={}", report.display()));
        let output = File::create(log).with_context(|| format!("making {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        command.current_dir(log.parent().context("a log lies in a folder")?).process_group(0);
        let mut child = command.spawn().context("starting the suite")?;
        if !ends_within(&mut child, deadline + MERCY)? {
            return Ok(Outcome::TimedOut);
        }
        let all = reports(&report).with_context(|| format!("see {}", log.display()))?;
        let own = all.iter().find(|report| spec_of(report).name == self.name);
        let before = all.iter().find(|report| is(report, "failed") && leaf(report) != "It");
        match (own, before) {
            (_, Some(before)) => Ok(Outcome::Failed(format!("{}: {}", leaf(before), reason(before)))),
            (Some(own), None) => Ok(outcome(own)),
            (None, None) => Ok(Outcome::Failed("the suite does not know this spec".to_owned())),
        }
    }
}

/// Kills the child and its own children when time is up.
pub(super) fn ends_within(child: &mut Child, patience: Duration) -> Result<bool> {
    let end = Instant::now() + patience;
    while Instant::now() < end {
        if child.try_wait().context("waiting for the suite")?.is_some() {
            return Ok(true);
        }
        std::thread::sleep(POLL);
    }
    // One that ends at this moment is as good as killed.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    child.wait().context("waiting for the suite")?;
    Ok(false)
}

fn reports(file: &Path) -> Result<Vec<Value>> {
    let content = fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    let mut suites: Value =
        serde_json::from_slice(&content).with_context(|| format!("in {}", file.display()))?;
    let Value::Array(all) = suites[0]["SpecReports"].take() else { return Ok(Vec::new()) };
    Ok(all)
}

fn spec_of(report: &Value) -> Spec {
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    let mut words = strings(&report["ContainerHierarchyTexts"]);
    words.push(report["LeafNodeText"].as_str().unwrap_or_default().to_owned());
    let containers = report["ContainerHierarchyLabels"].as_array().into_iter().flatten();
    let labels: Vec<String> = containers.chain([&report["LeafNodeLabels"]]).flat_map(strings).collect();
    let alone = labels.iter().any(|label| label == "Serial" || label == "Disruptive");
    Spec { company: if alone { Company::Alone } else { Company::Any }, name: words.join(" ") }
}

fn outcome(report: &Value) -> Outcome {
    match report["State"].as_str() {
        Some("passed") => Outcome::Passed,
        Some("skipped" | "pending") => Outcome::Skipped(reason(report)),
        Some("timedout") => Outcome::TimedOut,
        _ => Outcome::Failed(reason(report)),
    }
}

fn is(report: &Value, state: &str) -> bool {
    report["State"] == state
}

fn leaf(report: &Value) -> &str {
    report["LeafNodeType"].as_str().unwrap_or_default()
}

/// The first words of a failure or a skip.
fn reason(report: &Value) -> String {
    let message = report["Failure"]["Message"].as_str().unwrap_or_default();
    let line = message.split_whitespace().collect::<Vec<_>>().join(" ");
    line.chars().take(300).collect()
}

/// A text of an object.
///
/// # Errors
/// There is none of that name.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str> {
    value[name].as_str().with_context(|| format!("a question without {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(state: &str, labels: &[&str]) -> Value {
        json!({
            "ContainerHierarchyTexts": ["[sig-network] Services"], "ContainerHierarchyLabels": [["sig-network"]],
            "LeafNodeType": "It", "LeafNodeText": "should x [y]", "LeafNodeLabels": labels, "State": state,
            "Failure": {"Message": "why\n  so"},
        })
    }

    #[test]
    fn a_report_names_its_spec_and_tells_whether_it_must_be_alone() {
        let name = "[sig-network] Services should x [y]".to_owned();
        assert_eq!(spec_of(&report("passed", &[])), Spec { company: Company::Any, name: name.clone() });
        assert_eq!(
            spec_of(&report("passed", &["Slow", "Disruptive"])),
            Spec { company: Company::Alone, name }
        );
    }

    #[test]
    fn every_state_of_the_suite_is_an_outcome() {
        let of = |state| outcome(&report(state, &[]));
        assert_eq!(of("passed"), Outcome::Passed);
        assert_eq!(of("skipped"), Outcome::Skipped("why so".to_owned()));
        assert_eq!(of("timedout"), Outcome::TimedOut);
        assert_eq!(of("panicked"), Outcome::Failed("why so".to_owned()));
    }
}
