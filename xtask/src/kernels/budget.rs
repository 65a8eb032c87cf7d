//! How many instructions the verifier may look at, per program and kernel: a file of lines `KERNEL PROGRAM NUMBER`,
//! written by `--bless`. What grows beyond is a decision, not an accident.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::PathBuf};

use anyhow::{Context as _, Result, anyhow};

use crate::child;

const FILE: &str = "tests/kernels.txt";
const HEAD: &str = "\
# Instructions that the verifier may look at: kernel, program, number. What was measured, a tenth more, rounded up.\n\
# `cargo xtask kernels --bless` writes it.\n";
/// Numbers are multiples of it.
const STEP: u32 = 100;

/// What is allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Budget(BTreeMap<(String, String), u32>);

impl Budget {
    pub(super) fn read() -> Result<Self> {
        match fs::read_to_string(path()) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {FILE}")),
        }
    }

    fn parse(text: &str) -> Result<Self> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
        let entry = |(number, line): (usize, &str)| {
            let wrong = || anyhow!("{FILE}:{}: not `KERNEL PROGRAM NUMBER`: {line}", number + 1);
            let mut words = line.split_whitespace();
            let mut word = || words.next().map(str::to_owned).ok_or_else(wrong);
            let key = (word()?, word()?);
            Ok((key, word()?.parse().map_err(|_| wrong())?))
        };
        Ok(Self(lines.map(entry).collect::<Result<_>>()?))
    }

    /// Replaces what is known of a kernel by what was measured.
    pub(super) fn renew(&mut self, series: &str, measured: &[(String, u32)]) {
        self.0.retain(|(kernel, _), _| kernel != series);
        let allowed = |count: u32| (count + count / 10).next_multiple_of(STEP);
        self.0.extend(
            measured.iter().map(|(program, count)| ((series.to_owned(), program.clone()), allowed(*count))),
        );
    }

    pub(super) fn write(&self) -> Result<()> {
        let mut text = HEAD.to_owned();
        for ((series, program), count) in &self.0 {
            // Writing into a String cannot fail.
            _ = writeln!(text, "{series} {program} {count}");
        }
        fs::write(path(), text).with_context(|| format!("cannot write {FILE}"))
    }

    /// What a kernel needs beyond the budget, in words.
    pub(super) fn exceeded(&self, series: &str, measured: &[(String, u32)]) -> Vec<String> {
        let one = |(program, count): &(String, u32)| match self.0.get(&(series.to_owned(), program.clone())) {
            Some(allowed) if count <= allowed => None,
            Some(allowed) => {
                Some(format!("{program} on {series}: {count} instructions, {allowed} are allowed"))
            }
            None => {
                Some(format!("{program} on {series}: {count} instructions, and {FILE} has no line for it"))
            }
        };
        measured.iter().filter_map(one).collect()
    }
}

fn path() -> PathBuf {
    child::root().join(FILE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_blessed_is_allowed_a_tenth_more_and_no_more() {
        let measured = |count| vec![("from_pod".to_owned(), count)];
        let mut budget = Budget::parse("# a comment\n6.1 from_pod 1\n6.12 from_pod 700\n").unwrap();
        assert_eq!(budget.exceeded("6.1", &measured(1)), Vec::<String>::new());
        budget.renew("6.1", &measured(1000));
        assert_eq!(budget.exceeded("6.1", &measured(1100)), Vec::<String>::new());
        let beyond = ["from_pod on 6.1: 1101 instructions, 1100 are allowed"];
        assert_eq!(budget.exceeded("6.1", &measured(1101)), beyond);
        let unknown = ["from_pod on 6.6: 5 instructions, and tests/kernels.txt has no line for it"];
        assert_eq!(budget.exceeded("6.6", &measured(5)), unknown);
        assert_eq!(budget.exceeded("6.12", &measured(700)), Vec::<String>::new());
    }

    #[test]
    fn a_line_that_cannot_be_read_is_named() {
        let error = Budget::parse("6.1 from_pod many").unwrap_err().to_string();
        assert_eq!(error, "tests/kernels.txt:1: not `KERNEL PROGRAM NUMBER`: 6.1 from_pod many");
    }
}
