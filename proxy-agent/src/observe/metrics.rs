//! Metrics of the agent itself. Names under `kubeproxy_` are kube-proxy's own (items 134–138, 141), so that
//! dashboards and alerts keep working; everything else is `sluice_`.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use proxy_model::IpFamily;
use proxy_model::local::NothingHere;
use proxy_model::plan::Usage;

use super::maps::PinnedMaps;
use super::status::Snapshot;
use crate::kernel::{Collected, Outcome, State};
use crate::source::Kind;

/// One label.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct CodeLabel {
    code: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct FamilyLabel {
    ip_family: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct WriteLabel {
    operation: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PolicyLabel {
    traffic_policy: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

type Seconds = Gauge<f64, AtomicU64>;

/// All metrics. Cheap to write, from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    sync_duration: Histogram,
    programming: Histogram,
    last_sync: Seconds,
    last_queued: Seconds,
    service_changes: Counter,
    endpoint_changes: Counter,
    healthz: Family<CodeLabel, Counter>,
    livez: Family<CodeLabel, Counter>,
    writes: Family<WriteLabel, Counter>,
    write_failures: Counter,
    audits: Counter,
    repairs: Counter,
    collected: Family<KindLabel, Counter>,
    problems: Family<KindLabel, Gauge>,
    refused: Gauge,
    unreadable_files: Gauge,
    source_age: Seconds,
    ready: Gauge,
    frontends: Family<FamilyLabel, Gauge>,
    backend_slots: Family<FamilyLabel, Gauge>,
    adopted: Family<WriteLabel, Gauge>,
    nothing_here: Family<PolicyLabel, Gauge>,
    health_checks: Family<StateLabel, Gauge>,
}

/// Bounds in seconds of kube-proxy's `network_programming_duration_seconds` (item 135).
fn programming_buckets() -> impl Iterator<Item = f64> {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from))
}

