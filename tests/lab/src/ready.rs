//! When a place can be used. The kernel brings a new link into service some time after `ip` has returned (its carrier is
//! looked at by a work queue that needs a lock everybody wants), and until then packets are dropped and IPv6 addresses are
//! tentative. A first connection that lost its SYN that way would only be tried again after a second.

use std::time::{Duration, Instant};

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, bail};

use crate::place::{Pending, Place};
use crate::plan::segment_gateway;
use crate::topology::{Family, Topology};
use crate::wire::{Probe, Protocol, Request};

const PATIENCE: Duration = Duration::from_secs(30);

/// Probes that are to be answered before a lab is used, by the name of the place that sends them.
pub(crate) type Signs = Vec<(Place, Vec<Probe>)>;

/// Nodes and outside clients: answered by themselves and by the segment.
pub(crate) fn hosts(topology: &Topology, places: &[Place]) -> Signs {
    let gateway = |ip: &IpAddr| segment_gateway(topology, Family::of(*ip)).map(|(gateway, _)| gateway);
    let probes = |place: &Place| {
        place.ips.iter().copied().chain(place.ips.iter().filter_map(gateway)).map(echo).collect()
    };
    places.iter().map(|place| (place.clone(), probes(place))).collect()
}

/// A pod: answered by itself, and answers its node. That way round, because no policy may forbid it.
pub(crate) fn pod(pod: &Place, node: &Place) -> Signs {
    let probes: Vec<Probe> = pod.ips.iter().copied().map(echo).collect();
    vec![(pod.clone(), probes.clone()), (node.clone(), probes)]
}

fn echo(to: IpAddr) -> Probe {
    Probe {
        timeout: Duration::from_millis(10),
        tries: 3,
        ..Probe::new(Protocol::Icmp, SocketAddr::new(to, 0))
    }
}

/// Waits until all signs are there.
///
/// # Errors
/// Names a place that gets no answer in time.
pub(crate) fn wait(mut left: Signs) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let pending: Vec<Pending> = left
            .iter()
            .map(|(place, probes)| place.send(&Request::Probe { probes: probes.clone() }))
            .collect::<Result<_>>()?;
        let mut next = Vec::new();
        for ((place, probes), pending) in left.into_iter().zip(pending) {
            let answered = pending.tallies()?;
            let silent = probes.into_iter().zip(answered).filter(|(_, tally)| tally.answers() == 0);
            let silent: Vec<Probe> = silent.map(|(probe, _)| probe).collect();
            if !silent.is_empty() {
                next.push((place, silent));
            }
        }
        let Some((place, probes)) = next.first() else { return Ok(()) };
        if Instant::now() > deadline {
            bail!("{} gets no answer of {} after {PATIENCE:?}", place.name, probes[0].to.ip());
        }
        left = next;
    }
}
