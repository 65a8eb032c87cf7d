//! UDP clients of a backend that serves their Service no more (items 101–105): flows end and sockets are closed at once,
//! when the model says so. Judging is pure. [`super::stale`] catches what slips in meanwhile.

use std::{collections::BTreeSet, io};

use proxy_common::{
    Address, Family, Flow, FlowFlags, FlowKey, FrontendFlags, FrontendKey, Port, Proto, ServiceId,
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
    /// Not let go yet: sockets connected to a frontend itself, which the packet road still serves by an entry.
    pub carried: usize,
}

/// Which sockets are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whom {
    /// All clients of Services that were moved.
    Moved,
    /// Those that were carried before.
    Carried,
}

/// What becomes of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Stays,
    Carried,
    Closed,
}

/// What to do with an entry of a client that is moved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// Nothing: it is marked already.
    Stays,
    /// It goes: the client's next datagram finds another backend.
    Ends,
    /// It is marked [`FlowFlags::BRIEF`]: an answer that is on its way still arrives, under the frontend's name. Without it
    /// each change of the endpoints would cost the requests of that moment.
    HeardOut,
}

fn fate(flags: FlowFlags) -> Fate {
    if flags.has(FlowFlags::BRIEF) {
        Fate::Stays
    } else if flags.has(FlowFlags::REPLY) {
        Fate::HeardOut
    } else {
        Fate::Ends
    }
}

/// An address with a port.
type Place<F> = (<F as Family>::Addr, Port);

/// Where the datagrams of an entry's client arrive.
fn server<F: Family>(key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>) -> Place<F> {
    if flow.flags.has(FlowFlags::REPLY) { (key.src, key.sport) } else { (flow.dst, flow.dport) }
}

/// Whether a client of this Service is left with a backend that serves it no more.
fn is_left<F: Family>(service: ServiceId, backend: Place<F>, moved: &Moved<F>) -> bool {
    moved.get(&service).is_some_and(|servers| servers.binary_search(&backend).is_err())
}

/// The Service of this frontend, if it was moved: who began to send there before it was one can be served now (item 104). Not
/// with source ranges: who is outside of them is not; and a pod's own loopback address is not the node's.
fn served_at<F: Family>(
    maps: &Maps<F>,
    (addr, port): Place<F>,
    moved: &Moved<F>,
) -> io::Result<Option<ServiceId>> {
    let frontend = maps.frontends.get(&FrontendKey::new(addr, port, Proto::UDP))?;
    Ok(frontend.and_then(|frontend| {
        let left_alone = [FrontendFlags::RANGES, FrontendFlags::NODE_ONLY];
        let is_moved =
            moved.contains_key(&frontend.service) && !left_alone.iter().any(|flag| frontend.flags.has(*flag));
        is_moved.then_some(frontend.service)
    }))
}

/// What the programs noted of the sockets of one family: backend → frontend, by socket.
struct Clients<'a, F: Family> {
    noted: Table<SocketPeerKey<F::Addr>, SocketPeer<F::Addr>>,
    maps: &'a Maps<F>,
    moved: &'a Moved<F>,
    whom: Whom,
}

impl<F: Family> Clients<'_, F> {
    /// `None` for a socket of the other family.
    fn judge(&self, socket: &Connected) -> Option<io::Result<Verdict>> {
        let place = |(addr, port)| F::Addr::from_ip(addr).map(|addr| (addr, port));
        let (local, remote) = (place(socket.local())?, place(socket.remote())?);
        let key = SocketPeerKey::new(socket.cookie(), remote.0, remote.1, PeerDirection::CONNECTED);
        Some(self.noted.get(&key).and_then(|noted| match noted {
            Some(_) if self.whom == Whom::Carried => Ok(Verdict::Stays),
            Some(peer) if is_left::<F>(peer.service, remote, self.moved) => Ok(Verdict::Closed),
            Some(_) => Ok(Verdict::Stays),
            None => self.judge_unnoted(local, remote),
        }))
    }

    /// Who connected to a backend without a Service stays. Who connected to a frontend itself, because it was none yet
    /// (item 104) or the packet road served this place then, waits there: no hook sees the socket again before it connects
    /// anew. An entry of the Service still leads its datagrams, until it has been idle for too long.
    fn judge_unnoted(&self, local: Place<F>, remote: Place<F>) -> io::Result<Verdict> {
        let Some(service) = served_at(self.maps, remote, self.moved)? else { return Ok(Verdict::Stays) };
        let key = FlowKey::new(local.0, local.1, remote.0, remote.1, Proto::UDP);
        for table in [&self.maps.half_open, &self.maps.flows] {
            if table.get(&key)?.is_some_and(|flow| flow.service == service) {
                return Ok(Verdict::Carried);
            }
        }
        Ok(Verdict::Closed)
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
        result = result.and(close_sockets(maps, v4, v6, reach, Whom::Moved, &mut gone));
    }
    (gone, result)
}

