//! What connections became while programs of two layouts ran side by side: each was in the tables of the one, of the
//! other, or of both, and what either saw of it counts. The same brings over all that there are before any program of ours
//! runs: whose ports are taken is asked in our tables then.

use std::io;

use proxy_common::{
    Flow, FlowFlags, FlowKey, Proto, V4, V6,
    ferry::{ENDS, Stage, is_later, is_one, leads_back},
    maps::{MapSpec, MapType, spec as spec_of},
};
use zerocopy::FromBytes;

use super::{
    Fate, Handover,
    moves::{Moves, translated},
    scan,
};
use crate::kernel::{
    error::Error,
    family::{self, MapFamily},
    map::Table,
    sys::Access,
};

/// The map is a table of connections of which each packet's programs must find every entry.
pub(super) fn is_connections(spec: &MapSpec) -> bool {
    matches!(spec.name, "flows4" | "flows6" | "halfopen4" | "halfopen6")
}

impl Handover {
    /// Brings the entries of all tables of connections together. The kernel goes on writing to ours.
    pub(super) fn settle(&self) -> Result<(), Error> {
        self.settle_family::<V4>()?;
        self.settle_family::<V6>()
    }

    fn settle_family<F: MapFamily>(&self) -> Result<(), Error>
    where
        FlowKey<F::Addr>: MapType + FromBytes,
        Flow<F::Addr>: MapType + FromBytes,
    {
        for (name, stage) in [(F::NAMES.flows, Stage::ANSWERED), (F::NAMES.half_open, Stage::HALF_OPEN)] {
            let Some(spec) = spec_of(name) else { continue };
            if let Fate::Moved(moves) = self.fate(spec) {
                self.settle_one::<F>(spec, &moves, stage)?;
            }
        }
        Ok(())
    }

    /// One of the tables.
    fn settle_one<F: MapFamily>(
        &self,
        spec: &'static MapSpec,
        moves: &Moves,
        stage: Stage,
    ) -> Result<(), Error>
    where
        FlowKey<F::Addr>: MapType + FromBytes,
        Flow<F::Addr>: MapType + FromBytes,
    {
        let Some((from, to)) = self.both(spec)? else { return Ok(()) };
        let tables = Tables::<F> {
            flows: family::table(&self.to, F::NAMES.flows, Access::Write)?,
            half_open: family::table(&self.to, F::NAMES.half_open, Access::Write)?,
        };
        let (theirs, ours) = (from.entry(), to.entry());
        scan(&from, |keys, values| {
            let keys = translated(&moves.key, keys, theirs.key, ours.key);
            let values = translated(&moves.value, values, theirs.value, ours.value);
            let entries = keys.chunks_exact(ours.key).zip(values.chunks_exact(ours.value));
            let read = |(key, flow)| {
                let key = FlowKey::<F::Addr>::read_from_bytes(key).ok()?;
                Some((key, Flow::<F::Addr>::read_from_bytes(flow).ok()?))
            };
            entries.filter_map(read).try_for_each(|(key, flow)| tables.meet(&key, &flow, stage))
        })
        .map(drop)
        .map_err(|source| Error::Map { verb: "settle", map: spec.name, source })
    }
}

/// Our tables of one family.
struct Tables<F: MapFamily> {
    flows: Table<FlowKey<F::Addr>, Flow<F::Addr>>,
    half_open: Table<FlowKey<F::Addr>, Flow<F::Addr>>,
}

impl<F: MapFamily> Tables<F> {
    /// An entry of theirs, and what ours have under its key and under that of its other half.
    fn meet(&self, key: &FlowKey<F::Addr>, theirs: &Flow<F::Addr>, stage: Stage) -> io::Result<()> {
        match self.find(key)? {
            Some((ours, found)) if is_one((&ours, found), (theirs, stage)) => {
                if found == Stage::HALF_OPEN && stage == Stage::ANSWERED {
                    // Only their side has seen the answer.
                    self.enter(key, theirs, stage)?;
                    return self.half_open.remove(key).map(drop);
                }
                return self.add(key, ours, found, theirs);
            }
            Some((ours, found)) if is_later((ours.seen, found), (theirs.seen, stage)) => return Ok(()),
            Some((ours, _)) => self.erase(key, &ours)?,
            None => {}
        }
        // Half of a connection whose other key has another one's half is of no use, and in that one's way.
        let other = theirs.other(key.proto);
        if let Some((ours, found)) = self.find(&other)?
            && !leads_back(&ours, key)
            && !is_left(key.proto, theirs)
        {
            if is_later((ours.seen, found), (theirs.seen, stage)) {
                return Ok(());
            }
            self.erase(&other, &ours)?;
        }
        self.enter(key, theirs, stage)
    }

