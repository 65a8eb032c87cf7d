//! Which flows are over, and their removal; that of affinities is set off here, too. Judging is pure, time is an argument; removing reads
//! the maps in batches. The kernel never removes an answered flow itself.

use std::{io, time::Instant};

use proxy_common::{Flow, FlowFlags, FlowKey, Proto, tcp};
use proxy_model::Answering;

use super::{
    affinities,
    clock::{Clock, Jiffies},
    counts,
    error::Error,
    family::{MapFamily, Maps},
    map::Table,
    pins::Pinned,
    stale::{self, Serving},
};

/// Seconds without a packet after which a flow is over, by state: netfilter's defaults where it has them
/// (<https://docs.kernel.org/networking/nf_conntrack-sysctl.html>).
mod timeout {
    /// Both sides have spoken and none has closed. A day: the longest keepalive in use is two hours.
    pub(super) const ESTABLISHED: u32 = 86_400;
    /// One side has closed.
    pub(super) const HALF_CLOSED: u32 = 3_600;
    /// Both have closed or one has aborted: time for stray packets.
    pub(super) const OVER: u32 = 10;
    /// The same while the table is more than half full: room for the next connection counts for more.
    pub(super) const OVER_UNDER_PRESSURE: u32 = 1;
    /// `nf_conntrack_udp_timeout_stream`.
    pub(super) const DATAGRAMS: u32 = 120;
    /// `nf_conntrack_sctp_timeout_established`.
    pub(super) const SCTP: u32 = 210;
    /// Answered, and not acknowledged, while the table is more than half full: longer than an answer and its acknowledgement
    /// take, and each answer that is sent again begins it anew.
    pub(super) const UNACKNOWLEDGED_UNDER_PRESSURE: u32 = 5;
    /// Not answered, or nobody has acknowledged the answer: netfilter's `udp_timeout`, and more than a client's first SYN retransmissions.
    pub(super) const UNANSWERED: u32 = 60;
    /// The two entries of a flow are not written in one step; a single one that is older has lost its other half.
    pub(super) const SINGLE: u32 = 10;
    /// A backend that was taken away has said all that it had to say.
    pub(super) const LAST_WORDS: u32 = 5;
}

/// One in so many entries is checked for its other half in each scan, if nothing else raises a doubt.
const ROTA: u32 = 32;

/// Whether the flow has been answered: which of the maps it is in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// `halfopen`.
    HalfOpen,
    /// `flows`.
    Answered,
    /// `flows`, which is more than half full.
    Crowded,
}

/// How many entries were removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Collected {
    /// Answered flows, both directions counted, and tunnelled ones.
    pub flows: usize,
    /// Flows that never had an answer, both directions counted.
    pub half_open: usize,
    /// Affinities.
    pub affinity: usize,
}

/// Seconds of silence that end a flow.
pub(super) fn timeout(proto: Proto, stage: Stage, one: FlowFlags, other: FlowFlags) -> u32 {
    match (stage, proto) {
        (Stage::HalfOpen, _) => timeout::UNANSWERED,
        (Stage::Answered, Proto::TCP) if tcp::is_over(one, other) => timeout::OVER,
        (Stage::Crowded, Proto::TCP) if tcp::is_over(one, other) => timeout::OVER_UNDER_PRESSURE,
        (Stage::Answered, Proto::TCP) if one.has(FlowFlags::BRIEF) || other.has(FlowFlags::BRIEF) => {
            timeout::UNANSWERED
        }
        (Stage::Crowded, Proto::TCP) if one.has(FlowFlags::BRIEF) || other.has(FlowFlags::BRIEF) => {
            timeout::UNACKNOWLEDGED_UNDER_PRESSURE
        }
        (_, Proto::TCP) if one.has(FlowFlags::FIN) || other.has(FlowFlags::FIN) => timeout::HALF_CLOSED,
        (_, Proto::TCP) => timeout::ESTABLISHED,
        (_, Proto::SCTP) => timeout::SCTP,
        (_, Proto(_)) => timeout::DATAGRAMS,
    }
}

/// Whether an entry may be over as far as it says itself: only then its other half is looked up.
#[must_use]
pub fn is_doubtful<A>(proto: Proto, stage: Stage, flow: &Flow<A>, now: Jiffies) -> bool {
    let age = now.since(flow.seen);
    if is_left(proto, flow) {
        return age >= timeout::LAST_WORDS;
    }
    // A direction that has closed cannot tell whether the other one has: the least time-out that may apply.
    age >= timeout(proto, stage, flow.flags, flow.flags)
}

