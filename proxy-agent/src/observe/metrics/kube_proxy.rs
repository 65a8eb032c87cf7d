//! The metrics that kube-proxy has, by the same names, types, labels and buckets (items 134–138, 141), so that dashboards
//! and alerts keep working: <https://github.com/kubernetes/kubernetes/blob/v1.36.0/pkg/proxy/metrics/metrics.go>.
//! Those of iptables and nftables have no meaning here and are absent (`docs/kube-proxy-flags.md`).

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use proxy_model::IpFamily;
use proxy_model::local::NothingHere;

use crate::source::Kind;

type Seconds = Gauge<f64, AtomicU64>;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct FamilyLabel {
    ip_family: &'static str,
}

impl From<IpFamily> for FamilyLabel {
    fn from(family: IpFamily) -> Self {
        Self { ip_family: family.api_name() }
    }
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PolicyLabel {
    traffic_policy: &'static str,
    ip_family: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct CodeLabel {
    code: u16,
}

/// How much a sync looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// At every Service and every entry: the first one, and each audit.
    Full,
    /// At the Services that changed.
    Partial,
}

#[derive(Clone, Debug)]
struct Buckets(fn() -> Vec<f64>);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new((self.0)())
    }
}

type Durations = Family<FamilyLabel, Histogram, Buckets>;

/// Bounds in seconds of every duration but one: a millisecond, doubled fourteen times.
fn doubling() -> Vec<f64> {
    (0..15).map(|power| 0.001 * f64::from(1 << power)).collect()
}

/// Bounds in seconds of `network_programming_duration_seconds` (item 135).
fn programming() -> Vec<f64> {
    let seconds = (1..60).chain((60..120).step_by(5)).chain((120..=300).step_by(30));
    [0.25, 0.5].into_iter().chain(seconds.map(f64::from)).collect()
}

/// Changes of one kind of object.
#[derive(Debug, Default)]
struct Changes {
    pending: Gauge,
    total: Counter,
}

/// The metrics.
#[derive(Debug)]
pub(super) struct KubeProxy {
    sync: Durations,
    full: Durations,
    partial: Durations,
    programming: Durations,
    reconciled: Durations,
    reconciler_deleted: Family<FamilyLabel, Counter>,
    last_sync: Family<FamilyLabel, Seconds>,
    last_queued: Family<FamilyLabel, Seconds>,
    nothing_here: Family<PolicyLabel, Gauge>,
    services: Changes,
    endpoints: Changes,
    healthz: Family<CodeLabel, Counter>,
    livez: Family<CodeLabel, Counter>,
}

impl KubeProxy {
    /// All at zero, registered below the prefix `kubeproxy`.
    pub(super) fn register(registry: &mut Registry) -> Self {
        let doubling = || Durations::new_with_constructor(Buckets(doubling));
        let metrics = Self {
            sync: doubling(),
            full: doubling(),
            partial: doubling(),
            programming: Durations::new_with_constructor(Buckets(programming)),
            reconciled: doubling(),
            reconciler_deleted: Family::default(),
            last_sync: Family::default(),
            last_queued: Family::default(),
            nothing_here: Family::default(),
            services: Changes::default(),
            endpoints: Changes::default(),
            healthz: Family::default(),
            livez: Family::default(),
        };
        let kube = registry.sub_registry_with_prefix("kubeproxy");
        metrics.register_syncs(kube);
        metrics.register_counts(kube);
        metrics
    }

    fn register_syncs(&self, kube: &mut Registry) {
        let mut duration = |name: &str, help: &str, of: &Durations| kube.register(name, help, of.clone());
        duration("sync_proxy_rules_duration_seconds", "Time of a plan and its writes", &self.sync);
        duration(
            "sync_full_proxy_rules_duration_seconds",
            "The same where every Service was looked at",
            &self.full,
        );
        duration(
            "sync_partial_proxy_rules_duration_seconds",
            "The same where only changed Services were looked at",
            &self.partial,
        );
        duration(
            "network_programming_duration_seconds",
            "Time from the change of a pod or Service to the kernel",
            &self.programming,
        );
        duration(
            "conntrack_reconciler_sync_duration_seconds",
            "Time to let UDP clients of backends that are gone go",
            &self.reconciled,
        );
        let mut moment =
            |name: &str, help: &str, of: &Family<FamilyLabel, Seconds>| kube.register(name, help, of.clone());
        moment(
            "sync_proxy_rules_last_timestamp_seconds",
            "When the kernel last came to agree with the objects",
            &self.last_sync,
        );
        moment(
            "sync_proxy_rules_last_queued_timestamp_seconds",
            "When a change was last queued to be written",
            &self.last_queued,
        );
    }

