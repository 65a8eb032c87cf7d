//! Everything at a glance: is an agent alive, what did its start do, which programs sit where, how full is it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use proxy_common::maps::LAYOUT_VERSION;
use proxy_common::{V4, V6};
use serde::Serialize;

use super::output::{Page, columns};
use super::reader::Reader;
use super::{backend, flow, map, service};
use crate::kernel::pins::{self, Target};
use crate::kernel::record::State;
use crate::kernel::topology::IfIndex;
use crate::kernel::{MapFamily, Maps};
use crate::observe::report::{FamilyReport, Report};

/// Everything at a glance.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct StatusPage {
    bpf_root: String,
    layout_version: u32,
    agent: Agent,
    /// What the agent said of itself last; absent if it was not written down.
    report: Option<Report>,
    /// What the last start found and did; absent if it was not written down.
    start: Option<State>,
    hooks: Vec<HookRow>,
    services: usize,
    frontends: usize,
    backends: usize,
    flows: usize,
    policies: Enforced,
    node_addresses: Vec<std::net::IpAddr>,
    maps: Vec<map::MapRow>,
}

/// What the maps say of policies.
#[derive(Serialize, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
struct Enforced {
    /// Policies that pods of this node are under.
    policies: usize,
    /// Those of them that are not enforced as they say; their pods are isolated.
    refused: usize,
    /// Addresses of pods that are under a policy.
    addresses: usize,
    /// Zero: no connection is judged.
    epoch: u32,
}

/// Whether an agent runs.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct Agent {
    alive: bool,
    /// Process that runs, or ran last.
    pid: Option<u32>,
}

/// A program that is attached through a pinned link.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
struct HookRow {
    hook: &'static str,
    target: String,
    program_id: Option<u32>,
    link_id: Option<u32>,
    state: &'static str,
}

/// Reads everything.
pub(super) fn read(reader: &Reader) -> anyhow::Result<StatusPage> {
    let start = reader.record.state();
    let frontends = service::list(reader)?;
    let mut services: Vec<_> = frontends.iter().filter_map(|row| row.service()).collect();
    services.sort_unstable();
    services.dedup();
    Ok(StatusPage {
        bpf_root: reader.pinned.pins.root().display().to_string(),
        layout_version: LAYOUT_VERSION,
        agent: Agent {
            alive: is_locked(&reader.record.dir().join("lock")),
            pid: start.as_ref().map(|state| state.pid),
        },
        hooks: hooks(reader)?,
        services: services.len(),
        frontends: frontends.len(),
        backends: backend::list(reader, None)?.len(),
        flows: flow::list(reader, None)?.len(),
        policies: enforced(reader)?,
        node_addresses: node_address::<V4>(&reader.pinned.v4)
            .into_iter()
            .chain(node_address::<V6>(&reader.pinned.v6))
            .collect(),
        maps: map::list(reader)?,
        report: reader.record.report(),
        start,
    })
}

fn enforced(reader: &Reader) -> anyhow::Result<Enforced> {
    let maps = &reader.pinned;
    let names = reader.record.policy_names().unwrap_or_default().policies;
    Ok(Enforced {
        policies: names.len(),
        refused: names.iter().filter(|line| line.refused.is_some()).count(),
        addresses: maps.v4.policed.count()? + maps.v6.policed.count()?,
        epoch: maps.policy.state.get(&0)?.unwrap_or_default().epoch,
    })
}

fn policies(enforced: &Enforced) -> String {
    let Enforced { policies, refused, addresses, epoch } = enforced;
    match (epoch, refused) {
        (0, _) => "none".into(),
        (_, 0) => format!("{policies} about {addresses} addresses of this node, epoch {epoch}"),
        _ => format!(
            "{policies} about {addresses} addresses of this node, epoch {epoch}; {refused} refused, whose pods are isolated"
        ),
    }
}

fn node_address<F: MapFamily>(maps: &Maps<F>) -> Option<std::net::IpAddr> {
    use proxy_common::Address as _;
    let node = maps.node.get(&0).ok().flatten()?;
    Some(node.address.to_ip()).filter(|ip| !ip.is_unspecified())
}

/// Whether somebody holds the lock file. Asked of the kernel's list of locks: trying to take the lock would get in
/// the way of an agent that starts at this moment.
fn is_locked(path: &Path) -> bool {
    let Ok(metadata) = fs::metadata(path) else { return false };
    let Ok(locks) = fs::read_to_string("/proc/locks") else { return false };
    let inode = format!(":{}", metadata.ino());
    // `1: FLOCK  ADVISORY  WRITE 4242 00:1b:1234 0 EOF`, see proc_locks(5).
    locks.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some("FLOCK") && words.any(|word| word.ends_with(&inode))
    })
}

