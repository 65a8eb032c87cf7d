//! `cargo xtask tidy`: the rules that no compiler checks. Each file of the repository is looked at once;
//! every breach is printed as `path:line: what`.

mod links;
mod promise;
mod purity;
mod size;
mod words;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::child;

#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {}

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Breach {
    path: PathBuf,
    line: usize,
    what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path.display(), self.line, self.what)
    }
}

/// A text file of the repository, `path` relative to its root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Source<'_> {
    fn breach(&self, line: usize, what: impl Into<String>) -> Breach {
        Breach { path: self.path.to_owned(), line, what: what.into() }
    }

    fn is_rust(&self) -> bool {
        self.path.extension().is_some_and(|extension| extension == "rs")
    }
}

pub(crate) fn run(_: &Options) -> Result<()> {
    let files = files()?;
    let mut breaches = Vec::new();
    for page in promise::PAGES {
        if !files.iter().any(|path| path == Path::new(page.path)) {
            bail!("{} is missing", page.path);
        }
    }
    for path in &files {
        let bytes = match fs::read(child::root().join(path)) {
            Ok(bytes) => bytes,
            // Deleted, but not yet from git's index.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        // What is no text has no lines to check.
        if let Ok(text) = String::from_utf8(bytes) {
            breaches.extend(check(&Source { path, text: &text }));
        }
    }
    if breaches.is_empty() {
        println!("{} files are tidy", files.len());
        return Ok(());
    }
    for breach in &breaches {
        println!("{breach}");
    }
    bail!("{} breaches of the house rules (CONTRIBUTING.md)", breaches.len())
}

fn check(source: &Source<'_>) -> Vec<Breach> {
    let mut breaches = words::check(source);
    if let Some(page) = promise::PAGES.iter().find(|page| source.path == Path::new(page.path)) {
        breaches.extend(promise::check(*page, source, read));
    }
    if source.path.extension().is_some_and(|extension| extension == "md") {
        breaches.extend(links::check(source, read));
    }
    if source.is_rust() {
        match syn::parse_file(source.text) {
            Ok(file) => {
                breaches.extend(size::check(source, &file));
                breaches.extend(purity::check(source, &file));
            }
            Err(error) => {
                breaches.push(source.breach(error.span().start().line, format!("no Rust: {error}")))
            }
        }
    }
    breaches
}

/// The text of a file of the repository; of a folder, and of what is no text, none.
fn read(path: &Path) -> Option<String> {
    let path = child::root().join(path);
    if !path.exists() {
        return None;
    }
    Some(fs::read_to_string(path).unwrap_or_default())
}

/// What git tracks, and what it would track.
fn files() -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(child::root()).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let output = git.output().context("cannot run git")?;
    if !output.status.success() {
        bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let names = String::from_utf8(output.stdout).context("a file name is no UTF-8")?;
    Ok(names.split_terminator('\0').map(PathBuf::from).collect())
}
