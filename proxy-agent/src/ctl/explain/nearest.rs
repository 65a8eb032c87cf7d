//! Which rule comes nearest to letting a connection pass that no rule lets pass: first one for the same peer and another
//! port, then one for the port and other peers, then any. Looked for in the verdicts, so it is a rule in force.

use std::collections::BTreeMap;
use std::io;

use proxy_common::policy::{Effect, Interval, decide};
use proxy_common::{PeerClass, Port, Proto, RuleId, RuleSetId, VerdictPage};
use serde::Serialize;

use crate::ctl::policy::names::Names;
use crate::ctl::policy::tables::Tables;
use crate::observe::policy_names::{Digest, PolicyName};

/// A rule that nearly lets a connection pass.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) struct Nearest {
    /// Absent where no rule is in force and one was only written down.
    pub(in crate::ctl) rule: Digest,
    pub(in crate::ctl) policy: Option<PolicyName>,
    pub(in crate::ctl) index: Option<u32>,
    /// What it would take.
    pub(in crate::ctl) text: String,
}

/// In which way a rule misses.
enum Miss {
    Port(Interval),
    Peer,
    Both,
}

/// The rule of a set that comes nearest for a peer of `class`; none if the set lets nothing pass.
pub(in crate::ctl) fn nearest(
    tables: &impl Tables,
    names: &Names,
    (rules, class): (RuleSetId, PeerClass),
    (proto, port): (Proto, Port),
) -> io::Result<Option<Nearest>> {
    let mut classes: BTreeMap<PeerClass, BTreeMap<u32, VerdictPage>> = BTreeMap::new();
    for (key, page) in tables.pages_of(rules)? {
        classes.entry(key.peer).or_default().insert(key.page, page);
    }
    let order = names.rules_of(rules);
    let place = |id: RuleId| order.iter().position(|line| line.id.0 == id.0).unwrap_or(usize::MAX);
    let own = classes.get(&class).map(allowing).unwrap_or_default();
    let other_port = own.into_iter().min_by_key(|interval| distance(interval, proto, port));
    if let Some(interval) = other_port {
        return Ok(Some(named(names, interval.by, &Miss::Port(interval))));
    }
    let for_others = classes.values().filter_map(|pages| {
        let ruling = decide(|number| pages.get(&number), proto, port.number());
        (ruling.effect == Effect::ALLOW && ruling.by != RuleId::NONE).then_some(ruling.by)
    });
    if let Some(by) = for_others.min_by_key(|by| (place(*by), *by)) {
        return Ok(Some(named(names, by, &Miss::Peer)));
    }
    let any = classes.values().flat_map(allowing).map(|interval| interval.by);
    if let Some(by) = any.min_by_key(|by| (place(*by), *by)) {
        return Ok(Some(named(names, by, &Miss::Both)));
    }
    // A rule whose peers do not exist has no verdicts.
    Ok(order.first().map(|line| named(names, RuleId(line.id.0), &Miss::Both)))
}

/// What some pages let pass by a rule.
fn allowing(pages: &BTreeMap<u32, VerdictPage>) -> Vec<Interval> {
    let of_page = |page: &VerdictPage| page.intervals.into_iter().take(usize::from(page.count));
    let allows = |interval: &Interval| interval.effect == Effect::ALLOW && interval.by != RuleId::NONE;
    pages.values().flat_map(of_page).filter(allows).collect()
}

/// Another port is nearer than another protocol.
fn distance(interval: &Interval, proto: Proto, port: Port) -> (bool, u16, Proto, u16) {
    let number = port.number();
    let off =
        if number < interval.first { interval.first - number } else { number.saturating_sub(interval.last) };
    (interval.proto != proto, off, interval.proto, interval.first)
}

fn named(names: &Names, id: RuleId, miss: &Miss) -> Nearest {
    let line = names.rule(id);
    let what = line.map(|line| format!(" ({})", line.text)).unwrap_or_default();
    let label = names.rule_label(id);
    let text = match miss {
        Miss::Port(Interval { proto, first, last, .. }) if first == last => {
            format!("{label}{what} allows this peer {proto} {first}")
        }
        Miss::Port(Interval { proto, first, last, .. }) => {
            format!("{label}{what} allows this peer {proto} {first}-{last}")
        }
        Miss::Peer => format!("{label}{what} allows the port, for other peers"),
        Miss::Both => format!("{label}{what} allows this, for other peers on other ports"),
    };
    Nearest {
        rule: id.into(),
        policy: line.map(|line| line.policy.clone()),
        index: line.map(|line| line.index),
        text,
    }
}
