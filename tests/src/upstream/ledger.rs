//! What became of each spec with one implementation: a line of JSON per run, so that a run that was broken off goes on where it
//! was. The last line of a spec counts.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::spec::Outcome;

/// A spec's last result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What became of it.
    pub outcome: Outcome,
    /// How long it took.
    pub took: Duration,
}

/// The results of one implementation.
#[derive(Debug)]
pub struct Ledger {
    path: PathBuf,
    entries: BTreeMap<String, Entry>,
}

impl Ledger {
    /// Reads what there is.
    ///
    /// # Errors
    /// The file exists and is no ledger.
    pub fn open(path: &Path) -> Result<Self> {
        let content = fs::read_to_string(path).unwrap_or_default();
        let mut entries = BTreeMap::new();
        for line in content.lines() {
            let value: Value =
                serde_json::from_str(line).with_context(|| format!("a line of {}", path.display()))?;
            let (name, entry) =
                parse(&value).with_context(|| format!("a line of {}: {line}", path.display()))?;
            entries.insert(name, entry);
        }
        Ok(Self { path: path.to_owned(), entries })
    }

    /// Forgets everything.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn clear(&mut self) -> Result<()> {
        self.entries.clear();
        File::create(&self.path).map(drop).with_context(|| format!("emptying {}", self.path.display()))
    }

    /// Writes a result down, at once.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn enter(&mut self, name: &str, entry: Entry) -> Result<()> {
        let (word, why) = words(&entry.outcome);
        let line =
            json!({"spec": name, "outcome": word, "why": why, "ms": u64::try_from(entry.took.as_millis())?});
        let mut file = OpenOptions::new().create(true).append(true).open(&self.path)?;
        writeln!(file, "{line}").with_context(|| format!("writing {}", self.path.display()))?;
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }

    /// The last result of a spec.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.get(name)
    }

    /// All specs with a result.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
}

fn words(outcome: &Outcome) -> (&'static str, &str) {
    match outcome {
        Outcome::Passed => ("passed", ""),
        Outcome::Failed(why) => ("failed", why),
        Outcome::Skipped(why) => ("skipped", why),
        Outcome::TimedOut => ("timed out", ""),
    }
}

fn parse(value: &Value) -> Option<(String, Entry)> {
    let why = || value["why"].as_str().unwrap_or_default().to_owned();
    let outcome = match value["outcome"].as_str()? {
        "passed" => Outcome::Passed,
        "failed" => Outcome::Failed(why()),
        "skipped" => Outcome::Skipped(why()),
        "timed out" => Outcome::TimedOut,
        _ => return None,
    };
    let took = Duration::from_millis(value["ms"].as_u64()?);
    Some((value["spec"].as_str()?.to_owned(), Entry { outcome, took }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ledger_is_read_as_it_was_written_and_the_last_word_counts() {
        let path = std::env::temp_dir().join(format!("sluice-ledger-{}", std::process::id()));
        let mut ledger = Ledger::open(&path).unwrap();
        ledger.clear().unwrap();
        let entry = |outcome| Entry { outcome, took: Duration::from_millis(1500) };
        ledger.enter("a", entry(Outcome::Failed("no".to_owned()))).unwrap();
        ledger.enter("b", entry(Outcome::TimedOut)).unwrap();
        ledger.enter("a", entry(Outcome::Passed)).unwrap();
        let again = Ledger::open(&path).unwrap();
        assert_eq!(again.get("a"), Some(&entry(Outcome::Passed)));
        assert_eq!(again.get("b"), Some(&entry(Outcome::TimedOut)));
        assert_eq!(again.names().collect::<Vec<_>>(), ["a", "b"]);
        fs::remove_file(path).unwrap();
    }
}
