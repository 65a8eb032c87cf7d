//! Whether our programs hang where they belong, and whether they are the first that see a packet there.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use proxy_common::DeviceKind;

use super::finding::Finding;
use crate::ctl::reader::Reader;
use crate::kernel::hook::{Anchor, Hook};
use crate::kernel::order::{self, Resident};
use crate::kernel::pins::{self, Target};
use crate::kernel::topology::{IfIndex, Role, Topology};
use crate::kernel::{Uplinks, clsact};

const AREA: &str = "programs";
const AGAIN: &str = "the agent puts it back within its audit period (--audit-period, 60s by default); if not, its log says why";

/// A program of ours where it hangs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hung {
    hook: Hook,
    target: Target,
    /// The kernel's number of the program; `None` where the link's target is gone.
    program: Option<u32>,
}

/// Everything about programs; the names of the devices that have some come along.
pub(super) fn findings(reader: &Reader, topology: &Topology) -> anyhow::Result<(Vec<Finding>, Vec<String>)> {
    let hung: Vec<Hung> = reader.pinned.pins.links()?.iter().map(hung).collect();
    let known: BTreeMap<u32, DeviceKind> = reader.pinned.devices.entries()?.into_iter().collect();
    let modes = reader.record.report().map(|report| report.about.modes).unwrap_or_default();
    let mut findings = vec![cgroup(&hung, modes.get("socket-lb").map(String::as_str))];
    let devices = devices(&known, topology);
    if clsact::needed() {
        findings.push(Finding::ok(AREA, "this kernel has filters (clsact) in place of links on devices"));
    } else {
        findings.push(attached(&hung, &devices));
        findings.extend(first(&hung, &devices));
    }
    findings.extend(overlooked(&known, topology, &node_addresses(reader)));
    Ok((findings, devices.into_values().map(|(name, _)| name).collect()))
}

fn hung(link: &pins::PinnedLink) -> Hung {
    let facts = pins::link_facts(link).ok();
    let is_alive = |facts: &crate::kernel::sys::LinkFacts| match link.target {
        Target::Cgroup => facts.cgroup != 0,
        Target::Device(_) => facts.ifindex != 0,
    };
    Hung { hook: link.hook, target: link.target, program: facts.filter(is_alive).map(|facts| facts.program) }
}

fn node_addresses(reader: &Reader) -> Vec<IpAddr> {
    let names = reader.record.policy_names().unwrap_or_default();
    names.nodes.get(&names.node).cloned().unwrap_or_default()
}

/// The devices that programs belong on, by number: their names and roles.
fn devices(known: &BTreeMap<u32, DeviceKind>, topology: &Topology) -> BTreeMap<u32, (String, Role)> {
    let role = |kind: DeviceKind| match kind.role() {
        DeviceKind::POD => Some(Role::Pod),
        DeviceKind::UPLINK => Some(Role::Uplink),
        _ => None,
    };
    let device = |(index, kind): (&u32, &DeviceKind)| {
        let name = topology.devices.get(&IfIndex(*index))?.name.clone();
        Some((*index, (name, role(*kind)?)))
    };
    known.iter().filter_map(device).collect()
}

fn cgroup(hung: &[Hung], road: Option<&str>) -> Finding {
    let on_cgroup = hung.iter().filter(|hung| hung.target == Target::Cgroup);
    let (alive, gone): (Vec<&Hung>, Vec<&Hung>) = on_cgroup.partition(|hung| hung.program.is_some());
    match (alive.len(), gone.len(), road) {
        (0, 0, Some("off")) => {
            Finding::ok(AREA, "none for sockets: --socket-lb is off, packets are translated")
        }
        (0, 0, _) => {
            let next = "if sockets should be served, see --socket-lb and --cgroup-root of the agent";
            Finding::warn(AREA, "none for sockets: packets are translated", next)
        }
        (count, 0, _) => Finding::ok(AREA, format!("{count} for sockets at the cgroup")),
        (_, gone, _) => {
            let found = format!("{gone} for sockets hang on a cgroup that is gone");
            Finding::fail(
                AREA,
                found,
                "start the agent again, with --cgroup-root naming the root of cgroup v2",
            )
        }
    }
}

/// Every device has the programs of its role.
fn attached(hung: &[Hung], devices: &BTreeMap<u32, (String, Role)>) -> Finding {
    let has = |hook: Hook, index: u32| {
        let target = Target::Device(IfIndex(index));
        hung.iter().any(|one| one.hook == hook && one.target == target && one.program.is_some())
    };
    let missing: Vec<String> = devices
        .iter()
        .flat_map(|(index, (name, role))| Hook::of_device(*role).map(move |(hook, _)| (index, name, hook)))
        .filter(|(index, _, hook)| !has(*hook, **index))
        .map(|(_, name, hook)| format!("{hook} on {name}"))
        .collect();
    if !missing.is_empty() {
        return Finding::fail(AREA, format!("missing: {}", missing.join(", ")), AGAIN);
    }
    let of = |wanted: Role| devices.values().filter(|(_, role)| *role == wanted).count();
    Finding::ok(
        AREA,
        format!("on all {} devices of pods and all {} uplinks", of(Role::Pod), of(Role::Uplink)),
    )
}

