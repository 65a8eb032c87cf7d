//! What a check came to, and how the list of them looks. Knows no node.

use std::fmt::Write as _;

use serde::Serialize;

use crate::ctl::output::{Page, Tone, printable};

/// How grave it is.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[serde(rename_all = "lowercase")]
pub(in crate::ctl) enum Verdict {
    /// As it should be.
    Ok,
    /// Worth a look; traffic goes on.
    Warn,
    /// Something does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub(in crate::ctl) struct Finding {
    /// What it is about: `kernel`, `programs`, …
    pub(super) area: &'static str,
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// What to do next; absent where nothing is to be done.
    pub(super) next: Option<String>,
}

impl Finding {
    pub(super) fn ok(area: &'static str, found: impl Into<String>) -> Self {
        Self { area, verdict: Verdict::Ok, found: found.into(), next: None }
    }

    pub(super) fn warn(area: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { area, verdict: Verdict::Warn, found: found.into(), next: Some(next.into()) }
    }

    pub(super) fn fail(area: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { area, verdict: Verdict::Fail, found: found.into(), next: Some(next.into()) }
    }
}

/// All findings.
#[derive(Serialize, Debug)]
pub(in crate::ctl) struct CheckPage {
    pub(super) ok: usize,
    pub(super) warnings: usize,
    pub(super) failures: usize,
    pub(super) findings: Vec<Finding>,
}

impl CheckPage {
    pub(super) fn of(findings: Vec<Finding>) -> Self {
        let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
        Self {
            ok: count(Verdict::Ok),
            warnings: count(Verdict::Warn),
            failures: count(Verdict::Fail),
            findings,
        }
    }
}

impl Page for CheckPage {
    fn text(&self) -> String {
        let mut text = String::new();
        for Finding { area, verdict, found, next } in &self.findings {
            let verdict = match verdict {
                Verdict::Ok => Tone::Good.paint("ok  "),
                Verdict::Warn => Tone::Doubtful.paint("warn"),
                Verdict::Fail => Tone::Bad.paint("FAIL"),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{verdict}  {area:<10}{}", printable(found));
            if let Some(next) = next {
                let _ = writeln!(text, "{:16}next: {}", "", printable(next));
            }
        }
        let Self { ok, warnings, failures, findings: _ } = self;
        let _ = writeln!(text, "\n{ok} ok, {warnings} to look at, {failures} failed");
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::output::{Format, plain};

    #[test]
    fn each_finding_is_a_line_and_what_to_do_is_the_next() {
        let page = CheckPage::of(vec![
            Finding::ok("kernel", "Linux 6.18.0"),
            Finding::warn("programs", "\x1b[31meth0", "look"),
            Finding::fail("agent", "it does not run", "start it"),
        ]);
        let expected = "\
ok    kernel    Linux 6.18.0
warn  programs  \\u{1b}[31meth0
                next: look
FAIL  agent     it does not run
                next: start it

1 ok, 1 to look at, 1 failed
";
        assert_eq!(plain(&page.text()), expected);
        let json: serde_json::Value = serde_json::from_str(&Format::Json.one(&page).unwrap()).unwrap();
        let wanted = serde_json::json!({"area": "agent", "verdict": "fail", "found": "it does not run", "next": "start it"});
        assert_eq!(json["findings"][2], wanted);
        assert_eq!((&json["ok"], &json["warnings"], &json["failures"]), (&1.into(), &1.into(), &1.into()));
    }
}
