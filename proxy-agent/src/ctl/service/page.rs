//! How one Service looks: for people, and for programs.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{Endpoint, FrontendRow};
use crate::ctl::output::{Page, columns, table};
use crate::observe::explain::ServiceLine;

/// One Service.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) struct ServicePage {
    service: String,
    /// As the agent wrote it down.
    internal_traffic_policy: Option<String>,
    external_traffic_policy: Option<String>,
    pub(super) reasons: Option<Reasons>,
    pub(super) frontends: Vec<FrontendDetail>,
    pub(super) ports: Vec<PortDetail>,
}

/// When and where the reasons were written down.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Reasons {
    pub(super) at: String,
    pub(super) age_seconds: u64,
    pub(super) node: String,
    pub(super) zone: Option<String>,
    /// The Service was known then.
    pub(super) known: bool,
}

/// One frontend with what its entry points at.
#[derive(Serialize, Debug)]
pub(super) struct FrontendDetail {
    #[serde(flatten)]
    pub(super) row: FrontendRow,
    pub(super) cluster: Vec<Endpoint>,
    pub(super) local: Vec<Endpoint>,
}

/// One port in one family, behind all of its frontends.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct PortDetail {
    pub(super) id: u32,
    pub(super) port: String,
    pub(super) protocol: String,
    pub(super) family: &'static str,
    pub(super) algorithm: String,
    /// Zero is none.
    pub(super) affinity_seconds: u32,
    /// Clients whose backend is remembered now.
    pub(super) affinity_clients: usize,
    pub(super) source_ranges: Vec<String>,
    /// Absent where nothing was counted.
    pub(super) connections: Option<Connections>,
    pub(super) cluster: Vec<Backend>,
    pub(super) local: Vec<Backend>,
    pub(super) not_used: Vec<NotUsed>,
    pub(super) refused: Vec<RefusedFrontend>,
}

/// What became of new connections since the port was first used.
#[derive(Serialize, Debug, Clone, Copy)]
pub(super) struct Connections {
    pub(super) opened: u64,
    pub(super) refused: u64,
    pub(super) dropped: u64,
}

/// A backend of a segment.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct Backend {
    #[serde(flatten)]
    pub(super) endpoint: Endpoint,
    pub(super) node: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) state: &'static str,
    pub(super) weight: u8,
    /// How many of the segment's slots are its own.
    pub(super) slots: u32,
}

/// An endpoint that nobody is sent to.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct NotUsed {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) node: Option<String>,
    pub(super) zone: Option<String>,
    pub(super) state: String,
    pub(super) why: String,
}

/// A frontend that is not served as asked.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct RefusedFrontend {
    pub(super) frontend: String,
    pub(super) kind: String,
    pub(super) why: String,
}

impl ServicePage {
    pub(super) fn new(service: String, line: Option<&ServiceLine>) -> Self {
        Self {
            service,
            internal_traffic_policy: line.map(|line| line.internal_policy.clone()),
            external_traffic_policy: line.map(|line| line.external_policy.clone()),
            reasons: None,
            frontends: Vec::new(),
            ports: Vec::new(),
        }
    }

    pub(super) fn sort(&mut self) {
        self.frontends.sort_by_cached_key(|detail| detail.row.order());
        self.ports.sort_by_cached_key(|port| (port.port.clone(), port.protocol.clone(), port.family));
    }

    fn heading(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: &str| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<10}{value}");
        };
        line("service", &self.service);
        if let (Some(internal), Some(external)) =
            (&self.internal_traffic_policy, &self.external_traffic_policy)
        {
            line("policies", &format!("internal {internal}, external {external}"));
        }
        for port in &self.ports {
            if port.affinity_seconds > 0 {
                let PortDetail { affinity_seconds, affinity_clients, .. } = port;
                let clients = if *affinity_clients == 1 { "client" } else { "clients" };
                let said = format!(
                    "{}: ClientIP for {affinity_seconds}s, {affinity_clients} {clients}",
                    port.label()
                );
                line("affinity", &said);
            }
        }
        for port in self.ports.iter().filter(|port| !port.source_ranges.is_empty()) {
            line("sources", &format!("{}: {}", port.label(), port.source_ranges.join(", ")));
        }
        for port in &self.ports {
            if let Some(Connections { opened, refused, dropped }) = port.connections {
                let said = format!("{}: {opened} opened, {refused} refused, {dropped} dropped", port.label());
                line("new", &said);
            }
        }
        line("reasons", &self.reasons.as_ref().map_or("not written down".into(), Reasons::text));
        text
    }
}

impl Reasons {
    fn text(&self) -> String {
        let zone = self.zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
        let known = if self.known { "" } else { "; the Service was not known then" };
        format!("as of {} ({}s ago), node {}{zone}{known}", self.at, self.age_seconds, self.node)
    }
}

impl PortDetail {
    fn label(&self) -> String {
        let name = if self.port.is_empty() { "-" } else { &self.port };
        format!("{name}/{}/{}", self.protocol, self.family)
    }
}

fn or_dash(text: &Option<String>) -> String {
    text.clone().unwrap_or_else(|| "-".into())
}

fn headings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

impl Page for ServicePage {
    fn text(&self) -> String {
        let rows: Vec<_> = self.frontends.iter().map(|detail| detail.row.clone()).collect();
        let mut text = format!("{}\n{}", self.heading(), table(&rows));
        let mut used = Vec::new();
        let mut unused = Vec::new();
        let mut refused = Vec::new();
        for port in &self.ports {
            for (segment, backends) in [("cluster", &port.cluster), ("local", &port.local)] {
                used.extend(backends.iter().map(|backend| {
                    let Backend { endpoint, node, zone, state, weight, slots } = backend;
                    vec![
                        port.label(),
                        segment.into(),
                        endpoint.text(),
                        endpoint.place.into(),
                        or_dash(node),
                        or_dash(zone),
                        (*state).into(),
                        weight.to_string(),
                        slots.to_string(),
                    ]
                }));
            }
            unused.extend(port.not_used.iter().map(|is| {
                let endpoint = SocketAddr::new(is.address, is.port).to_string();
                vec![port.label(), endpoint, or_dash(&is.node), or_dash(&is.zone), is.why.clone()]
            }));
            let line = |is: &RefusedFrontend| {
                vec![port.label(), is.kind.clone(), is.frontend.clone(), is.why.clone()]
            };
            refused.extend(port.refused.iter().map(line));
        }
        let names = ["PORT", "SEGMENT", "BACKEND", "PLACE", "NODE", "ZONE", "STATE", "WEIGHT", "SLOTS"];
        for (names, cells) in [
            (&names[..], used),
            (&["PORT", "NOT USED", "NODE", "ZONE", "WHY"], unused),
            (&["PORT", "TYPE", "NOT SERVED", "WHY"], refused),
        ] {
            if !cells.is_empty() {
                text.push('\n');
                text.push_str(&columns(headings(names), cells));
            }
        }
        text
    }
}
