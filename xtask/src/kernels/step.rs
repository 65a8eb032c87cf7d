//! What runs in each kernel: a table of steps, and what each of them printed. A step is a command of programs that the
//! host has built; they see the repository at the same place.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path, process::Command};

use anyhow::{Result, anyhow};

use crate::{
    build::artefacts,
    child, setup,
    test::count::{Count, Counter},
};

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) what: What,
}

/// What a step starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    /// The program that loads all programs.
    Load,
    /// Tests of a target whose names contain one of these, or all; but for those in [`SKIPS`].
    Tests(&'static str, &'static [&'static str]),
    /// Cases of the fixtures, by a pattern of their names.
    Cases(&'static str),
    /// Connections through Sluice and through kube-proxy's IPVS, by turns.
    Contest,
}

/// Cheapest first.
pub(super) const STEPS: &[Step] = &[
    Step { name: "load", what: What::Load },
    Step { name: "smoke", what: What::Cases("^(sv-001|sv-015|sv-066|sv-153|sv-169|np-001)$") },
    Step { name: "sctp", what: What::Cases("^(sv-164|sv-165|np-173)$") },
    Step {
        name: "capture",
        what: What::Tests(
            "life",
            &["capture::", "early::open_flows_to_a_remote_backend_are_carried_in_the_driver_alone"],
        ),
    },
    Step { name: "packets", what: What::Tests("packets", &[]) },
    Step { name: "ipvs", what: What::Contest },
];

impl Step {
    /// Runs also if nobody asks for it: it can fail.
    pub(super) fn is_usual(&self) -> bool {
        self.what != What::Contest
    }
}

/// A test that a kernel cannot pass, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skip {
    /// First series that passes it.
    pub(super) since: (u32, u32),
    pub(super) test: &'static str,
    pub(super) reason: &'static str,
}

pub(super) const SKIPS: &[Skip] = &[Skip {
    since: (6, 12),
    test: "programs::a_family_that_is_not_served_costs_nothing",
    reason: "the verifier looks nearly as long at from_pod for one family (107,393 instructions) as for both (113,916)",
}];

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed(String),
    /// Nothing failed, and not everything was tried.
    Skipped(String),
    Failed(String),
}

/// The programs of the host that the steps start.
#[derive(Debug)]
pub(super) struct Programs {
    /// By target.
    tests: BTreeMap<&'static str, String>,
}

impl Programs {
    /// Builds those of these steps.
    pub(super) fn build(steps: &[&Step]) -> Result<Self> {
        let bins = ["kernels-load", "sluice-lab", "lab-probe", "proxy-agent", "proxyctl"]
            .map(|name| ["--bin", name]);
        child::run(child::cargo(["build", "--workspace"]).args(bins.as_flattened()))?;
        if steps.iter().any(|step| step.what == What::Contest) {
            setup::have("rule tools")?;
            setup::have("Go")?;
            let bins = ["--bin", "bench-connect", "--bin", "sluice-load"];
            child::run(child::cargo(["build", "--workspace"]).args(bins))?;
            child::run(&mut Command::new(child::root().join("tests/cluster/build.sh")))?;
        }
        let mut tests = BTreeMap::new();
        for step in steps {
            if let What::Tests(target, _) = step.what {
                tests.insert(target, build_tests(target)?);
            }
        }
        Ok(Self { tests })
    }

    /// The script of all steps: each leaves `NAME.out` and, when it is done, `NAME.code`.
    pub(super) fn job(&self, steps: &[&Step], series: (u32, u32), out: &str) -> String {
        let root = child::root().display().to_string();
        // Tools are where the host has them.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut job =
            format!("export RUST_BACKTRACE=0 TERM=dumb NO_COLOR=1 PATH='{path}'\ncd '{root}/tests'\n");
        // Nothing is built in there.
        for (variable, program) in [("SLUICE_AGENT", "proxy-agent"), ("SLUICE_LAB_PROBE", "lab-probe")] {
            // Writing into a String cannot fail.
            _ = writeln!(job, "export {variable}='{}'", artefacts("debug").join(program).display());
        }
        for step in steps {
            let name = step.name;
            let command = self.command(step.what, series, out);
            // Writing into a String cannot fail.
            _ = writeln!(
                job,
                "echo 'guest: {name}'\n({command}) > {out}/{name}.out 2>&1\necho $? > {out}/{name}.code"
            );
        }
        job
    }

