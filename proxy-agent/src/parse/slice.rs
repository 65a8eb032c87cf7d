//! EndpointSlice → fact. Conditions keep "unset": what that means is the model's affair (item 13).

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};
use k8s_openapi::jiff;
use proxy_model::fact::{self, Name, SliceFamily};

use super::address::address;
use super::port::{optional_port, protocol};
use super::service::headless;
use super::{Fault, Report};

const SERVICE: &str = "kubernetes.io/service-name";
const TRIGGERED: &str = "endpoints.kubernetes.io/last-change-trigger-time";

pub(super) fn parse(object: &EndpointSlice, report: &mut Report<'_>) -> fact::EndpointSlice {
    let labels = object.metadata.labels.as_ref();
    let service = labels.and_then(|labels| labels.get(SERVICE)).filter(|name| !name.is_empty());
    if service.is_none() {
        report.problem(format!("metadata.labels[{SERVICE}]"), Fault::NamesNoService);
    }
    let family = match object.address_type.as_str() {
        "IPv4" => SliceFamily::Ipv4,
        "IPv6" => SliceFamily::Ipv6,
        "FQDN" => SliceFamily::Fqdn,
        other => {
            report.problem("addressType", Fault::AddressType(other.to_owned()));
            SliceFamily::Fqdn
        }
    };
    let mut names = Names::default();
    fact::EndpointSlice {
        key: report.object_key(),
        service: service.map(|name| name.as_str().into()),
        family,
        headless_label: headless(labels),
        ports: ports(object.ports.as_deref().unwrap_or_default(), report),
        endpoints: match family {
            // Host names: item 11.
            SliceFamily::Fqdn => Vec::new(),
            SliceFamily::Ipv4 | SliceFamily::Ipv6 => {
                let all = object.endpoints.iter().enumerate();
                all.map(|(index, entry)| endpoint(index, entry, &mut names, report)).collect()
            }
        },
    }
}

/// When the pods or the Service changed that the slice was written for (item 135); unreadable is unset.
pub(super) fn triggered(object: &EndpointSlice) -> Option<SystemTime> {
    let text = object.metadata.annotations.as_ref()?.get(TRIGGERED)?;
    text.parse::<jiff::Timestamp>().ok().map(SystemTime::from)
}

fn ports(all: &[EndpointPort], report: &mut Report<'_>) -> Vec<fact::SlicePort> {
    all.iter().enumerate().filter_map(|(index, entry)| slice_port(index, entry, report)).collect()
}

/// Item 9: without a name the port is nobody's; without a number it has no endpoint.
fn slice_port(index: usize, entry: &EndpointPort, report: &mut Report<'_>) -> Option<fact::SlicePort> {
    let field = |name: &str| format!("ports[{index}].{name}");
    if entry.name.is_none() {
        report.problem(field("name"), Fault::NoPortName);
    }
    let proto = report.keep(|| field("protocol"), protocol(entry.protocol.as_deref()))?;
    let port = report.keep(|| field("port"), optional_port(entry.port)).flatten();
    Some(fact::SlicePort { name: entry.name.as_deref().map(Into::into), proto, port })
}

fn endpoint(index: usize, entry: &Endpoint, names: &mut Names, report: &mut Report<'_>) -> fact::Endpoint {
    let conditions = entry.conditions.as_ref();
    let hints = entry.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_deref()).unwrap_or_default();
    let nodes = hints.and_then(|hints| hints.for_nodes.as_deref()).unwrap_or_default();
    let first = entry.addresses.first();
    fact::Endpoint {
        address: first.and_then(|ip| report.keep(|| format!("endpoints[{index}].addresses[0]"), address(ip))),
        ready: conditions.and_then(|conditions| conditions.ready),
        serving: conditions.and_then(|conditions| conditions.serving),
        terminating: conditions.and_then(|conditions| conditions.terminating),
        node: entry.node_name.as_deref().map(|name| names.share(name)),
        zone: entry.zone.as_deref().map(|name| names.share(name)),
        hint_zones: zones.iter().map(|zone| names.share(&zone.name)).collect(),
        hint_nodes: nodes.iter().map(|node| names.share(&node.name)).collect(),
    }
}

/// One copy of each name: a slice names few nodes and zones, many times.
#[derive(Default)]
struct Names(BTreeMap<String, Name>);

impl Names {
    fn share(&mut self, name: &str) -> Name {
        if let Some(shared) = self.0.get(name) {
            return shared.clone();
        }
        let shared = Name::from(name);
        self.0.insert(name.to_owned(), shared.clone());
        shared
    }
}
