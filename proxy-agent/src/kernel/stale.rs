//! UDP flows whose backend serves no more, and is silent (items 101–104). [`super::moved`] ends such flows with the change
//! that took the backend away; one that began at that very moment may slip in behind it. UDP says no goodbye: as long as its
//! client sends, it would stay, and a new socket with the same port would be led to nobody.
//!
//! A backend that serves keeps its flows, silent or not, whatever became of its readiness, and whether or not new clients
//! are sent to it (item 103). Flows of a Service that is gone or that nobody serves are left alone (items 76 and 102).

use std::{collections::BTreeSet, io};

use proxy_common::{Flow, FlowFlags, FlowKey, Port, Proto, ServiceId, V4, V6};
use proxy_model::Answering;

use super::{
    clock::Jiffies,
    family::{MapFamily, Maps},
    gc::Flows,
};

/// Seconds without an answer after which a backend that serves no more is taken for gone: longer than any request
/// to it is likely to take, shorter than a resolver's patience.
const ANSWERING: u32 = 5;

/// An entry of a flow table.
pub type Entry<A> = (FlowKey<A>, Flow<A>);

/// Backends by the Service whose new UDP flows they get.
type Chosen<A> = BTreeSet<(ServiceId, A, Port)>;

/// Who serves each UDP Service port. Nothing is known of a port that is not among them, and its flows stay.
#[derive(Debug, Default)]
pub struct Serving {
    /// IPv4.
    pub v4: Answering<V4>,
    /// IPv6.
    pub v6: Answering<V6>,
}

/// Whether the entry may be judged here: the forward one of a Service's UDP flow.
#[must_use]
pub fn concerns<A>(key: &FlowKey<A>, flow: &Flow<A>) -> bool {
    key.proto == Proto::UDP && !flow.flags.has(FlowFlags::REPLY) && flow.service != ServiceId::NONE
}

/// Removes the flows among `forward` whose backend is gone, both directions; gives how many entries.
pub(super) fn collect<F: MapFamily>(
    maps: &Maps<F>,
    forward: &[Entry<F::Addr>],
    answering: &Answering<F>,
    now: Jiffies,
) -> io::Result<usize> {
    let mut left = forward.iter().filter(|(_, flow)| is_left::<F>(flow, answering)).peekable();
    if left.peek().is_none() {
        return Ok(0);
    }
    // Who is ready without serving, as `publishNotReadyAddresses` makes it, gets the next flow, too: ending this one would
    // gain nothing.
    let chosen = chosen(maps)?;
    let ends = |flow: &Flow<F::Addr>| {
        is_left::<F>(flow, answering) && !chosen.contains(&(flow.service, flow.dst, flow.dport))
    };
    let mut removed = 0;
    for (key, _) in left.filter(|(_, flow)| ends(flow)) {
        removed += remove_if_left::<F>(&maps.flows, key, ends, now)?;
    }
    Ok(removed)
}

/// Removes both entries of a flow that `ends` if its backend does not answer; gives how many there were.
///
/// It is read anew and not judged by what the scan has found: a client that uses its port again may be with another backend by now.
/// Should that happen even between the look and the removal, the entry is put back.
fn remove_if_left<F: MapFamily>(
    flows: &Flows<F>,
    key: &FlowKey<F::Addr>,
    ends: impl Fn(&Flow<F::Addr>) -> bool,
    now: Jiffies,
) -> io::Result<usize> {
    let Some(flow) = flows.get(key)? else { return Ok(0) };
    let answered = flows.get(&flow.other(key.proto))?;
    if !ends(&flow) || answered.is_some_and(|answered| now.since(answered.seen) < ANSWERING) {
        return Ok(0);
    }
    let Some(flow) = flows.take(key)? else { return Ok(0) };
    if !ends(&flow) {
        flows.put_new(key, &flow)?;
        return Ok(0);
    }
    Ok(1 + usize::from(flows.remove(&flow.other(key.proto))?))
}

/// Whether somebody serves the flow's Service, and its backend does not.
fn is_left<F: MapFamily>(flow: &Flow<F::Addr>, answering: &Answering<F>) -> bool {
    let servers = answering.get(&flow.service);
    servers.is_some_and(|servers| servers.binary_search(&(flow.dst, flow.dport)).is_err())
}

fn chosen<F: MapFamily>(maps: &Maps<F>) -> io::Result<Chosen<F::Addr>> {
    let mut chosen = Chosen::new();
    maps.frontends.scan(|keys, frontends| {
        for (_, frontend) in keys.iter().zip(frontends).filter(|(key, _)| key.proto == Proto::UDP) {
            // A segment outside of the array has no backends.
            let segments =
                [frontend.cluster, frontend.local].map(|one| maps.segment(one).unwrap_or_default());
            let backends = segments.into_iter().flatten();
            chosen.extend(backends.map(|backend| (frontend.service, backend.addr, backend.port)));
        }
    })?;
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proxy_common::Addr4;

    use super::*;
    use crate::kernel::sys::RawMap;

    const NOW: Jiffies = Jiffies { now: 40_000_000, rate: 250 };

    /// Both entries of the client's flow to a backend that was silent for so long.
    fn pair(backend: u8, seconds: u32) -> [(FlowKey<Addr4>, Flow<Addr4>); 2] {
        let ip = |last| Addr4::from(Ipv4Addr::new(10, 0, 0, last));
        let key = FlowKey::new(ip(1), Port::new(4_000), ip(96), Port::new(53), Proto::UDP);
        let flow = Flow {
            src: key.src,
            sport: key.sport,
            dst: ip(backend),
            dport: Port::new(5_353),
            seen: NOW.now - seconds * NOW.rate,
            ..Flow::default()
        };
        [(key, flow), (flow.other(Proto::UDP), flow.twin(&key))]
    }

    #[test]
    fn a_flow_that_takes_the_place_of_a_stale_one_stays() {
        let raw = RawMap::hash(size_of::<FlowKey<Addr4>>(), size_of::<Flow<Addr4>>(), 8).unwrap();
        let table = Flows::<V4>::new(raw).unwrap();
        let (old, new) = (pair(200, 9), pair(201, 9));
        let put = |pair: &[(FlowKey<Addr4>, Flow<Addr4>); 2]| {
            pair.iter().for_each(|(key, flow)| table.put(key, flow).unwrap());
        };
        let is_old = |flow: &Flow<Addr4>| flow.dst == old[0].1.dst;
        let (key, _) = new[0];
        // After the scan, and after the look.
        put(&new);
        assert_eq!(remove_if_left::<V4>(&table, &key, is_old, NOW).unwrap(), 0);
        assert_eq!(table.entries().unwrap().len(), 2);
        put(&old);
        let again = |flow: &Flow<Addr4>| {
            let is_old = is_old(flow);
            if is_old {
                put(&new);
            }
            is_old
        };
        assert_eq!(remove_if_left::<V4>(&table, &key, again, NOW).unwrap(), 0);
        assert_eq!(table.get(&key).unwrap(), Some(new[0].1));
        // Left alone it goes, once its backend is silent.
        put(&pair(200, 4));
        assert_eq!(remove_if_left::<V4>(&table, &key, is_old, NOW).unwrap(), 0);
        put(&old);
        assert_eq!(remove_if_left::<V4>(&table, &key, is_old, NOW).unwrap(), 2);
        assert_eq!(table.entries().unwrap().into_iter().collect::<Vec<_>>(), [new[1]]);
    }
}
