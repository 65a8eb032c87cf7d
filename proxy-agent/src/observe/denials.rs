//! Packets that policies denied, by policy and rule: read from the pinned maps when somebody asks for them, and named by
//! what was written down beside them.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use proxy_common::policy::DenialKey;
use proxy_common::{RuleId, RuleSetId};

use super::policy_names::{Digest, PolicyNames, RuleLine, RuleSetLine};

/// What is said in place of a rule where isolation itself denies.
const ISOLATION: &str = "isolation";
/// What is said in place of a policy where rules are not known or had no room.
const CLOSED: &str = "closed";

/// One series per rule that denied something, and one per rule set whose isolation did.
pub(super) fn encode(
    encoder: &mut DescriptorEncoder<'_>,
    denials: &[(DenialKey, u64)],
    names: &PolicyNames,
) -> fmt::Result {
    if denials.is_empty() {
        return Ok(());
    }
    let help = "Packets that a policy's rule, or isolation by a set of policies, denied.";
    let mut family = encoder.encode_descriptor("sluice_policy_denials", help, None, MetricType::Counter)?;
    for ([policy, direction, rule], count) in &named(denials, names) {
        let labels =
            [("policy", policy.as_str()), ("direction", direction.as_str()), ("rule", rule.as_str())];
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Denied packets by policy, direction and rule.
pub(crate) fn named(denials: &[(DenialKey, u64)], names: &PolicyNames) -> BTreeMap<[String; 3], u64> {
    let rules: BTreeMap<Digest, &RuleLine> = names.rules.iter().map(|rule| (rule.id, rule)).collect();
    let sets: BTreeMap<Digest, &RuleSetLine> = names.rule_sets.iter().map(|set| (set.id, set)).collect();
    let mut series: BTreeMap<[String; 3], u64> = BTreeMap::new();
    for (key, count) in denials {
        // Not written down yet, or of rules that are gone: said at the next scrape, or not at all.
        let Some(labels) = labels(*key, &rules, &sets) else { continue };
        // A rule stands in several sets.
        *series.entry(labels).or_default() += count;
    }
    series
}

/// Policy, direction and rule.
fn labels(
    key: DenialKey,
    rules: &BTreeMap<Digest, &RuleLine>,
    sets: &BTreeMap<Digest, &RuleSetLine>,
) -> Option<[String; 3]> {
    if key.rules == RuleSetId::CLOSED {
        return Some([CLOSED.into(), String::new(), String::new()]);
    }
    if key.by != RuleId::NONE {
        let rule = rules.get(&key.by.into())?;
        return Some([rule.policy.to_string(), rule.direction.to_string(), rule.index.to_string()]);
    }
    let set = sets.get(&key.rules.into())?;
    let policies: Vec<_> = set.policies.iter().map(ToString::to_string).collect();
    Some([policies.join(", "), set.direction.to_string(), ISOLATION.into()])
}

#[cfg(test)]
mod tests {
    use prometheus_client::collector::Collector;
    use prometheus_client::registry::Registry;

    use super::*;
    use crate::observe::metrics::exposition;
    use crate::observe::policy_names::{Direction, PolicyKind, PolicyName};

    #[derive(Debug)]
    struct Denied(Vec<(DenialKey, u64)>, PolicyNames);

    impl Collector for Denied {
        fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
            encode(&mut encoder, &self.0, &self.1)
        }
    }

    #[test]
    fn denials_are_exposed_by_policy_and_rule_and_isolation_by_all_that_isolate() {
        let policy = |name: &str| PolicyName {
            kind: PolicyKind::NetworkPolicy,
            namespace: Some("shop".into()),
            name: name.into(),
        };
        let names = PolicyNames {
            rules: vec![RuleLine {
                id: Digest(7),
                policy: policy("web"),
                direction: Direction::Egress,
                index: 2,
                text: "to everybody".into(),
            }],
            rule_sets: vec![RuleSetLine {
                id: Digest(1),
                direction: Direction::Ingress,
                policies: vec![policy("all"), policy("web")],
                rules: vec![],
            }],
            ..PolicyNames::default()
        };
        let key = |rules, by| DenialKey { rules: RuleSetId(rules), by: RuleId(by) };
        let denials = vec![
            (key(1, 0), 3),
            (key(1, 7), 4),
            (key(2, 7), 5),
            (key(u64::MAX, 0), 6),
            // Rules that are gone.
            (key(9, 0), 8),
            (key(1, 9), 8),
        ];
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Denied(denials, names)));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert_eq!(
            exposition::prometheus(&text),
            "# HELP sluice_policy_denials_total Packets that a policy's rule, or isolation by a set of policies, denied.\n\
             # TYPE sluice_policy_denials_total counter\n\
             sluice_policy_denials_total{policy=\"NetworkPolicy shop/all, NetworkPolicy shop/web\",\
             direction=\"ingress\",rule=\"isolation\"} 3\n\
             sluice_policy_denials_total{policy=\"NetworkPolicy shop/web\",direction=\"egress\",rule=\"2\"} 9\n\
             sluice_policy_denials_total{policy=\"closed\",direction=\"\",rule=\"\"} 6\n"
        );
    }
}
