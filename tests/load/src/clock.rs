//! Time: the monotonic clock, processor time of processes, an alarm that ends a call which would wait for ever, and the
//! processor to run on.

use std::io;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// How often a call that hangs after the alarm is interrupted again.
const AGAIN: Duration = Duration::from_millis(200);

/// Nanoseconds of the monotonic clock.
#[inline]
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs()
}

/// Nanoseconds of processor time that a process has had so far, user and kernel, with what the kernel did for others meanwhile
/// (softirq on this processor: here the packets of the load itself). The clock behind `getrusage`, for any process.
pub(crate) fn processor_time(pid: i32) -> Result<u64> {
    let mut clock = 0;
    // SAFETY: writes one clock id behind a pointer to one.
    let error = unsafe { libc::clock_getcpuclockid(pid, &raw mut clock) };
    ensure!(error == 0, "processor time of {pid}: {}", io::Error::from_raw_os_error(error));
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes one timespec behind a pointer to one.
    let result = unsafe { libc::clock_gettime(clock, &raw mut time) };
    ensure!(result == 0, "processor time of {pid}: {}", io::Error::last_os_error());
    Ok(time.tv_sec.unsigned_abs() * 1_000_000_000 + time.tv_nsec.unsigned_abs())
}

/// Runs the calling thread on this processor only.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("running on processor {cpu}"))
}

/// From `after` on, every waiting call is interrupted (`EINTR`), again and again, until the alarm is set anew or taken back by
/// `None`. It costs nothing per call, as timeouts on sockets would.
pub(crate) fn alarm(after: Option<Duration>) -> Result<()> {
    let interval = |time: Duration| libc::timeval {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_usec: i64::from(time.subsec_micros()),
    };
    let timer = libc::itimerval {
        it_value: interval(after.unwrap_or_default()),
        it_interval: interval(after.map_or(Duration::ZERO, |_| AGAIN)),
    };
    // SAFETY: reads one itimerval; the old one is not asked for.
    let result = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    ensure!(result == 0, "setting an alarm: {}", io::Error::last_os_error());
    Ok(())
}

/// Lets the alarm interrupt calls rather than end the process.
pub(crate) fn expect_alarms() -> Result<()> {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler: extern "C" fn(libc::c_int) = nothing;
    // SAFETY: all zeros are a valid sigaction: no flags, so calls are not restarted, and an empty mask.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler as libc::sighandler_t;
    // SAFETY: the handler does nothing, which is allowed at any moment; one sigaction is read, none written.
    let result = unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    ensure!(result == 0, "expecting alarms: {}", io::Error::last_os_error());
    Ok(())
}