    fn register_counts(&self, kube: &mut Registry) {
        kube.register(
            "conntrack_reconciler_deleted_entries",
            "Flow entries removed because their backend is gone",
            self.reconciler_deleted.clone(),
        );
        kube.register(
            "sync_proxy_rules_no_local_endpoints_total",
            "Service ports with endpoints elsewhere but none here, by the policy that asks for them here",
            self.nothing_here.clone(),
        );
        let changes =
            [("service", "Services", &self.services), ("endpoint", "EndpointSlices", &self.endpoints)];
        for (name, kind, of) in changes {
            kube.register(
                format!("sync_proxy_rules_{name}_changes_pending"),
                format!("Changes of {kind} that are not in the kernel yet"),
                of.pending.clone(),
            );
            kube.register(
                format!("sync_proxy_rules_{name}_changes"),
                format!("Changes of {kind}"),
                of.total.clone(),
            );
        }
        kube.register("proxy_healthz", "Answers of /healthz by status", self.healthz.clone());
        kube.register("proxy_livez", "Answers of /livez by status", self.livez.clone());
    }

    pub(super) fn synced(&self, family: IpFamily, took: Duration, extent: Extent) {
        let of_extent = match extent {
            Extent::Full => &self.full,
            Extent::Partial => &self.partial,
        };
        for histogram in [&self.sync, of_extent] {
            histogram.get_or_create(&family.into()).observe(took.as_secs_f64());
        }
    }

    pub(super) fn agreed(
        &self,
        family: IpFamily,
        now: SystemTime,
        triggers: impl Iterator<Item = SystemTime>,
    ) {
        self.last_sync.get_or_create(&family.into()).set(unix(now));
        let histogram = self.programming.get_or_create_owned(&family.into());
        triggers.for_each(|at| histogram.observe(now.duration_since(at).unwrap_or_default().as_secs_f64()));
    }

    pub(super) fn all_agreed(&self) {
        self.services.pending.set(0);
        self.endpoints.pending.set(0);
    }

    pub(super) fn changed(&self, kind: Kind) {
        let changes = match kind {
            Kind::Service => &self.services,
            Kind::EndpointSlice => &self.endpoints,
            Kind::Node | Kind::Namespace | Kind::Pod | Kind::ServiceCidr => return,
            Kind::NetworkPolicy | Kind::ClusterNetworkPolicy => return,
        };
        changes.pending.inc();
        changes.total.inc();
    }

    pub(super) fn queued(&self, family: IpFamily, now: SystemTime) {
        self.last_queued.get_or_create(&family.into()).set(unix(now));
    }

    pub(super) fn let_go(&self, family: IpFamily, took: Duration, entries: usize) {
        self.reconciled.get_or_create(&family.into()).observe(took.as_secs_f64());
        self.reconciler_deleted.get_or_create(&family.into()).inc_by(entries as u64);
    }

    pub(super) fn nothing_here(&self, family: IpFamily, count: NothingHere) {
        let NothingHere { internal, external } = count;
        for (traffic_policy, count) in [("internal", internal), ("external", external)] {
            let label = PolicyLabel { traffic_policy, ip_family: family.api_name() };
            self.nothing_here.get_or_create(&label).set(super::gauge(count));
        }
    }

    pub(super) fn healthz_answered(&self, code: u16) {
        self.healthz.get_or_create(&CodeLabel { code }).inc();
    }

    pub(super) fn livez_answered(&self, code: u16) {
        self.livez.get_or_create(&CodeLabel { code }).inc();
    }
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