    fn command(&self, what: What, series: (u32, u32), out: &str) -> String {
        let bin = |name: &str| artefacts("debug").join(name).display().to_string();
        match what {
            What::Load => format!("'{}'", bin("kernels-load")),
            What::Tests(target, names) => {
                let skips: Vec<String> = skips(series).map(|skip| format!("--skip {}", skip.test)).collect();
                // There is one processor.
                format!("'{}' --test-threads=1 {} {}", self.tests[target], names.join(" "), skips.join(" "))
            }
            What::Contest => format!("'{}' --emulated --folder {out}/bench", bin("bench-connect")),
            What::Cases(pattern) => {
                format!("'{}' fixtures --jobs 1 --filter '{pattern}' fixtures", bin("sluice-lab"))
            }
        }
    }
}

/// What a kernel cannot pass.
pub(super) fn skips(series: (u32, u32)) -> impl Iterator<Item = &'static Skip> {
    SKIPS.iter().filter(move |skip| series < skip.since)
}

/// What a step left behind; none when it has not ended.
pub(super) fn outcome(step: &Step, out: &Path) -> Option<Outcome> {
    let code = fs::read_to_string(out.join(format!("{}.code", step.name))).ok()?;
    if code.is_empty() {
        // The file is there before what it says.
        return None;
    }
    let text = printed(step, out);
    let done = match step.what {
        What::Load => {
            let loaded = loaded(&text).len();
            Some((Count { passed: loaded as u64, ..Count::default() }, format!("{loaded} programs")))
        }
        What::Tests(..) | What::Cases(_) => closing(&text).map(|count| (count, count.to_string())),
        What::Contest => Some((Count { passed: 1, ..Count::default() }, "measured".to_owned())),
    };
    let Some((count, told)) = done else {
        return Some(Outcome::Failed("ended early".to_owned()));
    };
    Some(match code.trim() {
        "0" if count.passed == 0 && count.skipped == 0 => Outcome::Failed("tried nothing".to_owned()),
        "0" if count.skipped > 0 => Outcome::Skipped(told),
        "0" => Outcome::Passed(told),
        _ => Outcome::Failed(told),
    })
}

/// What a step has printed so far.
pub(super) fn printed(step: &Step, out: &Path) -> String {
    let text = fs::read(out.join(format!("{}.out", step.name))).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// Instructions per program, from what [`What::Load`] prints.
pub(super) fn loaded(text: &str) -> Vec<(String, u32)> {
    let of = |line: &str| {
        let (name, count) = line.strip_prefix("program ")?.split_once(' ')?;
        Some((name.to_owned(), count.trim().parse().ok()?))
    };
    text.lines().filter_map(of).collect()
}

/// What a runner sums up, if it came so far.
fn closing(text: &str) -> Option<Count> {
    let mut counter = Counter::default();
    text.lines().for_each(|line| counter.see(line));
    Some(counter.total()).filter(|count| *count != Count::default())
}

/// Builds the tests of a target and gives their program.
fn build_tests(target: &str) -> Result<String> {
    let mut tests = child::cargo(["test", "--workspace", "--no-run", "--test", target]);
    let output = tests.output().map_err(|error| anyhow!("cannot run cargo: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let program = executable(&text).ok_or_else(|| anyhow!("the tests {target} do not build:\n{text}"))?;
    Ok(child::root().join(program).display().to_string())
}

/// From what `cargo test --no-run` prints.
fn executable(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.contains("Executable"))?;
    Some(line.rsplit_once('(')?.1.trim_end_matches(')').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_and_their_instructions_are_read_and_all_else_is_not() {
        let text = "program from_pod 4711\nrefused to_pod\nR1 invalid\nprogram clock 9\n";
        assert_eq!(loaded(text), [("from_pod".to_owned(), 4711), ("clock".to_owned(), 9)]);
    }

    #[test]
    fn the_binary_is_the_one_that_cargo_names() {
        let text =
            "    Finished `dev` profile\n  Executable packets/main.rs (target/debug/deps/packets-38)\n";
        assert_eq!(executable(text).as_deref(), Some("target/debug/deps/packets-38"));
        assert_eq!(executable("error: could not compile"), None);
    }

    #[test]
    fn a_run_is_known_by_its_sum_and_by_those_who_say_that_they_tried_nothing() {
        let count = |passed, failed, skipped| Some(Count { passed, failed, skipped });
        assert_eq!(closing("test result: ok. 3 passed; 0 failed\n"), count(3, 0, 0));
        assert_eq!(
            closing("\nSKIPPED: no device\nok\ntest result: ok. 3 passed; 0 failed\n"),
            count(2, 0, 1)
        );
        assert_eq!(closing("12 passed, 0 failed\nbye\n"), count(12, 0, 0));
        assert_eq!(closing("panicked"), None);
    }
}
