//! Taking over from an agent whose maps are laid out otherwise, newer or older, while its programs serve
//! (`docs/decisions/0031-*`).
//!
//! ```text
//! begin    maps of an equal layout are pinned here, too            old programs, old links
//! (the loader makes and pins the others)
//! copy     entries of the others, by the names of fields
//! cross    ferries on the devices; connections are copied,
//!          links get pins here                                     old programs, new pins
//! (links get the new programs, one after the other)
//! finish   what connections became meanwhile; the old pins go      new programs
//! ```
//! Killed before `cross`, it begins anew; killed after it, it goes on. Knows no map by its meaning, but for the tables of
//! connections.

mod abi;
mod crossing;
mod moves;
mod settle;

use std::{
    fs, io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use proxy_common::maps::{MapKind, MapSpec, SPECS};

use super::{
    clsact,
    error::Error,
    links, migrate,
    pins::{PinnedLink, Pins},
    shape::Shape,
    sys::{self, Access, Cursor, RawMap, Update},
};
use abi::{Abi, MapAbi};
use moves::{Moves, translated};

/// Entries copied in one call.
const CHUNK: usize = 4_096;

/// What another version has left in the kernel.
#[derive(Debug)]
#[must_use = "what another version has left is to be taken over"]
pub struct Handover {
    from: Pins,
    to: Pins,
    /// How its maps are laid out; `None`: nobody knows.
    theirs: Option<Abi>,
    stage: Stage,
}

/// How far it had come when it was cut short.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Nowhere.
    Fresh,
    /// Links may have changed hands.
    Crossed,
}

/// What becomes of a map.
#[derive(Debug)]
enum Fate {
    /// Both versions use it.
    Shared,
    /// Its entries are carried over.
    Moved(Moves),
    /// It starts empty.
    Fresh,
}

/// Looks for what another version has left; makes the directories of this one, and writes its layout down.
///
/// # Errors
/// [`Error::Path`], [`Error::Map`].
pub fn begin(to: &Pins) -> Result<Option<Handover>, Error> {
    let found = find(to)?;
    if let Some(Handover { stage: Stage::Fresh, .. }) = &found {
        remove_tree(&to.version_dir())?;
    }
    for dir in [to.maps_dir(), to.links_dir()] {
        fs::create_dir_all(&dir).map_err(Error::path("create", dir))?;
    }
    Abi::own().write(to)?;
    if let Some(handover) = &found {
        handover.say();
        handover.share()?;
    }
    Ok(found)
}

fn find(to: &Pins) -> Result<Option<Handover>, Error> {
    let mut others = Vec::new();
    for pins in to.others() {
        others.push((pins.coming().exists(), pins.links()?.len(), pins));
    }
    // Who serves has the links; a version that was only beginning to take over has none.
    let Some((is_coming, _, from)) = others.into_iter().max_by_key(|(_, links, _)| *links) else {
        remove_file(&to.coming())?;
        return Ok(None);
    };
    let is_ours = !to.links()?.is_empty() || to.coming().exists() || (is_coming && to.maps_dir().exists());
    let stage = if is_ours { Stage::Crossed } else { Stage::Fresh };
    let theirs = match Abi::read(&from) {
        Ok(abi) => Some(abi),
        Err(error) => {
            tracing::warn!(
                error,
                version = from.version(),
                "cannot tell how the maps of another version are laid out"
            );
            None
        }
    };
    Ok(Some(Handover { from, to: to.clone(), theirs, stage }))
}

impl Handover {
    fn say(&self) {
        let (from, to) = (self.from.version(), self.to.version());
        match &self.theirs {
            Some(_) => tracing::info!(from, to, "taking over from an agent with another map layout"),
            None => tracing::error!(
                from,
                to,
                "the maps of another layout cannot be read: what they serve stays until the new ones are filled, \
                 then connections that it knows are cut"
            ),
        }
    }