    fn find(&self, key: &FlowKey<F::Addr>) -> io::Result<Option<(Flow<F::Addr>, Stage)>> {
        // In this order, and once more: an answer that comes meanwhile moves it the other way.
        for (table, stage) in [
            (&self.flows, Stage::ANSWERED),
            (&self.half_open, Stage::HALF_OPEN),
            (&self.flows, Stage::ANSWERED),
        ] {
            if let Some(flow) = table.get(key)? {
                return Ok(Some((flow, stage)));
            }
        }
        Ok(None)
    }

    /// Adds what they saw to an entry of ours.
    fn add(
        &self,
        key: &FlowKey<F::Addr>,
        ours: Flow<F::Addr>,
        found: Stage,
        theirs: &Flow<F::Addr>,
    ) -> io::Result<()> {
        let flags = together(key.proto, ours.flags, theirs.flags);
        if flags == ours.flags {
            return Ok(());
        }
        let table = if found == Stage::ANSWERED { &self.flows } else { &self.half_open };
        table.put(key, &Flow { flags, ..ours })
    }

    /// Both halves of a connection that is over.
    fn erase(&self, key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>) -> io::Result<()> {
        let other = flow.other(key.proto);
        let halves = match self.find(&other)? {
            Some((half, _)) if leads_back(&half, key) => [Some(other), Some(*key)],
            Some(_) | None => [Some(*key), None],
        };
        for half in halves.into_iter().flatten() {
            self.flows.remove(&half)?;
            self.half_open.remove(&half)?;
        }
        Ok(())
    }

    /// One that the kernel has just entered is as good; one for which there is no room is lost, as a new one would be.
    fn enter(&self, key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>, stage: Stage) -> io::Result<()> {
        let table = if stage == Stage::ANSWERED { &self.flows } else { &self.half_open };
        match table.put_new(key, flow) {
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => {
                tracing::warn!("a connection of the other layout found no room");
                Ok(())
            }
            result => result.map(drop),
        }
    }
}

/// The answers' entry of a backend that a client of datagrams was taken away from: its other half is the client's new connection.
fn is_left<A>(proto: Proto, flow: &Flow<A>) -> bool {
    proto != Proto::TCP && flow.flags.has(FlowFlags::BRIEF)
}

/// What is known of a direction that both sides have seen. A client of TCP has acknowledged when either has seen it.
fn together(proto: Proto, ours: FlowFlags, theirs: FlowFlags) -> FlowFlags {
    let flags = ours.with(FlowFlags(theirs.0 & ENDS.0));
    match proto == Proto::TCP && !theirs.has(FlowFlags::BRIEF) {
        true => flags.without(FlowFlags::BRIEF),
        false => flags,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_either_side_has_seen_counts() {
        let none = FlowFlags::default();
        let (routed, brief, fin, rst) = (FlowFlags::ROUTED, FlowFlags::BRIEF, FlowFlags::FIN, FlowFlags::RST);
        for (proto, ours, theirs, both) in [
            (Proto::TCP, none, fin, fin),
            (Proto::TCP, fin, none, fin),
            (Proto::TCP, fin, rst, fin.with(rst)),
            (Proto::TCP, none, routed, none),
            (Proto::TCP, brief, brief, brief),
            (Proto::TCP, brief.with(routed), none, routed),
            (Proto::TCP, none, brief, none),
            (Proto::UDP, brief, none, brief),
        ] {
            assert_eq!(together(proto, ours, theirs), both, "{ours:?} {theirs:?}");
        }
    }
}
