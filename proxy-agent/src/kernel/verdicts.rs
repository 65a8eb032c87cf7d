//! The maps of policies: those that no family has to itself, and the writes of a plan into all of them, strictly in their
//! order. What a write is for is not known here.

use std::{
    collections::BTreeSet,
    io,
    sync::atomic::{AtomicU32, Ordering},
};

use proxy_common::{
    PolicyState, RuleSetId, VerdictKey, VerdictPage,
    policy::{DenialKey, PolicyFlags},
};
use proxy_model::policy::{AddressWrite, PageMark, PolicyActual, PolicyTable, PolicyWrite};

use super::{
    error::Error,
    family::{MapFamily, Maps, table},
    map::{PerCpuTable, Table},
    memory::Slots,
    mentioned::Mentioned,
    pins::{Pinned, Pins},
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
    /// Addresses that the maps of a family may have.
    pub mentioned: Mentioned,
    /// Counts the writes; who reads only has no use for it.
    writes: Option<Slots<u32>>,
}

/// What became of the writes of a plan.
#[derive(Debug, Default)]
#[must_use = "what was not written must be told to the planner"]
pub struct Judged {
    /// How many were made: the first ones.
    pub made: usize,
    /// Why the next one was not, if there is one.
    pub error: Option<io::Error>,
}

impl Verdicts {
    pub(super) fn open(pins: &Pins, cpus: usize, access: Access) -> Result<Self, Error> {
        let unfit = |source: io::Error| Error::Map { verb: "read the layout of", map: "denials", source };
        let verdicts = Self {
            verdicts: table(pins, "verdicts", access)?,
            state: table(pins, "policy", access)?,
            denials: PerCpuTable::new(pins.open("denials", access)?, cpus).map_err(unfit)?,
            mentioned: Mentioned::open(pins, access)?,
            writes: Slots::open(pins, "policywrites", access)?,
        };
        // Who wrote last may have been ended before it could say so.
        verdicts.note_write();
        Ok(verdicts)
    }

