//! One Service in full: what the maps hold of it, and beside it what the agent wrote down, which the maps cannot tell:
//! each endpoint's node and zone, and why some are not used.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::bail;
use proxy_common::{Address, Frontend, Port, ServiceId, Tally, V4, V6};
use proxy_model::{IpFamily, ServiceName};
use rustix::time::{ClockId, clock_gettime};

use super::page::{
    Backend, Connections, FrontendDetail, NotUsed, PortDetail, Reasons, RefusedFrontend, ServicePage,
};
use super::{Endpoint, frontends, row};
use crate::ctl::reader::{Reader, Wanted};
use crate::kernel::{MapFamily, Maps};
use crate::observe::explain::{self, EndpointLine, Header, PortLine, ServiceLine};

/// One Service with its backends.
pub(in crate::ctl) fn get(reader: &Reader, text: &str) -> anyhow::Result<ServicePage> {
    let wanted = Wanted::parse(text)?;
    let service = wanted.service.to_string();
    let explained = explain::read(reader.record.dir(), Some(&service));
    let (header, line) = match explained {
        Some((header, mut lines)) => (Some(header), lines.remove(&service)),
        None => (None, None),
    };
    let mut page = ServicePage::new(service, line.as_ref());
    page.reasons = header.map(|header| reasons(header, line.as_ref()));
    add::<V4>(reader, &reader.pinned.v4, &wanted, line.as_ref(), &mut page)?;
    add::<V6>(reader, &reader.pinned.v6, &wanted, line.as_ref(), &mut page)?;
    if let Some(line) = &line {
        page.ports.extend(unserved(line, &wanted, &page.ports));
    }
    if page.frontends.is_empty() && page.ports.is_empty() {
        bail!("Service {text} is not in the maps; `proxyctl service list` shows those that are");
    }
    page.sort();
    Ok(page)
}

fn reasons(header: Header, line: Option<&ServiceLine>) -> Reasons {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let at = UNIX_EPOCH + std::time::Duration::from_secs(header.at);
    Reasons {
        at: humantime::format_rfc3339_seconds(at).to_string(),
        age_seconds: now.saturating_sub(header.at),
        node: header.node,
        zone: header.zone,
        known: line.is_some(),
    }
}

/// Adds what one family has of the Service.
fn add<F: MapFamily>(
    reader: &Reader,
    maps: &Maps<F>,
    wanted: &Wanted,
    line: Option<&ServiceLine>,
    page: &mut ServicePage,
) -> anyhow::Result<()> {
    let all = frontends(maps)?;
    let ours = all
        .iter()
        .filter(|(_, value)| reader.name(value.service).is_some_and(|name| name.service == wanted.service));
    let ours: Vec<_> = ours.collect();
    let numbers: BTreeSet<ServiceId> = ours
        .iter()
        .filter(|(key, value)| {
            reader.name(value.service).is_some_and(|name| wanted.takes(&name.port, key.port))
        })
        .map(|(_, value)| value.service)
        .collect();
    let mut values: BTreeMap<ServiceId, Vec<Frontend>> = BTreeMap::new();
    for (key, value) in ours.into_iter().filter(|(_, value)| numbers.contains(&value.service)) {
        let row = row(reader, maps, *key, value)?;
        let endpoints = |segment| -> anyhow::Result<Vec<Endpoint>> {
            let slots = maps.segment(segment)?.into_iter().map(Endpoint::from);
            Ok(slots.collect::<BTreeSet<_>>().into_iter().collect())
        };
        let (cluster, local) = (endpoints(value.cluster)?, endpoints(value.local)?);
        page.frontends.push(FrontendDetail { row, cluster, local });
        values.entry(value.service).or_default().push(*value);
    }
    for (id, values) in values {
        let Some(name) = reader.name(id) else { continue };
        let explained = line.and_then(|line| line.ports.iter().find(|port| is_of(port, name)));
        page.ports.push(port(reader, maps, id, name, &values, explained)?);
    }
    Ok(())
}

/// Ports that the agent knows and the maps do not have: refused, or too new.
fn unserved(line: &ServiceLine, wanted: &Wanted, served: &[PortDetail]) -> Vec<PortDetail> {
    let is_served = |port: &PortLine| {
        let same = |is: &PortDetail| {
            (&is.port, &is.protocol, is.family) == (&port.port, &port.protocol, &*port.family)
        };
        served.iter().any(same)
    };
    let missing =
        line.ports.iter().filter(|port| !is_served(port) && wanted.takes(&port.port, Port::default()));
    missing
        .filter_map(|port| {
            let family = IpFamily::ALL.into_iter().find(|family| family.api_name() == port.family)?;
            Some(PortDetail {
                id: port.id.unwrap_or_default(),
                port: port.port.clone(),
                protocol: port.protocol.clone(),
                family: family.api_name(),
                algorithm: String::new(),
                affinity_seconds: 0,
                affinity_clients: 0,
                source_ranges: Vec::new(),
                connections: None,
                cluster: Vec::new(),
                local: Vec::new(),
                not_used: not_in_use(&port.endpoints, &BTreeSet::new()),
                refused: refused(port),
            })
        })
        .collect()
}

