//! Flows of the packet road: each connection once, as its client sees it and as its backend does.

use std::net::SocketAddr;

use proxy_common::{Address, Flow, FlowFlags, FlowKey, V4, V6};
use serde::Serialize;

use super::output::Row;
use super::reader::{Only, Reader};
use crate::kernel::map::Table;
use crate::kernel::{MapFamily, Maps};

/// One connection.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct FlowRow {
    service: String,
    protocol: String,
    state: &'static str,
    client: SocketAddr,
    frontend: SocketAddr,
    /// Source that the backend sees.
    source: SocketAddr,
    backend: SocketAddr,
    masqueraded: bool,
    /// Only judged by policies: its packets stay as they are.
    judged: bool,
    closing: bool,
    route: String,
}

impl Row for FlowRow {
    const COLUMNS: &'static [&'static str] =
        &["SERVICE", "PROTOCOL", "STATE", "CLIENT", "FRONTEND", "BACKEND", "SEEN AS", "ROUTE"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.service.clone(),
            self.protocol.clone(),
            if self.closing { format!("{}+closing", self.state) } else { self.state.into() },
            self.client.to_string(),
            self.frontend.to_string(),
            self.backend.to_string(),
            self.source.to_string(),
            self.route.clone(),
        ]
    }
}

/// Every flow, sorted by client.
pub(super) fn list(reader: &Reader, service: Option<&str>) -> anyhow::Result<Vec<FlowRow>> {
    let only = reader.only(service)?;
    let mut rows = family::<V4>(reader, &reader.pinned.v4, &only)?;
    rows.extend(family::<V6>(reader, &reader.pinned.v6, &only)?);
    rows.sort_by_key(|row| (row.client, row.frontend));
    Ok(rows)
}

fn family<F: MapFamily>(reader: &Reader, maps: &Maps<F>, only: &Only<'_>) -> anyhow::Result<Vec<FlowRow>> {
    let mut rows = table(reader, &maps.flows, "established", only)?;
    rows.extend(table(reader, &maps.half_open, "half-open", only)?);
    rows.extend(table(reader, &maps.tunnels, "tunnelled", only)?);
    Ok(rows)
}

fn table<A: Address>(
    reader: &Reader,
    flows: &Table<FlowKey<A>, Flow<A>>,
    state: &'static str,
    only: &Only<'_>,
) -> anyhow::Result<Vec<FlowRow>> {
    let entries = flows.entries()?.into_iter();
    let forward = entries.filter(|(_, flow)| !flow.flags.has(FlowFlags::REPLY) && only.takes(flow.service));
    Ok(forward.map(|(key, flow)| row(reader, &key, &flow, state)).collect())
}

fn row<A: Address>(reader: &Reader, key: &FlowKey<A>, flow: &Flow<A>, state: &'static str) -> FlowRow {
    let judged = flow.flags.has(FlowFlags::PLAIN);
    FlowRow {
        service: reader.label(flow.service),
        protocol: key.proto.to_string(),
        state,
        client: SocketAddr::new(key.src.to_ip(), key.sport.number()),
        frontend: SocketAddr::new(key.dst.to_ip(), key.dport.number()),
        // In a tunnel the packet is as the client sent it.
        source: if flow.flags.has(FlowFlags::TUNNEL) {
            SocketAddr::new(key.src.to_ip(), key.sport.number())
        } else {
            SocketAddr::new(flow.src.to_ip(), flow.sport.number())
        },
        backend: SocketAddr::new(flow.dst.to_ip(), flow.dport.number()),
        masqueraded: flow.flags.has(FlowFlags::MASQUERADED),
        judged,
        closing: flow.flags.has(FlowFlags::FIN) || flow.flags.has(FlowFlags::RST),
        route: if judged { "judged".into() } else { format!("{:?}", flow.route) },
    }
}
