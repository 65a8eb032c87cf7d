//! Services: the frontends of the maps, by the names that the agent wrote down; and in `get` one of them in full.

mod get;
mod page;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use proxy_common::{
    Address, Backend, BackendFlags, ClientClass, Frontend, FrontendFlags, FrontendKey, Port, V4, V6,
};
use serde::Serialize;

use super::output::Row;
use super::reader::{Reader, Wanted};
use crate::kernel::{MapFamily, Maps};

pub(super) use get::get;

/// One address and port that is served.
#[derive(Serialize, Debug, Clone)]
#[serde(rename_all = "camelCase")]
pub(super) struct FrontendRow {
    id: u32,
    pub(super) service: Option<String>,
    pub(super) port_name: Option<String>,
    #[serde(skip)]
    label: String,
    pub(super) kind: &'static str,
    pub(super) address: IpAddr,
    pub(super) port: u16,
    pub(super) protocol: String,
    pub(super) algorithm: String,
    pub(super) cluster_backends: usize,
    pub(super) local_backends: usize,
    /// Seconds; zero is none.
    pub(super) affinity_seconds: u32,
    /// Only clients in the Service's source ranges are served.
    ranges: bool,
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
    pub(super) fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    pub(super) fn text(&self) -> String {
        self.socket().to_string()
    }
}

impl FrontendRow {
    /// The Service, or its number: what distinguishes it from others.
    pub(super) fn service(&self) -> Option<String> {
        self.service.clone().or_else(|| (self.id != 0).then(|| format!("#{}", self.id)))
    }

    /// Where it is served.
    pub(super) fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }

    pub(super) fn protocol(&self) -> &str {
        &self.protocol
    }

    /// Backends that somebody could be sent to.
    pub(super) fn backends(&self) -> usize {
        self.cluster_backends.max(self.local_backends)
    }

    /// It is of the Service, and the port, that was asked for.
    pub(super) fn is_of(&self, wanted: &Wanted) -> bool {
        self.service.as_deref() == Some(&wanted.service.to_string())
            && wanted.takes(self.port_name.as_deref().unwrap_or_default(), Port::new(self.port))
    }

    fn order(&self) -> (String, &'static str, IpAddr, u16, String) {
        (self.label.clone(), self.kind, self.address, self.port, self.protocol.clone())
    }
}

impl Row for FrontendRow {
    const COLUMNS: &'static [&'static str] =
        &["SERVICE", "TYPE", "FRONTEND", "PROTOCOL", "BACKENDS", "LOCAL", "AFFINITY"];
    const WIDE: &'static [&'static str] = &["ALGORITHM", "SOURCES", "PODS", "NODE", "OUTSIDE", "ID"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.label.clone(),
            self.kind.into(),
            self.socket().to_string(),
            self.protocol.clone(),
            self.cluster_backends.to_string(),
            self.local_backends.to_string(),
            if self.affinity_seconds == 0 { "-".into() } else { format!("{}s", self.affinity_seconds) },
        ]
    }

    fn wide_cells(&self) -> Vec<String> {
        let sources = if self.ranges { "ranges" } else { "all" };
        let rules = self.rules.iter().map(|rule| rule.split(": ").last().unwrap_or_default().to_owned());
        [self.algorithm.clone(), sources.into()]
            .into_iter()
            .chain(rules)
            .chain([self.id.to_string()])
            .collect()
    }
}

/// Every frontend, sorted by Service and address.
pub(super) fn list(reader: &Reader) -> anyhow::Result<Vec<FrontendRow>> {
    let mut rows = rows::<V4>(reader, &reader.pinned.v4)?;
    rows.extend(self::rows::<V6>(reader, &reader.pinned.v6)?);
    rows.sort_by_cached_key(FrontendRow::order);
    Ok(rows)
}

/// Who is behind the frontends of a Service, or of one of its ports.
pub(super) fn backends(reader: &Reader, wanted: &Wanted) -> anyhow::Result<BTreeSet<SocketAddr>> {
    let mut found = BTreeSet::new();
    behind::<V4>(reader, &reader.pinned.v4, wanted, &mut found)?;
    behind::<V6>(reader, &reader.pinned.v6, wanted, &mut found)?;
    Ok(found)
}

fn behind<F: MapFamily>(
    reader: &Reader,
    maps: &Maps<F>,
    wanted: &Wanted,
    found: &mut BTreeSet<SocketAddr>,
) -> anyhow::Result<()> {
    for (key, value) in frontends(maps)? {
        let is_wanted = reader
            .name(value.service)
            .is_some_and(|name| name.service == wanted.service && wanted.takes(&name.port, key.port));
        for segment in [value.cluster, value.local].into_iter().filter(|_| is_wanted) {
            let members = maps.members(segment)?.into_iter();
            found.extend(members.map(|backend| Endpoint::from(backend).socket()));
        }
    }
    Ok(())
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
    let cluster = maps.segment(value.cluster)?;
    let both = [cluster.clone(), maps.segment(value.local)?].concat();
    Ok(FrontendRow {
        id: value.service.0,
        service: name.map(|name| name.service.to_string()),
        port_name: name.map(|name| name.port.to_string()),
        label: reader.label(value.service),
        kind: kind(value.flags),
        address: key.addr.to_ip(),
        port: key.port.number(),
        protocol: key.proto.to_string(),
        algorithm: value.algorithm.to_string(),
        cluster_backends: distinct(cluster.iter()),
        // In either segment: the local one is written only where a rule reads it.
        local_backends: distinct(both.iter().filter(|slot| slot.flags.has(BackendFlags::LOCAL))),
        affinity_seconds: value.affinity,
        ranges: value.flags.has(FrontendFlags::RANGES),
        rules: ClientClass::ALL
            .into_iter()
            .map(|class| format!("{class:?}: {:?}", value.rule(class)))
            .collect(),
    })
}

/// Backends, each once: some algorithms lay a segment out with more slots than backends.
fn distinct<'a, A: Address + 'a>(slots: impl Iterator<Item = &'a Backend<A>>) -> usize {
    slots.map(|slot| (slot.addr, slot.port)).collect::<BTreeSet<_>>().len()
}

fn kind(flags: FrontendFlags) -> &'static str {
    match flags {
        _ if flags.has(FrontendFlags::CLUSTER_IP) => "ClusterIP",
        _ if flags.has(FrontendFlags::NODE_PORT) => "NodePort",
        _ if flags.has(FrontendFlags::EXTERNAL) => "External",
        _ => "?",
    }
}
