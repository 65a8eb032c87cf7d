//! As much as goes through: bytes of a stream, datagrams of the smallest size.

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, SocketType, recv, send, shutdown};
use sluice_load::order::{CHUNK, DATAGRAM, Order, Wish};

use super::{Take, converse::joined};
use crate::clock;

/// Datagrams between two looks at the clock.
const BURST: usize = 32;

/// Bytes count as transactions, once the server has them.
pub(super) fn stream(order: &Order, take: &mut Take) -> Result<()> {
    let socket = joined(order.targets[0], SocketType::STREAM)?;
    let chunk = vec![Wish::Swallow as u8; CHUNK];
    let mut bytes = 0;
    while take.goes_on(clock::now()) {
        match send(&socket, &chunk, SendFlags::NOSIGNAL) {
            Ok(sent) => bytes += sent as u64,
            Err(error) => {
                take.failed("sending", error);
                break;
            }
        }
    }
    shutdown(&socket, Shutdown::Write).context("ending a stream")?;
    // The server closes when it has read everything.
    match recv(&socket, &mut [0; 1], RecvFlags::empty()) {
        Ok(_) => take.report.transactions = bytes,
        Err(error) => take.failed("the end of a stream", error),
    }
    Ok(())
}

/// Datagrams that the socket takes count as transactions; how many arrived is asked for at the end.
pub(super) fn datagrams(order: &Order, take: &mut Take) -> Result<()> {
    let socket = joined(order.targets[0], SocketType::DGRAM)?;
    let datagram = [Wish::Swallow as u8; DATAGRAM];
    let mut sent = 0;
    while take.goes_on(clock::now()) {
        for _ in 0..BURST {
            match send(&socket, &datagram, SendFlags::NOSIGNAL) {
                Ok(_) => sent += 1,
                // No room: the same as a datagram that is lost later.
                Err(Errno::NOBUFS) => {}
                Err(error) => take.failed("sending", error),
            }
        }
        take.report.transactions = sent;
    }
    let mut count = [0; 8];
    send(&socket, &[Wish::Count as u8; DATAGRAM], SendFlags::NOSIGNAL).context("asking for the count")?;
    match recv(&socket, &mut count, RecvFlags::empty()) {
        Ok(_) => take.report.arrived = u64::from_le_bytes(count),
        Err(error) => take.failed("the count", error),
    }
    Ok(())
}
