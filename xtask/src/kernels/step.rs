//! What runs in each kernel: a table of steps, and what each of them printed. A step is a command of programs that the
//! host has built; they see the repository at the same place.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Result, anyhow};

use crate::{build::artefacts, child};

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
    /// The packet tests, but for those in [`SKIPS`].
    Packets,
    /// Cases of the fixtures, by a pattern of their names.
    Cases(&'static str),
}

/// Cheapest first.
pub(super) const STEPS: &[Step] = &[
    Step { name: "load", what: What::Load },
    Step { name: "smoke", what: What::Cases("^(sv-001|sv-015|sv-066|sv-153|sv-169|np-001)$") },
    Step { name: "sctp", what: What::Cases("^(sv-164|sv-165|np-173)$") },
    Step { name: "packets", what: What::Packets },
];

/// A packet test that a kernel cannot pass, and why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Skip {
    /// First series that passes it.
    pub(super) since: (u32, u32),
    pub(super) test: &'static str,
    pub(super) reason: &'static str,
}

pub(super) const SKIPS: &[Skip] = &[];

/// What a step came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed(String),
    Failed(String),
}

/// The programs of the host that the steps start.
#[derive(Debug)]
pub(super) struct Programs {
    packets: String,
}

impl Programs {
    /// Builds them.
    pub(super) fn build() -> Result<Self> {
        let bins = ["kernels-load", "sluice-lab", "lab-probe", "proxy-agent", "proxyctl"]
            .map(|name| ["--bin", name]);
        child::run(child::cargo(["build", "--workspace"]).args(bins.as_flattened()))?;
        let mut tests = child::cargo(["test", "--workspace", "--no-run", "--test", "packets"]);
        let output = tests.output().map_err(|error| anyhow!("cannot run cargo: {error}"))?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        let packets = executable(&text).ok_or_else(|| anyhow!("the packet tests do not build:\n{text}"))?;
        Ok(Self { packets: child::root().join(packets).display().to_string() })
    }

    /// The script of all steps: each leaves `NAME.out` and, when it is done, `NAME.code`.
    pub(super) fn job(&self, steps: &[&Step], series: (u32, u32), out: &str) -> String {
        let root = child::root().display().to_string();
        // Tools are where the host has them.
        let path = std::env::var("PATH").unwrap_or_default();
        let mut job =
            format!("export RUST_BACKTRACE=0 TERM=dumb NO_COLOR=1 PATH='{path}'\ncd '{root}/tests'\n");
        for step in steps {
            let name = step.name;
            let command = self.command(step.what, series);
            // Writing into a String cannot fail.
            _ = writeln!(
                job,
                "echo 'guest: {name}'\n({command}) > {out}/{name}.out 2>&1\necho $? > {out}/{name}.code"
            );
        }
        job
    }

    fn command(&self, what: What, series: (u32, u32)) -> String {
        let bin = |name: &str| artefacts("debug").join(name).display().to_string();
        match what {
            What::Load => format!("'{}'", bin("kernels-load")),
            What::Packets => {
                let skips: Vec<String> = skips(series).map(|skip| format!("--skip {} ", skip.test)).collect();
                format!("'{}' --test-threads=2 {}", self.packets, skips.concat())
            }
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
    let text = printed(step, out);
    let last = match step.what {
        What::Load => format!("{} programs", loaded(&text).len()),
        What::Packets | What::Cases(_) => closing(&text),
    };
    Some(match code.trim() {
        "0" => Outcome::Passed(last),
        _ => Outcome::Failed(last),
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

/// The line with which a runner sums up.
fn closing(text: &str) -> String {
    let line = text.lines().rev().find(|line| line.contains(" passed"));
    line.map_or_else(
        || "ended early".to_owned(),
        |line| line.trim_start_matches("test result: ").trim().to_owned(),
    )
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
    fn a_runner_is_known_by_its_last_sum() {
        assert_eq!(closing("test result: ok. 3 passed; 0 failed\n"), "ok. 3 passed; 0 failed");
        assert_eq!(closing("12 passed, 0 failed\nbye\n"), "12 passed, 0 failed");
        assert_eq!(closing("panicked"), "ended early");
    }
}
