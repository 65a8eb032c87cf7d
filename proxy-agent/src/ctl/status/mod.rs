//! Everything on one screen: is an agent alive, what did its start do, which programs sit where, how full is it. What
//! fills more than a line, the hooks and the maps, is counted on it and listed by `-o wide`.

mod page;
#[cfg(test)]
mod tests;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use proxy_common::maps::LAYOUT_VERSION;
use proxy_common::{V4, V6};
use serde::Serialize;

pub(super) use self::page::time;
use super::FlowArgs;
use super::drops::{Counted, DropRow, Shown};
use super::reader::Reader;
use super::{backend, flow, map, service};
use crate::kernel::pins::{self, Target};
use crate::kernel::record::State;
use crate::kernel::topology::IfIndex;
use crate::kernel::{MapFamily, Maps};
use crate::observe::report::Report;

pub(super) const ATTACHED: &str = "attached";

/// Everything on one screen.
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
    /// What did not get through since the maps were made.
    drops: Vec<DropRow>,
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
    alive: Life,
    /// Process that runs, or ran last.
    pid: Option<u32>,
}

/// A program that is attached through a pinned link.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct HookRow {
    pub(super) hook: &'static str,
    pub(super) target: String,
    program_id: Option<u32>,
    link_id: Option<u32>,
    pub(super) state: &'static str,
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
        agent: Agent { alive: Life::of(reader), pid: start.as_ref().map(|state| state.pid) },
        hooks: hooks(reader)?,
        services: services.len(),
        frontends: frontends.len(),
        backends: backend::list(reader, None)?.len(),
        flows: flow::list(reader, &FlowArgs::default())?.len(),
        policies: enforced(reader)?,
        node_addresses: node_address::<V4>(&reader.pinned.v4)
            .into_iter()
            .chain(node_address::<V6>(&reader.pinned.v6))
            .collect(),
        maps: map::list(reader)?,
        drops: Counted::read(reader)?.rows(None, Shown::Counted),
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

pub(super) fn node_address<F: MapFamily>(maps: &Maps<F>) -> Option<std::net::IpAddr> {
    use proxy_common::Address as _;
    let node = maps.node.get(&0).ok().flatten()?;
    Some(node.address.to_ip()).filter(|ip| !ip.is_unspecified())
}

/// Whether an agent runs on the root; in JSON, whether it is alive.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Life {
    Runs,
    #[default]
    Ended,
}

impl Life {
    pub(super) fn of(reader: &Reader) -> Self {
        if is_locked(&reader.record.dir().join("lock")) { Self::Runs } else { Self::Ended }
    }
}

impl Serialize for Life {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*self == Self::Runs)
    }
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

pub(super) fn hooks(reader: &Reader) -> anyhow::Result<Vec<HookRow>> {
    let row = |link: pins::PinnedLink| {
        let facts = pins::link_facts(&link).ok();
        let state = match (&facts, link.target) {
            (None, _) => "unreadable",
            (Some(facts), Target::Device(_)) if facts.ifindex == 0 => "device gone",
            (Some(facts), Target::Cgroup) if facts.cgroup == 0 => "cgroup gone",
            (Some(_), _) => ATTACHED,
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

pub(super) fn device_name(index: u32) -> Option<String> {
    use rustix::net::{AddressFamily, SocketType, netdevice, socket};
    let any = socket(AddressFamily::UNIX, SocketType::DGRAM, None).ok()?;
    netdevice::index_to_name(any, index).ok()
}
