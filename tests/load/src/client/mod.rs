//! The driver: takes orders, keeps time and processor time, and hands the loop of a mode its sockets. One thread, so that calls
//! on sockets cost what they cost a plain program.

mod connect;
mod converse;
mod held;
mod pour;
mod turn;

use std::fs::File;
use std::io::{BufRead, BufWriter, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use sluice_load::order::{Mode, Order, Report};
use sluice_load::spread::Spread;

use crate::clock;

/// What a transaction may take beyond the end of a slice before it counts as failed: twice what the kernel waits before it
/// sends a packet again.
const GRACE: Duration = Duration::from_secs(2);
/// Of a socket, in an order that is looked after.
const PATIENCE: Duration = Duration::from_secs(5);
/// A minute is more than any transaction takes; longer is kept as a minute.
const LONGEST: u64 = 60_000_000_000;
/// Failures that are told word by word.
const TOLD: usize = 5;
/// Transactions between two looks at the standard input of an order that may be ended.
const LOOK: u64 = 256;
/// Orders of that length and less are not looked after.
const SHORT: u64 = 2_000;

/// Answers orders until the input ends.
pub(crate) fn drive() -> Result<()> {
    clock::expect_alarms()?;
    println!("READY");
    std::io::stdout().flush()?;
    let mut line = String::new();
    loop {
        line.clear();
        if std::io::stdin().lock().read_line(&mut line).context("reading an order")? == 0 {
            return Ok(());
        }
        if line.trim().is_empty() {
            // The end of an order that had ended by itself.
            continue;
        }
        let order: Order = serde_json::from_str(&line).context("an order")?;
        let report = carry_out(&order)?;
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
        out.flush()?;
    }
}

fn carry_out(order: &Order) -> Result<Report> {
    ensure!(!order.targets.is_empty(), "an order without a target");
    if let Some(cpu) = order.cpu {
        clock::pin(cpu)?;
    }
    let own = i32::try_from(std::process::id()).context("process id")?;
    let servers = || order.servers.iter().map(|pid| clock::processor_time(*pid)).sum::<Result<u64>>();
    let mut take = Take::new(order)?;
    clock::alarm(Some(Duration::from_millis(order.millis) + GRACE))?;
    let (client_before, server_before) = (clock::processor_time(own)?, servers()?);
    take.begin();
    match order.mode {
        Mode::Crr => connect::run(order, &mut take)?,
        Mode::Rr => converse::stream(order, &mut take)?,
        Mode::UdpRr => converse::connected_datagrams(order, &mut take)?,
        Mode::UdpSendRr => converse::datagrams(order, &mut take)?,
        Mode::Stream => pour::stream(order, &mut take)?,
        Mode::Datagrams => pour::datagrams(order, &mut take)?,
        Mode::Held(count) => held::run(order, count, &mut take)?,
        Mode::Until(turn) => turn::run(order, turn, &mut take)?,
    }
    let nanos = take.end();
    let (client, server) = (clock::processor_time(own)?, servers()?);
    clock::alarm(None)?;
    let mut report = take.into_report(order)?;
    report.nanos = nanos;
    report.client_cpu = client - client_before;
    report.server_cpu = server - server_before;
    Ok(report)
}

/// What is noted while an order is carried out.
pub(crate) struct Take {
    report: Report,
    connect: Histogram<u32>,
    whole: Histogram<u32>,
    raw: Option<Vec<u32>>,
    began: u64,
    ends: u64,
    millis: u64,
    limit: u64,
    looked: u64,
}

impl Take {
    fn new(order: &Order) -> Result<Self> {
        // Three digits: steps of a thousandth. All the memory it will need is there from the start.
        let histogram = || Histogram::<u32>::new_with_bounds(1, LONGEST, 3).context("a histogram");
        Ok(Self {
            report: Report::default(),
            connect: histogram()?,
            whole: histogram()?,
            raw: order.raw.as_ref().map(|_| Vec::with_capacity(1 << 20)),
            began: 0,
            ends: 0,
            millis: order.millis,
            limit: order.limit,
            looked: 0,
        })
    }

    fn begin(&mut self) {
        self.began = clock::now();
        self.ends = self.began + self.millis * 1_000_000;
    }

    fn end(&self) -> u64 {
        clock::now() - self.began
    }

    /// Whether there is time, and work, for another transaction.
    #[inline]
    fn goes_on(&mut self, now: u64) -> bool {
        if now >= self.ends || self.report.transactions + self.report.failures >= self.limit {
            return false;
        }
        if self.millis > SHORT {
            self.looked += 1;
            return !self.looked.is_multiple_of(LOOK) || !called_off();
        }
        true
    }

    #[inline]
    fn connected(&mut self, nanos: u64) {
        self.connect.saturating_record(nanos);
    }

    #[inline]
    fn done(&mut self, nanos: u64) {
        self.report.transactions += 1;
        self.whole.saturating_record(nanos);
        if let Some(raw) = &mut self.raw {
            raw.push(u32::try_from(nanos).unwrap_or(u32::MAX));
        }
    }

    /// Notes a failure: what was being done, and what the kernel said.
    #[cold]
    fn failed(&mut self, what: &str, error: impl std::fmt::Display) {
        self.report.failures += 1;
        if self.report.first_failures.len() < TOLD {
            let at = (clock::now() - self.began) as f64 / 1e9;
            self.report.first_failures.push(format!("{at:.3}s {what}: {error}"));
        }
    }

    fn into_report(self, order: &Order) -> Result<Report> {
        if let (Some(path), Some(raw)) = (&order.raw, &self.raw) {
            let mut file =
                BufWriter::new(File::create(path).with_context(|| format!("making {}", path.display()))?);
            raw.iter().try_for_each(|nanos| file.write_all(&nanos.to_le_bytes()))?;
            file.flush()?;
        }
        let spread = |histogram: &Histogram<u32>| {
            let values = histogram.iter_recorded();
            let pairs = values.map(|value| (value.value_iterated_to(), u64::from(value.count_at_value())));
            Spread::new(pairs.collect())
        };
        Ok(Report { connect: spread(&self.connect), whole: spread(&self.whole), ..self.report })
    }
}

/// Lets calls on a socket fail after some seconds: the kernel asks again after one second and three.
fn be_patient(socket: &OwnedFd) -> Result<()> {
    for way in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(socket, way, Some(PATIENCE)).context("setting the patience of a socket")?;
    }
    Ok(())
}

/// Whether a line, or the end, waits on standard input. The line is read with the next order.
fn called_off() -> bool {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    // An alarm says nothing about the input.
    poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
}
