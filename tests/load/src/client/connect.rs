//! Connect, request, response, close: a transaction is all of it. The server closes first, so that what TCP keeps of a closed
//! connection is with the server and no port is missing here.

use anyhow::Result;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, socket_with};
use sluice_load::chance::Chance;
use sluice_load::order::{ANSWER, Order, REQUEST, Wish};

use super::{SHORT, Take, be_patient};
use crate::{clock, server::family};

pub(super) fn run(order: &Order, take: &mut Take) -> Result<()> {
    let request = [Wish::Close as u8; REQUEST];
    let mut answer = [0; 2 * ANSWER];
    let mut chance = Chance::new(order.seed);
    // The alarm comes at the end of an order, which may be long after a connection has begun to hang.
    let patient = order.millis > SHORT;
    let mut now = clock::now();
    while take.goes_on(now) {
        let target = order.targets[chance.below(order.targets.len())];
        let socket = socket_with(family(target), SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if patient {
            be_patient(&socket)?;
        }
        let begin = clock::now();
        if let Err(error) = connect(&socket, &target) {
            take.failed(&format!("connect {target}"), error);
            drop(socket);
            now = clock::now();
            continue;
        }
        let connected = clock::now();
        let exchanged = exchange(&socket, &request, &mut answer);
        drop(socket);
        now = clock::now();
        match exchanged {
            Ok(ANSWER) => {
                take.connected(connected - begin);
                take.done(now - begin);
            }
            Ok(length) => take.failed(&format!("answer of {target}"), format!("{length} bytes")),
            Err(error) => take.failed(&format!("exchange with {target}"), error),
        }
    }
    Ok(())
}

/// The length of the answer.
fn exchange(socket: &impl std::os::fd::AsFd, request: &[u8], answer: &mut [u8]) -> Result<usize, Errno> {
    send(socket, request, SendFlags::NOSIGNAL)?;
    let mut length = 0;
    loop {
        match recv(socket, &mut *answer, RecvFlags::empty())?.1 {
            0 => return Ok(length),
            more => length += more,
        }
    }
}
