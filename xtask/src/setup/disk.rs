//! Room for what the compilers leave. Does not know what they leave where: the figures are of whole runs, rounded up.

use std::{fs, path::Path};

use super::{Remedy, State};
use crate::{build, child};

/// MiB that all of the tests fill, from nothing: some 10 GiB of `target`, and 4 of Go's cache.
const FROM_NOTHING: u64 = 14 << 10;
/// MiB that they fill although they were built before: what changed is built beside what was.
const AGAIN: u64 = 3 << 10;

pub(super) fn look() -> State {
    let artefacts = build::artefacts("debug").join("deps");
    // It need not be there yet, but a parent is, on the file system that it will be on.
    let Some(there) = artefacts.ancestors().find(|path| path.exists()) else {
        return State::Present(format!("nobody knows how much at {}", artefacts.display()));
    };
    match free(there) {
        Some(free) => judge(free, needed(held(&artefacts)), there),
        None => State::Present(format!("`df` does not say how much at {}", there.display())),
    }
}

/// MiB in the files of a directory, not of those below it.
fn held(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files.filter_map(|file| Some(file.metadata().ok()?.len())).sum::<u64>() >> 20
}

/// MiB that are missing where so many are built.
fn needed(held: u64) -> u64 {
    FROM_NOTHING.saturating_sub(held).max(AGAIN)
}

/// MiB that a file system still takes.
fn free(path: &Path) -> Option<u64> {
    let answer = child::ask("df", &["--block-size=1M", "--output=avail", path.to_str()?])?;
    parse(&answer)
}

/// The figure under the heading of `df`.
fn parse(answer: &str) -> Option<u64> {
    answer.split_whitespace().last()?.parse().ok()
}

fn judge(free: u64, needed: u64, there: &Path) -> State {
    let gib = |mib: u64| mib as f64 / 1024.0;
    let has = format!("{:.1} GiB free at {}", gib(free), there.display());
    if free >= needed {
        return State::Present(has);
    }
    let remedy =
        format!("make room for {:.0} GiB, or set CARGO_TARGET_DIR to a larger file system", gib(needed));
    State::Missing(format!("only {has}"), Remedy::Hand(remedy))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_df_says_is_read_below_its_heading() {
        assert_eq!(parse("  Avail\n 45056\n"), Some(45_056));
        assert_eq!(parse("Avail\n-\n"), None);
    }

    #[test]
    fn what_is_built_need_not_fit_again() {
        assert_eq!([0, 8 << 10, 40 << 10].map(needed), [14 << 10, 6 << 10, 3 << 10]);
    }

    #[test]
    fn too_little_room_is_named_with_what_helps() {
        let told = |free| match judge(free, FROM_NOTHING, Path::new("/src/target")) {
            State::Present(what) => what,
            State::Missing(what, Remedy::Hand(remedy)) => format!("{what}: {remedy}"),
            State::Missing(..) => unreachable!("nothing installs room"),
        };
        assert_eq!(told(14 << 10), "14.0 GiB free at /src/target");
        assert_eq!(
            told((14 << 10) - 512),
            "only 13.5 GiB free at /src/target: make room for 14 GiB, or set CARGO_TARGET_DIR to a larger file system"
        );
    }
}
