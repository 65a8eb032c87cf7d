//! How a first list is asked for, and how long to wait after a failure.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use kube::runtime::watcher;

const SHORTEST: Duration = Duration::from_millis(200);
/// Short enough that a cluster whose API server is back is served again before anybody looks.
const LONGEST: Duration = Duration::from_secs(5);

/// How a first list is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Listing {
    /// As the beginning of the watch (`sendInitialEvents`): cheap for the server, one request.
    Streaming,
    /// A list in pages, then a watch from there: every server offers it.
    Paged,
}

impl Listing {
    pub(super) fn apply(self, config: watcher::Config) -> watcher::Config {
        match self {
            Self::Streaming => config.streaming_lists(),
            Self::Paged => config,
        }
    }

    /// What to do after a failure before the first list was complete. A server that does not offer streaming
    /// lists calls the request invalid (422), or bad (400).
    pub(super) fn after(self, error: &watcher::Error) -> Self {
        match (self, status(error)) {
            (Self::Streaming, Some(400 | 422)) => Self::Paged,
            (same, _) => same,
        }
    }
}

/// HTTP status of a refusal by the server; `None` if it did not answer.
pub(super) fn status(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        watcher::Error::InitialListFailed(_)
        | watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::NoResourceVersion => None,
    }
}

/// Waiting times that double, each a little off, so that many nodes do not come back at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: SHORTEST }
    }

    pub(super) fn reset(&mut self) {
        self.next = SHORTEST;
    }

    /// How long to wait now.
    pub(super) fn step(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        // A fresh RandomState is as random as is needed here: up to a quarter more.
        let share = (RandomState::new().hash_one(0_u8) % 256) as u32;
        wait + wait * share / 1024
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::Status;

    fn refused(code: u16) -> watcher::Error {
        watcher::Error::WatchStartFailed(kube::Error::Api(
            Status::failure("no", "no").with_code(code).boxed(),
        ))
    }

    #[test]
    fn only_a_server_that_does_not_know_streaming_lists_is_asked_for_pages() {
        assert_eq!(Listing::Streaming.after(&refused(422)), Listing::Paged);
        assert_eq!(Listing::Streaming.after(&refused(400)), Listing::Paged);
        assert_eq!(Listing::Streaming.after(&refused(403)), Listing::Streaming);
        assert_eq!(Listing::Streaming.after(&refused(503)), Listing::Streaming);
        assert_eq!(Listing::Streaming.after(&watcher::Error::NoResourceVersion), Listing::Streaming);
        assert_eq!(Listing::Paged.after(&refused(422)), Listing::Paged);
    }

    #[test]
    fn waiting_times_grow_to_a_bound_and_begin_anew() {
        let mut backoff = Backoff::new();
        let waits: Vec<Duration> = (0..12).map(|_| backoff.step()).collect();
        assert!(waits.iter().all(|wait| *wait >= SHORTEST && *wait <= LONGEST + LONGEST / 4), "{waits:?}");
        assert!(waits[11] >= LONGEST);
        backoff.reset();
        assert!(backoff.step() < SHORTEST * 2);
    }
}
