//! Flows of the packet road: each connection once, as its client sees it and as its backend does.

use std::net::{IpAddr, SocketAddr};

use clap::{Args, ValueEnum};
use proxy_common::{Address, Flow, FlowFlags, FlowKey, V4, V6};
use serde::Serialize;

use super::explain::ProtoArg;
use super::output::Row;
use super::reader::{Only, Reader};
use crate::kernel::map::Table;
use crate::kernel::{MapFamily, Maps};

/// Which connections `proxyctl flow list` shows.
#[derive(Args, Debug, Clone, Default)]
pub struct FlowArgs {
    /// Only those of this Service
    #[arg(long, value_name = "NS/NAME")]
    pub service: Option<String>,
    /// Only those with this address at an end: client, frontend, backend, or what the backend sees
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,
    /// Only those with this port at an end
    #[arg(long, value_name = "N")]
    pub port: Option<u16>,
    /// Only those of this protocol
    #[arg(long, value_enum)]
    pub proto: Option<ProtoArg>,
    /// Only those that are so far
    #[arg(long, value_enum)]
    pub state: Option<StateArg>,
}

/// How far a connection is.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum StateArg {
    /// Nobody has answered yet
    HalfOpen,
    /// Both ends have spoken
    Established,
    /// Sent on to its backend's node in a tunnel
    Tunnelled,
}

impl StateArg {
    const fn text(self) -> &'static str {
        match self {
            Self::HalfOpen => "half-open",
            Self::Established => "established",
            Self::Tunnelled => "tunnelled",
        }
    }
}

impl FlowArgs {
    /// Beside the Service, which is asked of the entry.
    fn takes(&self, row: &FlowRow) -> bool {
        let Self { service: _, address, port, proto, state } = self;
        let ends = [row.client, row.frontend, row.source, row.backend];
        address.is_none_or(|address| ends.iter().any(|end| end.ip() == address))
            && port.is_none_or(|port| ends.iter().any(|end| end.port() == port))
            && proto.is_none_or(|proto| proto.between(row.client.ip()).to_string() == row.protocol)
            && state.is_none_or(|state| state.text() == row.state)
    }
}

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

impl FlowRow {
    /// `namespace/name:port`, or what stands for it.
    pub(super) fn service(&self) -> &str {
        &self.service
    }

    /// Protocol, client, frontend and backend.
    pub(super) fn line(&self) -> [String; 4] {
        [self.protocol.clone(), self.client.to_string(), self.frontend.to_string(), self.backend.to_string()]
    }
}

/// Every flow, sorted by client.
pub(super) fn list(reader: &Reader, args: &FlowArgs) -> anyhow::Result<Vec<FlowRow>> {
    let only = reader.only(args.service.as_deref())?;
    let mut rows = family::<V4>(reader, &reader.pinned.v4, &only)?;
    rows.extend(family::<V6>(reader, &reader.pinned.v6, &only)?);
    rows.retain(|row| args.takes(row));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_takes_what_it_is_about_and_together_they_take_what_all_do() {
        let row = |protocol: &str, client: &str, state| FlowRow {
            service: "shop/web:http".into(),
            protocol: protocol.into(),
            state,
            client: client.parse().unwrap(),
            frontend: "10.96.0.1:80".parse().unwrap(),
            source: client.parse().unwrap(),
            backend: "10.244.0.5:8080".parse().unwrap(),
            masqueraded: false,
            judged: false,
            closing: false,
            route: "Stack".into(),
        };
        let rows = [row("TCP", "192.0.2.1:4000", "established"), row("UDP", "192.0.2.2:8080", "half-open")];
        let none = FlowArgs::default();
        for (args, taken) in [
            (none.clone(), [true, true]),
            (FlowArgs { address: "192.0.2.1".parse().ok(), ..none.clone() }, [true, false]),
            (FlowArgs { address: "10.244.0.5".parse().ok(), ..none.clone() }, [true, true]),
            (FlowArgs { port: Some(4_000), ..none.clone() }, [true, false]),
            (FlowArgs { port: Some(81), ..none.clone() }, [false, false]),
            (FlowArgs { proto: Some(ProtoArg::Udp), ..none.clone() }, [false, true]),
            (FlowArgs { state: Some(StateArg::HalfOpen), ..none.clone() }, [false, true]),
            (
                FlowArgs { state: Some(StateArg::HalfOpen), proto: Some(ProtoArg::Tcp), ..none },
                [false, false],
            ),
        ] {
            assert_eq!(rows.each_ref().map(|row| args.takes(row)), taken, "{args:?}");
        }
    }
}
