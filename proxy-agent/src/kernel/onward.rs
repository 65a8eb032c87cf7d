//! The program that a pod's packet goes on to from the one that hangs at its device and lets strangers' pass
//! (`docs/decisions/0046-*`). It is found in an array of one slot, which the kernel empties once nobody in user space has the
//! array: so each generation of programs pins its own before a link gets one of them, under the number of the program that hangs
//! there, and the pin goes when no link has that program. Knows no packet.

use std::{collections::BTreeSet, fs, io, os::fd::BorrowedFd, path::PathBuf};

use aya::{
    Ebpf,
    maps::{MapError, ProgramArray},
};

use super::{error::Error, hook::Hook, pins::Pins, sys};

/// The program that hangs at a pod's device, and hands on to that of [`Hook::FromPod`].
pub(super) const AHEAD: &str = "strangers";
/// The array.
pub(super) const MAP: &str = "onward";

/// Fills the slot: what the program ahead does not let pass goes on to that of the hook. Both must be loaded.
///
/// # Errors
/// [`Error::NoProgram`], [`Error::Program`], [`Error::Map`].
pub(super) fn lead(object: &mut Ebpf) -> Result<(), Error> {
    let name = Hook::FromPod.name();
    let program = object.program(name).ok_or(Error::NoProgram { name })?;
    let program = program.fd().map_err(|source| Error::Program { name, source })?.try_clone();
    let failed = |source| Error::Map { verb: "fill", map: MAP, source };
    let (program, slots) =
        (program.map_err(failed)?, object.map_mut(MAP).ok_or(io::ErrorKind::NotFound.into()));
    let filled =
        ProgramArray::try_from(slots.map_err(failed)?).and_then(|mut slots| slots.set(0, &program, 0));
    filled.map_err(|error: MapError| failed(io::Error::other(error)))
}

/// Pins the array of the generation whose program ahead has this number. To be done before a link gets it.
///
/// # Errors
/// [`Error::Path`].
pub(super) fn hold(pins: &Pins, ahead: u32, array: BorrowedFd<'_>) -> Result<(), Error> {
    let (dir, path) = (dir(pins), pin(pins, ahead));
    fs::create_dir_all(&dir).map_err(Error::path("create", dir))?;
    sys::pin(array, &path).map_err(Error::path("pin", path))
}

/// It has not been removed.
pub(super) fn is_held(pins: &Pins, ahead: u32) -> bool {
    pin(pins, ahead).exists()
}

fn dir(pins: &Pins) -> PathBuf {
    pins.version_dir().join("onward")
}

fn pin(pins: &Pins, ahead: u32) -> PathBuf {
    dir(pins).join(ahead.to_string())
}

/// Lets the arrays go of which no link at a pod's device has the program; `own` is the number of that of this generation. If a link
/// does not say what it has, all stay. Gives how many went.
///
/// # Errors
/// [`Error::Path`].
pub fn let_go_of_others(pins: &Pins, own: Option<u32>) -> Result<usize, Error> {
    let links = pins.links()?.into_iter().filter(|link| link.hook == Hook::FromPod);
    let used = links.map(|link| super::pins::link_facts(&link).map(|facts| facts.program));
    let used: BTreeSet<u32> = used.chain(own.map(Ok)).collect::<Result<_, _>>()?;
    let mut gone = 0;
    for entry in fs::read_dir(dir(pins)).into_iter().flatten().flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if number.is_some_and(|number| !used.contains(&number)) {
            fs::remove_file(entry.path()).map_err(Error::path("unpin", entry.path()))?;
            gone += 1;
        }
    }
    Ok(gone)
}
