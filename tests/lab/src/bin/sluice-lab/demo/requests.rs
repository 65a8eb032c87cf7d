//! Requests of the demo: from a pod on each node, from a node and from outside, over both protocols and families.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use sluice_lab::{Failure, Lab, Place, Probe, Protocol, Tally};

/// Enough that each of three backends is missed once in 10^15 runs.
const REQUESTS: u32 = 85;
const BACKENDS: usize = 3;
/// A change of a file is in the kernel within milliseconds; a busy machine may need longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends requests from everywhere to every frontend of `web` and shows how they spread.
pub(super) fn spread(lab: &Lab) -> Result<()> {
    println!("  {:<9} {:<26} {:>5}  answered by", "from", "to", "sent");
    for place in [lab.pod("client-1")?, lab.pod("client-2")?, lab.node("node-1")?, lab.place("outside")?] {
        let frontends = [
            (Protocol::Tcp, "10.96.0.10:80"),
            (Protocol::Udp, "10.96.0.10:53"),
            (Protocol::Tcp, "[fd00:96::10]:80"),
            (Protocol::Udp, "[fd00:96::10]:53"),
        ];
        for (protocol, address) in frontends {
            let to: SocketAddr = address.parse()?;
            let tally = until(&place, protocol, to, |tally| tally.answered.len() == BACKENDS)?;
            println!(
                "  {:<9} {:<26} {REQUESTS:>5}  {}",
                place.name,
                format!("{protocol} {to}"),
                servers(&tally)
            );
        }
    }
    Ok(())
}

/// A Service without endpoints refuses at once.
pub(super) fn refused(lab: &Lab) -> Result<()> {
    for place in [lab.pod("client-1")?, lab.node("node-1")?, lab.place("outside")?] {
        for address in ["10.96.0.11:80", "[fd00:96::11]:80"] {
            let start = Instant::now();
            let tally = place.probe(&[Probe::new(Protocol::Tcp, address.parse()?)])?.remove(0);
            if !tally.failed.contains_key(&Failure::Refused) {
                bail!("{} to a Service without endpoints: expected a refusal, got {tally}", place.name);
            }
            let took = start.elapsed();
            println!(
                "  {:<9} {:<26} {:>5}  refused after {took:.1?}",
                place.name,
                format!("TCP {address}"),
                1
            );
        }
    }
    Ok(())
}

/// Repeats a batch until it is as it should be and nothing has failed.
pub(super) fn until(
    place: &Place,
    protocol: Protocol,
    to: SocketAddr,
    wanted: impl Fn(&Tally) -> bool,
) -> Result<Tally> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let tally = place.probe(&[Probe::new(protocol, to).times(REQUESTS)])?.remove(0);
        if tally.failures() == 0 && wanted(&tally) {
            return Ok(tally);
        }
        if Instant::now() > deadline {
            bail!("{protocol} from {} to {to}: {tally}", place.name);
        }
    }
}

fn servers(tally: &Tally) -> String {
    let each: Vec<String> =
        tally.answered.values().map(|server| format!("{} {}x", server.name, server.count)).collect();
    each.join(", ")
}
