//! What there is of policies on this node.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use proxy_model::policy::PolicyUsage;

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct PartLabel {
    part: &'static str,
}

/// The metrics.
#[derive(Debug)]
pub(super) struct Policies {
    parts: Family<PartLabel, Gauge>,
    refused: Gauge,
    writes: Counter,
}

impl Policies {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let all = Self { parts: Family::default(), refused: Gauge::default(), writes: Counter::default() };
        let own = registry.sub_registry_with_prefix("sluice_policy");
        let help = "What there is of policies on this node: policies, rule sets of its pods, classes of peers, pages of \
            verdicts, addresses of pods under a policy, addresses and prefixes that rules name";
        own.register("parts", help, all.parts.clone());
        own.register("refused", "Policies whose pods are isolated for want of room", all.refused.clone());
        own.register("writes", "Writes to the maps of policies", all.writes.clone());
        all
    }

    pub(super) fn planned(&self, usage: PolicyUsage, refused: usize, writes: usize) {
        let PolicyUsage { policies, rule_sets, classes, verdicts, policed, peers, blocks } = usage;
        let parts = [
            ("policies", policies),
            ("rule_sets", rule_sets),
            ("classes", classes),
            ("verdicts", verdicts),
            ("policed", policed),
            ("peers", peers),
            ("blocks", blocks),
        ];
        for (part, count) in parts {
            self.parts.get_or_create(&PartLabel { part }).set(i64::from(count));
        }
        self.refused.set(i64::try_from(refused).unwrap_or(i64::MAX));
        self.writes.inc_by(writes as u64);
    }
}
