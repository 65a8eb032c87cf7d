//! The source without an API server: the objects in the YAML and JSON files of a directory, followed with inotify.
//!
//! Files are best replaced by rename, which is seen as one step; a file that is written in place is read when
//! its writer closes it. A directory whose files are links into another one that is swapped as a whole (as the
//! kubelet mounts a ConfigMap) is read anew when the link moves.

mod directory;
mod document;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use futures_util::{FutureExt, StreamExt};
use inotify::{Event, EventMask, EventStream, Inotify, WatchMask};

use self::directory::{Directory, Touched};
use crate::source::{Closed, Contact, Feed, Kind, Update};

/// Room for the events of one read(2): several hundred names.
const EVENT_BYTES: usize = 16_384;
/// How often a directory that is gone is looked for.
const RETRY: Duration = Duration::from_secs(1);

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be listed.
    #[error("--manifests {}: the directory cannot be read", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be watched.
    #[error("--manifests {}: the directory cannot be watched (see fs.inotify.max_user_instances and max_user_watches)", path.display())]
    Unwatchable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The agent is stopping.
    #[error(transparent)]
    Closed(#[from] Closed),
}

/// A directory that is being watched.
pub struct Manifests {
    path: PathBuf,
    directory: Directory,
    events: EventStream<Vec<u8>>,
}

impl Manifests {
    /// Begins to watch, so that a directory that cannot be used is known before anything else is started.
    ///
    /// # Errors
    /// When the directory is missing, not a directory, not readable, or cannot be watched.
    pub fn open(path: &Path) -> Result<Self, Error> {
        std::fs::read_dir(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
        let events = watch(path).map_err(|source| Error::Unwatchable { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), directory: Directory::new(path), events })
    }

    /// Tells what is there, and then every change. Returns only when the agent stops.
    ///
    /// # Errors
    /// [`Closed`] only: whatever happens to the directory, what it said last stays in force.
    pub async fn run(mut self, feed: Feed) -> Result<(), Closed> {
        let mut touched = Touched::Any;
        let mut first = true;
        loop {
            match self.directory.refresh(&touched) {
                Ok(outcome) => {
                    for problem in outcome.problems {
                        tracing::error!(directory = %self.path.display(), "{problem}");
                    }
                    for update in outcome.updates {
                        feed.send(update).await?;
                    }
                    if std::mem::take(&mut first) {
                        for kind in Kind::ALL {
                            feed.send(Update::Synced(kind)).await?;
                        }
                        feed.send(Update::Contact(Contact::Current)).await?;
                    }
                    touched = match self.touched().await {
                        Some(touched) => touched,
                        None => self.wait_for_directory(&feed).await?,
                    };
                }
                Err(error) => {
                    tracing::error!(directory = %self.path.display(), %error, "cannot be listed; what it said last stays");
                    touched = self.wait_for_directory(&feed).await?;
                }
            }
        }
    }

    /// The next changes, as many as have happened by now; `None` when the directory itself is gone.
    async fn touched(&mut self) -> Option<Touched> {
        let mut names = BTreeSet::new();
        let mut any = false;
        let mut next = self.events.next().await;
        loop {
            let event = match next? {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(directory = %self.path.display(), %error, "reading the watch failed; reading all files");
                    any = true;
                    break;
                }
            };
            match self.meaning(event) {
                Meaning::File(name) => drop(names.insert(name)),
                Meaning::Any => any = true,
                Meaning::Nothing => {}
                Meaning::Gone => return None,
            }
            match self.events.next().now_or_never() {
                Some(more) => next = more,
                None if names.is_empty() && !any => next = self.events.next().await,
                None => break,
            }
        }
        Some(if any { Touched::Any } else { Touched::Files(names) })
    }

    fn meaning(&self, event: Event<std::ffi::OsString>) -> Meaning {
        if event.mask.intersects(
            EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED | EventMask::UNMOUNT,
        ) {
            return Meaning::Gone;
        }
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return Meaning::Any;
        }
        let Some(name) = event.name.and_then(|name| name.into_string().ok()) else { return Meaning::Nothing };
        if directory::syntax(&name).is_none() {
            // `..data` of a mounted ConfigMap moves; anything else of that kind is not read.
            return if event.mask.contains(EventMask::MOVED_TO) { Meaning::Any } else { Meaning::Nothing };
        }
        if event.mask.contains(EventMask::CREATE) && !self.is_complete(&name) {
            return Meaning::Nothing;
        }
        Meaning::File(name)
    }

    /// A file that has just been created is empty until its writer closes it, but a link is complete.
    fn is_complete(&self, name: &str) -> bool {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::symlink_metadata(self.path.join(name));
        metadata.is_ok_and(|metadata| metadata.file_type().is_symlink() || metadata.nlink() > 1)
    }

    async fn wait_for_directory(&mut self, feed: &Feed) -> Result<Touched, Closed> {
        let since = SystemTime::now();
        tracing::error!(directory = %self.path.display(), "the directory is gone; what it said last stays until it is back");
        feed.send(Update::Contact(Contact::LostSince(since))).await?;
        loop {
            tokio::time::sleep(RETRY).await;
            if let Ok(events) = watch(&self.path) {
                self.events = events;
                tracing::info!(directory = %self.path.display(), "the directory is back");
                feed.send(Update::Contact(Contact::Current)).await?;
                return Ok(Touched::Any);
            }
            feed.send(Update::Contact(Contact::LostSince(since))).await?;
        }
    }
}

enum Meaning {
    File(String),
    Any,
    Nothing,
    Gone,
}

fn watch(path: &Path) -> io::Result<EventStream<Vec<u8>>> {
    let inotify = Inotify::init()?;
    inotify.watches().add(
        path,
        WatchMask::CLOSE_WRITE
            | WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR,
    )?;
    inotify.into_event_stream(vec![0; EVENT_BYTES])
}
