//! The server: one process per protocol. What it does is said by the first byte ([`Wish`]), so that its processor time is for
//! nothing else.

use std::io::Write as _;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_reuseaddr, set_tcp_nodelay};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, accept_with, bind, listen, recv, recvfrom,
    send, sendto, socket_with,
};
use sluice_load::order::{ANSWER, CHUNK, Wish};

/// What is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Protocol {
    Tcp,
    Udp,
}

/// Serves until the process is killed.
pub(crate) fn serve(protocol: Protocol, at: SocketAddr) -> Result<()> {
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(family(at), kind, SocketFlags::CLOEXEC, None)?;
    set_socket_reuseaddr(&socket, true)?;
    bind(&socket, &at).with_context(|| format!("binding {at}"))?;
    if protocol == Protocol::Tcp {
        listen(&socket, 4_096)?;
    }
    println!("READY");
    std::io::stdout().flush()?;
    match protocol {
        Protocol::Tcp => accept_all(&socket),
        Protocol::Udp => answer_all(&socket),
    }
}

/// The family of a socket for that address.
pub(crate) fn family(at: SocketAddr) -> AddressFamily {
    if at.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 }
}

fn accept_all(listener: &OwnedFd) -> Result<()> {
    let mut buffer = [b'x'; 2_048];
    loop {
        let connection = match accept_with(listener, SocketFlags::CLOEXEC) {
            Ok(connection) => connection,
            Err(Errno::CONNABORTED | Errno::INTR) => continue,
            Err(error) => return Err(error).context("accepting"),
        };
        let length = match recv(&connection, &mut buffer, RecvFlags::empty()) {
            Ok((_, length)) if length > 0 => length,
            // The client has changed its mind.
            Ok(_) | Err(_) => continue,
        };
        if buffer[0] == Wish::Close as u8 {
            // A client that is gone is the client's failure.
            let _ = send(&connection, &buffer[..ANSWER], SendFlags::NOSIGNAL);
        } else {
            // What lasts has a thread of its own; connections that are made anew are never in its way, since no two modes run
            // at once when anything is measured.
            let first = buffer[..length].to_vec();
            std::thread::spawn(move || converse(&connection, &first));
        }
    }
}

/// Echoes or swallows until the client has ended or is gone.
fn converse(connection: &OwnedFd, first: &[u8]) {
    let echo = first[0] == Wish::Echo as u8;
    let mut buffer = vec![0; CHUNK];
    if set_tcp_nodelay(connection, true).is_err() || (echo && send_all(connection, first).is_err()) {
        return;
    }
    while let Ok((_, length)) = recv(connection, &mut buffer[..], RecvFlags::empty()) {
        if length == 0 || (echo && send_all(connection, &buffer[..length]).is_err()) {
            return;
        }
    }
}

fn send_all(socket: &OwnedFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        let sent = send(socket, bytes, SendFlags::NOSIGNAL)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

fn answer_all(socket: &OwnedFd) -> Result<()> {
    let mut buffer = [0; 2_048];
    let mut swallowed = 0_u64;
    loop {
        let (length, from) = match recvfrom(socket, &mut buffer, RecvFlags::empty()) {
            Ok((_, length, Some(from))) if length > 0 => (length, from),
            Ok(_) => continue,
            // What an earlier datagram came to.
            Err(Errno::CONNREFUSED | Errno::INTR) => continue,
            Err(error) => return Err(error).context("receiving"),
        };
        if buffer[0] == Wish::Swallow as u8 {
            swallowed += 1;
            continue;
        }
        let count = std::mem::take(&mut swallowed).to_le_bytes();
        let answer = if buffer[0] == Wish::Count as u8 { &count[..] } else { &buffer[..length] };
        // Nobody waits any more: nothing is owed.
        let _ = sendto(socket, answer, SendFlags::NOSIGNAL, &from);
    }
}
