//! Pod → fact: addresses, labels and whether it still runs.

use k8s_openapi::api::core::v1::Pod;
use proxy_model::fact::{self, PodPhase};

use super::address::address;
use super::namespace::labels;
use super::{Fault, Report};

pub(super) fn parse(object: &Pod, report: &mut Report<'_>) -> fact::Pod {
    let spec = object.spec.as_ref();
    let status = object.status.as_ref();
    let ips = status.and_then(|status| status.pod_ips.as_deref()).unwrap_or_default();
    let ips = ips
        .iter()
        .enumerate()
        .filter(|(_, entry)| !entry.ip.is_empty())
        .filter_map(|(index, entry)| report.keep(|| format!("status.podIPs[{index}].ip"), address(&entry.ip)))
        .collect();
    let phase = match status.and_then(|status| status.phase.as_deref()) {
        None | Some("" | "Pending" | "Unknown") => PodPhase::Pending,
        Some("Running") => PodPhase::Running,
        Some("Succeeded") => PodPhase::Succeeded,
        Some("Failed") => PodPhase::Failed,
        Some(other) => {
            report.problem("status.phase", Fault::Unknown { value: other.to_owned(), instead: "Pending" });
            PodPhase::Pending
        }
    };
    fact::Pod {
        key: report.object_key(),
        ips,
        node: spec.and_then(|spec| spec.node_name.as_deref()).filter(|name| !name.is_empty()).map(Into::into),
        host_network: spec.and_then(|spec| spec.host_network).unwrap_or(false),
        phase,
        labels: labels(object.metadata.labels.iter().flatten()),
        ports: Vec::new(),
    }
}
