//! Ports of the node that netfilter has given to connections which it translates: those of another proxy that goes on with what
//! it has begun while we serve what is new (`docs/decisions/0032-*`). Masqueraded connections of ours must not get them.

use std::{io, os::fd::BorrowedFd};

use proxy_common::{Flow, FlowFlags};

use super::{
    clock,
    conntrack::Conntrack,
    family::{MapFamily, Maps},
    parties::Parties,
    pins::Pinned,
};

/// Notes each of them as a connection of which packets stay as they are; it is forgotten as others are. Gives how many.
///
/// # Errors
/// As the kernel gives them: without netfilter's table, or without room.
pub(super) fn reserve(maps: &Pinned, clock: BorrowedFd<'_>) -> io::Result<usize> {
    let seen = clock::jiffies(clock).map_err(io::Error::other)?;
    let mut conntrack = Conntrack::open()?;
    Ok(family(&maps.v4, &maps.parties, &mut conntrack, seen)?
        + family(&maps.v6, &maps.parties, &mut conntrack, seen)?)
}

fn family<F: MapFamily>(
    maps: &Maps<F>,
    parties: &Parties,
    conntrack: &mut Conntrack,
    seen: u32,
) -> io::Result<usize> {
    let mut reserved = 0;
    if maps.flows.raw().max_entries() <= 1 {
        return Ok(reserved);
    }
    for answers in conntrack.masqueraded::<F::Addr>()? {
        let request = answers.reversed();
        let flow = Flow { seen, ..Flow::plain(&request) };
        let reply = Flow { seen, flags: FlowFlags::PLAIN.with(FlowFlags::REPLY), ..Flow::plain(&answers) };
        parties.name(&answers.src);
        parties.name(&request.src);
        maps.flows.put_new(&answers, &reply)?;
        reserved += usize::from(maps.flows.put_new(&request, &flow)?);
    }
    Ok(reserved)
}
