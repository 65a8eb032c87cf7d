//! Whose packets connections in the tables may have (`docs/decisions/0043-*`): a bit for each source of an entry, set before the entry
//! is there, and never cleared: one that is missing is a lost connection.
//!
//! ```text
//! doubt        before anything of a start runs          the bits say nothing, to old programs as to new
//! (links get their programs)
//! fall_due     every program that makes entries sets bits first
//! name_all     what older ones have made gets its bits    the bits count
//! ```
//! Cut short anywhere, packets are looked up as without any of this.

use std::{io, thread, time::Duration};

use proxy_common::{
    Address, FlowKey,
    party::{Parties as State, Party},
};
use rustix::thread::{MembarrierCommand, membarrier};

use super::{
    error::Error,
    family::{MapFamily, Maps},
    pins::{Pinned, Pins},
    sys::{self, Access, RawMap, Update},
    words::Words,
};

const MAP: &str = "parties";

/// Longer than a program runs.
const LONG: Duration = Duration::from_secs(1);

/// The map, for the one who writes.
#[derive(Debug)]
pub struct Parties(Words);

impl Parties {
    pub(super) fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Words::open(pins, MAP, access).map(Self)
    }

    /// Whether packets from the address are looked up.
    #[must_use]
    pub fn has<A: Address>(&self, addr: &A) -> bool {
        let party = Party::of(addr);
        !self.count() || self.0.get(party.word).is_none_or(|word| party.is_in(word))
    }

    /// Whether the bits count.
    #[must_use]
    pub fn count(&self) -> bool {
        self.0.get(State::WORD).is_some_and(State::are_named)
    }

    /// To be called before an entry of this source is made.
    pub(super) fn name<A: Address>(&self, addr: &A) {
        let Party { word, bit } = Party::of(addr);
        self.0.set(word, bit);
    }

    /// Every program that makes entries sets bits first from now on.
    pub(super) fn fall_due(&self) {
        self.0.exchange(State::WORD, State::UNKNOWN.0, State::BEING_NAMED.0);
    }

    fn are_due(&self) -> bool {
        self.0.get(State::WORD) == Some(State::BEING_NAMED.0.into())
    }
}

/// Nobody trusts the bits any more, whatever layout its programs are of.
pub(super) fn doubt(root: &Pins) -> Result<(), Error> {
    let failed = |source| Error::Map { verb: "write", map: MAP, source };
    for pins in Pins::all(root.root()) {
        let path = pins.map(MAP);
        let map = match sys::open_pin(&path, Access::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            fd => RawMap::new(fd.map_err(Error::path("open the pinned map", path))?, 1).map_err(failed)?,
        };
        // In every layout the last word.
        let last = map.max_entries().saturating_sub(1).to_ne_bytes();
        map.update(&last, &vec![0; map.entry().value], Update::Any).map_err(failed)?;
    }
    Ok(())
}

/// Gives the entries of older programs their bits, if that is due; then the bits count.
pub(super) fn name_all(maps: &Pinned) -> Result<(), Error> {
    if !maps.parties.are_due() {
        return Ok(());
    }
    wait_for_programs();
    name_in(&maps.v4, &maps.parties)?;
    name_in(&maps.v6, &maps.parties)?;
    // Not if another start has begun meanwhile.
    if maps.parties.0.exchange(State::WORD, State::BEING_NAMED.0, State::NAMED.0) {
        tracing::debug!("packets of pods without connections in the tables pass at once");
    }
    Ok(())
}

/// Those without an answer first: an answer moves an entry the way that the scans go, and its program names it then.
fn name_in<F: MapFamily>(maps: &Maps<F>, parties: &Parties) -> Result<(), Error> {
    let failed = |map| move |source| Error::Map { verb: "read", map, source };
    let name = |keys: &[FlowKey<F::Addr>]| keys.iter().for_each(|key| parties.name(&key.src));
    maps.half_open.scan(|keys, _| name(keys)).map_err(failed(F::NAMES.half_open))?;
    maps.flows.scan(|keys, _| name(keys)).map_err(failed(F::NAMES.flows))
}

/// A program that was replaced may still be running on another processor. The barrier returns when none is any more.
fn wait_for_programs() {
    if membarrier(MembarrierCommand::Global).is_err() {
        thread::sleep(LONG);
    }
}
