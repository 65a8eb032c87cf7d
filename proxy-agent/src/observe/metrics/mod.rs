//! Metrics of the agent itself. Those under `kubeproxy_` are kube-proxy's own, in `kube_proxy`; everything else is
//! `sluice_`. Served in the format that kube-proxy serves (`exposition`).

pub(crate) mod exposition;
mod kube_proxy;
mod policy;
#[cfg(test)]
mod tests;

use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use proxy_common::maps::SPECS;
use proxy_model::IpFamily;
use proxy_model::local::NothingHere;
use proxy_model::plan::Usage;
use proxy_model::policy::PolicyUsage;

use self::kube_proxy::KubeProxy;
use self::policy::Policies;
use super::maps::PinnedMaps;
use super::status::Snapshot;
use crate::kernel::{Collected, Outcome, Repairs, State, audit};
use crate::source::Kind;

pub use self::kube_proxy::Extent;

/// One label.
#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct MapLabel {
    map: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct KindLabel {
    kind: &'static str,
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
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct StepLabel {
    step: &'static str,
}

/// What the kernel was asked for when it refused. All of it is tried again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KernelStep {
    /// To write what Services need.
    Services,
    /// To write what policies need.
    Policies,
    /// To write what the programs know of the node.
    Node,
    /// To serve the node's devices.
    Devices,
    /// To remove what is over.
    Collection,
    /// To say what there is, or to put it right.
    Audit,
}

impl KernelStep {
    const ALL: [Self; 6] =
        [Self::Services, Self::Policies, Self::Node, Self::Devices, Self::Collection, Self::Audit];

    const fn label(self) -> StepLabel {
        let step = match self {
            Self::Services => "services",
            Self::Policies => "policies",
            Self::Node => "node",
            Self::Devices => "devices",
            Self::Collection => "collection",
            Self::Audit => "audit",
        };
        StepLabel { step }
    }
}

type Seconds = Gauge<f64, AtomicU64>;

/// All metrics. Cheap to write, from any thread.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    kube: KubeProxy,
    policies: Policies,
    plan_duration: Histogram,
    writes: Family<WriteLabel, Counter>,
    write_failures: Counter,
    kernel_errors: Family<StepLabel, Counter>,
    audits: Counter,
    repairs: Family<MapLabel, Counter>,
    collected: Family<KindLabel, Counter>,
    problems: Family<KindLabel, Gauge>,
    refused: Gauge,
    unreadable_files: Gauge,
    source_age: Seconds,
    ready: Gauge,
    frontends: Family<FamilyLabel, Gauge>,
    backend_slots: Family<FamilyLabel, Gauge>,
    adopted: Family<WriteLabel, Gauge>,
    health_checks: Family<StateLabel, Gauge>,
}

impl Metrics {
    /// All at zero; `maps` are read at each scrape.
    pub fn new(maps: PinnedMaps) -> Self {
        let mut registry = Registry::default();
        let kube = KubeProxy::register(&mut registry);
        let policies = Policies::register(&mut registry);
        let mut metrics = Self {
            registry,
            kube,
            policies,
            plan_duration: Histogram::new((0..18).map(|power| 0.000_1 * f64::from(1 << power))),
            writes: Family::default(),
            write_failures: Counter::default(),
            kernel_errors: Family::default(),
            audits: Counter::default(),
            repairs: Family::default(),
            collected: Family::default(),
            problems: Family::default(),
            refused: Gauge::default(),
            unreadable_files: Gauge::default(),
            source_age: Gauge::default(),
            ready: Gauge::default(),
            frontends: Family::default(),
            backend_slots: Family::default(),
            adopted: Family::default(),
            health_checks: Family::default(),
        };
        metrics.register_own();
        // A series that begins with its first repair would show no increase.
        let maps_of_agent = SPECS.iter().filter(|spec| spec.writer == "agent").map(|spec| spec.name);
        for map in [audit::LINKS, audit::PINS].into_iter().chain(maps_of_agent) {
            drop(metrics.repairs.get_or_create(&MapLabel { map }));
        }
        for step in KernelStep::ALL {
            drop(metrics.kernel_errors.get_or_create(&step.label()));
        }
        metrics.registry.register_collector(Box::new(maps));
        metrics
    }

