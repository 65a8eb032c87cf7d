//! Pod → fact: addresses, labels, ports with names, and whether it still runs. One that is being deleted is a pod like any
//! other until it is gone (policy item 43).

use k8s_openapi::api::core::v1::{ContainerPort, Pod, PodSpec};
use proxy_model::fact::{self, NamedPort, PodPhase};

use super::address::address;
use super::namespace::labels;
use super::port::{port, protocol};
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
        ports: spec.map(|spec| ports(spec, report)).unwrap_or_default(),
    }
}

/// Policy items 26, 30: ports of containers, then of init containers that keep running.
fn ports(spec: &PodSpec, report: &mut Report<'_>) -> Vec<NamedPort> {
    let plain = spec.containers.iter().enumerate().map(|(index, one)| ("containers", index, one));
    let init = spec.init_containers.iter().flatten().enumerate();
    let init = init
        .filter(|(_, container)| container.restart_policy.as_deref() == Some("Always"))
        .map(|(index, one)| ("initContainers", index, one));
    let mut found: Vec<NamedPort> = Vec::new();
    for (list, index, container) in plain.chain(init) {
        for (at, one) in container.ports.iter().flatten().enumerate() {
            let path = || format!("spec.{list}[{index}].ports[{at}]");
            let Some(named) = report.keep(path, named(one)).flatten() else { continue };
            if !found.iter().any(|known| (&known.name, known.proto) == (&named.name, named.proto)) {
                found.push(named);
            }
        }
    }
    found
}

fn named(object: &ContainerPort) -> Result<Option<NamedPort>, Fault> {
    let Some(name) = object.name.as_deref().filter(|name| !name.is_empty()) else { return Ok(None) };
    let proto = protocol(object.protocol.as_deref())?;
    Ok(Some(NamedPort { name: name.into(), proto, port: port(object.container_port)? }))
}
