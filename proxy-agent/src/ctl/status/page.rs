//! How the screen looks. Knows no map.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, UNIX_EPOCH};

use super::{ATTACHED, Agent, Enforced, HookRow, Life, StatusPage};
use crate::ctl::drops::DropRow;
use crate::ctl::map;
use crate::ctl::output::{Page, Tone, columns, printable};
use crate::kernel::record::State;
use crate::observe::report::{FamilyReport, Report};

/// Devices, and reasons, that have room on a line.
const TARGETS: usize = 6;
const REASONS: usize = 4;

impl Page for StatusPage {
    fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}{value}", Tone::Quiet.paint(&format!("{name:<12}")));
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
            line("repaired", Tone::Doubtful.paint(&all.join(", ")));
        }
        if !self.node_addresses.is_empty() {
            let addresses: Vec<_> = self.node_addresses.iter().map(ToString::to_string).collect();
            line("addresses", addresses.join(", "));
        }
        if let Some(state) = self.start.as_ref().filter(|state| !state.xdp.is_empty()) {
            let modes: Vec<_> = state.xdp.iter().map(|(device, mode)| format!("{device} {mode}")).collect();
            line("xdp", printable(&modes.join(", ")));
        }
        line(
            "serving",
            format!(
                "{} Services, {} frontends, {} backends, {} flows",
                self.services, self.frontends, self.backends, self.flows
            ),
        );
        line("policies", policies(&self.policies));
        self.hooks_in_short(&mut line);
        line("maps", maps_in_short(&self.maps));
        line("lost", drops_in_short(&self.drops));
        text
    }

    fn wide(&self) -> String {
        format!("{}\n{}\n{}", self.text(), hook_table(&self.hooks), crate::ctl::output::table(&self.maps))
    }
}

impl StatusPage {
    /// How many programs are attached where; each that is not, by itself.
    fn hooks_in_short(&self, line: &mut impl FnMut(&str, String)) {
        let is_attached = |row: &&HookRow| row.state == ATTACHED;
        let mut targets: BTreeMap<&str, usize> = BTreeMap::new();
        for row in self.hooks.iter().filter(is_attached) {
            *targets.entry(&row.target).or_default() += 1;
        }
        let attached: usize = targets.values().sum();
        let mut shown: Vec<_> =
            targets.iter().take(TARGETS).map(|(target, count)| format!("{target} {count}")).collect();
        if let Some(more @ 1..) = targets.len().checked_sub(TARGETS) {
            shown.push(format!("and {more} devices more"));
        }
        line("programs", printable(&format!("{attached} attached: {}", shown.join(", "))));
        for row in self.hooks.iter().filter(|row| !is_attached(row)) {
            let text = format!("{} on {}: {}", row.hook, row.target, row.state);
            line("", Tone::Bad.paint(&printable(&text)));
        }
    }
}

/// What all maps take together, and the fullest.
fn maps_in_short(maps: &[map::MapRow]) -> String {
    let memory = map::bytes(maps.iter().filter_map(map::MapRow::memory).sum());
    let fullest = maps.iter().filter_map(|map| Some((map.share()?, map)));
    let fullest = fullest.max_by(|(one, _), (two, _)| one.total_cmp(two));
    let fullest = fullest.filter(|(share, _)| *share > 0.0).map(|(share, map)| {
        let text = format!("{} {:.1} % full", map.name(), share * 100.0);
        if share < map::ALMOST_FULL { text } else { Tone::Bad.paint(&text) }
    });
    let fullest = fullest.map(|text| format!(", {text}")).unwrap_or_default();
    format!("{} with {memory}{fullest}", maps.len())
}

/// The reasons that most was lost for.
fn drops_in_short(drops: &[DropRow]) -> String {
    let mut sorted: Vec<_> = drops.iter().collect();
    sorted.sort_by(|one, two| two.count.cmp(&one.count).then(one.reason.cmp(two.reason)));
    let mut shown: Vec<_> =
        sorted.iter().take(REASONS).map(|row| format!("{} {}", row.reason, row.count)).collect();
    if let Some(more @ 1..) = sorted.len().checked_sub(REASONS) {
        shown.push(format!("and {more} reasons more"));
    }
    if shown.is_empty() { "nothing".into() } else { format!("{} (proxyctl drops)", shown.join(", ")) }
}

fn agent(agent: &Agent) -> String {
    let serves = "the dataplane serves what it was told last";
    match (agent.alive, agent.pid) {
        (Life::Runs, Some(pid)) => Tone::Good.paint(&format!("alive, pid {pid}")),
        (Life::Runs, None) => Tone::Good.paint("alive"),
        (Life::Ended, Some(pid)) => format!("{} (last pid {pid}); {serves}", Tone::Bad.paint("not running")),
        (Life::Ended, None) => format!("{}; {serves}", Tone::Bad.paint("not running")),
    }
}

/// What the agent found when it started.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// Maps of an earlier run, which serve whatever the agent does.
    WithMaps,
    /// Nothing.
    Empty,
}

/// The agent's own words: where it is, how far it is, and what is wrong.
pub(super) fn summary(report: &Report, life: Life, start: Start, line: &mut impl FnMut(&str, String)) {
    let Report { at, about, zone, node_eligible, source_lost_since, families, degraded } = report;
    let zone = zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
    let leaving = if *node_eligible { "" } else { "; load balancers are told to leave it" };
    line("node", format!("{}{zone}{leaving}", about.node));
    let contact = source_lost_since
        .map(|since| format!("; {}", Tone::Bad.paint(&format!("no answer since {}", time(since)))));
    line("source", format!("{}{}", printable(&about.source), contact.unwrap_or_default()));
    let modes: Vec<_> = about.modes.iter().map(|(name, value)| format!("{name} {value}")).collect();
    line("modes", modes.join(", "));
    let family = |(name, family): (&String, &FamilyReport)| {
        let late = if family.healthy { "" } else { &format!(", {}", Tone::Bad.paint("late")) };
        format!("{name} {}{late}", synced(family, start))
    };
    line("families", families.iter().map(family).collect::<Vec<_>>().join("; "));
    for reason in degraded {
        line("degraded", Tone::Doubtful.paint(&printable(reason)));
    }
    if life == Life::Ended {
        line("as of", time(*at));
    }
}

/// How far a family is. Maps of an earlier run serve from the first moment on, also before this one knows any object.
pub(super) fn synced(family: &FamilyReport, start: Start) -> String {
    match (family.last_sync, start, family.earlier_sync) {
        (Some(at), _, _) => format!("synced {}", time(at)),
        (None, Start::WithMaps, Some(at)) => {
            format!("{}: until then serves what an earlier run synced {}", waiting(), time(at))
        }
        (None, Start::WithMaps, None) => {
            format!("{}: until then serves what an earlier run left", waiting())
        }
        (None, Start::Empty, _) => format!("{}: until then nothing is served", waiting()),
    }
}

/// A plan is made when every kind of object has been listed once, and not before (nothing is deleted for being unknown).
fn waiting() -> String {
    Tone::Doubtful.paint("waits for the first full list of all objects from the source")
}

pub(in crate::ctl) fn time(seconds: u64) -> String {
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

pub(super) fn policies(enforced: &Enforced) -> String {
    let Enforced { policies, refused, addresses, epoch } = enforced;
    match (epoch, refused) {
        (0, _) => "none".into(),
        (_, 0) => format!("{policies} about {addresses} addresses of this node, epoch {epoch}"),
        _ => format!(
            "{policies} about {addresses} addresses of this node, epoch {epoch}; {refused} refused, whose pods are isolated"
        ),
    }
}
