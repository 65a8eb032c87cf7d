//! Leaves a node to whoever serves beside us, without breaking a connection: what is new is not translated any more, what
//! is translated stays so until it ends or netfilter has it (`docs/decisions/0032-*`). Knows nobody who might serve.
//!
//! ```text
//! connections ─► conntrack                                          nobody else takes their ports
//! nobody owns addresses ─► ports that nobody serves ─► frontends     gone, in this order: none is refused on the way
//! wait: collect what is over, look who is left                       programs and entries stay
//! connections ─► conntrack                                          as they are by now
//! ```

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    time::{Duration, Instant},
};

use proxy_common::{
    Cidr, Family, Flow, FlowFlags, FlowKey, FrontendFlags, NodeFlags, Proto, limits::CIDRS, tcp,
};

use super::{
    clock::Clock,
    conntrack::Conntrack,
    error::Error,
    family::{MapFamily, Maps},
    gc::{self, Stage},
    load,
    pins::{Pinned, Pins},
    sys::Access,
};

/// Between two looks at the connections that are left.
const GLANCE: Duration = Duration::from_millis(250);
/// Seconds for which netfilter keeps the ports of a connection that is over: longer than we keep its entries.
const OVER: u32 = 30;

/// What became of the connections that were translated when new ones were left to others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Drained {
    /// They have come to their end.
    pub ended: usize,
    /// Netfilter translates them from now on.
    pub handed: usize,
    /// Nobody does.
    pub cut: usize,
}

/// Takes every frontend away, waits for so long, or until no translated connection is left, and hands those that are to
/// netfilter.
///
/// Killed meanwhile, it can be called again; an agent that is started instead serves as before.
///
/// # Errors
/// [`Error::OtherLayout`] where another version serves; [`Error::Path`], [`Error::Map`], [`Error::Program`].
pub(super) fn drain(bpf_root: &Path, patience: Duration) -> Result<Drained, Error> {
    let pins = Pins::below(bpf_root);
    if let Some(other) = pins.others().first() {
        return Err(Error::OtherLayout { found: other.version(), ours: pins.version() });
    }
    if !pins.maps_dir().exists() {
        return Ok(Drained::default());
    }
    let program = load::clock(&pins)?;
    let maps = Pinned::open(pins, Access::Write)?;
    let began = Instant::now();
    let mut clock = Clock::start(program, began)?;
    let mut heir = Heir::find();
    let (mut v4, mut v6) = (Estate::of(&maps.v4), Estate::of(&maps.v6));
    let mut bequeath =
        |wills| Ok::<_, Error>(v4.bequeath(&mut heir, wills)?.and(v6.bequeath(&mut heir, wills)?));
    // Twice: the second look is so short that hardly anybody comes meanwhile.
    bequeath(Wills::New)?;
    bequeath(Wills::New)?;
    let frontends = let_go(&maps.v4)? + let_go(&maps.v6)?;
    let most = bequeath(Wills::New)?;
    let connections = most.established() + most.unanswered;
    tracing::info!(frontends, connections, "new connections are left to others");
    loop {
        gc::collect(&maps, &mut clock, Instant::now())?;
        let left = bequeath(Wills::New)?;
        if left.established() + left.unanswered == 0 || began.elapsed() >= patience {
            break;
        }
        std::thread::sleep(GLANCE.min(patience.saturating_sub(began.elapsed())));
    }
    let left = bequeath(Wills::All)?;
    let ended = connections.saturating_sub(left.established());
    Ok(Drained { ended, handed: left.handed, cut: left.alone })
}

/// Takes the frontends of a family away; gives how many there were.
///
/// An address without this port is refused, and one that nobody owns is dropped, on the word of other entries: those go
/// first.
fn let_go<F: MapFamily>(maps: &Maps<F>) -> Result<usize, Error> {
    let failed = |map| move |source| Error::Map { verb: "write", map, source };
    if let Some(mut node) = maps.node.get(&0).map_err(failed(F::NAMES.node))? {
        node.service_cidrs = [Cidr::unused(); CIDRS];
        node.flags = NodeFlags(node.flags.0 & !NodeFlags::MORE_SERVICES.0);
        maps.node.put(&0, &node).map_err(failed(F::NAMES.node))?;
    }
    let remove = || -> io::Result<usize> {
        let is_owner = |frontend: &proxy_common::Frontend| frontend.flags.has(FrontendFlags::WILDCARD);
        let entries = maps.frontends.entries()?;
        let (owners, ports): (Vec<_>, Vec<_>) = entries.into_iter().partition(|(_, one)| is_owner(one));
        let keys = owners.iter().chain(&ports).map(|(key, _)| key);
        keys.map(|key| maps.frontends.remove(key).map(usize::from)).sum()
    };
    remove().map_err(failed(F::NAMES.frontends))
}