/// Whether a flow is over; `other` is the other direction's entry.
#[must_use]
pub fn is_over<A>(proto: Proto, stage: Stage, flow: &Flow<A>, other: Option<&Flow<A>>, now: Jiffies) -> bool {
    let age = now.since(flow.seen);
    match other {
        // What its client sends goes elsewhere, under the same key as before perhaps, so that says nothing.
        _ if is_left(proto, flow) => age >= timeout::LAST_WORDS,
        // The answers pass elsewhere: nobody knows whether the other side has closed, too.
        None if is_tunnelled(flow) => age >= timeout(proto, stage, flow.flags, FlowFlags::default()),
        None => age >= timeout::SINGLE,
        Some(other) => age.min(now.since(other.seen)) >= timeout(proto, stage, flow.flags, other.flags),
    }
}

/// A backend's from which the client was taken away; see [`super::moved`].
fn is_left<A>(proto: Proto, flow: &Flow<A>) -> bool {
    proto != Proto::TCP && flow.flags.has(FlowFlags::BRIEF)
}

/// The entry stands alone, in a `tunnels` map.
fn is_tunnelled<A>(flow: &Flow<A>) -> bool {
    flow.flags.has(FlowFlags::TUNNEL) && !flow.flags.has(FlowFlags::REPLY)
}

pub(super) fn collect(
    maps: &Pinned,
    clock: &mut Clock,
    now: Instant,
    serving: &Serving,
) -> Result<Collected, Error> {
    let mut collected = Collected::default();
    if let Some(now) = clock.read(now)? {
        collect_family(&maps.v4, &serving.v4, now, &mut collected)?;
        collect_family(&maps.v6, &serving.v6, now, &mut collected)?;
    }
    counts::recount(maps)?;
    collected.affinity =
        affinities::collect(maps).map_err(|source| Error::Map { verb: "clean", map: "affinity", source })?;
    Ok(collected)
}

fn collect_family<F: MapFamily>(
    maps: &Maps<F>,
    answering: &Answering<F>,
    now: Jiffies,
    collected: &mut Collected,
) -> Result<(), Error> {
    let failed = |map| move |source| Error::Map { verb: "clean", map, source };
    let (answered, half_open) = (Stage::Answered, Stage::HalfOpen);
    let mut datagrams = Vec::new();
    let note = |key: &_, flow: &_| {
        if stale::concerns(key, flow) {
            datagrams.push((*key, *flow));
        }
    };
    let (removed, left) =
        collect_flows::<F>(&maps.flows, answered, now, note).map_err(failed(F::NAMES.flows))?;
    collected.flows += removed;
    collected.flows += stale::collect(maps, &datagrams, answering, now).map_err(failed(F::NAMES.flows))?;
    if left > maps.flows.raw().max_entries() as usize / 2 {
        let again = collect_flows::<F>(&maps.flows, Stage::Crowded, now, |_, _| {});
        collected.flows += again.map_err(failed(F::NAMES.flows))?.0;
    }
    let unanswered = collect_flows::<F>(&maps.half_open, half_open, now, |_, _| {});
    collected.half_open += unanswered.map_err(failed(F::NAMES.half_open))?.0;
    let tunnelled = collect_flows::<F>(&maps.tunnels, answered, now, |_, _| {});
    collected.flows += tunnelled.map_err(failed(F::NAMES.tunnels))?.0;
    Ok(())
}

pub(super) type Flows<F> =
    Table<FlowKey<<F as proxy_common::Family>::Addr>, Flow<<F as proxy_common::Family>::Addr>>;

/// Shows each entry to `note`. Gives how many entries were removed, and how many are left.
fn collect_flows<F: MapFamily>(
    table: &Flows<F>,
    stage: Stage,
    now: Jiffies,
    mut note: impl FnMut(&FlowKey<F::Addr>, &Flow<F::Addr>),
) -> io::Result<(usize, usize)> {
    let (mut doubtful, mut all) = (Vec::new(), 0);
    let turn = (now.now / now.rate / 10) % ROTA;
    table.scan(|keys, values| {
        all += keys.len();
        for (key, flow) in keys.iter().zip(values) {
            note(key, flow);
            let its_turn = u32::from(key.sport.number() ^ key.dport.number()) % ROTA == turn;
            if its_turn || is_doubtful(key.proto, stage, flow, now) {
                doubtful.push(*key);
            }
        }
    })?;
    let mut removed = 0;
    for key in doubtful {
        removed += remove_if_over::<F>(table, &key, stage, now)?;
    }
    Ok((removed, all.saturating_sub(removed)))
}

