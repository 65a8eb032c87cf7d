//! The mark by which the programs know that somebody reads `notices`. It is set in the memory of the `policy` map, beside
//! the epoch that the agent writes: no write of either is undone by the other. The agent may write the flags anew at any
//! time, so whoever listens sets the mark again and again ([`Watch::renew`]); the last one to leave takes it away.

use std::{
    fs::{self, File, OpenOptions},
    mem::offset_of,
    os::fd::AsFd,
    path::Path,
    sync::atomic::{AtomicU32, Ordering},
};

use proxy_common::{PolicyState, limits, policy::PolicyFlags};
use rustix::fs::{FlockOperation, flock};

use super::{error::Error, memory::Slots, pins::Pins, ring::Ring, sys::Access};

/// Somebody listens, until this is dropped.
#[derive(Debug)]
pub struct Watch {
    state: Slots<PolicyState>,
    /// All who listen hold it together.
    listeners: File,
    /// What is told.
    pub ring: Ring,
}

impl Watch {
    /// Begins to listen; lock files lie in `dir`.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Shape`] and [`Error::Map`] when the maps are not there, of another version, or may not be
    /// written.
    pub fn begin(pins: &Pins, dir: &Path) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::path("create", dir))?;
        let listeners = lock_file(&dir.join("monitors"))?;
        let failed = |source: rustix::io::Errno| Error::path("lock", dir.join("monitors"))(source.into());
        flock(&listeners, FlockOperation::LockShared).map_err(failed)?;
        let mapped = |map| move |source| Error::Map { verb: "map the memory of", map, source };
        let state = pins.open("policy", Access::Write)?;
        let state =
            Slots::map(state.as_fd(), state.max_entries(), Access::Write).map_err(mapped("policy"))?;
        let notices = pins.open("notices", Access::Write)?;
        let lock = lock_file(&dir.join("notices"))?;
        let ring = Ring::map(notices.as_fd(), limits::NOTICES as usize, lock).map_err(mapped("notices"))?;
        let watch = Self { state, listeners, ring };
        watch.renew();
        Ok(watch)
    }

    /// Says again that somebody listens.
    pub fn renew(&self) {
        if let Some(flags) = self.flags() {
            flags.fetch_or(PolicyFlags::WATCHED.0, Ordering::Relaxed);
        }
    }

    fn flags(&self) -> Option<&AtomicU32> {
        self.state.word(0, offset_of!(PolicyState, flags))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // A lock that is held together becomes one of our own only when nobody else holds it.
        if flock(&self.listeners, FlockOperation::NonBlockingLockExclusive).is_ok()
            && let Some(flags) = self.flags()
        {
            flags.fetch_and(!PolicyFlags::WATCHED.0, Ordering::Relaxed);
        }
    }
}

fn lock_file(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    options.open(path).map_err(Error::path("open", path))
}
