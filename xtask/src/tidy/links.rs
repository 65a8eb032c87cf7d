//! Links of documents: each leads to a file of the repository, and to a heading of it if it names one. What is on other
//! hosts is not asked for.

use std::path::{Component, Path, PathBuf};

use super::{Breach, Source};

/// Every link of the document that leads nowhere. `read` gives the text of a file, and nothing where there is none; a folder has an
/// empty text.
pub(super) fn check(source: &Source<'_>, read: impl Fn(&Path) -> Option<String>) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (line, number) in prose(source.text) {
        for target in targets(line) {
            if let Some(what) = broken(source, target, &read) {
                breaches.push(source.breach(number, what));
            }
        }
    }
    breaches
}

/// Lines that are not in a fenced block, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (&str, usize)> {
    let mut fenced = false;
    text.lines().zip(1..).filter(move |(line, _)| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        !fenced && !is_fence
    })
}

/// What `](…)` and `src="…"` lead to, where it is not in code.
fn targets(line: &str) -> Vec<&str> {
    let outside_of_code = line.split('`').step_by(2);
    let of_piece = |piece: &'static str, end: char| {
        move |text| -> Vec<&str> {
            let rest = str::split(text, piece).skip(1);
            rest.filter_map(|rest| Some(rest.split_once(end)?.0)).collect()
        }
    };
    // A link's text may be code, so that its target begins a piece.
    let links = line.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
    links.chain(outside_of_code.flat_map(of_piece("src=\"", '"'))).collect()
}

fn broken(source: &Source<'_>, target: &str, read: impl Fn(&Path) -> Option<String>) -> Option<String> {
    if target.contains("://") || target.starts_with("mailto:") {
        return None;
    }
    let (file, heading) =
        target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let folder = source.path.parent().unwrap_or(Path::new(""));
    let path = if file.is_empty() { source.path.to_owned() } else { plain(&folder.join(file)) };
    let Some(text) = read(&path) else { return Some(format!("{target}: there is no {}", path.display())) };
    let wanted = heading?;
    let found = prose(&text).filter_map(|(line, _)| anchor(line)).any(|anchor| anchor == wanted);
    (!found).then(|| format!("{target}: {} has no such heading", path.display()))
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                parts.pop();
            }
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => parts.push(part),
        }
    }
    parts
}

/// What a heading is called in a link, as GitHub makes it: small letters, digits, hyphens for blanks.
fn anchor(line: &str) -> Option<String> {
    let title = line.strip_prefix('#')?.trim_start_matches('#').strip_prefix(' ')?.trim();
    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    Some(kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let read = |path: &Path| match path.to_str()? {
            "README.md" => Some("# Sluice\n\n## Two commands, `run`\n```\n# no heading\n```\n".to_owned()),
            "docs/a.md" => Some(text.to_owned()),
            "docs" => Some(String::new()),
            _ => None,
        };
        let source = Source { path: Path::new("docs/a.md"), text };
        check(&source, read).into_iter().map(|breach| format!("{}: {}", breach.line, breach.what)).collect()
    }

    #[test]
    fn links_to_files_folders_and_headings_that_are_there_are_right() {
        let text = "# Here it is\n[a](../README.md), [b](../README.md#two-commands-run), [`c`](#here-it-is) [d](../docs)\n\
            [e](https://example.net/x#y)\n`[f](nowhere.md` is code\n```\n[g](nowhere.md)\n```\n";
        assert_eq!(found(text), [""; 0]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_named_with_its_line() {
        for (text, what) in [
            ("\n[a](b.md)", "2: b.md: there is no docs/b.md"),
            ("[a](../README.md#no-heading)", "1: ../README.md#no-heading: README.md has no such heading"),
            ("[a](#nothing)", "1: #nothing: docs/a.md has no such heading"),
            ("![a](images/a.svg)", "1: images/a.svg: there is no docs/images/a.svg"),
            ("<img src=\"images/a.svg\" alt=\"\">", "1: images/a.svg: there is no docs/images/a.svg"),
        ] {
            assert_eq!(found(text), [what], "{text}");
        }
    }
}
