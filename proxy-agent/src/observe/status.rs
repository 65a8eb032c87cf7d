//! The state behind the health checks (items 123, 131, 132): written by the run loop, read by the servers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use proxy_model::IpFamily;
use proxy_model::local::HealthChecks;
use tokio::sync::watch;

use crate::source::{Contact, Kind};

/// Sync period that is assumed where none is given (item 113).
pub const SYNC_PERIOD: Duration = Duration::from_secs(30);

/// Shared by the run loop and the servers.
#[derive(Debug, Default)]
pub struct Status {
    inner: Mutex<Snapshot>,
    checks: watch::Sender<Arc<HealthChecks>>,
}

/// The state at one moment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The families that are served, each with how far it is (item 150).
    pub families: BTreeMap<IpFamily, Progress>,
    /// A change that waits this long makes its family unhealthy: twice the sync period (item 131).
    pub patience: Duration,
    /// Whether connections are judged by the policies that there are.
    pub guard: Guard,
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
    /// Policies that had to be refused.
    pub refused_policies: usize,
    /// Addresses on which health checks of Services cannot be answered (item 129).
    pub failed_checks: usize,
}

/// How far one family is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Progress {
    /// When the kernel last came to agree with the objects.
    pub last_sync: Option<SystemTime>,
    /// Since when a change waits to be written.
    pub pending_since: Option<SystemTime>,
}

/// How far policies are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Guard {
    /// They were planned and written, or are left to another (`--network-policy=off`).
    #[default]
    InForce,
    /// Not everything is known that they need; pods that came while no agent ran may be open.
    Awaited,
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

impl Default for Snapshot {
    /// Both families, nothing done yet.
    fn default() -> Self {
        Self {
            families: IpFamily::ALL.map(|family| (family, Progress::default())).into(),
            patience: 2 * SYNC_PERIOD,
            guard: Guard::default(),
            eligibility: Eligibility::default(),
            contact: None,
            problems: BTreeMap::new(),
            unreadable_files: 0,
            refused: 0,
            refused_policies: 0,
            failed_checks: 0,
        }
    }
}

impl Status {
    /// The state before the first sync of these families.
    pub fn of(families: &[IpFamily], sync_period: Duration) -> Self {
        let status = Self::default();
        status.update(|snapshot| {
            snapshot.families.retain(|family, _| families.contains(family));
            snapshot.patience = 2 * sync_period;
        });
        status
    }

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
    /// The first full plan is in the kernel, and so are the policies.
    pub fn is_ready(&self) -> bool {
        self.guard == Guard::InForce && self.families.values().all(|progress| progress.last_sync.is_some())
    }

    /// No change of any family has waited for too long (item 131).
    pub fn is_alive(&self, now: SystemTime) -> bool {
        self.families.values().all(|progress| self.is_in_time(progress, now))
    }

    /// No change of this family has waited for too long.
    pub fn is_in_time(&self, progress: &Progress, now: SystemTime) -> bool {
        let waits = progress.pending_since.and_then(|since| now.duration_since(since).ok());
        waits.is_none_or(|waits| waits < self.patience)
    }

    /// When the kernel last came to agree with the objects, in whichever family.
    pub fn last_sync(&self) -> Option<SystemTime> {
        self.families.values().filter_map(|progress| progress.last_sync).max()
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
    fn items_123_131_and_150_what_makes_a_node_unhealthy() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
        let waiting = |family, secs| {
            let mut snapshot = Snapshot::default();
            snapshot.families.entry(family).or_default().pending_since =
                Some(now - Duration::from_secs(secs));
            snapshot
        };
        let leaving = Snapshot { eligibility: Eligibility::Leaving, ..Snapshot::default() };
        let patient = Snapshot { patience: Duration::from_secs(90), ..waiting(IpFamily::Ipv4, 60) };
        for (snapshot, healthy, alive) in [
            (Snapshot::default(), true, true),
            (waiting(IpFamily::Ipv4, 59), true, true),
            (waiting(IpFamily::Ipv4, 60), false, false),
            (waiting(IpFamily::Ipv6, 60), false, false),
            (patient, true, true),
            (leaving, false, true),
        ] {
            assert_eq!((snapshot.is_healthy(now), snapshot.is_alive(now)), (healthy, alive), "{snapshot:?}");
        }
    }

    #[test]
    fn a_family_that_is_not_served_is_never_waited_for() {
        let status = Status::of(&[IpFamily::Ipv6], SYNC_PERIOD);
        status.update(|status| {
            status.families.values_mut().for_each(|progress| progress.last_sync = Some(SystemTime::now()));
        });
        let snapshot = status.snapshot();
        assert_eq!(snapshot.families.keys().collect::<Vec<_>>(), [&IpFamily::Ipv6]);
        assert!(snapshot.is_ready());
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
