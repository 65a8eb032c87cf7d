//! Node → fact: zone, addresses, pod ranges, labels, and what says that it is about to go.

use k8s_openapi::api::core::v1::Node;
use proxy_model::fact;

use super::Report;
use super::address::{address, prefix};

const ZONE: &str = "topology.kubernetes.io/zone";
/// Item 123; autoscaler: cluster-autoscaler/utils/taints.
const GOING: &str = "ToBeDeletedByClusterAutoscaler";

pub(super) fn parse(object: &Node, report: &mut Report<'_>) -> fact::Node {
    let spec = object.spec.as_ref();
    let labels = object.metadata.labels.as_ref();
    let taints = spec.and_then(|spec| spec.taints.as_deref()).unwrap_or_default();
    fact::Node {
        name: report.object_key().name,
        zone: labels
            .and_then(|labels| labels.get(ZONE))
            .filter(|zone| !zone.is_empty())
            .map(|zone| zone.as_str().into()),
        addresses: addresses(object, report),
        pod_cidrs: pod_cidrs(object, report),
        deleting: object.metadata.deletion_timestamp.is_some(),
        tainted_for_deletion: taints.iter().any(|taint| taint.key == GOING),
        labels: super::namespace::labels(labels.into_iter().flatten()),
    }
}

fn addresses(object: &Node, report: &mut Report<'_>) -> Vec<std::net::IpAddr> {
    let all = object.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let mut found = Vec::new();
    for wanted in ["InternalIP", "ExternalIP"] {
        for (index, entry) in all.iter().enumerate().filter(|(_, entry)| entry.type_ == wanted) {
            found.extend(
                report.keep(|| format!("status.addresses[{index}].address"), address(&entry.address)),
            );
        }
    }
    found
}

fn pod_cidrs(object: &Node, report: &mut Report<'_>) -> Vec<fact::Prefix> {
    let Some(spec) = &object.spec else { return Vec::new() };
    match (spec.pod_cidrs.as_deref(), spec.pod_cidr.as_deref()) {
        (Some(ranges), _) if !ranges.is_empty() => ranges
            .iter()
            .enumerate()
            .filter_map(|(index, text)| report.keep(|| format!("spec.podCIDRs[{index}]"), prefix(text)))
            .collect(),
        (_, Some(range)) if !range.is_empty() => {
            report.keep(|| "spec.podCIDR".to_owned(), prefix(range)).into_iter().collect()
        }
        _ => Vec::new(),
    }
}
