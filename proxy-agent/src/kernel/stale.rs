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
    let mut removed = 0;
    for (key, flow) in left.filter(|(_, flow)| !chosen.contains(&(flow.service, flow.dst, flow.dport))) {
        let reply = flow.other(key.proto);
        let answered = maps.flows.get(&reply)?;
        if answered.is_none_or(|answered| now.since(answered.seen) >= ANSWERING) {
            removed += usize::from(maps.flows.remove(key)?);
            removed += usize::from(maps.flows.remove(&reply)?);
        }
    }
    Ok(removed)
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
