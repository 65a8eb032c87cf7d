//! How long ago a flow was seen: jiffies of the kernel turned into seconds. Nobody tells userspace how many jiffies
//! a second has, so it is measured between two readings.

use std::{
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use aya::programs::ProgramError;

use super::{error::Error, load::CLOCK, sys};

/// Values of `CONFIG_HZ` that exist.
const RATES: [u32; 4] = [100, 250, 300, 1_000];

/// Shortest time between two readings that tells the rates apart: 250 and 300 differ by a fifth.
const LEAST: Duration = Duration::from_secs(1);

/// Two readings, and what they say.
#[derive(Debug)]
pub struct Clock {
    program: OwnedFd,
    start: (Instant, u32),
    rate: Option<u32>,
}

/// A moment as flow entries have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Jiffies {
    /// Low 32 bits of the count.
    pub now: u32,
    /// Jiffies a second.
    pub rate: u32,
}

impl Jiffies {
    /// Whole seconds since `seen`; an entry from the future, written after `now` was read, is new.
    #[must_use]
    pub const fn since(self, seen: u32) -> u32 {
        let age = self.now.wrapping_sub(seen);
        if age > u32::MAX / 2 { 0 } else { age / self.rate }
    }
}

impl Clock {
    /// Takes the first reading.
    ///
    /// # Errors
    /// [`Error::Program`].
    pub fn start(program: OwnedFd, now: Instant) -> Result<Self, Error> {
        let jiffies = jiffies(program.as_fd())?;
        Ok(Self { program, start: (now, jiffies), rate: None })
    }

    /// The moment `now`; `None` while the first reading is too fresh to measure the rate.
    ///
    /// # Errors
    /// [`Error::Program`].
    pub fn read(&mut self, now: Instant) -> Result<Option<Jiffies>, Error> {
        let jiffies = jiffies(self.program.as_fd())?;
        let elapsed = now.saturating_duration_since(self.start.0);
        if self.rate.is_none() && elapsed >= LEAST {
            self.rate = Some(nearest(jiffies.wrapping_sub(self.start.1), elapsed));
        }
        Ok(self.rate.map(|rate| Jiffies { now: jiffies, rate }))
    }
}

/// The low 32 bits of the kernel's jiffies now.
///
/// # Errors
/// [`Error::Program`].
pub(super) fn jiffies(program: BorrowedFd<'_>) -> Result<u32, Error> {
    // It writes the count over the first eight bytes of the packet.
    let (packet, mut out) = ([0_u8; 64], [0_u8; 64]);
    let failed = |error| Error::Program { name: CLOCK, source: ProgramError::IOError(error) };
    sys::test_run(program, &packet, &mut out).map_err(failed)?;
    let [a, b, c, d, ..] = out;
    Ok(u32::from_ne_bytes([a, b, c, d]))
}

fn nearest(ticks: u32, elapsed: Duration) -> u32 {
    let measured = f64::from(ticks) / elapsed.as_secs_f64();
    let distance = |rate: u32| (f64::from(rate) / measured).ln().abs();
    RATES.into_iter().min_by(|a, b| distance(*a).total_cmp(&distance(*b))).unwrap_or(RATES[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_the_nearest_that_exists() {
        let second = Duration::from_millis(1_003);
        for (ticks, rate) in
            [(100, 100), (101, 100), (250, 250), (273, 250), (276, 300), (300, 300), (990, 1_000)]
        {
            assert_eq!(nearest(ticks, second), rate, "{ticks} in a second");
        }
    }

    #[test]
    fn ages_survive_the_wrap_and_entries_newer_than_the_reading() {
        let now = Jiffies { now: 500, rate: 250 };
        assert_eq!(now.since(0), 2);
        assert_eq!(now.since(u32::MAX - 499), 4);
        assert_eq!(now.since(501), 0);
    }
}