/// Ours see a packet before those of others; who follows sees it translated.
fn first(hung: &[Hung], devices: &BTreeMap<u32, (String, Role)>) -> Vec<Finding> {
    let names = order::names();
    let mut followers = BTreeSet::new();
    let mut findings = Vec::new();
    for one in hung {
        let (Target::Device(index), Some(program)) = (one.target, one.program) else { continue };
        let (Anchor::Device(..), Some((name, _))) = (one.hook.anchor(), devices.get(&index.0)) else {
            continue;
        };
        let residents = match order::at(index, one.hook, &names) {
            Ok(residents) => residents,
            Err(error) => return vec![unreadable(&error)],
        };
        let Some(place) = residents.iter().position(|resident| resident.id == program) else { continue };
        if place > 0 {
            let before: Vec<_> = residents[..place].iter().map(label).collect();
            let found = format!("before ours ({}) on {name}: {}", one.hook, before.join(", "));
            let next = "who is first may keep packets from Sluice: start the agent after it has attached, or let it attach behind";
            findings.push(Finding::warn(AREA, found, next));
        }
        followers.extend(residents.iter().skip(place + 1).map(label));
    }
    if findings.is_empty() {
        findings.push(Finding::ok(AREA, "first in line on every device"));
    }
    if !followers.is_empty() {
        let all: Vec<_> = followers.into_iter().collect();
        findings.push(Finding::ok(
            AREA,
            format!("behind ours, seeing packets as translated: {}", all.join(", ")),
        ));
    }
    findings
}

fn unreadable(error: &io::Error) -> Finding {
    Finding::warn(
        AREA,
        format!("who else has programs on the devices cannot be read: {error}"),
        "run as root",
    )
}

fn label(Resident { id, name }: &Resident) -> String {
    if name.is_empty() { format!("program {id}") } else { format!("{name} (program {id})") }
}

/// Devices that have the look of a pod's or an uplink, and that the agent does not serve.
fn overlooked(known: &BTreeMap<u32, DeviceKind>, topology: &Topology, node: &[IpAddr]) -> Option<Finding> {
    let roles = topology.roles(&Uplinks::Auto, node);
    let names: Vec<&str> = roles
        .iter()
        .filter(|(index, role)| !known.contains_key(&index.0) && **role != Role::Bridge)
        .filter_map(|(index, _)| topology.devices.get(index))
        .map(|device| device.name.as_str())
        .collect();
    if names.is_empty() {
        return None;
    }
    let next = "see --uplinks of the agent if others reach the node by them; a device that was just made has its programs in a moment";
    Some(Finding::warn(AREA, format!("devices without our programs: {}", names.join(", ")), next))
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn on(hook: Hook, index: u32, program: Option<u32>) -> Hung {
        Hung { hook, target: Target::Device(IfIndex(index)), program }
    }

    #[test]
    fn a_device_without_one_of_its_programs_fails() {
        let devices =
            BTreeMap::from([(2, ("eth0".to_owned(), Role::Uplink)), (3, ("veth1".to_owned(), Role::Pod))]);
        let mut hung = vec![
            on(Hook::FromWire, 2, Some(1)),
            on(Hook::ToWire, 2, Some(2)),
            on(Hook::FromPod, 3, Some(3)),
            on(Hook::ToPod, 3, Some(4)),
        ];
        let finding = attached(&hung, &devices);
        assert_eq!(
            (finding.verdict, finding.found.as_str()),
            (Verdict::Ok, "on all 1 devices of pods and all 1 uplinks")
        );
        hung[1].program = None;
        hung.pop();
        let finding = attached(&hung, &devices);
        assert_eq!(
            (finding.verdict, finding.found.as_str()),
            (Verdict::Fail, "missing: to_wire on eth0, to_pod on veth1")
        );
    }

    #[test]
    fn sockets_without_programs_are_right_only_where_that_was_asked_for() {
        let at = |program| Hung { hook: Hook::Connect4, target: Target::Cgroup, program };
        for (hung, road, verdict) in [
            (vec![], Some("off"), Verdict::Ok),
            (vec![], Some("on"), Verdict::Warn),
            (vec![at(Some(1))], Some("on"), Verdict::Ok),
            (vec![at(Some(1)), at(None)], Some("on"), Verdict::Fail),
        ] {
            assert_eq!(cgroup(&hung, road).verdict, verdict, "{hung:?}");
        }
    }
}