fn refused(port: &PortLine) -> Vec<RefusedFrontend> {
    let row = |line: &explain::RefusedLine| RefusedFrontend {
        frontend: line.frontend.clone(),
        kind: line.kind.clone(),
        why: line.why.clone(),
    };
    port.refused.iter().map(row).collect()
}

/// Endpoints that the maps do not have, each with the reason that was written down.
fn not_in_use(endpoints: &[EndpointLine], used: &BTreeSet<SocketAddr>) -> Vec<NotUsed> {
    let excluded = endpoints.iter().filter_map(|line| Some(not_used(line, line.why.as_deref()?)));
    // The agent has written down that they are used, and the maps are of another moment.
    let moved_on = endpoints.iter().filter(|line| line.why.is_none() && !used.contains(&line.socket()));
    let moved_on = moved_on.map(|line| not_used(line, "to be used; the maps do not have it"));
    excluded.chain(moved_on).collect()
}

fn is_of(line: &PortLine, name: &ServiceName) -> bool {
    (line.port.as_str(), line.protocol.as_str(), line.family.as_str())
        == (&*name.port, name.proto.to_string().as_str(), name.family.api_name())
}

fn port<F: MapFamily>(
    reader: &Reader,
    maps: &Maps<F>,
    id: ServiceId,
    name: &ServiceName,
    values: &[Frontend],
    explained: Option<&PortLine>,
) -> anyhow::Result<PortDetail> {
    let endpoints = explained.map(|line| &*line.endpoints).unwrap_or_default();
    let mut lists = [Vec::new(), Vec::new()];
    for (list, segments) in lists.iter_mut().zip([
        values.iter().map(|v| v.cluster).collect::<BTreeSet<_>>(),
        values.iter().map(|v| v.local).collect(),
    ]) {
        let mut found: BTreeMap<Endpoint, (u32, u8)> = BTreeMap::new();
        for segment in segments {
            for slot in maps.segment(segment)? {
                let entry = found.entry(slot.into()).or_insert((0, slot.weight.0));
                entry.0 += 1;
            }
        }
        *list = found
            .into_iter()
            .map(|(endpoint, (slots, weight))| backend(endpoint, slots, weight, endpoints))
            .collect();
    }
    let [cluster, local] = lists;
    let used: BTreeSet<_> =
        cluster.iter().chain(&local).map(|backend: &Backend| backend.endpoint.socket()).collect();
    let affinity = values.iter().map(|value| value.affinity).max().unwrap_or(0);
    Ok(PortDetail {
        id: id.0,
        port: name.port.to_string(),
        protocol: name.proto.to_string(),
        family: name.family.api_name(),
        algorithm: values.first().map(|value| value.algorithm.to_string()).unwrap_or_default(),
        affinity_seconds: affinity,
        affinity_clients: clients(reader, id, affinity)?,
        source_ranges: ranges(maps, id)?,
        connections: connections(reader, id)?,
        not_used: not_in_use(endpoints, &used),
        refused: explained.map(refused).unwrap_or_default(),
        cluster,
        local,
    })
}

fn backend(endpoint: Endpoint, slots: u32, weight: u8, known: &[EndpointLine]) -> Backend {
    // Of two entries of one place the one that counts has no reason.
    let of_place = || known.iter().filter(|line| line.socket() == endpoint.socket());
    let line = of_place().find(|line| line.why.is_none()).or_else(|| of_place().next());
    Backend {
        node: line.and_then(|line| line.node.clone()),
        zone: line.and_then(|line| line.zone.clone()),
        state: if endpoint.terminating { "terminating" } else { "ready" },
        weight,
        slots,
        endpoint,
    }
}

fn not_used(line: &EndpointLine, why: &str) -> NotUsed {
    NotUsed {
        address: line.address,
        port: line.port,
        node: line.node.clone(),
        zone: line.zone.clone(),
        state: line.state.clone(),
        why: why.to_owned(),
    }
}

/// Clients that the next connection would find with their backend (item 97).
fn clients(reader: &Reader, id: ServiceId, timeout: u32) -> anyhow::Result<usize> {
    if timeout == 0 {
        return Ok(0);
    }
    let now = u32::try_from(clock_gettime(ClockId::Boottime).tv_sec).unwrap_or(u32::MAX);
    let entries = reader.pinned.affinity.entries()?.into_iter();
    Ok(entries.filter(|(key, value)| key.service == id && now.saturating_sub(value.seen) < timeout).count())
}

fn connections(reader: &Reader, id: ServiceId) -> anyhow::Result<Option<Connections>> {
    let tally = reader.pinned.counts.tallies()?.remove(&id);
    Ok(tally.map(|Tally { opened, refused, dropped }| Connections { opened, refused, dropped }))
}

/// Source ranges in force for a port.
fn ranges<F: MapFamily>(maps: &Maps<F>, id: ServiceId) -> anyhow::Result<Vec<String>> {
    let keys = maps.ranges.entries()?.into_iter().map(|(key, _)| key).filter(|key| key.service == id);
    let mut ranges: Vec<_> = keys.map(|key| (key.addr, key.bits.saturating_sub(u32::BITS))).collect();
    ranges.sort_unstable();
    Ok(ranges.into_iter().map(|(addr, len)| format!("{}/{len}", addr.to_ip())).collect())
}
