//! What is told in the end: instructions per program and kernel, what became of each step, and what was left out and why.

use std::{collections::BTreeSet, fmt};

use super::{
    package::Kernel,
    step::{self, Outcome, Step},
};
use crate::test::count::Count;

/// Lines that a failure shows.
const TAIL: usize = 60;

/// One kernel of the table.
#[derive(Debug)]
pub(super) struct Column {
    pub(super) series: String,
    pub(super) programs: Vec<(String, u32)>,
    pub(super) steps: Vec<(&'static str, Outcome)>,
    release: String,
    version: (u32, u32),
}

impl Column {
    pub(super) fn new(kernel: &Kernel, version: (u32, u32)) -> Self {
        let (series, release) = (kernel.series.clone(), kernel.release.clone());
        Self { series, release, version, programs: Vec::new(), steps: Vec::new() }
    }

    /// Its steps.
    pub(super) fn count(&self) -> Count {
        let one = |(_, outcome): &(&str, Outcome)| match outcome {
            Outcome::Passed(_) => Count { passed: 1, ..Count::default() },
            Outcome::Skipped(_) => Count { skipped: 1, ..Count::default() },
            Outcome::Failed(_) => Count { failed: 1, ..Count::default() },
        };
        self.steps.iter().map(one).sum()
    }

    fn instructions(&self, program: &str) -> String {
        let count = self.programs.iter().find(|(name, _)| name == program);
        count.map_or_else(|| "-".to_owned(), |(_, count)| count.to_string())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(what) => write!(f, "ok: {what}"),
            Self::Skipped(what) => write!(f, "not all: {what}"),
            Self::Failed(what) => write!(f, "FAILED: {what}"),
        }
    }
}

/// In Markdown, so that the documentation can have it as it is.
pub(super) fn print(columns: &[Column], steps: &[&Step]) {
    let cells = |of: &dyn Fn(&Column) -> String| columns.iter().map(of).collect::<Vec<_>>().join(" | ");
    println!("\n| verified instructions | {} |", cells(&|column| format!("Linux {}", column.release)));
    println!("|---|{}", "---:|".repeat(columns.len()));
    let names: BTreeSet<&String> =
        columns.iter().flat_map(|column| &column.programs).map(|(name, _)| name).collect();
    for name in names {
        println!("| `{name}` | {} |", cells(&|column| column.instructions(name)));
    }
    println!("\n| step | {} |", cells(&|column| format!("Linux {}", column.release)));
    println!("|---|{}", "---|".repeat(columns.len()));
    for step in steps {
        let outcome = |column: &Column| {
            let found = column.steps.iter().find(|(name, _)| *name == step.name);
            found.map_or_else(|| "-".to_owned(), |(_, outcome)| outcome.to_string())
        };
        println!("| {} | {} |", step.name, cells(&outcome));
    }
    for column in columns {
        for skip in step::skips(column.version) {
            println!("not run on {}: {}: {}", column.series, skip.test, skip.reason);
        }
    }
    println!();
}

/// The end of what a failed step printed.
pub(super) fn print_failure(kernel: &Kernel, step: &Step, text: &str) {
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(TAIL)..].join("\n");
    // At once: another kernel may tell something, too.
    println!("--- {} on Linux {} ---\n{tail}", step.name, kernel.release);
}
