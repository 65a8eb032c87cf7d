//! Counts tests from what test programs print.

use std::{fmt, iter::Sum};

/// Tests that passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

impl Count {
    /// From a closing line: libtest's `test result: ok. 3 passed; 0 failed; …` or the fixture runner's
    /// `3 passed, 0 failed, 1 skipped`, with or without colours.
    pub(super) fn of(line: &str) -> Option<Self> {
        let plain = without_colours(line);
        let text = plain.trim();
        let text = match text.strip_prefix("test result: ") {
            Some(rest) => rest.split_once(". ")?.1,
            None => text,
        };
        let mut parts = text.split([';', ',']).map(str::trim);
        let mut number = |word: &str| parts.next()?.strip_suffix(word)?.trim_end().parse().ok();
        Some(Self { passed: number(" passed")?, failed: number(" failed")? })
    }
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self { passed: a.passed + b.passed, failed: a.failed + b.failed })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Cuts `ESC [ … letter`.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| {
        text + part.split_once(|c: char| c.is_ascii_alphabetic()).map_or("", |cut| cut.1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_of_libtest_and_of_the_fixture_runner_count() {
        let libtest = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(Count::of(libtest), Some(Count { passed: 3, failed: 2 }));
        assert_eq!(Count::of("131 passed, 0 failed, 4 skipped"), Some(Count { passed: 131, failed: 0 }));
        assert_eq!(
            Count::of("test result: \x1b[32mok\x1b[m. 7 passed; 0 failed"),
            Some(Count { passed: 7, failed: 0 })
        );
    }

    #[test]
    fn other_lines_do_not_count() {
        for line in
            ["test a ... ok", "running 3 tests", "3 passed", "passed, failed", "node a: 3 passed, 1 failed"]
        {
            assert_eq!(Count::of(line), None, "{line}");
        }
    }
}
