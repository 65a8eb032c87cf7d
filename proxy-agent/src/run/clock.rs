//! Between moments and the milliseconds that planners count, both ways: a planner has reached a tick when, and not before, its
//! moment has come. Knows no planners and no timers.

use std::time::{Duration, Instant};

use proxy_model::Tick;

/// Counts from its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock(Instant);

impl Clock {
    /// One whose first tick is now.
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    /// The last tick that a moment has reached.
    pub(super) fn tick(self, at: Instant) -> Tick {
        let millis = at.saturating_duration_since(self.0).as_millis();
        Tick(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// The first moment that has reached a tick.
    pub(super) fn moment(self, tick: Tick) -> Instant {
        self.0 + Duration::from_millis(tick.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_reached_in_its_moment_and_not_before() {
        let clock = Clock::start();
        for tick in [Tick(1), Tick(2_000), Tick(86_400_000)] {
            let moment = clock.moment(tick);
            assert_eq!(clock.tick(moment), tick);
            assert_eq!(clock.tick(moment - Duration::from_nanos(1)), Tick(tick.0 - 1));
            assert_eq!(clock.tick(moment + Duration::from_nanos(999_999)), tick);
        }
    }
}
