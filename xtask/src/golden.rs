//! Files that are generated and kept in the repository: compared by default, written on request.

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::child;

/// What to do with a generated file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Fail when the kept file differs.
    Compare,
    /// Replace the kept file.
    Write,
}

/// Compares or writes `path` (relative to the repository); `remedy` is the command that writes it.
pub(crate) fn settle(path: &str, text: &str, purpose: Purpose, remedy: &str) -> Result<()> {
    let file = child::root().join(path);
    let kept = fs::read_to_string(&file).unwrap_or_default();
    if kept == text {
        return Ok(());
    }
    if purpose == Purpose::Write {
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make the folder of {path}"))?;
        }
        fs::write(&file, text).with_context(|| format!("cannot write {path}"))?;
        println!("wrote {path}");
        return Ok(());
    }
    for (number, line) in difference(&kept, text) {
        println!("{path}:{number}: {line}");
    }
    bail!("{path} is not what the code says; if the change is meant: {remedy}")
}

/// Lines that only one side has, `-` kept and `+` generated, with the number on their own side.
fn difference<'a>(kept: &'a str, text: &'a str) -> Vec<(usize, String)> {
    let only = |sign: char, of: &'a str, other: &'a str| {
        let others: std::collections::BTreeSet<&str> = other.lines().collect();
        let lines = of.lines().zip(1..).filter(move |(line, _)| !others.contains(line));
        lines.map(move |(line, number)| (number, format!("{sign} {line}")))
    };
    only('-', kept, text).chain(only('+', text, kept)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_names_the_lines_of_each_side() {
        let found = difference("a\nb\n", "a\nc\nd\n");
        assert_eq!(found, [(2, "- b".to_owned()), (2, "+ c".to_owned()), (3, "+ d".to_owned())]);
    }
}