/// Netfilter, if it is there.
struct Heir {
    conntrack: Option<Conntrack>,
    /// It was said that it refuses.
    has_refused: bool,
}

impl Heir {
    fn find() -> Self {
        let found = Conntrack::open();
        if let Err(error) = &found {
            tracing::warn!(%error, "netfilter cannot take connections over: those that are left are cut");
        }
        Self { conntrack: found.ok(), has_refused: false }
    }

    fn take<F: Family>(&mut self, key: &FlowKey<F::Addr>, flow: &Flow<F::Addr>, seconds: u32) -> bool {
        let Some(conntrack) = &mut self.conntrack else { return false };
        let result = conntrack.put(key, flow, seconds);
        if let Err(error) = &result
            && !self.has_refused
        {
            self.has_refused = true;
            tracing::warn!(?key, %error, "netfilter does not take a connection over; of others nothing is said");
        }
        result.is_ok()
    }
}

/// Which connections are written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wills {
    /// Those that were not yet.
    New,
    /// All, as nobody knows how long ago the others were.
    All,
}

/// How many there are.
#[derive(Clone, Copy, Default)]
struct Left {
    /// Netfilter has them.
    handed: usize,
    /// It does not.
    alone: usize,
    /// Nobody has answered them yet: their clients will ask again, and somebody else.
    unanswered: usize,
}

impl Left {
    fn established(self) -> usize {
        self.handed + self.alone
    }

    fn and(self, other: Self) -> Self {
        Self {
            handed: self.handed + other.handed,
            alone: self.alone + other.alone,
            unanswered: self.unanswered + other.unanswered,
        }
    }
}

/// The translated connections of a family, and which of them netfilter has.
struct Estate<'a, F: MapFamily> {
    maps: &'a Maps<F>,
    /// Whether netfilter has it, and whether it was over then.
    known: BTreeMap<FlowKey<F::Addr>, (bool, bool)>,
}

impl<'a, F: MapFamily> Estate<'a, F> {
    fn of(maps: &'a Maps<F>) -> Self {
        Self { maps, known: BTreeMap::new() }
    }

    /// Writes connections to netfilter's table. Those that are over, or have no answer yet, are there about as long as our
    /// entries are: answers to others that used their ports would be taken for theirs. Nothing is taken out of it again, because a
    /// client that uses its port for another connection has that one in the same place.
    fn bequeath(&mut self, heir: &mut Heir, wills: Wills) -> Result<Left, Error> {
        let failed = |map| move |source| Error::Map { verb: "read", map, source };
        let mut left = Left::default();
        let mut now = BTreeMap::new();
        for (key, flow) in forward::<F>(&self.maps.flows).map_err(failed(F::NAMES.flows))? {
            let other = self.maps.flows.get(&flow.other(key.proto)).map_err(failed(F::NAMES.flows))?;
            let others = other.map_or(flow.flags, |other| other.flags);
            let is_over = key.proto == Proto::TCP && tcp::is_over(flow.flags, others);
            if is_over && wills == Wills::All {
                continue;
            }
            let seconds =
                if is_over { OVER } else { gc::timeout(key.proto, Stage::Answered, flow.flags, others) };
            let known = self.known.get(&key).filter(|known| wills == Wills::New && known.1 == is_over);
            let handed = known.map_or_else(|| heir.take::<F>(&key, &flow, seconds), |known| known.0);
            left.handed += usize::from(handed && !is_over);
            left.alone += usize::from(!handed && !is_over);
            now.insert(key, (handed, is_over));
        }
        for (key, flow) in forward::<F>(&self.maps.half_open).map_err(failed(F::NAMES.half_open))? {
            left.unanswered += 1;
            if wills == Wills::New {
                let seconds = gc::timeout(key.proto, Stage::HalfOpen, flow.flags, flow.flags);
                let known = self.known.get(&key).copied();
                now.insert(key, known.unwrap_or_else(|| (heir.take::<F>(&key, &flow, seconds), false)));
            }
        }
        self.known = now;
        // Their answers do not come by: not ours to hand on.
        left.alone += self.maps.tunnels.count().map_err(failed(F::NAMES.tunnels))?;
        Ok(left)
    }
}

type Entries<F> = Vec<(FlowKey<<F as Family>::Addr>, Flow<<F as Family>::Addr>)>;

/// The clients' entries of translated connections.
fn forward<F: MapFamily>(table: &gc::Flows<F>) -> io::Result<Entries<F>> {
    let others = FlowFlags::REPLY.with(FlowFlags::PLAIN);
    let mut found = Vec::new();
    table.scan(|keys, flows| {
        let all = keys.iter().copied().zip(flows.iter().copied());
        found.extend(all.filter(|(_, flow)| flow.flags.0 & others.0 == 0));
    })?;
    Ok(found)
}
