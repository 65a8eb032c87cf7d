//! Reads what a report says: the pinned maps, and what the agent wrote down beside them. Nothing is changed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use proxy_common::{Reason, V4, V6, maps};

use super::course::Course;
use super::matrix::matrix;
use super::memory::Remembered;
use super::page::{
    Denial, Drop, EndpointPart, Fact, FrontendLine, HookLine, MapLine, NodePart, PortPart, Refused, Repair,
    ReportPage, ServicePart, ServicesPart, ZonePart,
};
use crate::ctl::drops::is_lost;
use crate::ctl::policy::names::Names;
use crate::ctl::reader::Reader;
use crate::ctl::service::{self, FrontendRow};
use crate::ctl::status;
use crate::kernel::record::State;
use crate::observe::denials;
use crate::observe::explain::{self, EndpointLine, PortLine, ServiceLine};
use crate::observe::maps::outcome;
use crate::observe::policy_names::PolicyNames;
use crate::observe::report::Report;

/// Most Services of a page: with ten endpoints each, about as much as a browser shows without a pause.
const SERVICES: usize = 1_000;

/// Reads everything but what was lost while somebody watched.
pub(super) fn read(reader: &Reader, now: SystemTime, course: Option<Course>) -> anyhow::Result<ReportPage> {
    let written = reader.record.policy_names();
    let state = reader.record.state();
    Ok(ReportPage {
        at: humantime::format_rfc3339_seconds(now).to_string(),
        version: env!("CARGO_PKG_VERSION").into(),
        services: services(reader)?,
        denials: denials(reader, written.as_ref().unwrap_or(&PolicyNames::default()))?,
        matrix: matrix(&Remembered::new(&reader.pinned), &Names::of(written))?,
        drops: drops(reader.pinned.counters()?),
        course,
        maps: occupancy(reader)?,
        repairs: repairs(state.as_ref()),
        node: node(reader, state.as_ref())?,
    })
}

fn node(reader: &Reader, state: Option<&State>) -> anyhow::Result<NodePart> {
    let report = reader.record.report();
    let alive = status::Life::of(reader);
    let mut facts = Vec::new();
    let mut fact = |name, value: String| facts.push(Fact { name, value });
    let pid = state.map(|state| format!(", process {}", state.pid)).unwrap_or_default();
    fact(
        "Agent",
        match alive {
            status::Life::Runs => format!("running{pid}"),
            status::Life::Ended => "not running; the programs serve what it was told last".into(),
        },
    );
    if let Some(report) = &report {
        of_agent(report, &mut fact);
    }
    let addresses: Vec<String> =
        [status::node_address::<V4>(&reader.pinned.v4), status::node_address::<V6>(&reader.pinned.v6)]
            .into_iter()
            .flatten()
            .map(|ip| ip.to_string())
            .collect();
    if !addresses.is_empty() {
        fact("Addresses", addresses.join(", "));
    }
    if let Some(state) = state {
        let how = if state.adopted { "adopted what was there" } else { "began with empty maps" };
        fact("Last start", format!("{}: {how}", status::time(state.at)));
    }
    fact("Maps", reader.pinned.pins.root().display().to_string());
    let hook = |row: status::HookRow| HookLine {
        hook: row.hook.into(),
        target: row.target,
        state: row.state.into(),
    };
    Ok(NodePart {
        name: report.as_ref().map(|report| report.about.node.clone()),
        alive,
        facts,
        degraded: report.map(|report| report.degraded).unwrap_or_default(),
        hooks: status::hooks(reader)?.into_iter().map(hook).collect(),
    })
}

