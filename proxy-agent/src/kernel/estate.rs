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

use proxy_common::{Family, Flow, FlowFlags, FlowKey, Proto, ServiceId, tcp};

use super::{
    error::Error,
    family::{MapFamily, Maps},
    gc::{self, Flows, Stage},
    heir::{Answer, Heir},
    map::Table,
    parties::Parties,
};

/// Seconds for which netfilter keeps the ports of a connection that is over: longer than we keep its entries.
const OVER: u32 = 30;

/// How many there are.
#[derive(Clone, Copy, Default)]
pub(super) struct Left {
    /// Netfilter has them.
    pub(super) handed: usize,
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
    /// Netfilter has it, and gets its answers with this tuple.
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
    /// Those that netfilter has, with the tuples of the answers that it gets.
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
        for (key, flow) in forward::<F>(flows).map_err(failed(F::NAMES.flows))? {
            match self.hand_on(heir, &key, &flow, round).map_err(failed(F::NAMES.flows))? {
                Fate::Theirs(answers) => _ = self.theirs.insert(key, answers),
                Fate::Ours => left.alone += 1,
                Fate::Over => {
                    left.over += 1;
                    keep.push((flow.other(key.proto), OVER));
                }
                Fate::Gone => {}
            }
        }
        for (key, flow) in forward::<F>(half_open).map_err(failed(F::NAMES.half_open))? {
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

    fn hand_on(
        &self,
        heir: &mut Heir,
        key: &FlowKey<F::Addr>,
        flow: &Flow<F::Addr>,
        round: Round,
    ) -> io::Result<Fate<F::Addr>> {
        let table = &self.maps.flows;
        let answers = flow.other(key.proto);
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
        match heir.take(key, flow, seconds, || is_current::<F>(table, key, &answers))? {
            Answer::Taken(theirs) => {
                self.step_aside(key, flow, reply.as_ref(), &theirs)?;
                Ok(Fate::Theirs(theirs))
            }
            Answer::Refused => Ok(Fate::Ours),
            Answer::Outdated => Ok(Fate::Gone),
        }
    }

    /// Counts those no more that netfilter has and that have ended. Takes a while: not to be done while new ones come.
    pub(super) fn forget_ended(&mut self) -> Result<(), Error> {
        let failed = |source| Error::Map { verb: "read", map: F::NAMES.flows, source };
        let mut open = BTreeMap::new();
        for (key, answers) in std::mem::take(&mut self.theirs) {
            if self.is_open(&key, &answers).map_err(failed)? {
                open.insert(key, answers);
            }
        }
        self.theirs = open;
        Ok(())
    }

    /// Lets the packets of a connection be, of both directions, before as after netfilter has translated them. What is there already is not
    /// changed but for the two entries that translate: the answers' tuple of one that was told apart belongs to another.
    fn step_aside(
        &self,
        key: &FlowKey<F::Addr>,
        flow: &Flow<F::Addr>,
        reply: Option<&Flow<F::Addr>>,
        theirs: &FlowKey<F::Addr>,
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
        // Those by which nobody has come so far.
        put_if_room(table, theirs, &plain(theirs, &reply, reply.origin))?;
        put_if_room(table, &theirs.reversed(), &plain(&theirs.reversed(), flow, 0))?;
        put_if_room(table, &key.reversed(), &plain(&key.reversed(), &reply, 0))?;
        table.put(&ours, &plain(&ours, &reply, reply.origin))?;
        table.put(key, &plain(key, flow, flow.origin))
    }

    /// Whether one that was handed on is open still. The end that each side has said is noted at one of the two hooks that it passes.
    fn is_open(&self, key: &FlowKey<F::Addr>, answers: &FlowKey<F::Addr>) -> io::Result<bool> {
        let flags = |key: &FlowKey<F::Addr>| self.maps.flows.get(key).map(|flow| flow.map(|flow| flow.flags));
        let (Some(client), Some(server)) = (flags(key)?, flags(answers)?) else { return Ok(false) };
        let or =
            |one: FlowFlags, other: Option<FlowFlags>| FlowFlags(one.0 | other.map_or(0, |other| other.0));
        let client = or(client, flags(&answers.reversed())?);
        let server = or(server, flags(&key.reversed())?);
        Ok(key.proto != Proto::TCP || !tcp::is_over(client, server))
    }
}

/// Writes an entry that is not there. Without room it is not needed where there are no policies, and where there are some, the packets are
/// judged one by one.
fn put_if_room<K: Copy, V: Copy>(table: &Table<K, V>, key: &K, value: &V) -> io::Result<()> {
    match table.put_new(key, value) {
        Err(error) if error.raw_os_error() != Some(libc::E2BIG) => Err(error),
        _ => Ok(()),
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

type Entries<F> = Vec<(FlowKey<<F as Family>::Addr>, Flow<<F as Family>::Addr>)>;

/// The clients' entries of translated connections. First of all those that were told apart: the tuple that netfilter has noted for their
/// answers belongs to another, which could not be handed on before.
fn forward<F: MapFamily>(table: &Flows<F>) -> io::Result<Entries<F>> {
    let others = FlowFlags::REPLY.with(FlowFlags::PLAIN);
    let mut found = Vec::new();
    table.scan(|keys, flows| {
        let all = keys.iter().copied().zip(flows.iter().copied());
        found.extend(all.filter(|(_, flow)| flow.flags.0 & others.0 == 0));
    })?;
    found.sort_by_key(|(_, flow)| flow.service != ServiceId::NONE);
    Ok(found)
}
