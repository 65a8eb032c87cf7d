//! Removes every trace of one `--bpf-root`: links (which detaches the programs), maps, directories, filters and
//! files. Can be run again and again, also after a crash in the middle.

use std::{fs, io, path::Path};

use super::{clsact, error::Error, links, lock::Lock, pins::Pins, record::Record};

/// What was there and is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// Links, and so programs that no longer run.
    pub links: usize,
    /// Maps.
    pub maps: usize,
}

/// Removes everything of `bpf_root`, and its files below `run_root`. That there is nothing is no error.
///
/// # Errors
/// [`Error::Locked`] while an agent runs; [`Error::Path`] for what cannot be removed.
pub fn cleanup(bpf_root: &Path, run_root: &Path) -> Result<Removed, Error> {
    let record = Record::of(run_root, bpf_root);
    let lock = Lock::take(record.dir(), bpf_root)?;
    let pins = Pins::below(bpf_root);
    let mut removed = Removed::default();
    // Links first: a program whose maps' pins are gone still runs, but nobody could mend what it does.
    for link in pins.links()? {
        links::detach(&link)?;
        removed.links += 1;
    }
    if clsact::needed() {
        clsact::detach_all();
    }
    removed.maps = count(&pins.maps_dir());
    remove_tree(&pins.version_dir())?;
    match fs::remove_dir(bpf_root) {
        // Pins of another version, or of somebody else: not ours to remove.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result.map_err(Error::path("remove", bpf_root))?,
    }
    record.remove()?;
    drop(lock);
    Ok(removed)
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).map_or(0, |entries| entries.flatten().count())
}

fn remove_tree(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::path("remove", dir)(error)),
        _ => Ok(()),
    }
}
