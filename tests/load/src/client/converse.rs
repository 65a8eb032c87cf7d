//! Requests and responses one after the other: on one connection, on a connected datagram socket, and with the address at each
//! sending.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, sendto, socket_with};
use sluice_load::order::{Order, REQUEST, Wish};

use super::Take;
use crate::{clock, server::family};

const MESSAGE: [u8; REQUEST] = [Wish::Echo as u8; REQUEST];

pub(super) fn stream(order: &Order, take: &mut Take) -> Result<()> {
    let socket = joined(order.targets[0], SocketType::STREAM)?;
    set_tcp_nodelay(&socket, true)?;
    converse(take, true, || ask(&socket));
    Ok(())
}

pub(super) fn connected_datagrams(order: &Order, take: &mut Take) -> Result<()> {
    let socket = joined(order.targets[0], SocketType::DGRAM)?;
    converse(take, false, || ask(&socket));
    Ok(())
}

pub(super) fn datagrams(order: &Order, take: &mut Take) -> Result<()> {
    let target = order.targets[0];
    let socket = socket_with(family(target), SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut answer = [0; REQUEST];
    converse(take, false, || {
        sendto(&socket, &MESSAGE, SendFlags::empty(), &target)?;
        recv(&socket, &mut answer, RecvFlags::empty()).map(|(_, length)| length)
    });
    Ok(())
}

/// A socket that has a peer.
pub(super) fn joined(target: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let socket = socket_with(family(target), kind, SocketFlags::CLOEXEC, None)?;
    connect(&socket, &target).with_context(|| format!("connecting to {target}"))?;
    Ok(socket)
}

/// One request and its whole response.
pub(super) fn ask(socket: &OwnedFd) -> Result<usize, Errno> {
    let mut answer = [0; REQUEST];
    send(socket, &MESSAGE, SendFlags::NOSIGNAL)?;
    let mut length = 0;
    while length < REQUEST {
        match recv(socket, &mut answer[length..], RecvFlags::empty())?.1 {
            0 => return Ok(length),
            more => length += more,
        }
    }
    Ok(length)
}

/// A stream that has failed once is over; a datagram that is lost is only that one.
fn converse(take: &mut Take, stream: bool, mut ask: impl FnMut() -> Result<usize, Errno>) {
    let mut begin = clock::now();
    while take.goes_on(begin) {
        let asked = ask();
        let now = clock::now();
        match asked {
            Ok(REQUEST) => take.done(now - begin),
            Ok(length) => take.failed("response", format!("{length} bytes")),
            Err(error) => take.failed("response", error),
        }
        if stream && asked != Ok(REQUEST) {
            return;
        }
        begin = now;
    }
}