fn hooks(reader: &Reader) -> anyhow::Result<Vec<HookRow>> {
    let row = |link: pins::PinnedLink| {
        let facts = pins::link_facts(&link).ok();
        let state = match (&facts, link.target) {
            (None, _) => "unreadable",
            (Some(facts), Target::Device(_)) if facts.ifindex == 0 => "device gone",
            (Some(facts), Target::Cgroup) if facts.cgroup == 0 => "cgroup gone",
            (Some(_), _) => "attached",
        };
        HookRow {
            hook: link.hook.name(),
            target: target(link.target),
            program_id: facts.map(|facts| facts.program),
            link_id: facts.map(|facts| facts.id),
            state,
        }
    };
    Ok(reader.pinned.pins.links()?.into_iter().map(row).collect())
}

/// The device's name if it is in this network namespace, else its number.
fn target(target: Target) -> String {
    match target {
        Target::Cgroup => "cgroup".into(),
        Target::Device(IfIndex(index)) => device_name(index).unwrap_or_else(|| format!("device {index}")),
    }
}

fn device_name(index: u32) -> Option<String> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    netdevice::index_to_name(any, index).ok()
}

impl Page for StatusPage {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{name:<12}{value}");
        };
        line("root", format!("{} (layout {})", self.bpf_root, self.layout_version));
        line("agent", agent(&self.agent));
        if let Some(report) = &self.report {
            let found = self.start.as_ref().is_some_and(|state| state.adopted);
            let maps = if found { Start::WithMaps } else { Start::Empty };
            summary(report, self.agent.alive, maps, &mut line);
        }
        line("start", self.start.as_ref().map_or("not written down".into(), start));
        if let Some(state) = self.start.as_ref().filter(|state| !state.repairs.is_empty()) {
            let all: Vec<_> = state.repairs.iter().map(|(map, count)| format!("{map} {count}")).collect();
            line("repaired", all.join(", "));
        }
        if !self.node_addresses.is_empty() {
            let addresses: Vec<_> = self.node_addresses.iter().map(ToString::to_string).collect();
            line("addresses", addresses.join(", "));
        }
        if let Some(state) = self.start.as_ref().filter(|state| !state.xdp.is_empty()) {
            let modes: Vec<_> = state.xdp.iter().map(|(device, mode)| format!("{device} {mode}")).collect();
            line("xdp", modes.join(", "));
        }
        line(
            "serving",
            format!(
                "{} Services, {} frontends, {} backends, {} flows",
                self.services, self.frontends, self.backends, self.flows
            ),
        );
        line("policies", policies(&self.policies));
        text.push('\n');
        text.push_str(&hook_table(&self.hooks));
        text.push('\n');
        text.push_str(&super::output::table(&self.maps));
        text
    }
}

fn agent(agent: &Agent) -> String {
    match (agent.alive, agent.pid) {
        (true, Some(pid)) => format!("alive, pid {pid}"),
        (true, None) => "alive".into(),
        (false, Some(pid)) => {
            format!("not running (last pid {pid}); the dataplane serves what it was told last")
        }
        (false, None) => "not running; the dataplane serves what it was told last".into(),
    }
}

/// What the agent found when it started.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// Maps of an earlier run, which serve whatever the agent does.
    WithMaps,
    /// Nothing.
    Empty,
}

/// The agent's own words: where it is, how far it is, and what is wrong.
fn summary(report: &Report, alive: bool, start: Start, line: &mut impl FnMut(&str, String)) {
    let Report { at, about, zone, node_eligible, source_lost_since, families, degraded } = report;
    let zone = zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
    let leaving = if *node_eligible { "" } else { "; load balancers are told to leave it" };
    line("node", format!("{}{zone}{leaving}", about.node));
    let contact = source_lost_since.map(|since| format!("; no answer since {}", time(since)));
    line("source", format!("{}{}", about.source, contact.unwrap_or_default()));
    let modes: Vec<_> = about.modes.iter().map(|(name, value)| format!("{name} {value}")).collect();
    line("modes", modes.join(", "));
    let family = |(name, family): (&String, &FamilyReport)| {
        let late = if family.healthy { "" } else { ", late" };
        format!("{name} {}{late}", synced(family, start))
    };
    line("families", families.iter().map(family).collect::<Vec<_>>().join("; "));
    for reason in degraded {
        line("degraded", reason.clone());
    }
    if !alive {
        line("as of", time(*at));
    }
}

