//! Services: the frontends of the maps, by the names that the agent wrote down.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use anyhow::bail;
use proxy_common::{
    Address, Backend, BackendFlags, ClientClass, Frontend, FrontendFlags, FrontendKey, V4, V6,
};
use serde::Serialize;

use super::output::{Page, Row, columns};
use super::reader::{Reader, object_key};
use crate::kernel::{MapFamily, Maps};

/// One address and port that is served.
#[derive(Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrontendRow {
    id: u32,
    service: Option<String>,
    port_name: Option<String>,
    #[serde(skip)]
    label: String,
    kind: &'static str,
    address: IpAddr,
    port: u16,
    protocol: String,
    cluster_backends: u32,
    local_backends: usize,
    /// Seconds; zero is none.
    affinity_seconds: u32,
    rules: Vec<String>,
}

/// A backend in a segment.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) place: &'static str,
    pub(super) terminating: bool,
}

impl<A: Address> From<Backend<A>> for Endpoint {
    fn from(backend: Backend<A>) -> Self {
        let local = backend.flags.has(BackendFlags::LOCAL);
        Self {
            address: backend.addr.to_ip(),
            port: backend.port.number(),
            place: if local { "local" } else { "remote" },
            terminating: backend.flags.has(BackendFlags::TERMINATING),
        }
    }
}

impl Endpoint {
    pub(super) fn text(&self) -> String {
        SocketAddr::new(self.address, self.port).to_string()
    }
}

impl FrontendRow {
    /// The Service, or its number: what distinguishes it from others.
    pub(super) fn service(&self) -> Option<String> {
        self.service.clone().or_else(|| (self.id != 0).then(|| format!("#{}", self.id)))
    }
}

impl Row for FrontendRow {
    const COLUMNS: &'static [&'static str] =
        &["SERVICE", "TYPE", "FRONTEND", "PROTOCOL", "BACKENDS", "LOCAL", "AFFINITY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.label.clone(),
            self.kind.into(),
            SocketAddr::new(self.address, self.port).to_string(),
            self.protocol.clone(),
            self.cluster_backends.to_string(),
            self.local_backends.to_string(),
            if self.affinity_seconds == 0 { "-".into() } else { format!("{}s", self.affinity_seconds) },
        ]
    }
}

/// Every frontend, sorted by Service and address.
pub(super) fn list(reader: &Reader) -> anyhow::Result<Vec<FrontendRow>> {
    let mut rows = rows::<V4>(reader, &reader.pinned.v4)?;
    rows.extend(self::rows::<V6>(reader, &reader.pinned.v6)?);
    rows.sort_by(|a, b| (&a.label, a.kind, a.address, a.port).cmp(&(&b.label, b.kind, b.address, b.port)));
    Ok(rows)
}

/// Frontends that stand for a port of a Service, with their keys.
pub(super) fn frontends<F: MapFamily>(
    maps: &Maps<F>,
) -> anyhow::Result<Vec<(FrontendKey<F::Addr>, Frontend)>> {
    let mut entries = maps.frontends.entries()?;
    entries.retain(|(_, value)| !value.flags.has(FrontendFlags::WILDCARD));
    Ok(entries)
}

fn rows<F: MapFamily>(reader: &Reader, maps: &Maps<F>) -> anyhow::Result<Vec<FrontendRow>> {
    frontends(maps)?.into_iter().map(|(key, value)| row(reader, maps, key, &value)).collect()
}

fn row<F: MapFamily>(
    reader: &Reader,
    maps: &Maps<F>,
    key: FrontendKey<F::Addr>,
    value: &Frontend,
) -> anyhow::Result<FrontendRow> {
    let name = reader.name(value.service);
    let local = local_backends([maps.segment(value.cluster)?, maps.segment(value.local)?].concat());
    Ok(FrontendRow {
        id: value.service.0,
        service: name.map(|name| name.service.to_string()),
        port_name: name.map(|name| name.port.to_string()),
        label: reader.label(value.service),
        kind: kind(value.flags),
        address: key.addr.to_ip(),
        port: key.port.number(),
        protocol: key.proto.to_string(),
        cluster_backends: value.cluster.len,
        local_backends: local,
        affinity_seconds: value.affinity,
        rules: ClientClass::ALL
            .into_iter()
            .map(|class| format!("{class:?}: {:?}", value.rule(class)))
            .collect(),
    })
}

