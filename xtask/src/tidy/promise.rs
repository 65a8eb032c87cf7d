//! The tables of `docs/compatibility.md` and `docs/policy-items.md`: every item of its contract once, with a status that
//! exists and tests that exist. Whether a test proves its item is for the reader to judge; that it is there is checked here.

use std::path::Path;

use super::{Breach, Source};

/// A page with a table of all items of a contract.
#[derive(Debug, Clone, Copy)]
pub(super) struct Page {
    /// The page.
    pub(super) path: &'static str,
    /// Items of the contract.
    items: u32,
}

/// Of `docs/contract/services.md`, section 1, and of `docs/contract/policies.md`.
pub(super) const PAGES: &[Page] =
    &[Page { path: "docs/compatibility.md", items: 150 }, Page { path: "docs/policy-items.md", items: 65 }];

/// What an item can be, and whether it must name a test.
const STATUSES: &[(&str, Proof)] =
    &[("same", Proof::Needed), ("more", Proof::Needed), ("differs", Proof::Needed), ("n/a", Proof::Optional)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Needed,
    Optional,
}

/// Every breach of the page; `read` gives the text of a file of the repository.
pub(super) fn check(page: Page, source: &Source<'_>, read: impl Fn(&Path) -> Option<String>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut next = 1;
    for (line, number) in source.text.lines().zip(1..) {
        let Some((item, cells)) = row(line) else { continue };
        if item != next {
            breaches.push(source.breach(number, format!("item {item} where item {next} belongs")));
        }
        next = item + 1;
        breaches.extend(row_breaches(&cells, &read).into_iter().map(|what| source.breach(number, what)));
    }
    if next != page.items + 1 {
        breaches.push(source.breach(1, format!("the table ends at item {}, not {}", next - 1, page.items)));
    }
    breaches
}

/// A row of the table: the item and its other cells.
fn row(line: &str) -> Option<(u32, Vec<&str>)> {
    let mut cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|').map(str::trim);
    let item = cells.next()?.parse().ok()?;
    Some((item, cells.collect()))
}

fn row_breaches(cells: &[&str], read: impl Fn(&Path) -> Option<String>) -> Vec<String> {
    let &[_, status, note, tests] = cells else {
        return vec![format!("{} cells after the item, not 4", cells.len())];
    };
    let Some((_, proof)) = STATUSES.iter().find(|(name, _)| *name == status) else {
        return vec![format!("`{status}` is no status")];
    };
    let mut breaches = Vec::new();
    if matches!(status, "differs" | "n/a") && note.is_empty() {
        breaches.push(format!("`{status}` without its reason"));
    }
    let references: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
    if references.is_empty() && *proof == Proof::Needed {
        breaches.push("no test is named".to_owned());
    }
    breaches.extend(references.into_iter().filter_map(|reference| missing(reference, &read)));
    breaches
}

/// Why `path` or `path::test` is not there.
fn missing(reference: &str, read: impl Fn(&Path) -> Option<String>) -> Option<String> {
    let (path, test) = match reference.split_once("::") {
        Some((path, test)) => (path, Some(test)),
        None => (reference, None),
    };
    let Some(text) = read(Path::new(path)) else { return Some(format!("{path}: no such file")) };
    let test = test?;
    (!text.contains(&format!("fn {test}("))).then(|| format!("{path}: no test {test}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let read = |path: &Path| (path == Path::new("a.rs")).then(|| "fn it_holds() {}".to_owned());
        let source = Source { path: Path::new(PAGES[0].path), text };
        check(PAGES[0], &source, read)
            .into_iter()
            .map(|breach| format!("{}: {}", breach.line, breach.what))
            .collect()
    }

    fn page(first: &str) -> String {
        let rest = (2..=PAGES[0].items).map(|item| format!("| {item} | x | same | | `a.rs::it_holds` |\n"));
        format!(
            "| # | what | status | note | tests |\n|---|---|---|---|---|\n{first}\n{}",
            rest.collect::<String>()
        )
    }

    #[test]
    fn a_page_that_names_each_item_and_its_tests_is_right() {
        assert_eq!(found(&page("| 1 | x | same | | `a.rs::it_holds`, `a.rs` |")), [""; 0]);
        assert_eq!(found(&page("| 1 | x | n/a | iptables only | |")), [""; 0]);
    }

    #[test]
    fn what_is_missing_from_a_row_is_named_with_its_line() {
        for (row, what) in [
            ("| 1 | x | same | | |", "3: no test is named"),
            ("| 1 | x | planned | | `a.rs` |", "3: `planned` is no status"),
            ("| 1 | x | differs | | `a.rs` |", "3: `differs` without its reason"),
            ("| 1 | x | same | | `b.rs` |", "3: b.rs: no such file"),
            ("| 1 | x | same | | `a.rs::it_does_not` |", "3: a.rs: no test it_does_not"),
            ("| 1 | x | same | `a.rs` |", "3: 3 cells after the item, not 4"),
            ("| 3 | x | same | | `a.rs` |", "3: item 3 where item 1 belongs"),
        ] {
            assert_eq!(found(&page(row))[0], what, "{row}");
        }
    }

    #[test]
    fn a_table_that_stops_early_is_no_table() {
        assert_eq!(found("| 1 | x | same | | `a.rs` |"), ["1: the table ends at item 1, not 150"]);
    }
}