fn end_flows<F: MapFamily>(maps: &Maps<F>, moved: &Moved<F>, gone: &mut LetGo) -> Result<(), Error> {
    if moved.is_empty() {
        return Ok(());
    }
    let failed = |map| move |source| Error::Map { verb: "clean", map, source };
    gone.half_open += end::<F>(&maps.half_open, maps, moved).map_err(failed(F::NAMES.half_open))?;
    gone.flows += end::<F>(&maps.flows, maps, moved).map_err(failed(F::NAMES.flows))?;
    Ok(())
}

type Flows<F> = Table<FlowKey<<F as Family>::Addr>, Flow<<F as Family>::Addr>>;

/// Ends the flows that lead to endpoints that serve their Service no more, and those that began before their destination
/// was a frontend and are only judged since. Gives how many entries went.
fn end<F: Family>(table: &Flows<F>, maps: &Maps<F>, moved: &Moved<F>) -> io::Result<usize> {
    let mut judged = BTreeSet::new();
    let removed = sweep::<F>(table, |key, flow| {
        if flow.flags.has(FlowFlags::PLAIN) {
            judged.insert(server::<F>(key, flow));
        }
        is_left::<F>(flow.service, server::<F>(key, flow), moved)
    })?;
    let mut early = BTreeSet::new();
    for place in judged {
        if served_at(maps, place, moved)?.is_some() {
            early.insert(place);
        }
    }
    if early.is_empty() {
        return Ok(removed);
    }
    let is_early =
        |key: &_, flow: &Flow<_>| flow.flags.has(FlowFlags::PLAIN) && early.contains(&server::<F>(key, flow));
    Ok(removed + sweep::<F>(table, is_early)?)
}

/// Ends the UDP flows, of whose entries `is_moved` is told each, of either direction.
fn sweep<F: Family>(
    table: &Flows<F>,
    mut is_moved: impl FnMut(&FlowKey<F::Addr>, &Flow<F::Addr>) -> bool,
) -> io::Result<usize> {
    let (mut ending, mut heard_out) = (Vec::new(), Vec::new());
    table.scan(|keys, flows| {
        let udp = keys.iter().zip(flows).filter(|(key, _)| key.proto == Proto::UDP);
        for (key, flow) in udp.filter(|(key, flow)| is_moved(key, flow)) {
            match fate(flow.flags) {
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
pub(super) fn close_sockets(
    maps: &Pinned,
    v4: &Moved<V4>,
    v6: &Moved<V6>,
    reach: Reach<'_>,
    whom: Whom,
    gone: &mut LetGo,
) -> Result<(), Error> {
    let noted4 = family::table(&maps.pins, "socketpeers4", Access::Read)?;
    let noted6 = family::table(&maps.pins, "socketpeers6", Access::Read)?;
    let v4 = Clients::<V4> { noted: noted4, maps: &maps.v4, moved: v4, whom };
    let v6 = Clients::<V6> { noted: noted6, maps: &maps.v6, moved: v6, whom };
    let judge = |one: &Connected| v4.judge(one).or_else(|| v6.judge(one)).unwrap_or(Ok(Verdict::Stays));
    let in_one = || -> io::Result<LetGo> {
        let mut diag = diag::Socket::open()?;
        let mut gone = LetGo::default();
        for one in diag.connected()? {
            match judge(&one)? {
                Verdict::Stays => {}
                Verdict::Carried => gone.carried += 1,
                Verdict::Closed => gone.sockets += usize::from(diag.close(&one)?),
            }
        }
        Ok(gone)
    };
    let mut result = Ok(());
    for outcome in namespace::in_each(reach, &in_one)? {
        let failed = |source| Error::Netlink { verb: "close the sockets of moved UDP clients", source };
        match outcome {
            Ok(LetGo { sockets, carried, .. }) => {
                gone.sockets += sockets;
                gone.carried += carried;
            }
            Err(source) => result = result.and(Err(failed(source))),
        }
    }
    result
}
