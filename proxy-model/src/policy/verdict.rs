//! What a rule set says about a class: every port of every protocol, as intervals and as pages of them.

use std::collections::BTreeMap;

use proxy_common::policy::{Effect, Interval, RuleId, Ruling, VerdictPage};
use proxy_common::{Port, Proto, limits};

use super::class::Class;
use super::rules::{Ports, Rule, RuleSet, Says, Span, Whom, called, exactly};

/// Everything that a rule set says about a class.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Verdicts {
    /// In the order of protocol and port; what is as `rest` is left out.
    pub(super) intervals: Vec<Interval>,
    /// About everything else.
    pub(super) rest: Ruling,
}

/// Protocols with ports, in the order of their numbers.
const PROTOS: [Proto; 3] = [Proto::TCP, Proto::UDP, Proto::SCTP];

/// What isolation says, and what is said where nothing is forbidden.
const ISOLATED: Ruling = Ruling { by: RuleId::NONE, effect: Effect::DENY };
const FREE: Ruling = Ruling { by: RuleId::NONE, effect: Effect::ALLOW };

/// The rules of one tier that are about a class, in order.
#[derive(Default)]
struct Tier<'a> {
    rules: Vec<&'a Rule>,
    /// Those that are about the port that is looked at, by their place; how many of their spans are.
    active: BTreeMap<usize, u32>,
}

impl<'a> Tier<'a> {
    fn new(rules: impl IntoIterator<Item = &'a std::sync::Arc<Rule>>, class: &Class) -> Self {
        let about = |rule: &&Rule| match rule.whom {
            Whom::Everybody => true,
            Whom::Of(peers) => class.has(peers),
        };
        let rules: Vec<_> = rules.into_iter().map(|rule| &**rule).filter(about).collect();
        let always = rules.iter().enumerate().filter(|(_, rule)| rule.ports == Ports::Every);
        let active = always.map(|(at, _)| (at, 1)).collect();
        Self { rules, active }
    }

    fn first(&self) -> Option<&'a Rule> {
        let (at, _) = self.active.first_key_value()?;
        self.rules.get(*at).copied()
    }

    fn change(&mut self, at: usize, edge: Edge) {
        let count = self.active.entry(at).or_default();
        match edge {
            Edge::Begin => *count += 1,
            Edge::End => *count = count.saturating_sub(1),
        }
        if *count == 0 {
            self.active.remove(&at);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    Begin,
    End,
}

/// The three tiers (item 51) over one class.
struct Tiers<'a> {
    all: [Tier<'a>; 3],
    isolated: bool,
}

impl Tiers<'_> {
    /// What is said about the port that is looked at.
    fn ruling(&self) -> Ruling {
        let [admin, network, baseline] = &self.all;
        let of = |rule: &Rule, effect| Ruling { by: rule.id, effect };
        match admin.first().map(|rule| (rule, rule.says)) {
            Some((rule, Says::Accept)) => return of(rule, Effect::ALLOW),
            Some((rule, Says::Deny)) => return of(rule, Effect::DENY),
            Some((_, Says::Pass)) | None => {}
        }
        if self.isolated {
            // Item 60: final.
            return network.first().map_or(ISOLATED, |rule| of(rule, Effect::ALLOW));
        }
        match baseline.first().map(|rule| (rule, rule.says)) {
            Some((rule, Says::Accept)) => of(rule, Effect::ALLOW),
            Some((rule, Says::Deny)) => of(rule, Effect::DENY),
            Some((_, Says::Pass)) | None => FREE,
        }
    }

    /// Where rules begin and end to be about ports of a protocol: the first port, or the one behind the last.
    fn edges(&self, proto: Proto, class: &Class) -> BTreeMap<u32, Vec<(Edge, usize, usize)>> {
        let mut edges: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (number, tier) in self.all.iter().enumerate() {
            for (at, rule) in tier.rules.iter().enumerate() {
                let Ports::Some(spans) = &rule.ports else { continue };
                for (first, last) in spans.iter().flat_map(|span| numbers(span, proto, class)) {
                    edges.entry(u32::from(first)).or_default().push((Edge::Begin, number, at));
                    edges.entry(u32::from(last) + 1).or_default().push((Edge::End, number, at));
                }
            }
        }
        edges
    }

    fn sweep(&mut self, proto: Proto, class: &Class, rest: Ruling, into: &mut Vec<Interval>) {
        let edges = self.edges(proto, class);
        let mut begin = 0;
        for (port, changes) in edges.iter().chain([(&(u32::from(u16::MAX) + 1), &Vec::new())]) {
            if *port > begin {
                add(into, proto, (begin, *port - 1), self.ruling());
                begin = *port;
            }
            for (edge, number, at) in changes {
                if let Some(tier) = self.all.get_mut(*number) {
                    tier.change(*at, *edge);
                }
            }
        }
        into.retain(|interval| interval.proto != proto || interval.ruling() != rest);
    }
}

