//! The node, its agent, and what is counted: cards at the top, programs, drops, maps, repairs.

use super::{begin, course};
use crate::ctl::map::bytes;
use crate::ctl::report::course::Course;
use crate::ctl::report::html::Html;
use crate::ctl::report::page::{Drop, MapLine, NodePart, Repair, ReportPage};
use crate::ctl::status::{ATTACHED, Life};

/// What is seen first.
pub(super) fn cards(html: &mut Html, page: &ReportPage) {
    let services = &page.services;
    let endpoints = || services.shown.iter().flat_map(|service| service.endpoints());
    let unused = endpoints().filter(|endpoint| endpoint.why.is_some()).count();
    let trouble = services.shown.iter().filter(|service| service.has_trouble()).count();
    let dropped: u64 = page.drops.iter().filter(|drop| drop.outcome == "drop").map(|drop| drop.count).sum();
    let repairs: usize = page.repairs.iter().map(|repair| repair.count).sum();
    let hooks = &page.node.hooks;
    let attached = hooks.iter().filter(|hook| hook.state == ATTACHED).count();
    let fullest = page.maps.iter().filter_map(MapLine::percent).max().unwrap_or(0);
    let runs = page.node.alive == Life::Runs;
    let agent = if runs { "running" } else { "not running" };
    let judge = |is_good: bool| if is_good { "good" } else { "bad" };
    html.open("ul", &[("class", "cards"), ("aria-label", "At a glance")]);
    for (class, number, what) in [
        (judge(runs), agent.to_owned(), "agent".to_owned()),
        (
            judge(attached == hooks.len()),
            format!("{attached} of {}", hooks.len()),
            "programs attached".into(),
        ),
        ("", page.services().to_string(), format!("Services, {trouble} with something to look at")),
        ("", (endpoints().count() - unused).to_string(), format!("endpoints in use, {unused} not")),
        ("", dropped.to_string(), "packets and calls dropped".into()),
        (judge(fullest < 90), format!("{fullest} %"), "of the fullest map in use".into()),
        (judge(repairs == 0), repairs.to_string(), "repairs by audits".into()),
    ] {
        html.open("li", &[("class", class)])
            .element("strong", &[], &number)
            .element("span", &[], &what)
            .close("li");
    }
    html.close("ul");
}

/// The agent, and where its programs are.
pub(super) fn section(html: &mut Html, node: &NodePart) {
    begin(html, "node");
    for sentence in &node.degraded {
        html.open("p", &[("data-row", "")]).element("span", &[("class", "badge bad")], "degraded");
        html.text(" ").text(sentence).close("p");
    }
    html.open("dl", &[]);
    for fact in &node.facts {
        html.element("dt", &[], fact.name).element("dd", &[], &fact.value);
    }
    html.close("dl").element("h3", &[], "Programs");
    html.table("Programs in the kernel and where they sit", &["Hook", "Where", "State"]);
    for hook in &node.hooks {
        html.row(&[&hook.hook, &hook.target, &hook.state]);
    }
    html.end_table().close("section");
}

/// Why packets and calls ended.
pub(super) fn drops(html: &mut Html, drops: &[Drop], course: Option<&Course>) {
    begin(html, "drops");
    html.table(
        "Packets and socket calls that ended, by reason, since the maps were made",
        &["Reason", "Outcome", "Count", "What it means"],
    );
    for drop in drops {
        html.row(&[drop.reason, drop.outcome, &drop.count.to_string(), drop.meaning]);
    }
    html.end_table();
    if let Some(watched) = course {
        course::show(html, watched);
    }
    html.close("section");
}

impl MapLine {
    /// How full it is, in hundredths; absent where counting means nothing.
    fn percent(&self) -> Option<u64> {
        let used = u64::try_from(self.used?).unwrap_or(u64::MAX);
        Some(used.saturating_mul(100) / u64::from(self.size.max(1)))
    }
}

/// How full the maps are.
pub(super) fn maps(html: &mut Html, maps: &[MapLine]) {
    begin(html, "maps");
    html.table("Maps in the kernel", &["Map", "Used", "Entries", "Room", "Memory", "Holds"]);
    for map in maps {
        html.open("tr", &[("data-row", "")]).element("th", &[("scope", "row")], map.name).open("td", &[]);
        if let Some(percent) = map.percent() {
            let said = format!("{percent} %");
            let share = percent.min(100).to_string();
            html.element(
                "meter",
                &[("max", "100"), ("high", "90"), ("value", &share), ("aria-label", &said)],
                &said,
            );
            html.text(" ").text(&said);
        }
        html.close("td");
        let used = map.used.map_or("not counted".into(), |used| used.to_string());
        let memory = map.memory.map_or(String::new(), bytes);
        for cell in [used, map.size.to_string(), memory] {
            html.element("td", &[("class", "number")], &cell);
        }
        html.element("td", &[], map.holds).close("tr");
    }
    html.end_table().close("section");
}

/// What audits have put right.
pub(super) fn repairs(html: &mut Html, repairs: &[Repair]) {
    begin(html, "repairs");
    if repairs.is_empty() {
        html.element("p", &[], "The audits of this agent have found nothing to put right.").close("section");
        return;
    }
    html.element("p", &[], "Somebody or something has changed what the agent keeps; it was put right.");
    html.table("What audits have put right since the agent started", &["Where", "Entries"]);
    for repair in repairs {
        html.row(&[&repair.map, &repair.count.to_string()]);
    }
    html.end_table().close("section");
}