/// Backends on this node, in either segment: the local one is written only where a rule reads it.
fn local_backends<A: Address>(slots: Vec<Backend<A>>) -> usize {
    let here = slots.iter().filter(|slot| slot.flags.has(BackendFlags::LOCAL));
    here.map(|slot| (slot.addr, slot.port)).collect::<BTreeSet<_>>().len()
}

fn kind(flags: FrontendFlags) -> &'static str {
    match flags {
        _ if flags.has(FrontendFlags::CLUSTER_IP) => "ClusterIP",
        _ if flags.has(FrontendFlags::NODE_PORT) => "NodePort",
        _ if flags.has(FrontendFlags::EXTERNAL) => "External",
        _ => "?",
    }
}

/// One Service.
#[derive(Serialize, Debug)]
pub(super) struct ServicePage {
    service: String,
    frontends: Vec<FrontendDetail>,
}

#[derive(Serialize, Debug)]
struct FrontendDetail {
    #[serde(flatten)]
    row: FrontendRow,
    cluster: Vec<Endpoint>,
    local: Vec<Endpoint>,
}

/// One Service with its backends.
pub(super) fn get(reader: &Reader, service: &str) -> anyhow::Result<ServicePage> {
    let key = object_key(service)?;
    let mut frontends = details::<V4>(reader, &reader.pinned.v4, service)?;
    frontends.extend(details::<V6>(reader, &reader.pinned.v6, service)?);
    if frontends.is_empty() {
        bail!("Service {key} is not in the maps; `proxyctl service list` shows those that are");
    }
    frontends.sort_by(|a, b| {
        (&a.row.label, a.row.address, a.row.port).cmp(&(&b.row.label, b.row.address, b.row.port))
    });
    Ok(ServicePage { service: key.to_string(), frontends })
}

fn details<F: MapFamily>(
    reader: &Reader,
    maps: &Maps<F>,
    service: &str,
) -> anyhow::Result<Vec<FrontendDetail>> {
    let only = reader.only(Some(service))?;
    let endpoints = |segment| -> anyhow::Result<Vec<Endpoint>> {
        Ok(maps.segment(segment)?.into_iter().map(Endpoint::from).collect())
    };
    let mut found = Vec::new();
    for (key, value) in frontends(maps)?.into_iter().filter(|(_, value)| only.takes(value.service)) {
        let (cluster, local) = (endpoints(value.cluster)?, endpoints(value.local)?);
        found.push(FrontendDetail { row: row(reader, maps, key, &value)?, cluster, local });
    }
    Ok(found)
}

impl Page for ServicePage {
    fn text(&self) -> String {
        let mut text =
            super::output::table(&self.frontends.iter().map(|one| one.row.clone()).collect::<Vec<_>>());
        let mut cells = Vec::new();
        for FrontendDetail { row, cluster, local } in &self.frontends {
            let frontend = format!("{}/{}", SocketAddr::new(row.address, row.port), row.protocol);
            for (segment, endpoints) in [("cluster", cluster), ("local", local)] {
                for endpoint in endpoints {
                    let state = if endpoint.terminating { "terminating" } else { "ready" };
                    cells.push(vec![
                        frontend.clone(),
                        segment.into(),
                        endpoint.text(),
                        endpoint.place.into(),
                        state.into(),
                    ]);
                }
            }
        }
        let headings = ["FRONTEND", "SEGMENT", "BACKEND", "PLACE", "STATE"].map(str::to_owned).to_vec();
        text.push('\n');
        text.push_str(&columns(headings, cells));
        text
    }
}
