//! What goes from one map layout's tables of connections to the other's while either's programs may meet a packet
//! (decision 0031). Both layouts are the same here; `spare…` are the tables of the other one.

use proxy_common::{Flow, FlowFlags, FlowKey, Proto, maps::MapType};
use tests::dataplane::{Dataplane, Named, config, endpoint};
use tests::object::{self, Cell};
use tests::packet::{Packet, flags};

use crate::family::{FAMILIES, Names};

/// An entry of a table.
type Entry<A> = (FlowKey<A>, Flow<A>);

/// The tables of a family: ours, then theirs; of each the connections without an answer first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Tables<A>([Vec<Entry<A>>; 4]);

const OUR_HALF_OPEN: usize = 0;
const OURS: usize = 1;
const THEIR_HALF_OPEN: usize = 2;
const THEIRS: usize = 3;

fn names<F: Named>() -> [String; 4] {
    let number = ["4", "6"][F::INDEX];
    ["halfopen", "flows", "sparehalf", "spareflows"].map(|name| format!("{name}{number}"))
}

/// Both entries of the connection from the client to the frontend that this backend serves.
fn connection<F: Named>(n: &Names, frontend: &str, backend: &str) -> [Entry<F::Addr>; 2] {
    let [(src, sport), (vip, vport), (dst, dport)] = [n.client, frontend, backend].map(endpoint::<F>);
    let forward = Flow { src, sport, dst, dport, ..Flow::default() };
    let reply =
        Flow { src: vip, sport: vport, dst: src, dport: sport, flags: FlowFlags::REPLY, ..Flow::default() };
    [
        (FlowKey::new(src, sport, vip, vport, Proto::TCP), forward),
        (FlowKey::new(dst, dport, src, sport, Proto::TCP), reply),
    ]
}

/// What is in the tables after a packet from the client, if this was in them before.
fn crossed<F: Named>(n: &Names, before: &Tables<F::Addr>) -> Tables<F::Addr>
where
    FlowKey<F::Addr>: MapType + Ord,
    Flow<F::Addr>: MapType,
{
    let mut dataplane = Dataplane::new(config());
    // Ours were named by who made them; what comes across is by whoever enters it.
    for (key, _) in [&before.0[OUR_HALF_OPEN], &before.0[OURS]].into_iter().flatten() {
        dataplane.name_party(&key.src);
    }
    for (name, entries) in names::<F>().iter().zip(&before.0) {
        let mut map = object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(dataplane.object(), name);
        entries.iter().for_each(|(key, flow)| map.insert(Cell(*key), Cell(*flow), 0).expect("an entry fits"));
    }
    dataplane.time("ferry", 1, &Packet::tcp(flags::ACK, n.client, n.vip).bytes(), 1);
    Tables(names::<F>().map(|name| {
        let map = object::hash::<FlowKey<F::Addr>, Flow<F::Addr>>(dataplane.object(), &name);
        let mut all: Vec<_> =
            map.iter().map(|entry| entry.expect("tables can be listed")).map(|(k, v)| (k.0, v.0)).collect();
        all.sort_by_key(|(key, _)| *key);
        all
    }))
}

fn sorted<A: Ord + Copy>(entries: &[Entry<A>]) -> Vec<Entry<A>>
where
    FlowKey<A>: Ord,
{
    let mut all = entries.to_vec();
    all.sort_by_key(|(key, _)| *key);
    all
}

fn of_one_connection<F: Named>(n: &Names)
where
    FlowKey<F::Addr>: MapType + Ord,
    Flow<F::Addr>: MapType,
{
    let both = connection::<F>(n, n.vip, n.backend);
    let entries = sorted(&both);
    let tables = |places: &[usize]| {
        let mut tables = Tables::default();
        places.iter().for_each(|place| tables.0[*place] = entries.clone());
        tables
    };
    // What one side knows alone, and what one side has seen the answer of.
    for known in [OURS, THEIRS] {
        assert_eq!(crossed::<F>(n, &tables(&[known])), tables(&[OURS, THEIRS]), "{known}");
    }
    for known in [OUR_HALF_OPEN, THEIR_HALF_OPEN] {
        assert_eq!(crossed::<F>(n, &tables(&[known])), tables(&[OUR_HALF_OPEN, THEIR_HALF_OPEN]), "{known}");
    }
    for known in [[OUR_HALF_OPEN, THEIRS], [OURS, THEIR_HALF_OPEN]] {
        assert_eq!(crossed::<F>(n, &tables(&known)), tables(&[OURS, THEIRS]), "{known:?}");
    }
}

/// The entries as they are when last seen then.
fn seen<A: Copy>(entries: &[Entry<A>], seen: u32) -> Vec<Entry<A>>
where
    FlowKey<A>: Ord,
{
    let mut all: Vec<_> = entries.iter().map(|(key, flow)| (*key, Flow { seen, ..*flow })).collect();
    all.sort_by_key(|(key, _)| *key);
    all
}