fn of_agent(report: &Report, fact: &mut impl FnMut(&'static str, String)) {
    let Report { at, about, zone, node_eligible, source_lost_since, families, degraded: _ } = report;
    fact("Version", about.version.clone());
    fact("Zone", zone.clone().unwrap_or_else(|| "none".into()));
    let lost = source_lost_since.map(|since| format!("; no answer since {}", status::time(since)));
    fact("Objects from", format!("{}{}", about.source, lost.unwrap_or_default()));
    for (name, family) in families {
        let late = if family.healthy { "" } else { ", late" };
        let said = match (family.last_sync, family.earlier_sync) {
            (Some(at), _) => format!("in step since {}{late}", status::time(at)),
            (None, Some(at)) => format!("as an earlier run left it at {}{late}", status::time(at)),
            (None, None) => format!("not all objects are known yet{late}"),
        };
        fact(if name == "IPv4" { "IPv4" } else { "IPv6" }, said);
    }
    if !node_eligible {
        fact("Load balancers", "are told to leave this node".into());
    }
    let modes: Vec<_> = about.modes.iter().map(|(name, value)| format!("{name} {value}")).collect();
    fact("Settings", modes.join(", "));
    fact("Written down", status::time(*at));
}

fn services(reader: &Reader) -> anyhow::Result<ServicesPart> {
    let explained = explain::read(reader.record.dir(), None);
    let (header, mut lines) =
        explained.map_or((None, BTreeMap::new()), |(header, lines)| (Some(header), lines));
    let mut found: BTreeMap<String, ServicePart> = BTreeMap::new();
    for row in service::list(reader)? {
        let Some(name) = row.service() else { continue };
        let part =
            found.entry(name.clone()).or_insert_with(|| ServicePart { name, ..ServicePart::default() });
        part.frontends.push(frontend(row));
    }
    for name in lines.keys() {
        found
            .entry(name.clone())
            .or_insert_with(|| ServicePart { name: name.clone(), ..ServicePart::default() });
    }
    for (name, part) in &mut found {
        if let Some(ServiceLine { internal_policy, external_policy, ports, .. }) = lines.remove(name) {
            part.internal_policy = Some(internal_policy);
            part.external_policy = Some(external_policy);
            part.ports = ports.into_iter().map(port).collect();
        }
    }
    let left_out = found.len().saturating_sub(SERVICES);
    Ok(ServicesPart {
        written: header.as_ref().map(|header| status::time(header.at)),
        zone: header.and_then(|header| header.zone),
        shown: found.into_values().take(SERVICES).collect(),
        left_out,
    })
}

fn frontend(row: FrontendRow) -> FrontendLine {
    FrontendLine {
        kind: row.kind,
        at: SocketAddr::new(row.address, row.port),
        protocol: row.protocol,
        port_name: row.port_name.unwrap_or_default(),
        backends: row.cluster_backends,
        local_backends: row.local_backends,
        algorithm: row.algorithm,
        affinity_seconds: row.affinity_seconds,
    }
}

fn port(line: PortLine) -> PortPart {
    let mut zones: BTreeMap<Option<String>, Vec<EndpointPart>> = BTreeMap::new();
    for EndpointLine { address, port, node, zone, state, why } in line.endpoints {
        let at = SocketAddr::new(address, port);
        zones.entry(zone).or_default().push(EndpointPart { at, node, state, why });
    }
    let zone = |(zone, mut endpoints): (Option<String>, Vec<EndpointPart>)| {
        endpoints.sort_by_key(|endpoint| endpoint.at);
        ZonePart { zone, endpoints }
    };
    let refused =
        |line: explain::RefusedLine| Refused { frontend: line.frontend, kind: line.kind, why: line.why };
    PortPart {
        port: line.port,
        protocol: line.protocol,
        family: line.family,
        zones: zones.into_iter().map(zone).collect(),
        refused: line.refused.into_iter().map(refused).collect(),
    }
}

fn denials(reader: &Reader, names: &PolicyNames) -> anyhow::Result<Vec<Denial>> {
    let sums = reader.pinned.policy.denials.sums()?;
    let denial = |([policy, direction, rule], packets): ([String; 3], u64)| Denial {
        policy,
        direction,
        rule,
        packets,
    };
    let mut all: Vec<_> = denials::named(&sums, names).into_iter().map(denial).collect();
    all.sort_by_key(|denial| std::cmp::Reverse(denial.packets));
    Ok(all)
}

/// Reasons for which something ends, most frequent first.
pub(super) fn drops(counters: Vec<(Reason, u64)>) -> Vec<Drop> {
    let line = |(reason, count): (Reason, u64)| Drop {
        reason: reason.text(),
        outcome: outcome(reason.outcome()),
        count,
        meaning: reason.explanation().trim(),
    };
    let mut drops: Vec<_> = counters.into_iter().filter(|(reason, _)| is_lost(*reason)).map(line).collect();
    drops.sort_by_key(|drop| std::cmp::Reverse(drop.count));
    drops
}

fn occupancy(reader: &Reader) -> anyhow::Result<Vec<MapLine>> {
    let line = |found: crate::kernel::pins::Occupancy| {
        let spec = maps::spec(found.map)?;
        let crate::kernel::pins::Occupancy { map: _, used, size, memory, id: _ } = found;
        Some(MapLine { name: spec.name, used, size, memory, holds: spec.doc })
    };
    Ok(reader.pinned.occupancy()?.into_iter().filter_map(line).collect())
}

fn repairs(state: Option<&State>) -> Vec<Repair> {
    let all = state.into_iter().flat_map(|state| &state.repairs);
    all.map(|(map, count)| Repair { map: map.clone(), count: *count }).collect()
}
