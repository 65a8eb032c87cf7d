//! The programs that take connections across while links change hands: where the bytes of an entry lie in the other
//! layout, and a link ahead of each of ours on the devices.

use std::{fs, os::fd::AsFd, path::PathBuf};

use aya::{Ebpf, EbpfLoader, programs::SchedClassifier};
use proxy_common::{
    ferry::{FOREIGN_KEY, FOREIGN_VALUE, NOWHERE, Places},
    maps::{MapSpec, SPECS, spec as spec_of},
};
use zerocopy::IntoBytes as _;

use super::{Fate, Handover, moves::Move};
use crate::kernel::{
    error::Error,
    hook::Anchor,
    load::patiently,
    object,
    pins::{PinnedLink, Pins, Target, pin_name},
    sys::{self, Access, Place},
    topology::IfIndex,
};

/// Name of the program.
const FERRY: &str = "ferry";

impl Handover {
    /// Where the bytes of our connections lie in theirs; `None` where both use the same tables, or nothing can be carried.
    pub(super) fn places(&self) -> Option<Places> {
        let mut places = Places::NONE;
        for (name, key, value) in [
            ("flows4", &mut places.key4[..], &mut places.flow4[..]),
            ("flows6", &mut places.key6[..], &mut places.flow6[..]),
        ] {
            let Fate::Moved(moves) = self.fate(spec_of(name)?) else { return None };
            let theirs = self.theirs.as_ref()?.maps.get(name)?;
            if theirs.key.size > FOREIGN_KEY || theirs.value.size > FOREIGN_VALUE {
                return None;
            }
            write(&moves.key, key);
            write(&moves.value, value);
        }
        Some(places)
    }
}

fn write(moves: &[Move], places: &mut [u8]) {
    for one in moves {
        for index in 0..one.size {
            // Theirs are shorter than the bounds above.
            places[one.to + index] = u8::try_from(one.from + index).unwrap_or(NOWHERE);
        }
    }
}

/// Puts a ferry ahead of every program on a device.
pub(super) fn begin(from: &Pins, to: &Pins, places: &Places) -> Result<(), Error> {
    let mut object = load(from, to, places)?;
    let program = object.program_mut(FERRY).ok_or(Error::NoProgram { name: FERRY })?;
    let program: &mut SchedClassifier =
        program.try_into().map_err(|source| Error::Program { name: FERRY, source })?;
    patiently(|| program.load()).map_err(Error::refused(FERRY))?;
    let program = program.fd().map_err(|source| Error::Program { name: FERRY, source })?.as_fd();
    let dir = to.ferry_dir();
    fs::create_dir_all(&dir).map_err(Error::path("create", dir))?;
    for link in from.links()?.into_iter().chain(to.links()?) {
        let (Anchor::Device(..), Target::Device(IfIndex(index))) = (link.hook.anchor(), link.target) else {
            continue;
        };
        let PinnedLink { hook, target, .. } = link;
        let path = to.ferry_dir().join(pin_name(hook, target));
        let put = || {
            if path.exists() {
                return sys::update_link(sys::open_pin(&path, Access::Write)?.as_fd(), program);
            }
            let link = sys::create_link(program, index, hook.attach_type(), Place::First)?;
            sys::pin(link.as_fd(), &path)
        };
        match put() {
            // The device is gone, and its packets with it.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOLINK)) => {}
            result => result.map_err(Error::path("attach the ferry of", &path))?,
        }
    }
    Ok(())
}

fn load(from: &Pins, to: &Pins, places: &Places) -> Result<Ebpf, Error> {
    let path = |spec: &MapSpec| -> PathBuf {
        let foreign = match spec.name {
            "spareflows4" => "flows4",
            "spareflows6" => "flows6",
            "sparehalf4" => "halfopen4",
            "sparehalf6" => "halfopen6",
            _ => return to.map(spec.name),
        };
        Some(from.map(foreign)).filter(|path| path.exists()).unwrap_or_else(|| to.map(spec.name))
    };
    let paths: Vec<_> = SPECS.iter().map(path).collect();
    let mut loader = EbpfLoader::new();
    loader.override_global("FERRY", places.as_bytes(), true);
    for (spec, path) in SPECS.iter().zip(&paths) {
        loader.map_pin_path(spec.name, path.as_path());
    }
    loader.load(object::BYTES).map_err(Error::loading)
}
