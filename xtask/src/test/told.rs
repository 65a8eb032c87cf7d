//! What failed tests said, kept for the end: a run prints a hundred thousand lines, and the reason must not be looked for in them.
//! Knows libtest's way to print a panic; nothing of tests.

/// Lines kept of one panic: a message with what was seen, not the stack below it.
const LINES: usize = 14;
/// A line is cut there.
const WIDTH: usize = 400;
/// Panics kept of one step.
const PANICS: usize = 12;

/// The beginnings of a step's panics, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    panics: Vec<Vec<String>>,
    open: bool,
}

impl Told {
    /// Takes in a line of output.
    pub(super) fn hear(&mut self, line: &str) {
        if line.contains("panicked at ") {
            self.open = self.panics.len() < PANICS;
            if self.open {
                self.panics.push(Vec::new());
            }
        }
        if ["Stack backtrace:", "stack backtrace:", "note: run with"].iter().any(|end| line.starts_with(end))
        {
            self.open = false;
        }
        if let (true, Some(panic)) = (self.open, self.panics.last_mut()) {
            panic.push(line.chars().take(WIDTH).collect());
            self.open = panic.len() < LINES;
        }
    }

    /// What was kept, a line each.
    pub(super) fn lines(&self) -> impl Iterator<Item = &str> {
        self.panics.iter().flatten().map(String::as_str).filter(|line| !line.trim().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[&str]) -> Vec<String> {
        let mut told = Told::default();
        lines.iter().for_each(|line| told.hear(line));
        told.lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_panic_is_kept_without_its_stack_and_what_follows() {
        let lines = [
            "test a ... ok",
            "thread 'b' panicked at tests/b.rs:1:2:",
            "it never came; last seen:",
            "nothing",
            "",
            "Stack backtrace:",
            "   0: main",
            "--- agent.log",
        ];
        assert_eq!(
            told(&lines),
            ["thread 'b' panicked at tests/b.rs:1:2:", "it never came; last seen:", "nothing"]
        );
    }

    #[test]
    fn a_long_message_is_cut_and_the_next_panic_is_kept_too() {
        let long: Vec<String> = (0..100).map(|n| format!("line {n}")).collect();
        let mut lines = vec!["panicked at a"];
        lines.extend(long.iter().map(String::as_str));
        lines.push("panicked at b");
        let kept = told(&lines);
        assert_eq!(
            (kept.len(), kept[LINES - 1].as_str(), kept[LINES].as_str()),
            (LINES + 1, "line 12", "panicked at b")
        );
    }
}
