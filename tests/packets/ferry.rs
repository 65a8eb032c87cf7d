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

/// Both entries of the connection from the client to the Service that this backend serves.
fn connection<F: Named>(n: &Names, backend: &str) -> [Entry<F::Addr>; 2] {
    let [(src, sport), (vip, vport), (dst, dport)] = [n.client, n.vip, backend].map(endpoint::<F>);
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
    let both = connection::<F>(n, n.backend);
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

fn of_two_connections<F: Named>(n: &Names)
where
    FlowKey<F::Addr>: MapType + Ord,
    Flow<F::Addr>: MapType,
{
    let (new, old) = (connection::<F>(n, n.backend), connection::<F>(n, n.other_backend));
    for (half_open, answered) in [(OUR_HALF_OPEN, THEIRS), (THEIR_HALF_OPEN, OURS)] {
        let mut before = Tables::default();
        before.0[half_open] = sorted(&new);
        before.0[answered] = sorted(&old);
        assert_eq!(crossed::<F>(n, &before), before, "{half_open}");
    }
}

#[test]
fn each_side_learns_of_a_connection_what_the_other_knows() {
    let [v4, v6] = &FAMILIES;
    of_one_connection::<proxy_common::V4>(v4);
    of_one_connection::<proxy_common::V6>(v6);
}

#[test]
fn an_entry_of_an_earlier_connection_of_the_same_ports_takes_no_packet_from_the_new_one() {
    let [v4, v6] = &FAMILIES;
    of_two_connections::<proxy_common::V4>(v4);
    of_two_connections::<proxy_common::V6>(v6);
}
