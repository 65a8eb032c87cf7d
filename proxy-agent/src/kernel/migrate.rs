//! Pinned maps of another size: set aside, replaced by new ones, copied, and let go once the new programs run.
//!
//! ```text
//! set_aside: <map> becomes <map>-old      the old programs go on with it
//! (the loader makes and pins <map>)
//! copy:      old entries into the new map
//! (links get the new programs)
//! finish:    <map>-old goes
//! ```
//! The kernel programs write flows themselves, and links get their programs one after the other; so connections move in
//! steps of which each leaves every entry where all programs that run find it ([`Tables`]):
//!
//! ```text
//! old     old only          ┐ as it was
//! Leaving old, else new     ┘ runs beside programs that know the old table only
//! Coming  new, else old     ─ runs beside those that look into both
//! (copy)  old → new
//! One     new only          ─ everything is in the new one
//! ```
//! A crash in between leaves `<map>-old`; the next start takes that for the truth and begins again. Only the
//! number of entries may differ: a map of another layout starts empty, which is logged.

use std::{fs, os::fd::AsFd, path::PathBuf};

use proxy_common::maps::{MapKind, MapSpec, SPECS, spec as spec_of};

use super::{
    error::Error,
    pins::Pins,
    settings::Settings,
    shape::{self, Difference, Shape},
    sys::{self, Access, Cursor, RawMap, Update},
};

/// Entries copied in one call.
const CHUNK: usize = 4_096;

/// Which tables of flows a generation of programs works with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tables {
    /// The pinned one.
    One,
    /// The one that was set aside; what is not there may be in the pinned one.
    Leaving,
    /// The pinned one; what is not there may be in the one that was set aside.
    Coming,
}

impl Tables {
    /// Where the map of that name is pinned for this generation.
    pub(super) fn path(self, pins: &Pins, spec: &MapSpec) -> PathBuf {
        let flows = spec.name.strip_prefix("spare").and_then(spec_of);
        let aside = |spec: &MapSpec| Some(old(pins, spec)).filter(|path| path.exists());
        let path = match (self, flows) {
            (Self::One, _) => None,
            (Self::Leaving, None) if is_flows(spec) => aside(spec),
            (Self::Leaving, Some(flows)) => aside(flows).map(|_| pins.map(flows.name)),
            (Self::Coming, Some(flows)) => aside(flows),
            (Self::Leaving | Self::Coming, None) => None,
        };
        path.unwrap_or_else(|| pins.map(spec.name))
    }
}

/// The map is written by the kernel programs, which must not lose an entry of it.
fn is_flows(spec: &MapSpec) -> bool {
    matches!(spec.name, "flows4" | "flows6")
}

/// Maps that were set aside.
#[derive(Debug)]
#[must_use = "maps that were set aside must be copied back or restored"]
pub struct Migration {
    pins: Pins,
    moved: Vec<Moving>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct Moving {
    spec: &'static MapSpec,
    difference: Difference,
}

/// Compares each pinned map with what it should be, and sets aside those that differ.
///
/// # Errors
/// [`Error::Map`], [`Error::Path`].
pub fn set_aside(pins: &Pins, settings: &Settings) -> Result<Migration, Error> {
    let mut migration = Migration { pins: pins.clone(), moved: Vec::new() };
    for spec in SPECS {
        restore(pins, spec)?;
        let Some(found) = shape_of(pins, spec)? else { continue };
        let wanted = Shape::of_spec(spec, shape::entries(spec, settings.families, settings.sizes));
        let Some(difference) = found.difference(wanted) else { continue };
        match difference {
            Difference::Size { .. } => {
                tracing::info!(map = spec.name, %difference, "a pinned map gets another size")
            }
            Difference::Layout { .. } => {
                tracing::warn!(map = spec.name, %difference, "a pinned map is of another layout and starts empty");
            }
        }
        let (path, old) = (pins.map(spec.name), old(pins, spec));
        fs::rename(&path, old).map_err(Error::path("set aside", path))?;
        migration.moved.push(Moving { spec, difference });
    }
    Ok(migration)
}

impl Migration {
    /// Nothing differed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.moved.is_empty()
    }

    /// Copies the old entries into the new maps, but for flows that move ([`Migration::moves_flows`]).
    ///
    /// # Errors
    /// [`Error::Map`]; entries that find no room are counted and logged, not an error.
    pub fn copy(&self) -> Result<(), Error> {
        let mut still = self.moved.iter().filter(|moving| !moving.is_flows_of_another_size());
        still.try_for_each(|moving| copy(&self.pins, moving.spec, Update::Any))
    }

    /// Connections have to move while the programs run.
    #[must_use]
    pub fn moves_flows(&self) -> bool {
        self.moved.iter().any(Moving::is_flows_of_another_size)
    }

