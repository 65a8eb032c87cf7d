//! Connections until one ends otherwise than those before: how soon a change counts for who connects.

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_linger, socket_error};
use rustix::net::{SocketFlags, SocketType, connect, socket_with};
use sluice_load::order::{Order, Turn};

use super::Take;
use crate::{clock, server::family};

/// Until a connection counts as unanswered: far less than the second after which the kernel would ask again.
const ANSWER: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
/// Between two connections: what looks must not keep the processor from what it looks at.
const PAUSE: std::time::Duration = std::time::Duration::from_micros(100);

/// One transaction: that a connection has ended as it should. All before it are neither that nor failures.
pub(super) fn run(order: &Order, turn: Turn, take: &mut Take) -> Result<()> {
    let mut now = clock::now();
    while take.goes_on(now) {
        let begin = now;
        let stands = try_once(order.targets[0])?;
        now = clock::now();
        if stands == (turn == Turn::Served) {
            take.done(now - begin);
            take.report.ended = now;
            return Ok(());
        }
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

/// Whether a connection stands. It is broken off, so that neither end keeps anything of it.
fn try_once(target: std::net::SocketAddr) -> Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family(target), SocketType::STREAM, flags, None)?;
    set_socket_linger(&socket, Some(std::time::Duration::ZERO))?;
    match connect(&socket, &target) {
        Ok(()) => return Ok(true),
        Err(Errno::INPROGRESS) => {}
        Err(_) => return Ok(false),
    }
    let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
    // An alarm is the end of the order, which the caller sees.
    let answered = poll(&mut fds, Some(&ANSWER)).is_ok_and(|ready| ready > 0);
    Ok(answered && socket_error(&socket)?.is_ok())
}
