//! Services: their addresses, and who is behind them zone by zone, used or not and why.

use super::begin;
use crate::ctl::report::html::Html;
use crate::ctl::report::page::{FrontendLine, PortPart, ServicePart, ServicesPart, ZonePart};

/// Every Service that is shown.
pub(super) fn section(html: &mut Html, services: &ServicesPart) {
    begin(html, "services");
    let zone =
        services.zone.as_ref().map(|zone| format!(" This node is in zone {zone}.")).unwrap_or_default();
    let note = match &services.written {
        Some(at) => format!(
            "Frontends are those of the maps; endpoints are as the agent wrote them down at {at}.{zone}"
        ),
        None => "No agent has written down who is behind the Services: only the maps are shown.".into(),
    };
    html.element("p", &[("class", "soft")], &note);
    if services.shown.is_empty() {
        html.element("p", &[], "No Service is served on this node.");
    }
    for service in &services.shown {
        one(html, service);
    }
    if services.left_out > 0 {
        let more =
            format!("{} more are not shown here; `proxyctl service get` shows each.", services.left_out);
        html.element("p", &[], &more);
    }
    html.close("section");
}

fn one(html: &mut Html, service: &ServicePart) {
    html.open("details", &[("data-row", "")]).open("summary", &[]).element("b", &[], &service.name);
    let (class, said) = badge(service);
    html.element("span", &[("class", class)], &said).close("summary");
    if let (Some(internal), Some(external)) = (&service.internal_policy, &service.external_policy) {
        let text = format!("Traffic policies: internal {internal}, external {external}.");
        html.element("p", &[], &text);
    }
    html.table(
        &format!("Addresses of {}", service.name),
        &["Address", "Type", "Protocol", "Port name", "Backends", "On this node", "Algorithm", "Affinity"],
    );
    for frontend in &service.frontends {
        address(html, frontend);
    }
    html.end_table();
    for port in &service.ports {
        behind(html, port);
    }
    html.close("details");
}

/// How a Service stands, in a word and a colour.
fn badge(service: &ServicePart) -> (&'static str, String) {
    let all = service.endpoints().count();
    let unused = service.endpoints().filter(|endpoint| endpoint.why.is_some()).count();
    let refused: usize = service.ports.iter().map(|port| port.refused.len()).sum();
    let empty = service.frontends.iter().any(|frontend| frontend.backends == 0);
    match (refused, empty, unused) {
        (0, false, 0) => ("badge good", format!("all {all} endpoints in use")),
        (0, false, unused) => ("badge part", format!("{unused} of {all} endpoints not in use")),
        (0, true, _) => ("badge bad", "an address without backends".into()),
        (1, ..) => ("badge bad", "1 address not served as asked".into()),
        (refused, ..) => ("badge bad", format!("{refused} addresses not served as asked")),
    }
}

fn address(html: &mut Html, frontend: &FrontendLine) {
    let FrontendLine { kind, at, protocol, port_name, backends, local_backends, algorithm, affinity_seconds } =
        frontend;
    let affinity = match affinity_seconds {
        0 => "none".into(),
        seconds => format!("{seconds} s"),
    };
    html.row(&[
        &at.to_string(),
        kind,
        protocol,
        port_name,
        &backends.to_string(),
        &local_backends.to_string(),
        algorithm,
        &affinity,
    ]);
}

fn behind(html: &mut Html, port: &PortPart) {
    let name = if port.port.is_empty() { "the port" } else { &port.port };
    let PortPart { protocol, family, .. } = port;
    html.element("h3", &[], &format!("Behind {name}, {protocol} over {family}"));
    if port.zones.is_empty() {
        html.element("p", &[], "No slice lists an endpoint.");
    }
    for ZonePart { zone, endpoints } in &port.zones {
        let place = zone.as_ref().map_or("no zone".into(), |zone| format!("zone {zone}"));
        let used = endpoints.iter().filter(|endpoint| endpoint.why.is_none()).count();
        let caption = format!("Endpoints in {place}: {used} of {} in use", endpoints.len());
        html.table(&caption, &["Endpoint", "Node", "State", "In use", "Why not"]);
        for endpoint in endpoints {
            let used = if endpoint.why.is_none() { "yes" } else { "no" };
            let node = endpoint.node.as_deref().unwrap_or("none");
            let why = endpoint.why.as_deref().unwrap_or_default();
            html.row(&[&endpoint.at.to_string(), node, &endpoint.state, used, why]);
        }
        html.end_table();
    }
    if !port.refused.is_empty() {
        html.table("Addresses that are not served as asked", &["Address", "Type", "Why"]);
        for refused in &port.refused {
            html.row(&[&refused.frontend, &refused.kind, &refused.why]);
        }
        html.end_table();
    }
}
