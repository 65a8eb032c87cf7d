//! UDP clients of a backend that serves their Service no more (items 101–105): flows end and sockets are closed at once,
//! when the model says so. Judging is pure. [`super::stale`] catches what slips in meanwhile.

use std::io;

use proxy_common::{
    Address, Family, Flow, FlowFlags, FlowKey, Frontend, FrontendFlags, FrontendKey, Port, Proto, ServiceId,
    SocketPeer, SocketPeerKey, V4, V6, socket::PeerDirection,
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
    /// Answered flows.
    pub flows: usize,
    /// Flows without an answer.
    pub half_open: usize,
    /// Sockets.
    pub sockets: usize,
}

/// What to do with an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nothing.
    Stays,
    /// It goes: the client's next datagram finds another backend.
    Ends,
    /// It is marked [`FlowFlags::BRIEF`]: an answer that is on its way still arrives, under the frontend's name. Without it
    /// each change of the endpoints would cost the requests of that moment.
    HeardOut,
}

/// The fate of an entry of either direction.
#[must_use]
pub fn fate<F: Family>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>, moved: &Moved<F>) -> Fate {
    match (is_stranded::<F>(key, flow, moved), flow.flags) {
        (false, _) => Fate::Stays,
        (true, flags) if flags.has(FlowFlags::BRIEF) => Fate::Stays,
        (true, flags) if flags.has(FlowFlags::REPLY) => Fate::HeardOut,
        (true, _) => Fate::Ends,
    }
}

/// Whether the entry, of either direction, leads to or from an endpoint that serves its Service no more.
fn is_stranded<F: Family>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>, moved: &Moved<F>) -> bool {
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
    frontends: &'a Table<FrontendKey<F::Addr>, Frontend>,
    moved: &'a Moved<F>,
}

impl<F: Family> Clients<'_, F> {
    /// `None` for a socket of the other family.
    fn is_left(&self, socket: &Connected) -> Option<io::Result<bool>> {
        let (addr, port) = socket.remote();
        let addr = F::Addr::from_ip(addr)?;
        let key = SocketPeerKey::new(socket.cookie(), addr, port, PeerDirection::CONNECTED);
        Some(self.noted.get(&key).and_then(|noted| match noted {
            Some(peer) => Ok(is_left::<F>(peer.service, (addr, port), self.moved)),
            // Who connected to a backend without a Service stays.
            None => self.waits_at(addr, port),
        }))
    }

    /// Whether this is a frontend that was none yet when the socket connected to it (item 104): no hook will see the
    /// socket again before it connects anew. Sockets are connected to frontends with source ranges on purpose, and a pod's
    /// own loopback address is not the node's.
    fn waits_at(&self, addr: F::Addr, port: Port) -> io::Result<bool> {
        let frontend = self.frontends.get(&FrontendKey::new(addr, port, Proto::UDP))?;
        Ok(frontend.is_some_and(|frontend| {
            let left_alone = [FrontendFlags::RANGES, FrontendFlags::NODE_ONLY];
            self.moved.contains_key(&frontend.service)
                && !left_alone.iter().any(|flag| frontend.flags.has(*flag))
        }))
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

/// Gives how many entries it ended.
fn end<F: Family>(table: &Table<FlowKey<F::Addr>, Flow<F::Addr>>, moved: &Moved<F>) -> io::Result<usize> {
    let (mut ending, mut heard_out) = (Vec::new(), Vec::new());
    table.scan(|keys, flows| {
        for (key, flow) in keys.iter().zip(flows) {
            match fate::<F>(key, flow, moved) {
                Fate::Stays => {}
                Fate::Ends => ending.push(*key),
                Fate::HeardOut => heard_out.push((*key, *flow)),
            }
        }
    })?;
    // Marked before the other half goes: no answer may make the connection whole again.
    for (key, flow) in &heard_out {
        table.put(key, &Flow { flags: flow.flags.with(FlowFlags::BRIEF), ..*flow })?;
    }
    ending.iter().try_fold(0, |removed, key| Ok(removed + usize::from(table.remove(key)?)))
}

/// Closes sockets in every namespace; one that fails, as the namespace of a pod that just ended may, stops no other.
fn close_sockets(
    maps: &Pinned,
    v4: &Moved<V4>,
    v6: &Moved<V6>,
    reach: Reach<'_>,
    closed: &mut usize,
) -> Result<(), Error> {
    let noted4 = family::table(&maps.pins, "socketpeers4", Access::Read)?;
    let noted6 = family::table(&maps.pins, "socketpeers6", Access::Read)?;
    let v4 = Clients::<V4> { noted: noted4, frontends: &maps.v4.frontends, moved: v4 };
    let v6 = Clients::<V6> { noted: noted6, frontends: &maps.v6.frontends, moved: v6 };
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
