//! The ports that a client in a namespace has to connect from, when there are to be many or few. Knows no Service.

use std::fs;

use anyhow::{Context as _, Result};
use sluice_lab::{Place, netns};

/// Gives a client these ports, first and last.
///
/// # Errors
/// Says what the kernel has refused.
pub fn give(client: &Place, ports: &str) -> Result<()> {
    netns::inside(&client.netns, || {
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", ports).context("giving a client its ports")?;
        // Without an offset by address: a port that is used again for another Service of the same pods would seem to come
        // from the past, and the server would not take it as long as it remembers the last one (RFC 6191).
        fs::write("/proc/sys/net/ipv4/tcp_timestamps", "2").context("giving a client its clock")
    })
}
