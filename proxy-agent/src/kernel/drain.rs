//! Leaves a node to whoever serves beside us, without breaking a connection: what is new is not translated any more, what
//! is translated stays so until netfilter has it or it ends (`docs/decisions/0032-*`). Knows nobody who might serve.
//!
//! ```text
//! connections ─► conntrack                                          netfilter's from then on; nobody else takes their ports
//! nobody owns addresses ─► ports that nobody serves ─► frontends     gone, in this order: none is refused on the way
//! wait: collect what is over, hand on what was not yet               programs and entries stay
//! ```

use std::{
    io,
    path::Path,
    time::{Duration, Instant},
};

use proxy_common::{Cidr, FrontendFlags, NodeFlags, V4, V6, limits::CIDRS};

use super::{
    clock::Clock,
    error::Error,
    estate::{Estate, Left, Round},
    family::{MapFamily, Maps},
    gc,
    heir::Heir,
    load,
    pins::{Pinned, Pins},
    stale::Serving,
    sys::Access,
};

/// Between two looks at the connections that are left.
const GLANCE: Duration = Duration::from_millis(250);

/// A look that finds no more new connections than these is short.
const FEW: usize = 32;
/// At most so many looks before the frontends go: on a busy node new connections are found by each.
const LOOKS: usize = 8;

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

/// Hands translated connections to netfilter, takes every frontend away, and waits for so long, or until none is left here.
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
    let mut estates = (Estate::of(&maps.v4, &maps.parties), Estate::of(&maps.v6, &maps.parties));
    let (frontends4, most4) = leave(&mut estates.0, &maps.v4, &mut heir)?;
    let (frontends6, most6) = leave(&mut estates.1, &maps.v6, &mut heir)?;
    let (frontends, most) = (frontends4 + frontends6, most4.and(most6));
    let connections = most.established() + most.unanswered;
    tracing::info!(frontends, connections, "new connections are left to others");
    let mut bequeath = |(v4, v6): &mut Estates<'_>, round| {
        heir.look_again();
        Ok::<_, Error>(v4.bequeath(&mut heir, round)?.and(v6.bequeath(&mut heir, round)?))
    };
    loop {
        gc::collect(&maps, &mut clock, Instant::now(), &Serving::default())?;
        let left = bequeath(&mut estates, Round::Early)?;
        if !left.any_here() || began.elapsed() >= patience {
            break;
        }
        std::thread::sleep(GLANCE.min(patience.saturating_sub(began.elapsed())));
    }
    let left = bequeath(&mut estates, Round::Last)?;
    let ended = connections.saturating_sub(left.established());
    Ok(Drained { ended, handed: left.handed, cut: left.alone })
}

/// Leaves what is new in a family to others; gives how many frontends there were, and the connections.
///
/// Whoever comes between the last look before the frontends are gone and the end of the next one may have got a port that netfilter gives
/// to another meanwhile. So that last one must have been a short one, and families go one after the other.
fn leave<F: MapFamily>(
    estate: &mut Estate<'_, F>,
    maps: &Maps<F>,
    heir: &mut Heir,
) -> Result<(usize, Left), Error> {
    for _ in 0..LOOKS {
        if estate.bequeath(heir, Round::Early)?.new <= FEW {
            break;
        }
    }
    let frontends = let_go(maps)?;
    Ok((frontends, estate.bequeath(heir, Round::Early)?))
}

type Estates<'a> = (Estate<'a, V4>, Estate<'a, V6>);

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