    /// Nothing can be carried over: the programs that run must stay until the new maps hold everything.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        self.theirs.is_none()
    }

    fn fate(&self, spec: &MapSpec) -> Fate {
        let Some(theirs) = self.theirs.as_ref().and_then(|abi| abi.maps.get(spec.name)) else {
            return Fate::Fresh;
        };
        let ours = MapAbi::of(spec);
        if *theirs == ours {
            return Fate::Shared;
        }
        match Moves::by_name(theirs, &ours) {
            Some(moves) if theirs.kind == ours.kind && is_scanned(spec) => Fate::Moved(moves),
            Some(_) | None => Fate::Fresh,
        }
    }

    /// Pins the maps here that are laid out as ours are.
    fn share(&self) -> Result<(), Error> {
        if self.stage == Stage::Crossed {
            return Ok(());
        }
        for spec in SPECS.iter().filter(|spec| matches!(self.fate(spec), Fate::Shared)) {
            let path = self.from.map(spec.name);
            let Some(fd) = open(&path)? else { continue };
            // A description may lie.
            let failed = |source| Error::Map { verb: "read the layout of", map: spec.name, source };
            let shape = Shape::of_map(fd.as_fd()).map_err(failed)?;
            if shape.difference(Shape::of_spec(spec, shape.entries)).is_some() {
                continue;
            }
            let path = self.to.map(spec.name);
            sys::pin(fd.as_fd(), &path).map_err(Error::path("pin", path))?;
        }
        Ok(())
    }

    /// Copies what has to be in the new maps before the first new program runs. They must be there.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Map`]; entries that find no room are counted and logged.
    pub fn copy(&self) -> Result<(), Error> {
        if self.stage == Stage::Crossed {
            return Ok(());
        }
        for spec in SPECS {
            match self.fate(spec) {
                Fate::Moved(moves) if !settle::is_connections(spec) => {
                    self.carry(spec, &moves, Update::Any)?;
                }
                Fate::Fresh if self.theirs.as_ref().is_some_and(|abi| abi.maps.contains_key(spec.name)) => {
                    tracing::warn!(map = spec.name, "no map of the other version can be read as this one");
                }
                Fate::Moved(_) | Fate::Shared | Fate::Fresh => {}
            }
        }
        Ok(())
    }

    fn carry(&self, spec: &'static MapSpec, moves: &Moves, update: Update) -> Result<(), Error> {
        let Some((from, to)) = self.both(spec)? else { return Ok(()) };
        let entry = to.entry();
        let mut lost = 0;
        let carried = scan(&from, |keys, values| {
            let keys = translated(&moves.key, keys, from.entry().key, entry.key);
            let values = translated(&moves.value, values, from.entry().value, entry.value);
            lost += migrate::insert(&to, &keys, &values, update);
            Ok(())
        });
        let carried = carried.map_err(|source| Error::Map { verb: "copy", map: spec.name, source })?;
        tracing::debug!(map = spec.name, carried, "entries of the other layout");
        if lost > 0 {
            tracing::warn!(map = spec.name, lost, "entries of the other layout found no room");
        }
        Ok(())
    }

    /// The map of the other version and ours.
    fn both(&self, spec: &MapSpec) -> Result<Option<(RawMap, RawMap)>, Error> {
        let raw = |fd: OwnedFd| RawMap::new(fd, 1).map_err(Error::path("read", self.from.map(spec.name)));
        let from = open(&self.from.map(spec.name))?.map(raw).transpose()?;
        let to = open(&self.to.map(spec.name))?.map(raw).transpose()?;
        // A description may lie.
        let theirs = self.theirs.as_ref().and_then(|abi| abi.maps.get(spec.name));
        let is_true = |from: &RawMap| {
            theirs.is_some_and(|map| (map.key.size, map.value.size) == (from.entry().key, from.entry().value))
        };
        Ok(from.filter(is_true).zip(to))
    }

    /// From here on each packet finds its connection whatever program it meets, and links have their pins here. The next
    /// step is to give them new programs.
    ///
    /// # Errors
    /// As loading and attaching; then nothing has changed hands.
    pub fn cross(&self) -> Result<(), Error> {
        if let Some(places) = self.theirs.as_ref().and_then(|_| self.places())
            && !clsact::needed()
        {
            crossing::begin(&self.from, &self.to, &places)?;
        }
        // With the ferries on their way, so that none is missed: our programs ask our tables whose ports are taken.
        self.settle()?;
        let coming = self.to.coming();
        if !coming.exists() {
            let abi = self.to.abi();
            let pin = || sys::pin(sys::open_pin(&abi, Access::Write)?.as_fd(), &coming);
            pin().map_err(Error::path("pin", &coming))?;
        }
        remove_file(&self.from.coming())?;
        for link in self.from.links()? {
            self.adopt(&link)?;
        }
        Ok(())
    }

    fn adopt(&self, link: &PinnedLink) -> Result<(), Error> {
        let path = self.to.link(link.hook, link.target);
        if path.exists() {
            return links::detach(link);
        }
        fs::rename(&link.path, path).map_err(Error::path("rename", &link.path))
    }

    /// Takes over what the old programs did last, and removes what is left of them. No link may have one of them any more.
    ///
    /// # Errors
    /// [`Error::Path`], [`Error::Map`].
    pub fn finish(self) -> Result<(), Error> {
        self.settle()?;
        let is_left = |spec: &&MapSpec| spec.writer.contains("kernel") && !settle::is_connections(spec);
        for spec in SPECS.iter().filter(is_left) {
            if let Fate::Moved(moves) = self.fate(spec) {
                self.carry(spec, &moves, Update::New)?;
            }
        }
        remove_tree(&self.to.ferry_dir())?;
        for link in self.from.links()? {
            links::detach(&link)?;
        }
        remove_tree(&self.from.version_dir())?;
        remove_file(&self.to.coming())?;
        tracing::info!(from = self.from.version(), "the pins of the other map layout are gone");
        Ok(())
    }
}

/// Entries of it can be listed and written from here.
fn is_scanned(spec: &MapSpec) -> bool {
    match spec.kind {
        MapKind::Hash | MapKind::SparseHash | MapKind::LruHash | MapKind::PrefixTrie => true,
        MapKind::Array | MapKind::MappedArray => true,
        MapKind::PerCpuArray | MapKind::PerCpuHash | MapKind::SocketStorage | MapKind::Ring => false,
    }
}

fn open(path: &Path) -> Result<Option<OwnedFd>, Error> {
    match sys::open_pin(path, Access::Write) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::path("open the pinned map", path)(error)),
    }
}

/// Gives all entries to `each`; gives how many there were.
fn scan(map: &RawMap, mut each: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<usize> {
    let (key, value) = (map.entry().key, map.entry().value);
    let mut room = CHUNK.min(map.max_entries() as usize).max(1);
    let (mut cursor, mut all) = (Cursor::default(), 0);
    while !cursor.done {
        let (mut keys, mut values) = (vec![0; room * key], vec![0; room * value]);
        match map.scan(&mut cursor, &mut keys, &mut values) {
            Ok(count) => {
                each(&keys[..count * key], &values[..count * value])?;
                all += count;
            }
            // One bucket holds more than fits.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && room < CHUNK << 8 => room *= 2,
            Err(error) => return Err(error),
        }
    }
    Ok(all)
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::path("remove", path)(error)),
        _ => Ok(()),
    }
}

fn remove_tree(dir: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::path("remove", dir)(error)),
        _ => Ok(()),
    }
}