/// Removes both directions of a flow if it is over; gives how many entries.
///
/// The entries are read anew and not judged by what the scan has found: a client that uses its port again has put a new
/// connection in their place, and on a busy node seconds may lie between. Should that happen even between the look and the
/// removal, the entries are put back.
fn remove_if_over<F: MapFamily>(
    table: &Flows<F>,
    key: &FlowKey<F::Addr>,
    stage: Stage,
    now: Jiffies,
) -> io::Result<usize> {
    let is_over =
        |flow: &Flow<F::Addr>, other: Option<&Flow<F::Addr>>| is_over(key.proto, stage, flow, other, now);
    let Some(flow) = table.get(key)? else { return Ok(0) };
    if !is_over(&flow, table.get(&flow.other(key.proto))?.as_ref()) {
        return Ok(0);
    }
    let Some(flow) = table.take(key)? else { return Ok(0) };
    if is_left(key.proto, &flow) {
        // It stands alone: its client's key may lead elsewhere by now.
        return Ok(1);
    }
    let other_key = flow.other(key.proto);
    // Half of a flow would translate one direction only.
    let other = table.take(&other_key)?;
    if is_over(&flow, other.as_ref()) {
        return Ok(1 + usize::from(other.is_some()));
    }
    table.put_new(key, &flow)?;
    if let Some(other) = other {
        table.put_new(&other_key, &other)?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sys::RawMap;
    use proxy_common::{Addr4, Port, V4};
    use std::collections::BTreeMap;

    const NOW: Jiffies = Jiffies { now: 40_000_000, rate: 250 };

    fn seen(seconds_ago: u32, flags: FlowFlags) -> Flow<Addr4> {
        Flow { seen: NOW.now - seconds_ago * NOW.rate, flags, ..Flow::default() }
    }

    #[test]
    fn each_state_has_its_own_time_and_the_younger_direction_counts() {
        use Stage::{Answered, Crowded, HalfOpen};
        let (none, fin, rst) = (FlowFlags::default(), FlowFlags::FIN, FlowFlags::RST);
        let brief = FlowFlags::BRIEF;
        let cases = [
            (Proto::TCP, Answered, none, none, 86_400),
            (Proto::TCP, Answered, fin, none, 3_600),
            (Proto::TCP, Answered, none, fin, 3_600),
            (Proto::TCP, Answered, fin, fin, 10),
            (Proto::TCP, Answered, none, rst, 10),
            (Proto::TCP, Crowded, fin, fin, 1),
            (Proto::TCP, Crowded, none, none, 86_400),
            (Proto::TCP, Answered, brief, none, 60),
            (Proto::TCP, Answered, none, brief, 60),
            (Proto::TCP, Answered, brief, fin, 60),
            (Proto::TCP, Answered, brief, rst, 10),
            (Proto::TCP, Crowded, brief, none, 5),
            (Proto::TCP, Crowded, none, brief.with(FlowFlags::PLAIN), 5),
            (Proto::TCP, HalfOpen, none, none, 60),
            (Proto::UDP, Answered, none, none, 120),
            (Proto::UDP, HalfOpen, none, none, 60),
            (Proto::SCTP, Answered, none, none, 210),
        ];
        for (proto, stage, one, other, after) in cases {
            let judge =
                |mine, theirs| is_over(proto, stage, &seen(mine, one), Some(&seen(theirs, other)), NOW);
            assert!(judge(after, after) && judge(after + 5, after), "{proto} {stage:?} {one:?} {other:?}");
            assert!(
                !judge(after - 1, after) && !judge(after, after - 1),
                "{proto} {stage:?} {one:?} {other:?}"
            );
        }
    }

    #[test]
    fn whatever_is_over_raises_a_doubt_in_one_of_its_directions() {
        use Stage::{Answered, Crowded, HalfOpen};
        let (fin, rst, brief) = (FlowFlags::FIN, FlowFlags::RST, FlowFlags::BRIEF);
        let flags = [FlowFlags::default(), fin, rst, fin.with(rst), brief, brief.with(fin)];
        let ages = [0, 1, 4, 5, 9, 10, 60, 120, 210, 3_600, 86_400, 100_000];
        for proto in [Proto::TCP, Proto::UDP, Proto::SCTP] {
            for stage in [Answered, Crowded, HalfOpen] {
                for (one, other) in flags.into_iter().flat_map(|one| flags.map(|other| (one, other))) {
                    for (a, b) in ages.into_iter().flat_map(|a| ages.map(|b| (a, b))) {
                        let (mine, theirs) = (seen(a, one), seen(b, other));
                        let over = is_over(proto, stage, &mine, Some(&theirs), NOW);
                        let doubt =
                            is_doubtful(proto, stage, &mine, NOW) || is_doubtful(proto, stage, &theirs, NOW);
                        assert!(!over || doubt, "{proto} {stage:?} {mine:?} {theirs:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn half_a_flow_lives_only_as_long_as_its_other_half_may_be_on_the_way() {
        let half = |age| is_over(Proto::TCP, Stage::Answered, &seen(age, FlowFlags::default()), None, NOW);
        assert!(half(10) && !half(9));
    }

    #[test]
    fn an_entry_that_stands_alone_because_answers_pass_elsewhere_has_the_time_of_a_whole_flow() {
        let cases = [
            (Proto::TCP, FlowFlags::default(), 86_400),
            (Proto::TCP, FlowFlags::FIN, 3_600),
            (Proto::TCP, FlowFlags::RST, 10),
            (Proto::UDP, FlowFlags::default(), 120),
        ];
        for (proto, flags, after) in cases {
            let over = |age| {
                let alone = seen(age, flags.with(FlowFlags::TUNNEL));
                is_doubtful(proto, Stage::Answered, &alone, NOW)
                    && is_over(proto, Stage::Answered, &alone, None, NOW)
            };
            assert!(over(after) && !over(after - 1), "{proto} {flags:?}");
        }
        let answers = FlowFlags::TUNNEL.with(FlowFlags::REPLY);
        assert!(is_over(Proto::TCP, Stage::Answered, &seen(10, answers), None, NOW), "half of a flow");
    }

    /// Both entries of the client's connection to a backend.
    fn pair(backend: u8, seconds_ago: u32, flags: FlowFlags) -> [(FlowKey<Addr4>, Flow<Addr4>); 2] {
        let ip = |last| Addr4::from(std::net::Ipv4Addr::new(10, 0, 0, last));
        let key = FlowKey::new(ip(1), Port::new(4_000), ip(96), Port::new(80), Proto::TCP);
        let (dst, dport) = (ip(backend), Port::new(8_080));
        let flow = Flow { src: key.src, sport: key.sport, dst, dport, ..seen(seconds_ago, flags) };
        [(key, flow), (flow.other(Proto::TCP), Flow { flags, ..flow.twin(&key) })]
    }

    #[test]
    fn a_connection_that_takes_the_place_of_one_that_is_over_stays() {
        let raw = RawMap::hash(size_of::<FlowKey<Addr4>>(), size_of::<Flow<Addr4>>(), 8).unwrap();
        let table = Flows::<V4>::new(raw).unwrap();
        let (old, new) = (pair(200, 11, FlowFlags::RST), pair(201, 0, FlowFlags::default()));
        let put = |pair: &[(FlowKey<Addr4>, Flow<Addr4>); 2]| {
            pair.iter().for_each(|(key, flow)| table.put(key, flow).unwrap());
        };
        put(&old);
        // What a client does that uses its port again after the scan has read its old entries.
        let again = |_: &_, _: &_| {
            old.iter().for_each(|(key, _)| assert!(table.remove(key).is_ok()));
            put(&new);
        };
        assert_eq!(collect_flows::<V4>(&table, Stage::Answered, NOW, again).unwrap(), (0, 2));
        let entries: BTreeMap<_, _> = table.entries().unwrap().into_iter().collect();
        assert_eq!(entries, BTreeMap::from(new));
        put(&old);
        let (key, _) = old[1];
        assert_eq!(collect_flows::<V4>(&table, Stage::Answered, NOW, |_, _| {}).unwrap(), (2, 1));
        assert_eq!(table.get(&key).unwrap(), None, "left alone, the old one goes with both entries");
    }

    #[test]
    fn a_backend_that_was_left_is_heard_out_for_a_few_seconds() {
        for other in [None, Some(seen(0, FlowFlags::default()))] {
            let over = |age| {
                let left = seen(age, FlowFlags::REPLY.with(FlowFlags::BRIEF));
                is_doubtful(Proto::UDP, Stage::Answered, &left, NOW)
                    && is_over(Proto::UDP, Stage::Answered, &left, other.as_ref(), NOW)
            };
            assert!(over(5) && !over(4), "{other:?}");
        }
    }
}
