//! UDP flows whose backend is not one any more (items 101–104). UDP says no goodbye: as long as its client sends, such a
//! flow would stay, and a new socket with the same port would be led to nobody.
//!
//! A backend that still answers keeps its flows, whatever became of its readiness (item 103). Flows of a Service that
//! is gone are left alone (item 76).

use std::{collections::BTreeSet, io};

use proxy_common::{Flow, FlowFlags, FlowKey, Port, Proto, ServiceId};

use super::{
    clock::Jiffies,
    family::{MapFamily, Maps},
};

/// Seconds without an answer after which a backend that nobody names is taken for gone: longer than any request
/// to it is likely to take, shorter than a resolver's patience.
const ANSWERING: u32 = 5;

/// An entry of a flow table.
pub type Entry<A> = (FlowKey<A>, Flow<A>);

/// The backends that UDP frontends lead to now, by Service.
#[derive(Debug)]
struct Eligible<A> {
    services: BTreeSet<ServiceId>,
    backends: BTreeSet<(ServiceId, A, Port)>,
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
    now: Jiffies,
) -> io::Result<usize> {
    if forward.is_empty() {
        return Ok(0);
    }
    let eligible = eligible(maps)?;
    let gone = forward.iter().filter(|(_, flow)| eligible.lacks(flow));
    let mut removed = 0;
    for (key, flow) in gone {
        let reply = flow.other(key.proto);
        let answered = maps.flows.get(&reply)?;
        if answered.is_none_or(|answered| now.since(answered.seen) >= ANSWERING) {
            removed += usize::from(maps.flows.remove(key)?);
            removed += usize::from(maps.flows.remove(&reply)?);
        }
    }
    Ok(removed)
}

impl<A: Copy + Ord> Eligible<A> {
    fn lacks(&self, flow: &Flow<A>) -> bool {
        self.services.contains(&flow.service)
            && !self.backends.contains(&(flow.service, flow.dst, flow.dport))
    }
}

fn eligible<F: MapFamily>(maps: &Maps<F>) -> io::Result<Eligible<F::Addr>> {
    let mut eligible = Eligible { services: BTreeSet::new(), backends: BTreeSet::new() };
    maps.frontends.scan(|keys, frontends| {
        for (_, frontend) in keys.iter().zip(frontends).filter(|(key, _)| key.proto == Proto::UDP) {
            eligible.services.insert(frontend.service);
            // A segment outside of the array has no backends.
            let segments =
                [frontend.cluster, frontend.local].map(|one| maps.segment(one).unwrap_or_default());
            let backends = segments.into_iter().flatten();
            eligible.backends.extend(backends.map(|backend| (frontend.service, backend.addr, backend.port)));
        }
    })?;
    Ok(eligible)
}