    /// What the programs have found out by what the maps held so far, they find out anew. To be called after each write that
    /// a judgement may depend on, before the next one is made: so no packet is judged by older maps than the last.
    pub(super) fn note_write(&self) {
        if let Some(writes) = self.writes.as_ref().and_then(count_of) {
            writes.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Forgets what rule sets denied that are not known any more.
    pub(super) fn retain(&self, known: &BTreeSet<RuleSetId>) -> Result<(), Error> {
        let failed = |source| Error::Map { verb: "clean", map: "denials", source };
        let is_gone = |key: &DenialKey| key.rules != RuleSetId::CLOSED && !known.contains(&key.rules);
        for (key, _) in self.denials.sums().map_err(failed)?.iter().filter(|(key, _)| is_gone(key)) {
            self.denials.remove(key).map_err(failed)?;
        }
        Ok(())
    }

    fn put_state(&self, wanted: PolicyState) -> io::Result<()> {
        let found = self.state.get(&0)?.unwrap_or_default();
        let watched = PolicyFlags(found.flags.0 & PolicyFlags::WATCHED.0);
        self.state.put(&0, &PolicyState { flags: wanted.flags.with(watched), ..wanted })
    }
}

fn count_of(writes: &Slots<u32>) -> Option<&AtomicU32> {
    writes.word(0, 0)
}

/// Makes the writes up to the first that fails: each may be needed by those behind it.
pub(super) fn apply(writes: &[PolicyWrite], maps: &Pinned) -> Judged {
    for (made, write) in writes.iter().enumerate() {
        let result = make(write, maps);
        maps.policy.note_write();
        if let Err(error) = result {
            return Judged { made, error: Some(error) };
        }
    }
    Judged { made: writes.len(), error: None }
}

fn make(write: &PolicyWrite, maps: &Pinned) -> io::Result<()> {
    let policy = &maps.policy;
    match write {
        PolicyWrite::PutVerdict { key, page } => policy.verdicts.put(key, page),
        PolicyWrite::DeleteVerdict { key } => policy.verdicts.remove(key).map(drop),
        PolicyWrite::State(state) => policy.put_state(*state),
        PolicyWrite::V4(write) => make_in(write, &maps.v4, &policy.mentioned),
        PolicyWrite::V6(write) => make_in(write, &maps.v6, &policy.mentioned),
    }
}

fn make_in<F: MapFamily>(write: &AddressWrite<F>, maps: &Maps<F>, mentioned: &Mentioned) -> io::Result<()> {
    // A family that is not served has room for one entry, and no program that would read it.
    if maps.policed.raw().max_entries() <= 1 {
        return Ok(());
    }
    if let AddressWrite::PutPeer { addr, .. } | AddressWrite::PutPoliced { addr, .. } = write {
        mentioned.add(addr);
    }
    if let AddressWrite::PutBlock { key, .. } = write {
        mentioned.divide(key);
    }
    match write {
        AddressWrite::PutBlock { key, class } => maps.blocks.put(key, class),
        AddressWrite::PutPeer { addr, class } => maps.peers.put(addr, class),
        AddressWrite::PutPoliced { addr, value } => maps.policed.put(addr, value),
        AddressWrite::DeletePoliced { addr } => maps.policed.remove(addr).map(drop),
        AddressWrite::DeletePeer { addr } => maps.peers.remove(addr).map(drop),
        AddressWrite::DeleteBlock { key } => maps.blocks.remove(key),
    }
}

/// Writes what follows from the addresses and prefixes that the maps hold: what was carried over from another layout may have
/// nothing of it yet.
pub(super) fn mention(maps: &Pinned) -> Result<(), Error> {
    mention_in(&maps.v4, &maps.policy.mentioned)?;
    mention_in(&maps.v6, &maps.policy.mentioned)?;
    // Programs that run already may have found what was not true any more.
    maps.policy.note_write();
    Ok(())
}

fn mention_in<F: MapFamily>(maps: &Maps<F>, mentioned: &Mentioned) -> Result<(), Error> {
    let failed = |map| move |source| Error::Map { verb: "read", map, source };
    let of_pods = maps.policed.scan(|addrs, _| addrs.iter().for_each(|addr| mentioned.add(addr)));
    of_pods.map_err(failed(F::NAMES.policed))?;
    let of_peers = maps.peers.scan(|addrs, _| addrs.iter().for_each(|addr| mentioned.add(addr)));
    of_peers.map_err(failed(F::NAMES.peers))?;
    // Before a neighbourhood is said to be even: there nobody is searched for who is not found at once.
    let derived = maps.blocks.derive();
    derived.map_err(|source| Error::Map { verb: "derive from", map: F::NAMES.blocks, source })?;
    let of_blocks =
        maps.blocks.trie.scan(|prefixes, _| prefixes.iter().for_each(|prefix| mentioned.divide(prefix)));
    of_blocks.map_err(failed(F::NAMES.blocks))
}

/// What the maps hold.
pub(super) fn actual(maps: &Pinned) -> Result<PolicyActual, Error> {
    let failed = |map| move |source| Error::Map { verb: "read", map, source };
    let mut verdicts = Vec::new();
    let note = |keys: &[VerdictKey], pages: &[VerdictPage]| {
        verdicts.extend(keys.iter().copied().zip(pages.iter().map(PageMark::of)));
    };
    maps.policy.verdicts.scan(note).map_err(failed("verdicts"))?;
    Ok(PolicyActual {
        v4: actual_in(&maps.v4)?,
        v6: actual_in(&maps.v6)?,
        verdicts,
        state: maps.policy.state.get(&0).map_err(failed("policy"))?.unwrap_or_default(),
    })
}

fn actual_in<F: MapFamily>(maps: &Maps<F>) -> Result<PolicyTable<F>, Error> {
    let failed = |map| move |source| Error::Map { verb: "read", map, source };
    Ok(PolicyTable {
        policed: maps.policed.entries().map_err(failed(F::NAMES.policed))?,
        peers: maps.peers.entries().map_err(failed(F::NAMES.peers))?,
        blocks: maps.blocks.entries().map_err(failed(F::NAMES.blocks))?,
    })
}
