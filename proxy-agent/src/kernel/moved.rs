//! UDP clients of a backend that serves their Service no more (items 101–105): flow entries go and sockets are closed
//! at once, when the model says so. Judging is pure. [`super::stale`] catches what slips in meanwhile.

use std::io;

use proxy_common::{
    Address, Family, Flow, FlowFlags, FlowKey, Port, Proto, ServiceId, SocketPeer, SocketPeerKey, V4, V6,
    socket::PeerDirection,
};
use proxy_model::Moved;

use super::{
    diag::{self, Connected},
    error::Error,
    family::{self, MapFamily, Maps},
    map::Table,
    namespace::{self, Reach},
    pins::Pinned,
    sys::Access,
};

/// What was let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LetGo {
    /// Entries of answered flows, both directions counted.
    pub flows: usize,
    /// Entries of flows without an answer.
    pub half_open: usize,
    /// Sockets.
    pub sockets: usize,
}

/// Whether the entry, of either direction, leads to or from an endpoint that serves its Service no more.
#[must_use]
pub fn is_stranded<F: Family>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>, moved: &Moved<F>) -> bool {
    let backend =
        if flow.flags.has(FlowFlags::REPLY) { (key.src, key.sport) } else { (flow.dst, flow.dport) };
    key.proto == Proto::UDP && is_left::<F>(flow.service, backend, moved)
}

/// Whether a socket of this Service's client is left with a backend that serves it no more.
fn is_left<F: Family>(service: ServiceId, backend: (F::Addr, Port), moved: &Moved<F>) -> bool {
    moved.get(&service).is_some_and(|servers| servers.binary_search(&backend).is_err())
}

/// What the programs noted of the sockets of one family: backend → frontend, by socket.
struct Clients<'a, F: Family> {
    noted: Table<SocketPeerKey<F::Addr>, SocketPeer<F::Addr>>,
    moved: &'a Moved<F>,
}

impl<F: Family> Clients<'_, F> {
    /// `None` for a socket of the other family.
    fn is_left(&self, socket: &Connected) -> Option<io::Result<bool>> {
        let (addr, port) = socket.remote();
        let addr = F::Addr::from_ip(addr)?;
        // Who connected to the backend without a Service is not noted, and stays.
        let noted =
            self.noted.get(&SocketPeerKey::new(socket.cookie(), addr, port, PeerDirection::CONNECTED));
        Some(noted.map(|peer| peer.is_some_and(|peer| is_left::<F>(peer.service, (addr, port), self.moved))))
    }
}

pub(super) fn let_go(
    maps: &Pinned,
    v4: &Moved<V4>,
    v6: &Moved<V6>,
    reach: Reach<'_>,
) -> (LetGo, Result<(), Error>) {
    let mut gone = LetGo::default();
    let mut result = end_flows(&maps.v4, v4, &mut gone).and(end_flows(&maps.v6, v6, &mut gone));
    if !(v4.is_empty() && v6.is_empty()) {
        result = result.and(close_sockets(maps, v4, v6, reach, &mut gone.sockets));
    }
    (gone, result)
}

fn end_flows<F: MapFamily>(maps: &Maps<F>, moved: &Moved<F>, gone: &mut LetGo) -> Result<(), Error> {
    if moved.is_empty() {
        return Ok(());
    }
    let failed = |map| move |source| Error::Map { verb: "clean", map, source };
    gone.half_open += end::<F>(&maps.half_open, moved).map_err(failed(F::NAMES.half_open))?;
    gone.flows += end::<F>(&maps.flows, moved).map_err(failed(F::NAMES.flows))?;
    Ok(())
}

fn end<F: Family>(table: &Table<FlowKey<F::Addr>, Flow<F::Addr>>, moved: &Moved<F>) -> io::Result<usize> {
    let mut stranded = Vec::new();
    table.scan(|keys, flows| {
        let entries = keys.iter().zip(flows);
        stranded
            .extend(entries.filter(|(key, flow)| is_stranded::<F>(key, flow, moved)).map(|(key, _)| *key));
    })?;
    stranded.iter().try_fold(0, |removed, key| Ok(removed + usize::from(table.remove(key)?)))
}

/// Closes sockets in every namespace; one that fails, as the namespace of a pod that just ended may, stops no other.
fn close_sockets(
    maps: &Pinned,
    v4: &Moved<V4>,
    v6: &Moved<V6>,
    reach: Reach<'_>,
    closed: &mut usize,
) -> Result<(), Error> {
    let v4 = Clients::<V4> { noted: family::table(&maps.pins, "socketpeers4", Access::Read)?, moved: v4 };
    let v6 = Clients::<V6> { noted: family::table(&maps.pins, "socketpeers6", Access::Read)?, moved: v6 };
    let is_left = |one: &Connected| v4.is_left(one).or_else(|| v6.is_left(one)).unwrap_or(Ok(false));
    let in_one = || -> io::Result<usize> {
        let mut diag = diag::Socket::open()?;
        let mut closed = 0;
        for one in diag.connected()? {
            closed += usize::from(is_left(&one)? && diag.close(&one)?);
        }
        Ok(closed)
    };
    let mut result = Ok(());
    for outcome in namespace::in_each(reach, &in_one)? {
        let failed = |source| Error::Netlink { verb: "close the sockets of moved UDP clients", source };
        match outcome {
            Ok(count) => *closed += count,
            Err(source) => result = result.and(Err(failed(source))),
        }
    }
    result
}
