//! Makes the segment behave as one of cables and not of memory. Between the ends of a veth a packet need not carry its
//! checksums, and may be longer than any wire would take: whoever looks at it in a driver sees neither. Knows no agents.

use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use crate::lab::Lab;
use crate::netns;

/// `SIOCETHTOOL` and the command that switches an offload (`linux/ethtool.h`).
const SIOCETHTOOL: u64 = 0x8946;
const ETHTOOL_STXCSUM: u32 = 0x17;

impl Lab {
    /// Lets nodes and outside clients finish packets before they send them.
    ///
    /// # Errors
    /// Names the device that refused.
    pub fn lay_cables(&self) -> Result<()> {
        let topology = self.topology();
        let nodes = topology.nodes.iter().map(|node| node.name.clone());
        let hosts: Vec<String> = nodes.chain(topology.outside.iter().map(|o| o.name.clone())).collect();
        for host in &hosts {
            let place = self.place(host)?;
            netns::inside(&place.netns, || switch("eth0", ETHTOOL_STXCSUM, 0))
                .with_context(|| format!("on {host}"))?;
        }
        Ok(())
    }
}

fn switch(device: &str, command: u32, value: u32) -> Result<()> {
    let mut order = [command, value];
    // SAFETY: `ifreq` is plain data, all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(device.bytes()) {
        *slot = byte.cast_signed();
    }
    request.ifr_ifru.ifru_data = order.as_mut_ptr().cast();
    let socket = UdpSocket::bind("127.0.0.1:0").context("a socket to ask the kernel with")?;
    // SAFETY: the request names a device and points to the two words that these commands read.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()).context(device.to_owned()) }
}