    /// Copies the flows that are not in the new table yet. All programs must look into both.
    ///
    /// # Errors
    /// As [`Migration::copy`].
    pub fn copy_flows(&self) -> Result<(), Error> {
        let mut flows = self.moved.iter().filter(|moving| moving.is_flows_of_another_size());
        flows.try_for_each(|moving| copy(&self.pins, moving.spec, Update::New))
    }

    /// Copies what the old programs added since, and lets the old maps go.
    ///
    /// # Errors
    /// [`Error::Map`], [`Error::Path`].
    pub fn finish(self) -> Result<(), Error> {
        for Moving { spec, .. } in &self.moved {
            if spec.kind != MapKind::MappedArray && spec.kind != MapKind::Array {
                copy(&self.pins, spec, Update::New)?;
            }
            let path = old(&self.pins, spec);
            fs::remove_file(&path).map_err(Error::path("remove", path))?;
        }
        Ok(())
    }

    /// Puts the old maps back: the new ones never came into use.
    ///
    /// # Errors
    /// [`Error::Path`].
    pub fn undo(self) -> Result<(), Error> {
        self.moved.iter().try_for_each(|moving| restore(&self.pins, moving.spec))
    }
}

impl Moving {
    fn is_flows_of_another_size(&self) -> bool {
        is_flows(self.spec) && matches!(self.difference, Difference::Size { .. })
    }
}

// bpffs reserves names with a dot.
fn old(pins: &Pins, spec: &MapSpec) -> PathBuf {
    pins.map(&format!("{}-old", spec.name))
}

fn restore(pins: &Pins, spec: &MapSpec) -> Result<(), Error> {
    let (path, old) = (pins.map(spec.name), old(pins, spec));
    if !old.exists() {
        return Ok(());
    }
    // A rename within bpffs does not replace.
    if path.exists() {
        fs::remove_file(&path).map_err(Error::path("remove", &path))?;
    }
    fs::rename(&old, path).map_err(Error::path("restore", old))
}

fn shape_of(pins: &Pins, spec: &MapSpec) -> Result<Option<Shape>, Error> {
    let path = pins.map(spec.name);
    match sys::open_pin(&path, Access::Read) {
        Ok(fd) => Shape::of_map(fd.as_fd()).map(Some).map_err(|source| Error::Map {
            verb: "read the layout of",
            map: spec.name,
            source,
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::path("open the pinned map", path)(error)),
    }
}

/// Copies bytes: the layouts are equal. An array keeps each entry's index, and what lies beyond the end of a
/// smaller one is dropped.
fn copy(pins: &Pins, spec: &'static MapSpec, update: Update) -> Result<(), Error> {
    if matches!(
        spec.kind,
        MapKind::SocketStorage | MapKind::PerCpuArray | MapKind::PerCpuHash | MapKind::Ring
    ) {
        return Ok(());
    }
    let failed = |source| Error::Map { verb: "copy", map: spec.name, source };
    let open =
        |path: PathBuf| sys::open_pin(&path, Access::Write).and_then(|fd| RawMap::new(fd, 1)).map_err(failed);
    let (from, to) = (open(old(pins, spec))?, open(pins.map(spec.name))?);
    if from.entry() != to.entry() {
        return Ok(());
    }
    let room = CHUNK.min(from.max_entries() as usize);
    let mut room = room.max(1);
    let mut cursor = Cursor::default();
    let mut lost = 0;
    while !cursor.done {
        let mut keys = vec![0; room * from.entry().key];
        let mut values = vec![0; room * from.entry().value];
        let count = match from.scan(&mut cursor, &mut keys, &mut values) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < CHUNK << 8 => {
                room *= 2;
                continue;
            }
            result => result.map_err(failed)?,
        };
        lost += insert(&to, &keys[..count * from.entry().key], &values[..count * from.entry().value], update);
    }
    if lost > 0 {
        tracing::warn!(map = spec.name, lost, "entries found no room in the smaller map");
    }
    Ok(())
}

/// Inserts entries past those that are there already, where they may be, or find no room; gives how many found none.
pub(super) fn insert(to: &RawMap, keys: &[u8], values: &[u8], update: Update) -> usize {
    let (key, value) = (to.entry().key, to.entry().value);
    let (mut at, mut lost) = (0, 0);
    while at * key < keys.len() {
        let (keys, values) = (&keys[at * key..], &values[at * value..]);
        let (count, result) = match update {
            Update::Any => to.update_batch(keys, values, update),
            // A batch takes no condition: the kernel refuses all of it.
            Update::New => match to.update(&keys[..key], &values[..value], update) {
                Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => (0, Err(error)),
                Ok(()) | Err(_) => (1, Ok(())),
            },
        };
        at += count;
        if result.is_err() {
            lost += 1;
            at += 1;
        }
    }
    lost
}
