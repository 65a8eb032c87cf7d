//! What connections became while programs of two layouts ran side by side: each was in the tables of the one, of the
//! other, or of both, and what either saw of it counts.

use std::{io, ops::Range};

use proxy_common::{
    FlowFlags,
    maps::{MapSpec, spec as spec_of},
};

use super::{
    Handover,
    abi::MapAbi,
    moves::{Moves, translated},
    open, scan,
};
use crate::kernel::{
    error::Error,
    sys::{RawMap, Update},
};

/// What a side has seen of a connection's end.
const ENDS: u8 = FlowFlags::FIN.0 | FlowFlags::RST.0;

/// The map is a table of connections of which each packet's programs must find every entry.
pub(super) fn is_connections(spec: &MapSpec) -> bool {
    matches!(spec.name, "flows4" | "flows6" | "halfopen4" | "halfopen6")
}

/// The tables of one family and stage.
struct Tables {
    /// Theirs.
    from: RawMap,
    /// Ours.
    to: RawMap,
    /// Our other one: the answered connections beside those without an answer, and the other way round.
    beside: RawMap,
    /// Where the flags are in an entry of ours.
    flags: usize,
    /// Where the addresses and ports after the rewrite are.
    tuple: Vec<Range<usize>>,
}

impl Handover {
    /// Brings the entries of one of the tables together. The kernel goes on writing to ours.
    pub(super) fn settle(&self, spec: &'static MapSpec, moves: &Moves) -> Result<(), Error> {
        let failed = |source| Error::Map { verb: "settle", map: spec.name, source };
        let Some(tables) = self.tables(spec)? else { return Ok(()) };
        let is_answered = spec.name.starts_with("flows");
        let entry = tables.to.entry();
        scan(&tables.from, |keys, values| {
            let keys = translated(&moves.key, keys, tables.from.entry().key, entry.key);
            let values = translated(&moves.value, values, tables.from.entry().value, entry.value);
            let mut entries = keys.chunks_exact(entry.key).zip(values.chunks_exact(entry.value));
            entries.try_for_each(|(key, value)| match is_answered {
                true => tables.answered(key, value),
                false => tables.unanswered(key, value),
            })
        })
        .map(drop)
        .map_err(failed)
    }

    fn tables(&self, spec: &'static MapSpec) -> Result<Option<Tables>, Error> {
        let beside = match spec.name {
            "flows4" => "halfopen4",
            "flows6" => "halfopen6",
            "halfopen4" => "flows4",
            _ => "flows6",
        };
        let Some(beside) = spec_of(beside).map(|spec| self.to.map(spec.name)) else { return Ok(None) };
        let Some(fd) = open(&beside)? else { return Ok(None) };
        let beside = RawMap::new(fd, 1).map_err(Error::path("read", beside))?;
        let Some((from, to)) = self.both(spec)? else { return Ok(None) };
        let fields = MapAbi::of(spec).value.fields;
        let is_of_tuple = |name: &str| ["src", "dst", "sport", "dport"].contains(&name);
        let tuple = fields.iter().filter(|field| is_of_tuple(&field.name));
        let tuple = tuple.map(|field| field.offset..field.offset + field.size).collect();
        let flags = fields.iter().find(|field| field.name == "flags");
        Ok(flags.map(|flags| Tables { from, to, beside, flags: flags.offset, tuple }))
    }
}

impl Tables {
    fn answered(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        if !self.meet(&self.to, key, value)? {
            if self.is_superseded(key, value)? {
                return Ok(());
            }
            self.enter(key, value)?;
        }
        // Only their side has seen the answer.
        gone(self.beside.delete(key))
    }

    fn unanswered(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        // In this order: an answer that comes meanwhile moves it the other way.
        if self.meet(&self.to, key, value)? || self.meet(&self.beside, key, value)? {
            return Ok(());
        }
        self.enter(key, value)
    }

    /// Ours is another connection of the same ports, which has begun after theirs was over: it leads elsewhere.
    fn is_superseded(&self, key: &[u8], theirs: &[u8]) -> io::Result<bool> {
        let mut ours = vec![0; self.beside.entry().value];
        match self.beside.lookup(key, &mut ours) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            result => result?,
        }
        Ok(self.tuple.iter().any(|place| ours[place.clone()] != theirs[place.clone()]))
    }

    /// Adds what they saw to an entry of ours; says whether there is one.
    fn meet(&self, ours: &RawMap, key: &[u8], theirs: &[u8]) -> io::Result<bool> {
        let mut value = vec![0; ours.entry().value];
        match ours.lookup(key, &mut value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            result => result?,
        }
        let flags = value[self.flags] | theirs[self.flags] & ENDS;
        if flags != value[self.flags] {
            value[self.flags] = flags;
            ours.update(key, &value, Update::Any)?;
        }
        Ok(true)
    }

    /// One that the kernel has just entered is as good; one for which there is no room is lost, as a new one would be.
    fn enter(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match self.to.update(key, value, Update::New) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
                tracing::warn!("a connection of the other layout found no room");
                Ok(())
            }
            result => result,
        }
    }
}

fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
