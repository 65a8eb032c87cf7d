//! Connections that stay open and are asked in turn, at a steady pace: whether what stands goes on standing.

use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::SocketType;
use sluice_load::chance::Chance;
use sluice_load::order::{Order, REQUEST};

use super::converse::{ask, joined};
use super::{Take, be_patient};
use crate::clock;

/// Between two requests.
const PACE: Duration = Duration::from_millis(1);

/// A connection that fails once is broken: counted once and asked no more.
pub(super) fn run(order: &Order, count: u32, take: &mut Take) -> Result<()> {
    let mut chance = Chance::new(order.seed);
    let mut open = Vec::new();
    for _ in 0..count {
        let socket = joined(order.targets[chance.below(order.targets.len())], SocketType::STREAM)?;
        be_patient(&socket)?;
        // The server takes one connection after the other and waits for what each has to say first.
        ask(&socket).context("the first request of a connection that is to stand")?;
        open.push(socket);
    }
    let mut turn = 0;
    let mut begin = clock::now();
    while !open.is_empty() && take.goes_on(begin) {
        turn = (turn + 1) % open.len();
        match ask(&open[turn]) {
            Ok(REQUEST) => take.done(clock::now() - begin),
            other => {
                take.failed("a connection that stood", format!("{other:?}"));
                open.swap_remove(turn);
            }
        }
        std::thread::sleep(PACE);
        begin = clock::now();
    }
    Ok(())
}
