//! The translated connections of a family, as they pass to netfilter one by one (`docs/decisions/0032-*`). Knows nothing of when, and nobody who
//! serves what is new.
//!
//! ```text
//! conntrack gets it ─► our entries become plain       its packets stay as they are, here, and netfilter translates them
//! ```
//! Both translate alike, so a packet between the two steps arrives as well. But not for longer: where our translation goes on through
//! the node's stack, netfilter would take what it sees for another connection of the same ports, and give that one another port.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use proxy_common::{Address, Family, Flow, FlowFlags, FlowKey, Proto, ServiceId, tcp};

use super::{
    error::Error,
    family::{MapFamily, Maps},
    gc::{self, Flows, Stage},
    heir::{Answer, Heir},
    parties::Parties,
};

/// Seconds for which netfilter keeps the ports of a connection that is over: longer than we keep its entries.
const OVER: u32 = 30;

/// How many there are.
#[derive(Clone, Copy, Default)]
pub(super) struct Left {
    /// Netfilter has them.
    pub(super) handed: usize,
    /// It has them only now.
    pub(super) new: usize,
    /// It does not.
    pub(super) alone: usize,
    /// Nobody has answered them yet: their clients will ask again, and somebody else.
    pub(super) unanswered: usize,
    /// They have ended; a last packet may be on its way.
    pub(super) over: usize,
}

impl Left {
    pub(super) fn established(self) -> usize {
        self.handed + self.alone
    }

    /// Some need our programs.
    pub(super) fn any_here(self) -> bool {
        self.alone + self.unanswered + self.over > 0
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            handed: self.handed + other.handed,
            new: self.new + other.new,
            alone: self.alone + other.alone,
            unanswered: self.unanswered + other.unanswered,
            over: self.over + other.over,
        }
    }
}

/// Which connections are handed on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// Those of which netfilter translates the packets at once.
    Early,
    /// All: our programs go.
    Last,
}

/// What becomes of a connection that was answered.
enum Fate<A> {
    /// Netfilter has it; the tuple of the answers as we have translated them.
    Theirs(FlowKey<A>),
    /// It is translated here.
    Ours,
    /// It is over, and is translated here as long as there are entries.
    Over,
    /// It is gone.
    Gone,
}

/// The translated connections of a family, and which of them netfilter has.
pub(super) struct Estate<'a, F: MapFamily> {
    maps: &'a Maps<F>,
    parties: &'a Parties,
    /// Those that netfilter has, with the tuples of the answers as we have translated them.
    theirs: BTreeMap<FlowKey<F::Addr>, FlowKey<F::Addr>>,
    /// Tuples of answers that it gives nobody.
    reserved: BTreeSet<FlowKey<F::Addr>>,
}

impl<'a, F: MapFamily> Estate<'a, F> {
    pub(super) fn of(maps: &'a Maps<F>, parties: &'a Parties) -> Self {
        Self { maps, parties, theirs: BTreeMap::new(), reserved: BTreeSet::new() }
    }

    /// Hands on, and counts. Of those that are over, or have no answer yet, netfilter keeps the ports about as long as our entries are
    /// there: answers to others that used them would be taken for theirs.
    pub(super) fn bequeath(&mut self, heir: &mut Heir, round: Round) -> Result<Left, Error> {
        let failed = |map| move |source| Error::Map { verb: "hand on", map, source };
        let mut left = Left::default();
        let (flows, half_open) = (&self.maps.flows, &self.maps.half_open);
        let mut keep = Vec::new();
        let Found { forward, ended, mut room } = Found::look::<F>(flows).map_err(failed(F::NAMES.flows))?;
        if !ended.is_empty() {
            self.theirs.retain(|key, answers| {
                let flags = |key| ended.get(key).copied().unwrap_or_default();
                !tcp::is_over(flags(key), flags(answers))
            });
        }
        for (key, flow) in forward {
            let fate = self.hand_on(heir, (&key, &flow), round, &mut room);
            match fate.map_err(failed(F::NAMES.flows))? {
                Fate::Theirs(answers) => {
                    left.new += 1;
                    self.theirs.insert(key, answers);
                }
                Fate::Ours => left.alone += 1,
                Fate::Over => {
                    left.over += 1;
                    keep.push((flow.other(key.proto), OVER));
                }
                Fate::Gone => {}
            }
        }
        let unanswered = Found::look::<F>(half_open).map_err(failed(F::NAMES.half_open))?;
        for (key, flow) in unanswered.forward {
            left.unanswered += 1;
            let seconds = gc::timeout(key.proto, Stage::HalfOpen, flow.flags, flow.flags);
            keep.push((flow.other(key.proto), seconds));
        }
        let before = std::mem::take(&mut self.reserved);
        if !heir.translates::<F>() {
            keep.clear();
        }
        for (answers, seconds) in keep {
            if !before.contains(&answers) {
                heir.reserve(&answers, seconds);
            }
            self.reserved.insert(answers);
        }
        left.handed = self.theirs.len();
        // Their answers do not come by: not ours to hand on.
        left.alone += self.maps.tunnels.count().map_err(failed(F::NAMES.tunnels))?;
        Ok(left)
    }

