//! The state behind the health checks (items 123, 131, 132): written by the run loop, read by the servers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use proxy_model::local::HealthChecks;
use tokio::sync::watch;

use crate::source::{Contact, Kind};

/// A change that waits longer than this makes the agent unhealthy: twice the sync period of item 131.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Shared by the run loop and the servers.
#[derive(Debug, Default)]
pub struct Status {
    inner: Mutex<Snapshot>,
    checks: watch::Sender<Arc<HealthChecks>>,
}

/// The state at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Snapshot {
    /// When the kernel last came to agree with the objects.
    pub last_sync: Option<SystemTime>,
    /// Since when a change waits to be written.
    pub pending_since: Option<SystemTime>,
    /// Whether load balancers may send traffic here.
    pub eligibility: Eligibility,
    /// Whether the source can still be asked; `None` until it has told everything once.
    pub contact: Option<Contact>,
    /// Objects of which part was left out, by kind.
    pub problems: BTreeMap<Kind, usize>,
    /// Files that cannot be read in full.
    pub unreadable_files: usize,
    /// Frontends that had to be refused.
    pub refused: usize,
}

/// Whether load balancers may send traffic to this node (item 123).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Eligibility {
    /// There was no Node object yet: nothing speaks against it.
    #[default]
    Unknown,
    /// The Node is there to stay.
    Eligible,
    /// The Node is gone, being deleted, or about to be.
    Leaving,
}

impl Status {
    /// A copy.
    pub fn snapshot(&self) -> Snapshot {
        self.lock().clone()
    }

    /// Changes it.
    pub fn update(&self, change: impl FnOnce(&mut Snapshot)) {
        change(&mut self.lock());
    }

    /// The health checks of Services, and their changes.
    pub fn health_checks(&self) -> watch::Receiver<Arc<HealthChecks>> {
        self.checks.subscribe()
    }

    /// These are the health checks now.
    pub fn publish_health_checks(&self, checks: HealthChecks) {
        self.checks.send_if_modified(|known| {
            let differs = **known != checks;
            if differs {
                *known = Arc::new(checks);
            }
            differs
        });
    }

    fn lock(&self) -> MutexGuard<'_, Snapshot> {
        // Plain data: a panic in between leaves nothing half done that matters.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// The first full plan is in the kernel.
    pub fn is_ready(&self) -> bool {
        self.last_sync.is_some()
    }

    /// No change has waited for too long (item 131).
    pub fn is_alive(&self, now: SystemTime) -> bool {
        let waits = self.pending_since.and_then(|since| now.duration_since(since).ok());
        waits.is_none_or(|waits| waits <= PATIENCE)
    }

    /// Alive, and load balancers may send traffic here (items 123, 131).
    pub fn is_healthy(&self, now: SystemTime) -> bool {
        self.is_alive(now) && self.is_eligible()
    }

    /// Load balancers may send traffic here (item 123).
    pub fn is_eligible(&self) -> bool {
        match self.eligibility {
            Eligibility::Unknown | Eligibility::Eligible => true,
            Eligibility::Leaving => false,
        }
    }

    /// For how long the source has not answered; zero while it does.
    pub fn source_age(&self, now: SystemTime) -> Duration {
        match &self.contact {
            Some(Contact::LostSince(since)) => now.duration_since(*since).unwrap_or_default(),
            Some(Contact::Current) | None => Duration::ZERO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_123_and_131_what_makes_a_node_unhealthy() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let waiting =
            |secs| Snapshot { pending_since: Some(now - Duration::from_secs(secs)), ..Snapshot::default() };
        let leaving = Snapshot { eligibility: Eligibility::Leaving, ..Snapshot::default() };
        for (snapshot, healthy, alive) in [
            (Snapshot::default(), true, true),
            (waiting(60), true, true),
            (waiting(61), false, false),
            (leaving, false, true),
        ] {
            assert_eq!((snapshot.is_healthy(now), snapshot.is_alive(now)), (healthy, alive), "{snapshot:?}");
        }
    }

    #[test]
    fn the_age_of_what_is_known_counts_from_the_last_contact() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let lost = Some(Contact::LostSince(now - Duration::from_secs(7)));
        let age = |contact| Snapshot { contact, ..Snapshot::default() }.source_age(now);
        assert_eq!(
            (age(None), age(Some(Contact::Current)), age(lost)),
            (Duration::ZERO, Duration::ZERO, Duration::from_secs(7))
        );
    }
}
