//! What the programs count by Service: new connections, turns of a round robin, and the connections of backends that are
//! chosen by their number. The kernel makes the entries; here they are read, removed with their Services, and, where the
//! kernel sees no end of a connection, counted again.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use proxy_common::{Address, Flow, FlowFlags, Frontend, LoadKey, ServiceId, Tally, algorithm::LoadKind};

use super::{
    error::Error,
    family::{MapFamily, Maps, table},
    map::Table,
    pins::{Pinned, Pins},
    sys::Access,
};

/// The maps.
#[derive(Debug)]
pub struct Counts {
    /// New connections by what became of them.
    pub tallies: Table<ServiceId, Tally>,
    /// The next turn of a round robin.
    pub turns: Table<ServiceId, u64>,
    /// Connections of each backend.
    pub loads: Table<LoadKey, u64>,
}

impl Counts {
    pub(super) fn open(pins: &Pins, access: Access) -> Result<Self, Error> {
        Ok(Self {
            tallies: table(pins, "tallies", access)?,
            turns: table(pins, "turns", access)?,
            loads: table(pins, "loads", access)?,
        })
    }

    /// New connections of each Service port.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn tallies(&self) -> Result<BTreeMap<ServiceId, Tally>, Error> {
        let failed = |source| Error::Map { verb: "read", map: "tallies", source };
        self.tallies.entries().map(|all| all.into_iter().collect()).map_err(failed)
    }

    /// Forgets the counts of everybody else.
    ///
    /// # Errors
    /// [`Error::Map`].
    pub fn retain(&self, is_known: impl Fn(ServiceId) -> bool) -> Result<(), Error> {
        let failed = |map| move |source| Error::Map { verb: "clean", map, source };
        let tallies = self.tallies.entries().map_err(failed("tallies"))?;
        for (id, _) in tallies.iter().filter(|(id, _)| !is_known(*id)) {
            self.tallies.remove(id).map_err(failed("tallies"))?;
        }
        let turns = self.turns.entries().map_err(failed("turns"))?;
        for (id, _) in turns.iter().filter(|(id, _)| !is_known(*id)) {
            self.turns.remove(id).map_err(failed("turns"))?;
        }
        Ok(())
    }
}

/// Sets the counts of flows right, and removes entries of backends that are chosen no more. Costs nothing while there
/// is no such Service.
pub(super) fn recount(maps: &Pinned) -> Result<(), Error> {
    let failed = |map| move |source| Error::Map { verb: "count", map, source };
    let known = maps.counts.loads.entries().map_err(failed("loads"))?;
    if known.is_empty() {
        return Ok(());
    }
    let mut counted = BTreeMap::new();
    let mut chosen = BTreeSet::new();
    look_at(&maps.v4, &mut counted, &mut chosen).map_err(failed("flows4"))?;
    look_at(&maps.v6, &mut counted, &mut chosen).map_err(failed("flows6"))?;
    for (key, before) in known {
        let now = match key.kind {
            LoadKind::SOCKETS => before,
            _ => counted.get(&key).copied().unwrap_or(0),
        };
        // A socket that is still open says so when it closes: its entry stays until then.
        if now == 0 && !chosen.contains(&key) {
            maps.counts.loads.remove(&key).map_err(failed("loads"))?;
        } else if now != before {
            maps.counts.loads.put(&key, &now).map_err(failed("loads"))?;
        }
    }
    Ok(())
}

/// Counts the flows of a family, and notes the backends that somebody chooses by their number of connections.
fn look_at<F: MapFamily>(
    maps: &Maps<F>,
    counted: &mut BTreeMap<LoadKey, u64>,
    chosen: &mut BTreeSet<LoadKey>,
) -> io::Result<()> {
    let mut of_backends = Vec::new();
    maps.frontends.scan(|_, frontends| of_backends.extend(frontends.iter().copied().filter(counts)))?;
    for frontend in &of_backends {
        for segment in [frontend.cluster, frontend.local] {
            // A broken segment has no backends.
            for backend in maps.members(segment).unwrap_or_default() {
                let key = LoadKey {
                    service: frontend.service,
                    addr: backend.addr.to_words(),
                    port: backend.port,
                    kind: LoadKind::FLOWS,
                };
                chosen.extend([key, LoadKey { kind: LoadKind::SOCKETS, ..key }]);
            }
        }
    }
    let services: BTreeSet<ServiceId> = of_backends.iter().map(|frontend| frontend.service).collect();
    for table in [&maps.flows, &maps.half_open, &maps.tunnels] {
        table.scan(|_, flows| {
            let theirs = flows.iter().filter(|flow| services.contains(&flow.service));
            for key in theirs.filter_map(load) {
                *counted.entry(key).or_insert(0) += 1;
            }
        })?;
    }
    Ok(())
}

fn counts(frontend: &Frontend) -> bool {
    frontend.algorithm.counts_connections()
}

/// Where a flow counts; `None` for the answers' direction, and for one that its client has closed.
fn load<A: Address>(flow: &Flow<A>) -> Option<LoadKey> {
    let over =
        [FlowFlags::REPLY, FlowFlags::FIN, FlowFlags::RST].into_iter().any(|flag| flow.flags.has(flag));
    (!over).then(|| LoadKey {
        service: flow.service,
        addr: flow.dst.to_words(),
        port: flow.dport,
        kind: LoadKind::FLOWS,
    })
}