    /// The entry is read anew: since it was found, its client may have used its port for another connection.
    fn hand_on(
        &self,
        heir: &mut Heir,
        (key, found): (&FlowKey<F::Addr>, &Flow<F::Addr>),
        round: Round,
        room: &mut usize,
    ) -> io::Result<Fate<F::Addr>> {
        let table = &self.maps.flows;
        let answers = found.other(key.proto);
        let Some(flow) = table.get(key)?.filter(|flow| flow.other(key.proto) == answers) else {
            return Ok(Fate::Gone);
        };
        let reply = table.get(&answers)?;
        let others = reply.map_or(flow.flags, |reply| reply.flags);
        if key.proto == Proto::TCP && tcp::is_over(flow.flags, others) {
            return Ok(Fate::Over);
        }
        // What comes in a tunnel, nobody else takes out of it.
        if others.has(FlowFlags::TUNNEL) || round == Round::Early && !heir.translates::<F>() {
            return Ok(Fate::Ours);
        }
        let seconds = gc::timeout(key.proto, Stage::Answered, flow.flags, others);
        match heir.take(key, &flow, seconds, || is_current::<F>(table, key, &answers))? {
            Answer::Taken(theirs) => {
                self.step_aside((key, &flow), reply.as_ref(), &theirs, room)?;
                Ok(Fate::Theirs(answers))
            }
            Answer::Refused => Ok(Fate::Ours),
            Answer::Outdated => Ok(Fate::Gone),
        }
    }

    /// Lets the packets of a connection be. With policies, a packet without an entry is judged as it is and not as it was before it was
    /// translated, so then there are entries for all of its packets, before as after netfilter has translated them. They take no room
    /// that new connections may need. One that is there already is not changed: the tuple of the answers to one that
    /// was told apart is that of another's.
    fn step_aside(
        &self,
        (key, flow): (&FlowKey<F::Addr>, &Flow<F::Addr>),
        reply: Option<&Flow<F::Addr>>,
        theirs: &FlowKey<F::Addr>,
        room: &mut usize,
    ) -> io::Result<()> {
        let table = &self.maps.flows;
        let reply = reply.copied().unwrap_or_else(|| flow.twin(key));
        let plain = |key: &FlowKey<F::Addr>, old: &Flow<F::Addr>, origin: u32| {
            let kept = FlowFlags::REPLY.0 | FlowFlags::FIN.0 | FlowFlags::BRIEF.0;
            let flags = FlowFlags(FlowFlags::PLAIN.0 | old.flags.0 & kept);
            Flow { flags, seen: old.seen, epoch: old.epoch, origin, ..Flow::plain(key) }
        };
        let ours = flow.other(key.proto);
        for one in [key, &ours, theirs] {
            self.parties.name(&one.src);
            self.parties.name(&one.dst);
        }
        let is_judged = flow.epoch != 0 || reply.epoch != 0;
        if is_judged && let Some(rest) = room.checked_sub(3) {
            *room = rest;
            table.put_new(theirs, &plain(theirs, &reply, reply.origin))?;
            table.put_new(&theirs.reversed(), &plain(&theirs.reversed(), flow, 0))?;
            table.put_new(&key.reversed(), &plain(&key.reversed(), &reply, 0))?;
        }
        table.put(&ours, &plain(&ours, &reply, reply.origin))?;
        table.put(key, &plain(key, flow, flow.origin))
    }
}

/// Whether the connection is there, and not over.
fn is_current<F: MapFamily>(
    table: &Flows<F>,
    key: &FlowKey<F::Addr>,
    answers: &FlowKey<F::Addr>,
) -> io::Result<bool> {
    let Some(flow) = table.get(key)? else { return Ok(false) };
    let others = table.get(answers)?.map_or(flow.flags, |other| other.flags);
    let is_over = key.proto == Proto::TCP && tcp::is_over(flow.flags, others);
    Ok(flow.other(key.proto) == *answers && !is_over)
}

/// What a table of connections holds.
struct Found<A> {
    /// The clients' entries of those that are translated. First of all those that were told apart: the tuple that netfilter has noted for
    /// their answers belongs to another, which could not be handed on before.
    forward: Vec<(FlowKey<A>, Flow<A>)>,
    /// Entries of those that are not, of ends that have said their last.
    ended: BTreeMap<FlowKey<A>, FlowFlags>,
    /// Entries until half of the table is full.
    room: usize,
}

impl<A: Address> Found<A> {
    fn look<F: Family<Addr = A>>(table: &Flows<F>) -> io::Result<Self> {
        let (mut forward, mut ended, mut all) = (Vec::new(), BTreeMap::new(), 0);
        let (others, ends) = (FlowFlags::REPLY.with(FlowFlags::PLAIN), FlowFlags::FIN.with(FlowFlags::RST));
        table.scan(|keys, flows| {
            all += keys.len();
            for (key, flow) in keys.iter().zip(flows) {
                if flow.flags.0 & others.0 == 0 {
                    forward.push((*key, *flow));
                } else if flow.flags.has(FlowFlags::PLAIN) && flow.flags.0 & ends.0 != 0 {
                    ended.insert(*key, flow.flags);
                }
            }
        })?;
        forward.sort_by_key(|(_, flow)| flow.service != ServiceId::NONE);
        let room = (table.raw().max_entries() as usize / 2).saturating_sub(all);
        Ok(Self { forward, ended, room })
    }
}