/// Two connections of which the second has begun when the first was over; each is known to one side only, and the packet is of
/// the second.
fn of_two_connections<F: Named>(n: &Names, [first, second]: [[Entry<F::Addr>; 2]; 2])
where
    FlowKey<F::Addr>: MapType + Ord,
    Flow<F::Addr>: MapType,
{
    let moments = [(u32::MAX, 1), (7, 8)];
    let stages = [[OUR_HALF_OPEN, THEIR_HALF_OPEN], [OURS, THEIRS]];
    for (before_that, then) in moments {
        for [ours, theirs] in stages {
            for (old, new) in
                [(OURS, theirs), (THEIRS, ours), (OUR_HALF_OPEN, theirs), (THEIR_HALF_OPEN, ours)]
            {
                let mut before = Tables::default();
                before.0[old] = seen(&first, before_that);
                before.0[new] = seen(&second, then);
                let mut after = Tables::default();
                [ours, theirs].into_iter().for_each(|place| after.0[place] = seen(&second, then));
                assert_eq!(crossed::<F>(n, &before), after, "{old} {new} {before_that}");
            }
        }
    }
}

fn of_two_connections_in_one_moment<F: Named>(n: &Names)
where
    FlowKey<F::Addr>: MapType + Ord,
    Flow<F::Addr>: MapType,
{
    let (new, old) = (connection::<F>(n, n.vip, n.backend), connection::<F>(n, n.vip, n.other_backend));
    for (half_open, answered) in [(OUR_HALF_OPEN, THEIRS), (THEIR_HALF_OPEN, OURS)] {
        let mut before = Tables::default();
        before.0[half_open] = sorted(&new);
        before.0[answered] = sorted(&old);
        let mut after = Tables::default();
        [OUR_HALF_OPEN, THEIR_HALF_OPEN].into_iter().for_each(|place| after.0[place] = sorted(&new));
        assert_eq!(crossed::<F>(n, &before), after, "{half_open}");
    }
}

/// The same ports to the same backend once more: the one side has seen the end of the first, the other the beginning of the
/// second.
fn of_two_connections_to_one_backend<F: Named>(n: &Names)
where
    FlowKey<F::Addr>: MapType + Ord,
    Flow<F::Addr>: MapType,
{
    let both = connection::<F>(n, n.vip, n.backend);
    let over = both.map(|(key, flow)| (key, Flow { flags: flow.flags.with(FlowFlags::FIN), ..flow }));
    for (half_open, answered) in [(OUR_HALF_OPEN, THEIRS), (THEIR_HALF_OPEN, OURS)] {
        let mut before = Tables::default();
        before.0[answered] = seen(&over, 7);
        before.0[half_open] = seen(&both, 8);
        let mut after = Tables::default();
        [OUR_HALF_OPEN, THEIR_HALF_OPEN].into_iter().for_each(|place| after.0[place] = seen(&both, 8));
        assert_eq!(crossed::<F>(n, &before), after, "{half_open}");
    }
}

/// What is known of a connection's end: of the client's packets on one side, of the server's on the other.
fn of_ends<F: Named>(n: &Names)
where
    FlowKey<F::Addr>: MapType + Ord,
    Flow<F::Addr>: MapType,
{
    let [forward, reply] = connection::<F>(n, n.vip, n.backend);
    let ended =
        |(key, flow): Entry<F::Addr>, flags: FlowFlags| (key, Flow { flags: flow.flags.with(flags), ..flow });
    let (fin, rst) = (FlowFlags::FIN, FlowFlags::RST);
    for (there, here) in [(OURS, THEIRS), (THEIRS, OURS)] {
        let mut before = Tables::default();
        before.0[there] = sorted(&[ended(forward, fin), reply]);
        before.0[here] = sorted(&[forward, ended(reply, rst)]);
        let both = sorted(&[ended(forward, fin), ended(reply, rst)]);
        let mut after = Tables::default();
        [there, here].into_iter().for_each(|place| after.0[place] = both.clone());
        assert_eq!(crossed::<F>(n, &before), after, "{there}");
    }
}

#[test]
fn each_side_learns_of_a_connection_what_the_other_knows() {
    let [v4, v6] = &FAMILIES;
    of_one_connection::<proxy_common::V4>(v4);
    of_one_connection::<proxy_common::V6>(v6);
}

#[test]
fn an_earlier_connection_of_the_same_ports_takes_no_packet_from_the_new_one() {
    fn of<F: Named>(n: &Names)
    where
        FlowKey<F::Addr>: MapType + Ord,
        Flow<F::Addr>: MapType,
    {
        let second = connection::<F>(n, n.vip, n.backend);
        // To the same frontend, and to another one with the same backend: there the answers have the same key.
        of_two_connections::<F>(n, [connection::<F>(n, n.vip, n.other_backend), second]);
        of_two_connections::<F>(n, [connection::<F>(n, n.vip_other_port, n.backend), second]);
        of_two_connections_in_one_moment::<F>(n);
        of_two_connections_to_one_backend::<F>(n);
    }
    let [v4, v6] = &FAMILIES;
    of::<proxy_common::V4>(v4);
    of::<proxy_common::V6>(v6);
}

#[test]
fn what_either_side_has_seen_of_a_connections_end_both_know() {
    let [v4, v6] = &FAMILIES;
    of_ends::<proxy_common::V4>(v4);
    of_ends::<proxy_common::V6>(v6);
}
