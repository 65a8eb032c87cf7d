//! The results of several implementations side by side, as a Markdown table. Pure text.

use std::collections::BTreeSet;

use super::ledger::Ledger;
use super::spec::Outcome;

/// One column.
#[derive(Debug)]
pub struct Column<'a> {
    /// What its head says.
    pub title: &'a str,
    /// The results.
    pub ledger: &'a Ledger,
}

/// One row per spec that any column has, then the sums.
#[must_use]
pub fn markdown(columns: &[Column<'_>]) -> String {
    let names: BTreeSet<&str> = columns.iter().flat_map(|column| column.ledger.names()).collect();
    let mut lines = vec![row(std::iter::once("spec").chain(columns.iter().map(|column| column.title)))];
    lines.push(row(std::iter::repeat_n("---", columns.len() + 1)));
    for name in &names {
        let cells = columns.iter().map(|column| cell(column.ledger, name));
        lines.push(row(std::iter::once(name.replace('|', "\\|")).chain(cells)));
    }
    lines.push(String::new());
    lines.extend(columns.iter().map(|column| sums(column, &names)));
    lines.join("\n") + "\n"
}

fn row(cells: impl Iterator<Item: AsRef<str>>) -> String {
    let cells: Vec<String> = cells.map(|cell| cell.as_ref().to_owned()).collect();
    format!("| {} |", cells.join(" | "))
}

fn cell(ledger: &Ledger, name: &str) -> String {
    match ledger.get(name).map(|entry| &entry.outcome) {
        None => "–".to_owned(),
        Some(Outcome::Passed) => "passed".to_owned(),
        Some(Outcome::Skipped(_)) => "skipped".to_owned(),
        Some(Outcome::Failed(_)) => "**failed**".to_owned(),
        Some(Outcome::TimedOut) => "**timed out**".to_owned(),
    }
}

fn sums(column: &Column<'_>, names: &BTreeSet<&str>) -> String {
    let count = |wanted: &str| names.iter().filter(|name| cell(column.ledger, name).contains(wanted)).count();
    format!(
        "{}: {} passed, {} failed, {} skipped by the suite.\n",
        column.title,
        count("passed"),
        count("failed") + count("timed out"),
        count("skipped")
    )
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Entry;
    use super::*;
    use std::time::Duration;

    #[test]
    fn columns_stand_side_by_side_and_are_summed() {
        let path = std::env::temp_dir().join(format!("sluice-table-{}", std::process::id()));
        let mut ledger = Ledger::open(&path).unwrap();
        let entry = |outcome| Entry { outcome, took: Duration::ZERO };
        ledger.enter("a|b", entry(Outcome::Passed)).unwrap();
        ledger.enter("c", entry(Outcome::TimedOut)).unwrap();
        let none = Ledger::open(&path.with_extension("none")).unwrap();
        let columns = [Column { title: "X", ledger: &ledger }, Column { title: "Y", ledger: &none }];
        assert_eq!(
            markdown(&columns),
            "| spec | X | Y |\n| --- | --- | --- |\n| a\\|b | passed | – |\n| c | **timed out** | – |\n\n\
             X: 1 passed, 1 failed, 0 skipped by the suite.\n\nY: 0 passed, 0 failed, 0 skipped by the suite.\n\n"
        );
        std::fs::remove_file(path).unwrap();
    }
}
