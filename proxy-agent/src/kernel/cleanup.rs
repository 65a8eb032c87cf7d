//! Removes every trace of one `--bpf-root`: links (which detaches the programs), maps, directories, filters and
//! files, of every map layout. Can be run again and again, also after a crash in the middle.

use std::{fs, io, path::Path, time::Duration};

use super::{
    clsact,
    drain::{self, Drained},
    error::Error,
    links,
    lock::Lock,
    pins::Pins,
    record::Record,
};

/// What was there and is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Removed {
    /// Links, and so programs that no longer run.
    pub links: usize,
    /// Maps.
    pub maps: usize,
    /// What became of the connections, if they were waited for.
    pub drained: Option<Drained>,
}

/// What becomes of translated connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// Those of the packet road are cut.
    AtOnce,
    /// New ones are left to whoever serves beside us, and those that are there go on: they may end for so long, and what is
    /// left then is handed to netfilter.
    Drain(Duration),
}

/// Removes everything of `bpf_root`, and its files below `run_root`. That there is nothing is no error.
///
/// # Errors
/// [`Error::Locked`] while an agent runs; [`Error::Path`] for what cannot be removed; with [`Farewell::Drain`] what
/// [`drain::drain`] returns, and nothing is removed then.
pub fn cleanup(bpf_root: &Path, run_root: &Path, farewell: Farewell) -> Result<Removed, Error> {
    let record = Record::of(run_root, bpf_root);
    let lock = Lock::take(record.dir(), bpf_root)?;
    let mut removed = Removed::default();
    if let Farewell::Drain(patience) = farewell {
        removed.drained = Some(drain::drain(bpf_root, patience)?);
    }
    let layouts = Pins::all(bpf_root);
    // Links first: a program whose maps' pins are gone still runs, but nobody could mend what it does.
    for pins in &layouts {
        removed.links += empty(&pins.links_dir())?;
        empty(&pins.ferry_dir())?;
    }
    if clsact::needed() {
        clsact::detach_all();
    }
    for pins in &layouts {
        removed.maps += fs::read_dir(pins.maps_dir()).map_or(0, |entries| entries.flatten().count());
        remove_tree(&pins.version_dir())?;
    }
    match fs::remove_dir(bpf_root) {
        // Pins of somebody else: not ours to remove.
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => result.map_err(Error::path("remove", bpf_root))?,
    }
    record.remove()?;
    drop(lock);
    Ok(removed)
}

/// Lets the links go that are pinned in a directory, whatever their names; gives how many there were.
fn empty(dir: &Path) -> Result<usize, Error> {
    let mut removed = 0;
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        removed += usize::from(links::let_go(&entry.path())?);
    }
    Ok(removed)
}

fn remove_tree(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::path("remove", dir)(error)),
        _ => Ok(()),
    }
}