/// The first and the last port of every range of a protocol that a span is to a class.
fn numbers(span: &Span, proto: Proto, class: &Class) -> Vec<(u16, u16)> {
    let of = |span: &Span| match span {
        Span::Range { proto: of, first, last } if *of == proto && first <= last => {
            Some((first.number(), last.number()))
        }
        Span::Range { .. } | Span::Named { .. } => None,
    };
    match span {
        Span::Range { .. } => of(span).into_iter().collect(),
        Span::Named { proto, name } => {
            called(&class.ports, *proto, name).filter_map(|port| of(&exactly(port))).collect()
        }
    }
}

/// Adds an interval, or makes the one before it longer.
fn add(into: &mut Vec<Interval>, proto: Proto, (first, last): (u32, u32), said: Ruling) {
    // Both are ports: the sweep ends behind the last one.
    let [first, last] = [first, last].map(|port| u16::try_from(port).unwrap_or(u16::MAX));
    match into.last_mut() {
        Some(before)
            if before.proto == proto && before.ruling() == said && first > 0 && before.last == first - 1 =>
        {
            before.last = last;
        }
        Some(_) | None => {
            into.push(Interval { by: said.by, first, last, proto, effect: said.effect, pad: [0; 2] });
        }
    }
}

/// What a rule set says about a class.
pub(super) fn verdicts(set: &RuleSet, class: &Class) -> Verdicts {
    let network = set.network.as_deref().unwrap_or_default();
    let mut tiers = Tiers {
        all: [Tier::new(&set.admin, class), Tier::new(network, class), Tier::new(&set.baseline, class)],
        isolated: set.network.is_some(),
    };
    let rest = tiers.ruling();
    let mut intervals = Vec::new();
    for proto in PROTOS {
        tiers.sweep(proto, class, rest, &mut intervals);
    }
    Verdicts { intervals, rest }
}

impl Verdicts {
    /// The pages of the map; none if they would say what having none says.
    pub(super) fn pages(&self) -> Vec<VerdictPage> {
        if self.intervals.is_empty() && self.rest == ISOLATED {
            return Vec::new();
        }
        let count = self.intervals.len().div_ceil(limits::PAGE_INTERVALS).max(1);
        let empty = VerdictPage {
            otherwise: self.rest.by,
            effect: self.rest.effect,
            // Every port of three protocols on its own fits: a test beside the search counts it.
            pages: u16::try_from(count).unwrap_or(u16::MAX),
            ..VerdictPage::default()
        };
        let mut pages: Vec<_> = self
            .intervals
            .chunks(limits::PAGE_INTERVALS)
            .map(|chunk| {
                let mut page = empty;
                for (slot, interval) in page.intervals.iter_mut().zip(chunk) {
                    *slot = *interval;
                    page.count += 1;
                }
                page
            })
            .collect();
        if pages.is_empty() {
            pages.push(empty);
        }
        pages
    }

    /// Everything passes.
    pub(super) fn free() -> Self {
        Self { intervals: Vec::new(), rest: FREE }
    }

    /// What is said about a port.
    fn at(&self, proto: Proto, port: Port) -> Ruling {
        let port = port.number();
        let behind =
            self.intervals.partition_point(|interval| (interval.proto, interval.first) <= (proto, port));
        let before = behind.checked_sub(1).and_then(|at| self.intervals.get(at));
        before.filter(|it| it.proto == proto && it.last >= port).map_or(self.rest, Interval::ruling)
    }

    /// What both let pass; who denies is told by the one that does.
    pub(super) fn and(&self, other: &Self) -> Self {
        let stricter = |one: Ruling, other: Ruling| if one.effect == Effect::DENY { one } else { other };
        let rest = stricter(self.rest, other.rest);
        let mut intervals = Vec::new();
        for proto in PROTOS {
            let all =
                self.intervals.iter().chain(&other.intervals).filter(|interval| interval.proto == proto);
            let edges = all.flat_map(|interval| [Some(interval.first), interval.last.checked_add(1)]);
            let edges: std::collections::BTreeSet<u16> = edges.flatten().chain([0]).collect();
            let ends = edges.iter().skip(1).map(|edge| edge - 1).chain([u16::MAX]);
            for (first, last) in edges.iter().zip(ends) {
                let said = stricter(self.at(proto, Port::new(*first)), other.at(proto, Port::new(*first)));
                add(&mut intervals, proto, (u32::from(*first), u32::from(last)), said);
            }
        }
        intervals.retain(|interval| interval.ruling() != rest);
        Self { intervals, rest }
    }

    /// Both let the same connections pass, whoever says so.
    pub(super) fn agrees_with(&self, other: &Self) -> bool {
        self.shape() == other.shape()
    }

    /// Where something else passes than with the rest.
    fn shape(&self) -> (Effect, Vec<(Proto, u16, u16)>) {
        let mut shape: Vec<(Proto, u16, u16)> = Vec::new();
        for interval in self.intervals.iter().filter(|interval| interval.effect != self.rest.effect) {
            match shape.last_mut() {
                Some((proto, _, last))
                    if *proto == interval.proto && last.checked_add(1) == Some(interval.first) =>
                {
                    *last = interval.last;
                }
                Some(_) | None => shape.push((interval.proto, interval.first, interval.last)),
            }
        }
        (self.rest.effect, shape)
    }
}