    fn register_own(&mut self) {
        let Self { registry, .. } = self;
        let own = registry.sub_registry_with_prefix("sluice");
        own.register(
            "plan_duration_seconds",
            "Time from the beginning of a plan to its last write",
            self.plan_duration.clone(),
        );
        own.register("plan_writes", "Writes to the maps by operation", self.writes.clone());
        own.register(
            "plan_write_failures",
            "Writes that failed and are tried again",
            self.write_failures.clone(),
        );
        own.register(
            "kernel_errors",
            "What the kernel refused and is asked for again, by what it was for",
            self.kernel_errors.clone(),
        );
        own.register("audits", "Comparisons of the maps with what they should hold", self.audits.clone());
        own.register(
            "audit_repairs",
            "What audits have put right, by map, and links and pins",
            self.repairs.clone(),
        );
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

    /// A plan was made and written, for these families at once.
    pub fn synced(&self, families: &[IpFamily], took: Duration, extent: Extent, outcome: &Outcome) {
        families.iter().for_each(|family| self.kube.synced(*family, took, extent));
        self.plan_duration.observe(took.as_secs_f64());
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
        let failed = outcome.v4.failures.len() + outcome.v6.failures.len();
        self.write_failures.inc_by(failed as u64);
        self.kernel_refused(KernelStep::Services, failed);
    }

    /// The kernel has refused so much.
    pub fn kernel_refused(&self, step: KernelStep, count: usize) {
        self.kernel_errors.get_or_create(&step.label()).inc_by(count as u64);
    }

    /// The kernel agrees with the objects in a family; these changes of pods are in it.
    pub fn agreed(&self, family: IpFamily, now: SystemTime, triggers: impl Iterator<Item = SystemTime>) {
        self.kube.agreed(family, now, triggers);
    }

    /// The kernel agrees with the objects in every family.
    pub fn all_agreed(&self) {
        self.kube.all_agreed();
    }

    /// An object of the kind changed.
    pub fn changed(&self, kind: Kind) {
        self.kube.changed(kind);
    }

    /// A change waits to be written in a family.
    pub fn queued(&self, family: IpFamily, now: SystemTime) {
        self.kube.queued(family, now);
    }

    /// UDP clients of backends that are gone were let go: so many flow entries.
    pub fn let_go(&self, family: IpFamily, took: Duration, entries: usize) {
        self.kube.let_go(family, took, entries);
    }

    /// A plan of policies was made, with so many writes of which so many are not in the kernel.
    pub fn policies(&self, usage: PolicyUsage, refused: usize, writes: usize, failed: usize) {
        self.policies.planned(usage, refused, writes);
        self.write_failures.inc_by(failed as u64);
        self.kernel_refused(KernelStep::Policies, failed);
    }

    /// The kernel is compared with what it should hold.
    pub fn audited(&self) {
        self.audits.inc();
    }

    /// That much was put right.
    pub fn repaired(&self, repairs: &Repairs) {
        for (map, count) in repairs.iter() {
            self.repairs.get_or_create(&MapLabel { map }).inc_by(count as u64);
        }
    }

    /// How much of the maps of a family is in use.
    pub fn used(&self, family: IpFamily, usage: Usage) {
        let label = FamilyLabel { ip_family: family.api_name() };
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

    /// So many Service ports of a family find nothing on this node (item 138).
    pub fn nothing_here(&self, family: IpFamily, count: NothingHere) {
        self.kube.nothing_here(family, count);
    }

    /// So many health checks of Services are answered, and so many cannot be (item 129).
    pub fn health_checks(&self, listening: usize, failed: usize) {
        for (state, count) in [("listening", listening), ("failed", failed)] {
            self.health_checks.get_or_create(&StateLabel { state }).set(gauge(count));
        }
    }

    /// `/healthz` was answered.
    pub fn healthz_answered(&self, code: u16) {
        self.kube.healthz_answered(code);
    }

    /// `/livez` was answered.
    pub fn livez_answered(&self, code: u16) {
        self.kube.livez_answered(code);
    }

    /// The text of a scrape, in the Prometheus format. Reads every map.
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
        exposition::prometheus(&text)
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
