//! The objects of a directory of files: the union of what the files say.
//!
//! A file that cannot be read in full takes nothing away: what it said last stays, overlaid with what can be
//! read of it now. Of an object in two files, the first file in the order of names wins.
//! Knows no watch and no channel; reads files when told which.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::document::{self, Contents, DocumentProblem, Syntax};
use crate::parse::{self, Parsed};
use crate::source::{Extent, Key, Object, Update};

/// What the objects of a file say.
type Objects = BTreeMap<Key, Arc<Parsed>>;

/// What is known of the directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    files: BTreeMap<String, File>,
    /// The files that have an object; the first one counts.
    owners: BTreeMap<Key, BTreeSet<String>>,
    /// What was told.
    told: Objects,
    /// How many files could not be read in full.
    unreadable: usize,
    /// Files that were there at the first look and have not been read in full since; `None` before that look.
    never_read: Option<BTreeSet<String>>,
}

/// One file.
#[derive(Debug, Default)]
struct File {
    stamp: Option<Stamp>,
    objects: Objects,
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
        Self {
            path: path.to_owned(),
            files: BTreeMap::new(),
            owners: BTreeMap::new(),
            told: BTreeMap::new(),
            unreadable: 0,
            never_read: None,
        }
    }

    /// Reads what may have changed and gives the difference to what was told before. The cost follows the files
    /// that were touched, not those that are there.
    ///
    /// # Errors
    /// When the directory itself cannot be listed; then nothing has changed.
    pub(super) fn refresh(&mut self, touched: &Touched) -> io::Result<Outcome> {
        let names = match touched {
            Touched::Files(names) => names.clone(),
            Touched::Any => self.list()?.into_iter().chain(self.files.keys().cloned()).collect(),
        };
        let mut outcome = Outcome::default();
        let mut affected: BTreeSet<Key> = BTreeSet::new();
        for name in names {
            let stamp = Stamp::of(&self.path.join(&name));
            let known = self.files.get(&name).and_then(|file| file.stamp.as_ref());
            if *touched == Touched::Any && stamp.is_some() && stamp.as_ref() == known {
                continue;
            }
            self.refresh_file(&name, stamp, &mut affected, &mut outcome.problems);
        }
        for key in affected {
            self.tell(key, &mut outcome);
        }
        let unreadable = self.files.values().filter(|file| file.reading == Reading::Failed).count();
        if std::mem::replace(&mut self.unreadable, unreadable) != unreadable {
            outcome.updates.push(Update::UnreadableFiles(unreadable));
        }
        outcome.updates.extend(self.extent().map(Update::Extent));
        Ok(outcome)
    }

    /// How much could be told since the start, if that is news. A file that is removed has nothing to tell.
    fn extent(&mut self) -> Option<Extent> {
        let has_failed =
            |name: &String| self.files.get(name).is_some_and(|file| file.reading == Reading::Failed);
        match &mut self.never_read {
            Some(names) if names.is_empty() => None,
            Some(names) => {
                names.retain(has_failed);
                names.is_empty().then_some(Extent::Whole)
            }
            first @ None => {
                let names: BTreeSet<_> = self.files.keys().filter(|name| has_failed(name)).cloned().collect();
                let news = (!names.is_empty()).then_some(Extent::Part);
                *first = Some(names);
                news
            }
        }
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

    /// Reads one file anew, if it is there.
    fn refresh_file(
        &mut self,
        name: &str,
        stamp: Option<Stamp>,
        affected: &mut BTreeSet<Key>,
        problems: &mut Vec<FileProblem>,
    ) {
        let Some(syntax) = syntax(name) else { return };
        let (contents, reading) = match std::fs::read_to_string(self.path.join(name)) {
            Ok(text) => {
                let contents = document::read(&text, syntax);
                let reading = if contents.problems.is_empty() { Reading::Full } else { Reading::Failed };
                (contents, reading)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_gone(name) => {
                let gone = self.files.remove(name);
                return self.own(name, gone.unwrap_or_default().objects, &BTreeMap::new(), affected);
            }
            Err(error) => {
                problems.push(FileProblem::Unreadable { file: name.to_owned(), cause: error.to_string() });
                (Contents::default(), Reading::Failed)
            }
        };
        let before = self.files.remove(name).unwrap_or_default().objects;
        let undecoded = contents.undecoded.clone();
        let mut objects = parse_all(name, contents, problems);
        if reading == Reading::Failed {
            for (key, parsed) in &before {
                objects.entry(key.clone()).or_insert_with(|| parsed.clone());
            }
        }
        // A policy that nobody understands and that was never told allows nothing (policy item 58).
        for key in undecoded {
            let closed = Arc::new(parse::object(&key, &Object::closed_policy()));
            objects.entry(key).or_insert(closed);
        }
        self.own(name, before, &objects, affected);
        self.files.insert(name.to_owned(), File { stamp, objects, reading });
    }

    /// The file was removed. A link that leads nowhere is a file that cannot be read, and so is every file of a
    /// directory that was moved away.
    fn is_gone(&self, name: &str) -> bool {
        self.path.is_dir() && std::fs::symlink_metadata(self.path.join(name)).is_err()
    }

    /// Notes which objects the file has now, and which of them differ.
    fn own(&mut self, name: &str, before: Objects, now: &Objects, affected: &mut BTreeSet<Key>) {
        for (key, parsed) in now {
            if before.get(key) != Some(parsed) {
                self.owners.entry(key.clone()).or_default().insert(name.to_owned());
                affected.insert(key.clone());
            }
        }
        for key in before.into_keys().filter(|key| !now.contains_key(key)) {
            if let Some(owners) = self.owners.get_mut(&key) {
                owners.remove(name);
            }
            affected.insert(key);
        }
    }

    /// Settles which file counts for an object, and tells if that is news.
    fn tell(&mut self, key: Key, outcome: &mut Outcome) {
        let owners = self.owners.get(&key).into_iter().flatten();
        let mut owners = owners.filter_map(|name| Some((name, self.files.get(name)?.objects.get(&key)?)));
        let Some((winner, parsed)) = owners.next() else {
            self.owners.remove(&key);
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
        let parsed = parsed.clone();
        if self.told.insert(key.clone(), parsed.clone()).as_ref() != Some(&parsed) {
            outcome.updates.push(Update::Put(key, Box::new(Parsed::clone(&parsed))));
        }
    }
}

/// The facts of a file's objects. Of an object that is there twice the first counts.
fn parse_all(name: &str, contents: Contents, problems: &mut Vec<FileProblem>) -> Objects {
    let mut objects = Objects::new();
    for (key, object) in contents.objects {
        let parsed = Arc::new(parse::object(&key, &object));
        match objects.entry(key) {
            Entry::Vacant(entry) => drop(entry.insert(parsed)),
            Entry::Occupied(entry) => problems.push(FileProblem::Duplicate {
                file: name.to_owned(),
                object: entry.key().clone(),
                winner: name.to_owned(),
            }),
        }
    }
    let documents = contents.problems.into_iter();
    problems.extend(documents.map(|problem| FileProblem::Document { file: name.to_owned(), problem }));
    objects
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
