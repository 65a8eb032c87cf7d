//! Runs many attempts at once in one thread. Knows when to start and when to give up; what an attempt does is its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use sluice_lab::tally::Tally;
use sluice_lab::wire::{Outcome, Probe};

use crate::attempt::Attempt;

/// Sockets that one batch may have open: below the usual limit of 1024 descriptors, should the limit not be raisable.
const OPEN_AT_ONCE: usize = 768;
/// Longest sleep, so that a stopped load ends soon.
const NAP: Duration = Duration::from_millis(100);

/// One attempt that is over.
pub(crate) struct Finished<'a> {
    /// Index of its probe.
    pub(crate) probe: usize,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
    /// `None` where not even a socket could be opened.
    pub(crate) attempt: Option<&'a Attempt>,
}

struct Line {
    started: u32,
    open: u32,
    next: Instant,
}

/// Runs all attempts of all probes, and calls `finished` for each. When `stop` is raised, no attempt is started any more
/// and those under way are waited for.
pub(crate) fn run(probes: &[Probe], stop: &AtomicBool, mut finished: impl FnMut(&Finished<'_>)) {
    let begin = Instant::now();
    let mut lines: Vec<Line> = probes.iter().map(|_| Line { started: 0, open: 0, next: begin }).collect();
    let mut open: Vec<(usize, Attempt)> = Vec::new();
    loop {
        let now = Instant::now();
        let wake = start(probes, &mut lines, &mut open, stop, now, &mut finished);
        if open.is_empty() && wake.is_none() {
            return;
        }
        wait(&mut open, &mut lines, wake, &mut finished);
    }
}

/// Runs all probes and counts what they came to, one tally per probe.
pub(crate) fn tallies(probes: &[Probe]) -> Vec<Tally> {
    let mut tallies = vec![Tally::default(); probes.len()];
    run(probes, &AtomicBool::new(false), |end| {
        let tally = &mut tallies[end.probe];
        tally.add(&end.outcome);
        if matches!(end.outcome, Outcome::Answered(_)) {
            tally.peer_names.extend(end.attempt.and_then(Attempt::peer_name));
        }
    });
    tallies
}

/// Starts what may start now. Returns when the next attempt is due, if any is still to come.
fn start(
    probes: &[Probe],
    lines: &mut [Line],
    open: &mut Vec<(usize, Attempt)>,
    stop: &AtomicBool,
    now: Instant,
    finished: &mut impl FnMut(&Finished<'_>),
) -> Option<Instant> {
    let mut wake: Option<Instant> = None;
    for (index, (probe, line)) in probes.iter().zip(lines).enumerate() {
        while line.started < probe.count && line.open < probe.concurrency.max(1) && open.len() < OPEN_AT_ONCE
        {
            if stop.load(Ordering::Relaxed) || line.next > now {
                break;
            }
            line.started += 1;
            line.next = now + probe.pause;
            match Attempt::start(probe, now) {
                Ok(attempt) => {
                    line.open += 1;
                    open.push((index, attempt));
                }
                Err(failure) => {
                    let outcome = Outcome::Failed(failure);
                    finished(&Finished { probe: index, outcome, took: now.elapsed(), attempt: None });
                    // A load against a hook that refuses at once would otherwise never come to the poll below.
                    if probe.count == u32::MAX {
                        line.next = line.next.max(now + Duration::from_millis(1));
                    }
                }
            }
        }
        if line.started < probe.count && !stop.load(Ordering::Relaxed) {
            wake = Some(wake.map_or(line.next, |wake| wake.min(line.next)));
        }
    }
    wake
}

/// Sleeps until something is ready or due, and finishes what came to its end.
fn wait(
    open: &mut Vec<(usize, Attempt)>,
    lines: &mut [Line],
    wake: Option<Instant>,
    finished: &mut impl FnMut(&Finished<'_>),
) {
    let now = Instant::now();
    let due = open.iter().map(|(_, attempt)| attempt.deadline());
    let until = due.chain(wake.filter(|wake| *wake > now)).min().unwrap_or(now);
    let sleep = until.saturating_duration_since(now).min(NAP) + Duration::from_micros(100);
    let mut fds: Vec<PollFd<'_>> =
        open.iter().map(|(_, attempt)| PollFd::from_borrowed_fd(attempt.fd(), attempt.interest())).collect();
    let timeout = Timespec::try_from(sleep).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
    // An interrupted or failed poll shows up as no events; deadlines still hold.
    let _ = poll(&mut fds, Some(&timeout));
    let ready: Vec<bool> = fds.iter().map(|fd| fd.revents() != PollFlags::empty()).collect();
    drop(fds);
    let now = Instant::now();
    let mut ready = ready.into_iter();
    open.retain_mut(|(probe, attempt)| {
        let mut end = if ready.next() == Some(true) { attempt.on_ready(now) } else { None };
        if end.is_none() && attempt.deadline() <= now {
            end = attempt.on_deadline(now);
        }
        let Some(outcome) = end else { return true };
        lines[*probe].open -= 1;
        let took = attempt.started().elapsed();
        finished(&Finished { probe: *probe, outcome, took, attempt: Some(attempt) });
        false
    });
}

/// Brings one exchange on an open attempt to its end.
pub(crate) fn finish(attempt: &mut Attempt) -> Outcome {
    loop {
        let now = Instant::now();
        let sleep = attempt.deadline().saturating_duration_since(now) + Duration::from_micros(100);
        let timeout = Timespec::try_from(sleep).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 1_000_000 });
        let mut fds = [PollFd::from_borrowed_fd(attempt.fd(), attempt.interest())];
        let ready = poll(&mut fds, Some(&timeout)).is_ok_and(|count| count > 0);
        let now = Instant::now();
        let mut end = if ready { attempt.on_ready(now) } else { None };
        if end.is_none() && attempt.deadline() <= now {
            end = attempt.on_deadline(now);
        }
        if let Some(outcome) = end {
            return outcome;
        }
    }
}
