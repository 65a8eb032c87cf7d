//! The objects of a directory of files: the union of what the files say.
//!
//! A file that cannot be read in full takes nothing away: what it said last stays, overlaid with what can be
//! read of it now. Of an object in two files, the first file in the order of names wins.
//! Knows no watch and no channel; reads files when told which.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::document::{self, Contents, DocumentProblem, Syntax};
use crate::parse::{self, Parsed};
use crate::source::{Key, Update};

/// What is known of the directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    files: BTreeMap<String, File>,
    /// Which file each object was told from.
    told: BTreeMap<Key, (String, Parsed)>,
    /// How many files could not be read in full.
    unreadable: usize,
}

/// One file.
#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    objects: BTreeMap<Key, Parsed>,
    reading: Reading,
}

/// How the last reading of a file went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Reading {
    #[default]
    Full,
    Failed,
}

/// Tells whether a file may have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// Which files to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Touched {
    /// These names.
    Files(BTreeSet<String>),
    /// Any of them: an event was lost, or a link that files hang on has moved.
    Any,
}

/// Something about a file that whoever wrote it should know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FileProblem {
    /// It could not be opened or read.
    #[error("{file}: cannot be read ({cause}); what it said last stays")]
    Unreadable {
        /// Name of the file.
        file: String,
        /// Why.
        cause: String,
    },
    /// Part of it could not be understood.
    #[error("{file}, {problem}; what it said last stays")]
    Document {
        /// Name of the file.
        file: String,
        /// What, and where.
        problem: DocumentProblem,
    },
    /// Another file says it, too.
    #[error("{file}: {object} is in {winner}, too; that one counts")]
    Duplicate {
        /// Name of the file that does not count.
        file: String,
        /// The object.
        object: Key,
        /// Name of the file that counts.
        winner: String,
    },
}

/// What came of looking.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What is new.
    pub(super) updates: Vec<Update>,
    /// What is wrong with the files that were read.
    pub(super) problems: Vec<FileProblem>,
}

impl Directory {
    /// Nothing read yet.
    pub(super) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), files: BTreeMap::new(), told: BTreeMap::new(), unreadable: 0 }
    }

    /// Reads what may have changed and gives the difference to what was told before.
    ///
    /// # Errors
    /// When the directory itself cannot be listed; then nothing has changed.
    pub(super) fn refresh(&mut self, touched: &Touched) -> io::Result<Outcome> {
        let present = self.list()?;
        let mut outcome = Outcome::default();
        let mut affected: BTreeSet<Key> = BTreeSet::new();

        let gone: Vec<String> = self.files.keys().filter(|name| !present.contains(*name)).cloned().collect();
        for name in gone {
            affected.extend(self.files.remove(&name).into_iter().flat_map(|file| file.objects.into_keys()));
        }
        for name in present {
            if let Some(syntax) = syntax(&name) {
                self.refresh_file(&name, syntax, touched, &mut affected, &mut outcome.problems);
            }
        }
        for key in affected {
            self.tell(key, &mut outcome);
        }
        let unreadable = self.files.values().filter(|file| file.reading == Reading::Failed).count();
        if std::mem::replace(&mut self.unreadable, unreadable) != unreadable {
            outcome.updates.push(Update::UnreadableFiles(unreadable));
        }
        Ok(outcome)
    }

    fn list(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is not text is none of ours: it cannot end in `.yaml`.
            if let Ok(name) = entry?.file_name().into_string()
                && syntax(&name).is_some()
            {
                names.insert(name);
            }
        }
        Ok(names)
    }

    fn refresh_file(
        &mut self,
        name: &str,
        syntax: Syntax,
        touched: &Touched,
        affected: &mut BTreeSet<Key>,
        problems: &mut Vec<FileProblem>,
    ) {
        let path = self.path.join(name);
        let file = self.files.entry(name.to_owned()).or_default();
        let stamp = Stamp::of(&path);
        let reread = match touched {
            Touched::Files(names) => names.contains(name) || file.stamp.is_none(),
            Touched::Any => file.stamp.is_none() || file.stamp != stamp,
        };
        if !reread {
            return;
        }
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) => {
                file.reading = Reading::Failed;
                let cause = error.to_string();
                return problems.push(FileProblem::Unreadable { file: name.to_owned(), cause });
            }
        };
        file.stamp = stamp;
        let Contents { objects, problems: found } = document::read(&text, syntax);
        let mut now: BTreeMap<Key, Parsed> = BTreeMap::new();
        for (key, object) in objects {
            let parsed = parse::object(&key, &object);
            match now.entry(key) {
                Entry::Vacant(entry) => drop(entry.insert(parsed)),
                Entry::Occupied(entry) => problems.push(FileProblem::Duplicate {
                    file: name.to_owned(),
                    object: entry.key().clone(),
                    winner: name.to_owned(),
                }),
            }
        }
        file.reading = if found.is_empty() { Reading::Full } else { Reading::Failed };
        if file.reading == Reading::Failed {
            for (key, parsed) in &file.objects {
                now.entry(key.clone()).or_insert_with(|| parsed.clone());
            }
        }
        problems.extend(
            found.into_iter().map(|problem| FileProblem::Document { file: name.to_owned(), problem }),
        );
        let before = std::mem::replace(&mut file.objects, now);
        affected.extend(
            file.objects
                .iter()
                .filter(|(key, now)| before.get(*key) != Some(*now))
                .map(|(key, _)| key.clone()),
        );
        affected.extend(before.into_keys().filter(|key| !file.objects.contains_key(key)));
    }

    /// Settles which file counts for an object, and tells if that is news.
    fn tell(&mut self, key: Key, outcome: &mut Outcome) {
        let mut owners = self.files.iter().filter_map(|(name, file)| Some((name, file.objects.get(&key)?)));
        let Some((winner, parsed)) = owners.next() else {
            if self.told.remove(&key).is_some() {
                outcome.updates.push(Update::Delete(key));
            }
            return;
        };
        outcome.problems.extend(owners.map(|(file, _)| FileProblem::Duplicate {
            file: file.clone(),
            object: key.clone(),
            winner: winner.clone(),
        }));
        let news = self.told.get(&key).is_none_or(|(_, before)| before != parsed);
        self.told.insert(key.clone(), (winner.clone(), parsed.clone()));
        if news {
            outcome.updates.push(Update::Put(key, Box::new(parsed.clone())));
        }
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok(), length: metadata.len(), inode: metadata.ino() })
    }
}

/// How a file of that name is written; `None` for files that are not read: others, hidden ones, editors' copies.
pub(super) fn syntax(name: &str) -> Option<Syntax> {
    if name.starts_with('.') {
        return None;
    }
    match name.rsplit_once('.')?.1 {
        "yaml" | "yml" => Some(Syntax::Yaml),
        "json" => Some(Syntax::Json),
        _ => None,
    }
}
