//! The stage of the life of an agent, but for the patience of its clients.

use std::time::Duration;

use sluice_lab::{Probe, Protocol};

use crate::base;
pub(crate) use crate::base::{FRONTENDS, NODES, PATIENCE, SERVERS, Stage, WEB};

/// A SYN that is sent again is no failure (decision 0031).
const TCP: Duration = Duration::from_secs(5);

/// As [`base::frontends`].
pub(crate) fn frontends(addresses: &[&str]) -> Vec<Probe> {
    let patient = |probe: Probe| match probe.protocol {
        Protocol::Tcp => Probe { timeout: TCP, ..probe },
        Protocol::Udp | Protocol::Sctp | Protocol::Icmp => probe,
    };
    base::frontends(addresses).into_iter().map(patient).collect()
}
