//! Counts tests from what test programs print.

use std::{fmt, iter::Sum};

/// Tests that passed, failed, and were left out because a kernel lacks what they need.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
}

/// With which a test says that it leaves something out. It ends like one that passed, and libtest knows no other end.
const SKIPPED: &str = "SKIPPED";

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
        let (passed, failed) = (number(" passed")?, number(" failed")?);
        Some(Self { passed, failed, skipped: number(" skipped").unwrap_or_default() })
    }
}

/// Counts line by line.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counter {
    total: Count,
    /// Tests that said so, of the program whose closing line is to come.
    told: u64,
}

impl Counter {
    /// The next line that a test program prints.
    pub(crate) fn see(&mut self, line: &str) {
        self.told += u64::from(line.starts_with(SKIPPED));
        if let Some(Count { passed, failed, skipped }) = Count::of(line) {
            let told = std::mem::take(&mut self.told);
            let more = Count { passed: passed.saturating_sub(told), failed, skipped: skipped + told };
            self.total = [self.total, more].into_iter().sum();
        }
    }

    /// What was counted so far.
    pub(crate) fn total(&self) -> Count {
        self.total
    }
}

impl Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            passed: a.passed + b.passed,
            failed: a.failed + b.failed,
            skipped: a.skipped + b.skipped,
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)?;
        if self.skipped > 0 { write!(f, ", {} skipped", self.skipped) } else { Ok(()) }
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

    fn count(passed: u64, failed: u64, skipped: u64) -> Count {
        Count { passed, failed, skipped }
    }

    #[test]
    fn who_leaves_something_out_has_not_passed() {
        let text = "test a ... ok\nSKIPPED, the rest: no device\ntest b ... ok\n\
                    test result: ok. 2 passed; 0 failed; 0 ignored\n\
                    test c ... ok\ntest result: ok. 1 passed; 0 failed; 0 ignored\n";
        let mut counter = Counter::default();
        text.lines().for_each(|line| counter.see(line));
        assert_eq!(counter.total(), count(2, 0, 1));
        assert_eq!(counter.total().to_string(), "2 passed, 0 failed, 1 skipped");
    }

    #[test]
    fn closing_lines_of_libtest_and_of_the_fixture_runner_count() {
        let libtest = "test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s";
        assert_eq!(Count::of(libtest), Some(count(3, 2, 0)));
        assert_eq!(Count::of("131 passed, 0 failed, 4 skipped"), Some(count(131, 0, 4)));
        assert_eq!(Count::of("test result: \x1b[32mok\x1b[m. 7 passed; 0 failed"), Some(count(7, 0, 0)));
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