impl Metrics {
    /// All at zero; `maps` are read at each scrape.
    pub fn new(maps: PinnedMaps) -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            sync_duration: Histogram::new((0..18).map(|power| 0.000_1 * f64::from(1 << power))),
            programming: Histogram::new(programming_buckets()),
            last_sync: Gauge::default(),
            last_queued: Gauge::default(),
            service_changes: Counter::default(),
            endpoint_changes: Counter::default(),
            healthz: Family::default(),
            livez: Family::default(),
            writes: Family::default(),
            write_failures: Counter::default(),
            audits: Counter::default(),
            repairs: Counter::default(),
            collected: Family::default(),
            problems: Family::default(),
            refused: Gauge::default(),
            unreadable_files: Gauge::default(),
            source_age: Gauge::default(),
            ready: Gauge::default(),
            frontends: Family::default(),
            backend_slots: Family::default(),
            adopted: Family::default(),
            nothing_here: Family::default(),
            health_checks: Family::default(),
        };
        metrics.register_kube_proxy();
        metrics.register_own();
        metrics.registry.register_collector(Box::new(maps));
        metrics
    }

    fn register_kube_proxy(&mut self) {
        let Self { registry, .. } = self;
        let kube = registry.sub_registry_with_prefix("kubeproxy");
        let mut seconds = |name: &str, help: &str, gauge: &Seconds| kube.register(name, help, gauge.clone());
        seconds(
            "sync_proxy_rules_last_timestamp_seconds",
            "When the kernel last came to agree with the objects",
            &self.last_sync,
        );
        seconds(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "When a change was last queued to be written",
            &self.last_queued,
        );
        kube.register(
            "sync_proxy_rules_duration_seconds",
            "Time from the beginning of a plan to its last write",
            self.sync_duration.clone(),
        );
        kube.register(
            "network_programming_duration_seconds",
            "Time from the change of a pod or Service to the kernel",
            self.programming.clone(),
        );
        kube.register(
            "sync_proxy_rules_service_changes",
            "Changes of Services",
            self.service_changes.clone(),
        );
        kube.register(
            "sync_proxy_rules_endpoint_changes",
            "Changes of EndpointSlices",
            self.endpoint_changes.clone(),
        );
        kube.register(
            "sync_proxy_rules_no_local_endpoints_total",
            "Service ports with endpoints elsewhere but none here, by the policy that asks for them here",
            self.nothing_here.clone(),
        );
        kube.register("proxy_healthz", "Answers of /healthz by status", self.healthz.clone());
        kube.register("proxy_livez", "Answers of /livez by status", self.livez.clone());
    }

    fn register_own(&mut self) {
        let Self { registry, .. } = self;
        let own = registry.sub_registry_with_prefix("sluice");
        own.register("plan_writes", "Writes to the maps by operation", self.writes.clone());
        own.register(
            "plan_write_failures",
            "Writes that failed and are tried again",
            self.write_failures.clone(),
        );
        own.register("audits", "Comparisons of the maps with what they should hold", self.audits.clone());
        own.register("audit_repairs", "Writes that an audit found missing", self.repairs.clone());
        own.register("collected_entries", "Entries removed because they were over", self.collected.clone());
        own.register("object_problems", "Objects of which part was left out", self.problems.clone());
        own.register(
            "refused_frontends",
            "Frontends that could not be served as asked",
            self.refused.clone(),
        );
        own.register(
            "unreadable_files",
            "Manifests that cannot be read in full",
            self.unreadable_files.clone(),
        );
        own.register("source_age_seconds", "Time since the source last answered", self.source_age.clone());
        own.register("frontends", "Entries of frontends in use", self.frontends.clone());
        own.register("backend_slots", "Slots of backends in use or at rest", self.backend_slots.clone());
        own.register("ready", "1 once the first full plan is in the kernel", self.ready.clone());
        own.register(
            "adoption_frontends",
            "What the start did to the frontends it found",
            self.adopted.clone(),
        );
        own.register(
            "health_checks",
            "Addresses on which health checks of Services are to be answered",
            self.health_checks.clone(),
        );
    }

    /// A plan was made and written.
    pub fn synced(&self, took: Duration, outcome: &Outcome) {
        self.sync_duration.observe(took.as_secs_f64());
        let count = |operation, count: usize| {
            self.writes.get_or_create(&WriteLabel { operation }).inc_by(count as u64);
        };
        for made in [
            (&outcome.v4.slots, &outcome.v4.written, &outcome.v4.deleted),
            (&outcome.v6.slots, &outcome.v6.written, &outcome.v6.deleted),
        ] {
            let (slots, written, deleted) = made;
            count("slot", *slots);
            count("put", *written);
            count("delete", *deleted);
        }
        self.write_failures.inc_by((outcome.v4.failures.len() + outcome.v6.failures.len()) as u64);
    }

    /// The kernel agrees with the objects; these changes of pods are in it.
    pub fn agreed(&self, now: SystemTime, triggers: impl Iterator<Item = SystemTime>) {
        self.last_sync.set(unix(now));
        for trigger in triggers {
            self.programming.observe(now.duration_since(trigger).unwrap_or_default().as_secs_f64());
        }
    }

    /// A change was queued.
    pub fn queued(&self, now: SystemTime, kind: Kind) {
        self.last_queued.set(unix(now));
        match kind {
            Kind::Service => drop(self.service_changes.inc()),
            Kind::EndpointSlice => drop(self.endpoint_changes.inc()),
            Kind::Node | Kind::Namespace | Kind::Pod | Kind::ServiceCidr => {}
        }
    }

    /// The maps were compared with what they should hold, and so many writes were missing.
    pub fn audited(&self, repairs: usize) {
        self.audits.inc();
        self.repairs.inc_by(repairs as u64);
    }

    /// How much of the maps of a family is in use.
    pub fn used(&self, family: IpFamily, usage: Usage) {
        let label = FamilyLabel { ip_family: family.name() };
        self.frontends.get_or_create(&label).set(i64::from(usage.frontends));
        self.backend_slots.get_or_create(&label).set(i64::from(usage.backends));
    }

    /// Entries that were over were removed.
    pub fn collected(&self, removed: &Collected) {
        let Collected { flows, half_open, affinity } = removed;
        for (kind, count) in [("flows", flows), ("halfopen", half_open), ("affinity", affinity)] {
            self.collected.get_or_create(&KindLabel { kind }).inc_by(*count as u64);
        }
    }

    /// What this start found and did.
    pub fn adopted(&self, state: &State) {
        for (operation, count) in
            [("kept", state.kept), ("written", state.written), ("deleted", state.deleted)]
        {
            self.adopted.get_or_create(&WriteLabel { operation }).set(gauge(count));
        }
    }

    /// So many Service ports find nothing on this node (item 138).
    pub fn nothing_here(&self, count: NothingHere) {
        let NothingHere { internal, external } = count;
        for (traffic_policy, count) in [("internal", internal), ("external", external)] {
            self.nothing_here.get_or_create(&PolicyLabel { traffic_policy }).set(gauge(count));
        }
    }

    /// So many health checks of Services are answered, and so many cannot be (item 129).
    pub fn health_checks(&self, listening: usize, failed: usize) {
        for (state, count) in [("listening", listening), ("failed", failed)] {
            self.health_checks.get_or_create(&StateLabel { state }).set(gauge(count));
        }
    }

    /// `/healthz` was answered.
    pub fn healthz_answered(&self, code: u16) {
        self.healthz.get_or_create(&CodeLabel { code }).inc();
    }

    /// `/livez` was answered.
    pub fn livez_answered(&self, code: u16) {
        self.livez.get_or_create(&CodeLabel { code }).inc();
    }

    /// The text of a scrape, in the OpenMetrics format. Reads every map.
    pub fn text(&self, status: &Snapshot, now: SystemTime) -> String {
        self.source_age.set(status.source_age(now).as_secs_f64());
        self.ready.set(i64::from(status.is_ready()));
        self.refused.set(gauge(status.refused));
        self.unreadable_files.set(gauge(status.unreadable_files));
        for kind in Kind::ALL {
            let count = status.problems.get(&kind).copied().unwrap_or(0);
            self.problems.get_or_create(&KindLabel { kind: kind.name() }).set(gauge(count));
        }
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            tracing::error!("the metrics could not be written");
        }
        text
    }
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn item_135_the_buckets_are_those_of_kube_proxy() {
        let buckets: Vec<f64> = programming_buckets().collect();
        assert_eq!(buckets.len(), 2 + 59 + 12 + 7);
        assert_eq!((buckets[0], buckets[2], buckets[61], buckets[73]), (0.25, 1.0, 60.0, 120.0));
        assert_eq!(buckets.last(), Some(&300.0));
    }

    #[test]
    fn a_scrape_names_what_dashboards_look_for_even_without_maps() {
        let metrics = Metrics::new(PinnedMaps::below("/nonexistent".into()));
        metrics.queued(UNIX_EPOCH + Duration::from_secs(5), Kind::Service);
        metrics.healthz_answered(503);
        let text = metrics.text(&Snapshot::default(), SystemTime::now());
        for line in [
            "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds 5.0",
            "kubeproxy_sync_proxy_rules_service_changes_total 1",
            "kubeproxy_proxy_healthz_total{code=\"503\"} 1",
            "kubeproxy_network_programming_duration_seconds_count 0",
            "sluice_object_problems{kind=\"Service\"} 0",
            "sluice_ready 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
    }
}