/// How far a family is. Maps of an earlier run serve from the first moment on, also before this one knows any object.
fn synced(family: &FamilyReport, start: Start) -> String {
    match (family.last_sync, start, family.earlier_sync) {
        (Some(at), _, _) => format!("synced {}", time(at)),
        (None, Start::WithMaps, Some(at)) => {
            format!("serves what an earlier run synced {}, until all objects are known", time(at))
        }
        (None, Start::WithMaps, None) => {
            "serves what an earlier run left, until all objects are known".into()
        }
        (None, Start::Empty, _) => "not synced yet".into(),
    }
}

fn time(seconds: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

fn start(state: &State) -> String {
    let State {
        adopted,
        at,
        kept,
        written,
        deleted,
        written_since,
        deleted_since,
        links_replaced,
        links_created,
        ..
    } = state;
    let how = if *adopted { "adopted" } else { "fresh" };
    let when = time(*at);
    format!(
        "{how} at {when}: {kept} frontends kept, {written} written, {deleted} deleted; links: {links_replaced} \
         replaced, {links_created} created; since then {written_since} written, {deleted_since} deleted"
    )
}

fn hook_table(hooks: &[HookRow]) -> String {
    let id = |id: Option<u32>| id.map_or("-".into(), |id| id.to_string());
    let cells = |row: &HookRow| {
        vec![row.hook.into(), row.target.clone(), id(row.program_id), id(row.link_id), row.state.into()]
    };
    let headings = ["HOOK", "TARGET", "PROGRAM", "LINK", "STATE"].map(str::to_owned).to_vec();
    columns(headings, hooks.iter().map(cells).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::observe::report::About;

    #[test]
    fn the_agents_own_words_are_lines() {
        let family = |last_sync, healthy| FamilyReport { last_sync, earlier_sync: None, healthy };
        let modes = [("detect-local", "10.244.0.0/16"), ("socket-lb", "on")];
        let report = Report {
            at: 1_000,
            about: About {
                version: "0.1.0".into(),
                node: "n1".into(),
                source: "the API server of /k".into(),
                modes: modes.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            },
            zone: Some("za".into()),
            node_eligible: false,
            source_lost_since: Some(960),
            families: BTreeMap::from([
                ("IPv4".to_owned(), family(Some(990), true)),
                ("IPv6".to_owned(), family(None, false)),
            ]),
            degraded: vec!["one thing".into(), "another".into()],
        };
        let mut lines = Vec::new();
        summary(&report, false, Start::WithMaps, &mut |name, value| lines.push(format!("{name}: {value}")));
        assert_eq!(
            lines,
            [
                "node: n1, zone za; load balancers are told to leave it",
                "source: the API server of /k; no answer since 1970-01-01T00:16:00Z",
                "modes: detect-local 10.244.0.0/16, socket-lb on",
                "families: IPv4 synced 1970-01-01T00:16:30Z; IPv6 serves what an earlier run left, until all objects are known, late",
                "degraded: one thing",
                "degraded: another",
                "as of: 1970-01-01T00:16:40Z",
            ]
        );
    }

    #[test]
    fn policies_are_a_line() {
        let some = Enforced { policies: 3, refused: 0, addresses: 4, epoch: 7 };
        assert_eq!(policies(&some), "3 about 4 addresses of this node, epoch 7");
        let refused = Enforced { refused: 1, ..some };
        let text = "3 about 4 addresses of this node, epoch 7; 1 refused, whose pods are isolated";
        assert_eq!(policies(&refused), text);
        assert_eq!(policies(&Enforced::default()), "none");
    }

    #[test]
    fn before_the_first_sync_of_a_run_its_maps_serve_what_an_earlier_one_wrote() {
        let family = |last_sync, earlier_sync| FamilyReport { last_sync, earlier_sync, healthy: true };
        let earlier = "serves what an earlier run synced 1970-01-01T00:16:30Z, until all objects are known";
        for (family, start, text) in [
            (family(None, Some(990)), Start::WithMaps, earlier),
            (family(Some(1_000), None), Start::WithMaps, "synced 1970-01-01T00:16:40Z"),
            // Somebody has removed the maps meanwhile.
            (family(None, Some(990)), Start::Empty, "not synced yet"),
        ] {
            assert_eq!(synced(&family, start), text);
        }
    }
}
