//! The file that says whose each number is, written a few names at a time: with a hundred thousand of them, all at once would
//! keep a change from the kernel for a fifth of a second. What it replaces is whole until the new one is.

use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::PathBuf;

use proxy_common::ServiceId;
use proxy_model::ServiceName;

use super::error::Error;
use super::record::{Record, make};

/// The file; [`Record::names`] reads it.
pub(super) const FILE: &str = "names.json";
/// Names of one turn: some 200 µs.
const TURN: usize = 128;

/// A file that is being written. Dropped before it is whole, it was for nothing.
#[derive(Debug)]
pub struct Roll {
    path: PathBuf,
    draft: PathBuf,
    file: BufWriter<fs::File>,
    /// The last number that is in it.
    last: Option<ServiceId>,
}

/// Whether a roll is whole.
#[derive(Debug)]
pub enum Turn {
    /// There is more to write.
    More(Roll),
    /// It is in its place.
    Whole,
}

impl Roll {
    /// Begins one.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn begin(record: &Record) -> Result<Self, Error> {
        let path = record.dir().join(FILE);
        let draft = record.dir().join(format!(".{FILE}.new"));
        let open = || {
            make(record.dir())?;
            let mut file = BufWriter::new(fs::File::create(&draft)?);
            file.write_all(b"{\"services\":{")?;
            Ok(file)
        };
        let file = open().map_err(Error::path("write", &path))?;
        Ok(Self { path, draft, file, last: None })
    }

    /// After which number it goes on.
    #[must_use]
    pub fn last(&self) -> Option<ServiceId> {
        self.last
    }

    /// Writes the first of these names, which are those after [`Roll::last`] in the order of their numbers.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn write<'a>(
        mut self,
        mut names: impl Iterator<Item = (ServiceId, &'a ServiceName)>,
    ) -> Result<Turn, Error> {
        let mut written = 0;
        let mut put = || -> io::Result<()> {
            for (id, name) in names.by_ref().take(TURN) {
                let comma = if self.last.replace(id).is_some() { "," } else { "" };
                write!(self.file, "{comma}\"{}\":", id.0)?;
                serde_json::to_writer(&mut self.file, &name.to_string())?;
                written += 1;
            }
            if written < TURN {
                self.file.write_all(b"}}")?;
                self.file.flush()?;
                fs::rename(&self.draft, &self.path)?;
            }
            Ok(())
        };
        put().map_err(Error::path("write", &self.path))?;
        Ok(if written < TURN { Turn::Whole } else { Turn::More(self) })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;

    fn names(count: u32) -> BTreeMap<ServiceId, ServiceName> {
        let name = |id| (ServiceId(id), format!("default/web-{id}:\"/TCP/ipv4").parse().unwrap());
        (1..=count).map(name).collect()
    }

    #[test]
    fn a_roll_is_read_back_whole_however_many_turns_it_took_and_not_before() {
        let run = tempfile::tempdir().unwrap();
        let record = Record::of(run.path(), Path::new("/sys/fs/bpf/x"));
        let turn = u32::try_from(TURN).unwrap();
        let mut before = BTreeMap::new();
        for (count, turns) in [(0, 1), (1, 1), (turn, 2), (2 * turn + 1, 3)] {
            let all = names(count);
            let mut roll = Roll::begin(&record).unwrap();
            let mut taken = 1;
            loop {
                let last = roll.last();
                let rest = all.iter().map(|(id, name)| (*id, name)).filter(|(id, _)| Some(*id) > last);
                match roll.write(rest).unwrap() {
                    Turn::Whole => break,
                    Turn::More(more) => roll = more,
                }
                assert_eq!(record.names(), before, "{count} names, turn {taken}");
                taken += 1;
            }
            assert_eq!((record.names(), taken), (all.clone(), turns));
            before = all;
        }
    }
}
