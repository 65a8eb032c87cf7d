//! A load: new connections without an end, counted, until it is stopped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result};
use sluice_lab::wire::{LoadReport, Outcome, Probe};

use crate::attempt::Attempt;

/// Failures that are kept with the time at which they came.
const REMEMBERED: usize = 20;

const NICE: i32 = 15;

/// What a kernel lets pass before it sends a SYN again by itself.
const LATE: Duration = Duration::from_secs(1);

/// A running load. Dropping it ends it.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<LoadReport>>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    pub(crate) fn start(probe: Probe) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(LoadReport::default()));
        let (stopped, shared) = (Arc::clone(&stop), Arc::clone(&report));
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(move || run(probe, &stopped, &shared))
            .context("starting a load")?;
        Ok(Self { stop, report, thread: Some(thread) })
    }

    pub(crate) fn report(&self) -> LoadReport {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for the attempts under way: a connection that hangs when the load ends is a failed one, not a forgotten one.
    pub(crate) fn stop(mut self) -> LoadReport {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the load shows in the report: what it counted until then.
            let _ = thread.join();
        }
        self.report()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(probe: Probe, stop: &AtomicBool, report: &Mutex<LoadReport>) {
    // Clients that take what is left of the machine: elsewhere they would be on others. On Linux, this is for the calling
    // thread alone. Without it the load only weighs more.
    let _ = rustix::process::setpriority_process(None, NICE);
    let begin = Instant::now();
    // Count is what ends a batch, and this one ends by `stop`; four thousand million attempts are an end of no concern.
    let probes = [Probe { count: u32::MAX, ..probe }];
    crate::batch::run(&probes, stop, |end| {
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        report.tally.add(&end.outcome);
        match &end.outcome {
            Outcome::Answered(answer) => {
                report.slowest = report.slowest.max(end.took);
                report.late += u32::from(end.took >= LATE);
                // In this order: whatever comes between the two clocks makes it seem earlier, never later.
                let now = SystemTime::now();
                let began = now - end.attempt.map_or(end.took, |attempt| attempt.started().elapsed());
                let last = report.last.entry(answer.name.clone()).or_insert(began);
                *last = (*last).max(began);
            }
            Outcome::Failed(failure) if report.first_failures.len() < REMEMBERED => {
                let at = begin.elapsed().saturating_sub(end.took).as_secs_f64();
                let from = end.attempt.and_then(Attempt::own_name);
                let from = from.map(|from| format!(", from {from}")).unwrap_or_default();
                report.first_failures.push(format!("{at:.3}s: {failure}{from}"));
            }
            Outcome::Failed(_) => {}
        }
    });
}
