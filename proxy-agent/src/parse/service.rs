//! Service → fact. What is read here is all that Services mean to the proxy: `targetPort`, `appProtocol`,
//! `selector` and `publishNotReadyAddresses` are not (items 7, 8, 14).

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service, ServicePort, ServiceSpec};
use proxy_model::fact::{self, Label, ServiceKind, TrafficPolicy};

use super::address::{address, claimed, prefix};
use super::annotation::{self, ALGORITHM, DSR, WEIGHTS};
use super::port::{optional_port, port, protocol};
use super::{Fault, Report, created};

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";
/// Default of `sessionAffinityConfig.clientIP.timeoutSeconds` (item 97).
const AFFINITY_SECONDS: u32 = 10_800;

pub(super) fn parse(object: &Service, report: &mut Report<'_>) -> fact::Service {
    let no_spec = ServiceSpec::default();
    let spec = object.spec.as_ref().unwrap_or(&no_spec);
    let labels = object.metadata.labels.as_ref();
    let annotations = object.metadata.annotations.as_ref();
    let said = |annotation: &str| annotations.and_then(|all| all.get(annotation));
    let ingress = object
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref())
        .and_then(|balancer| balancer.ingress.as_deref())
        .unwrap_or_default();
    let ranges = spec.load_balancer_source_ranges.as_deref().unwrap_or_default();
    fact::Service {
        key: report.object_key(),
        created: created(&object.metadata),
        kind: kind(spec, report),
        cluster_ips: cluster_ips(spec, report),
        ports: ports(spec, report),
        external_ips: addresses("spec.externalIPs", spec.external_ips.as_deref().unwrap_or_default(), report),
        load_balancer: load_balancer(ingress, report),
        source_ranges: ranges
            .iter()
            .enumerate()
            .filter_map(|(i, text)| {
                report.keep(|| format!("spec.loadBalancerSourceRanges[{i}]"), prefix(text))
            })
            .collect(),
        internal_policy: policy(
            "spec.internalTrafficPolicy",
            spec.internal_traffic_policy.as_deref(),
            report,
        ),
        external_policy: policy(
            "spec.externalTrafficPolicy",
            spec.external_traffic_policy.as_deref(),
            report,
        ),
        affinity: affinity(spec, report),
        algorithm: report
            .keep(|| annotation::path(ALGORITHM), annotation::algorithm(said(ALGORITHM)))
            .flatten(),
        direct_return: report.keep(|| annotation::path(DSR), annotation::direct_return(said(DSR))).flatten(),
        weights: report
            .keep(|| annotation::path(WEIGHTS), annotation::weights(said(WEIGHTS)))
            .unwrap_or_default(),
        proxy_name: labels.and_then(|labels| labels.get(PROXY_NAME)).map(|name| name.as_str().into()),
        headless_label: headless(labels),
        health_check_node_port: report
            .keep(|| "spec.healthCheckNodePort".to_owned(), optional_port(spec.health_check_node_port))
            .flatten(),
    }
}

/// Whether the object is marked as headless (item 2).
pub(super) fn headless(labels: Option<&BTreeMap<String, String>>) -> Label {
    match labels.is_some_and(|labels| labels.contains_key(HEADLESS)) {
        true => Label::Present,
        false => Label::Absent,
    }
}

fn kind(spec: &ServiceSpec, report: &mut Report<'_>) -> ServiceKind {
    match spec.type_.as_deref() {
        None | Some("" | "ClusterIP") => ServiceKind::ClusterIp,
        Some("NodePort") => ServiceKind::NodePort,
        Some("LoadBalancer") => ServiceKind::LoadBalancer,
        Some("ExternalName") => ServiceKind::ExternalName,
        Some(other) => {
            report.problem("spec.type", Fault::Unknown { value: other.to_owned(), instead: "ClusterIP" });
            ServiceKind::ClusterIp
        }
    }
}

/// `clusterIPs`, or `clusterIP` where an old client left it alone; `None` and empty are headless (item 3).
fn cluster_ips(spec: &ServiceSpec, report: &mut Report<'_>) -> Vec<IpAddr> {
    let set = |ip: &&String| !ip.is_empty() && *ip != "None";
    match spec.cluster_ips.as_deref() {
        Some(ips) if !ips.is_empty() => ips
            .iter()
            .enumerate()
            .filter(|(_, ip)| set(ip))
            .filter_map(|(index, ip)| report.keep(|| format!("spec.clusterIPs[{index}]"), address(ip)))
            .collect(),
        _ => spec
            .cluster_ip
            .iter()
            .filter(set)
            .filter_map(|ip| report.keep(|| "spec.clusterIP".to_owned(), address(ip)))
            .collect(),
    }
}

fn addresses(field: &str, texts: &[String], report: &mut Report<'_>) -> Vec<IpAddr> {
    texts
        .iter()
        .enumerate()
        .filter_map(|(index, text)| report.keep(|| format!("{field}[{index}]"), claimed(text)))
        .collect()
}

/// Items 78, 79: only entries with an address, and only those that the node itself is to answer.
fn load_balancer(ingress: &[LoadBalancerIngress], report: &mut Report<'_>) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for (index, entry) in ingress.iter().enumerate() {
        let Some(ip) = entry.ip.as_deref().filter(|ip| !ip.is_empty()) else { continue };
        if matches!(entry.ip_mode.as_deref(), None | Some("" | "VIP")) {
            found.extend(report.keep(|| format!("status.loadBalancer.ingress[{index}].ip"), claimed(ip)));
        }
    }
    found
}

fn ports(spec: &ServiceSpec, report: &mut Report<'_>) -> Vec<fact::ServicePort> {
    let all = spec.ports.as_deref().unwrap_or_default();
    all.iter().enumerate().filter_map(|(index, entry)| service_port(index, entry, report)).collect()
}

fn service_port(index: usize, entry: &ServicePort, report: &mut Report<'_>) -> Option<fact::ServicePort> {
    let field = |name: &str| format!("spec.ports[{index}].{name}");
    let proto = report.keep(|| field("protocol"), protocol(entry.protocol.as_deref()))?;
    let number = report.keep(|| field("port"), port(entry.port))?;
    let node_port = report.keep(|| field("nodePort"), optional_port(entry.node_port)).flatten();
    let name = entry.name.as_deref().unwrap_or_default().into();
    Some(fact::ServicePort { name, proto, port: number, node_port })
}

fn policy(field: &str, value: Option<&str>, report: &mut Report<'_>) -> TrafficPolicy {
    match value {
        None | Some("" | "Cluster") => TrafficPolicy::Cluster,
        Some("Local") => TrafficPolicy::Local,
        Some(other) => {
            report.problem(field, Fault::Unknown { value: other.to_owned(), instead: "Cluster" });
            TrafficPolicy::Cluster
        }
    }
}

/// Items 96, 97.
fn affinity(spec: &ServiceSpec, report: &mut Report<'_>) -> Option<u32> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => return None,
        Some("ClientIP") => {}
        Some(other) => {
            report
                .problem("spec.sessionAffinity", Fault::Unknown { value: other.to_owned(), instead: "None" });
            return None;
        }
    }
    let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
    let Some(seconds) = config.and_then(|config| config.timeout_seconds) else {
        return Some(AFFINITY_SECONDS);
    };
    match u32::try_from(seconds) {
        Ok(valid @ 1..=86_400) => Some(valid),
        Ok(_) | Err(_) => {
            let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
            report.problem(field, Fault::Timeout { value: seconds, instead: AFFINITY_SECONDS });
            Some(AFFINITY_SECONDS)
        }
    }
}
