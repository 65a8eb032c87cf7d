//! The maps of policies that no family has to itself: what rule sets say about classes, the epoch, and who denied what.

use std::io;

use proxy_common::{PolicyState, VerdictKey, VerdictPage, policy::DenialKey};

use super::{
    error::Error,
    family::table,
    map::{PerCpuTable, Table},
    pins::Pins,
    sys::Access,
};

/// The maps.
#[derive(Debug)]
pub struct Verdicts {
    /// What rule sets say about classes.
    pub verdicts: Table<VerdictKey, VerdictPage>,
    /// The epoch, and what is in use.
    pub state: Table<u32, PolicyState>,
    /// Packets denied.
    pub denials: PerCpuTable<DenialKey, u64>,
}

impl Verdicts {
    pub(super) fn open(pins: &Pins, cpus: usize, access: Access) -> Result<Self, Error> {
        let unfit = |source: io::Error| Error::Map { verb: "read the layout of", map: "denials", source };
        Ok(Self {
            verdicts: table(pins, "verdicts", access)?,
            state: table(pins, "policy", access)?,
            denials: PerCpuTable::new(pins.open("denials", access)?, cpus).map_err(unfit)?,
        })
    }
}
