//! Who may talk to whom among the pods of this node: each pair judged by what judges packets and `proxyctl explain`, for
//! every port. Pods that are under the same rules, and that rules see as the same peer, share a row and a column.
//! Pure: maps are asked through [`Tables`].

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use proxy_common::{PeerClass, Port, Proto, RuleSetId};
use serde::Serialize;

use super::page::OUTSIDE;
use crate::ctl::explain::{Connection, Judgement, Road, Verdict, judge};
use crate::ctl::policy::names::Names;
use crate::ctl::policy::tables::{Tables, class, pages};

/// Most rows: as many cells as a browser and a person still take.
const ROWS: usize = 48;

/// Protocols whose ports rules speak of.
const WITH_PORTS: [Proto; 3] = [Proto::TCP, Proto::UDP, Proto::SCTP];

/// Who may talk to whom.
#[derive(Serialize, Debug, Clone, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Matrix {
    /// Some policy is in force on this node.
    pub(super) in_force: bool,
    /// Who sends: one row each.
    pub(super) parties: Vec<Party>,
    /// Of each row, whom it may talk to, in the order of the rows.
    pub(super) rows: Vec<Vec<Cell>>,
    /// Pods that have no row, because there are too many.
    pub(super) left_out: usize,
}

/// Pods that rules do not tell apart, or somebody else.
#[derive(Serialize, Debug, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(super) struct Party {
    /// The first of its pods, or who it is.
    pub(super) name: String,
    /// The others.
    pub(super) more: Vec<String>,
    #[serde(skip)]
    ends: Vec<Vec<IpAddr>>,
}

/// What becomes of connections from one party to another.
#[derive(Serialize, Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Cell {
    /// Empty where no connection is possible: no address of the same family, or both are somebody else.
    pub(super) answers: Vec<Answer>,
}

/// What becomes of some ports, and why.
#[derive(Serialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// Which, for people: `TCP 80, 8080-8090`, `everything`, `IPv6: everything else`.
    pub(super) what: String,
    pub(super) allowed: bool,
    /// What the sender's rules say.
    pub(super) egress: String,
    /// What the receiver's rules say.
    pub(super) ingress: String,
}

/// How much of a cell is allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Extent {
    /// Nothing to say.
    Nobody,
    All,
    Some,
    None,
}

impl Cell {
    pub(super) fn extent(&self) -> Extent {
        let allowed = self.answers.iter().filter(|answer| answer.allowed).count();
        match (allowed, self.answers.len()) {
            (_, 0) => Extent::Nobody,
            (allowed, all) if allowed == all => Extent::All,
            (0, _) => Extent::None,
            _ => Extent::Some,
        }
    }
}

/// What rules see of an address: what it is under, and the class that it is as a peer.
type Look = (bool, Option<(RuleSetId, RuleSetId)>, PeerClass);

/// The matrix of this node's pods, the node itself and a host outside.
pub(super) fn matrix(tables: &impl Tables, names: &Names) -> io::Result<Matrix> {
    let mut groups: BTreeMap<Vec<Look>, Vec<(&str, &[IpAddr])>> = BTreeMap::new();
    for pod in names.local_pods() {
        let looks = pod.addresses.iter().map(|ip| look(tables, *ip)).collect::<io::Result<_>>()?;
        groups.entry(looks).or_default().push((&pod.pod, &pod.addresses));
    }
    let mut parties: Vec<Party> = groups.into_values().map(|pods| Party::of(&pods)).collect();
    parties.sort_by(|one, other| one.name.cmp(&other.name));
    let left_out = parties.iter().skip(ROWS).map(|party| 1 + party.more.len()).sum();
    parties.truncate(ROWS);
    let pods = parties.len();
    let own = tables.own_addresses()?;
    if pods > 0 {
        let node =
            names.node.as_ref().map_or("this node itself".into(), |node| format!("node {node} itself"));
        parties.push(Party { name: node, more: Vec::new(), ends: vec![own] });
        let [four, six] = OUTSIDE;
        let name = format!("a host outside, such as {four}");
        parties.push(Party { name, more: Vec::new(), ends: vec![vec![four, six]] });
    }
    let cell = |from: usize, to: usize| match from >= pods && to >= pods {
        true => Ok(Cell::default()),
        // Among pods of one row, a pod asks about another.
        false => parties[from].towards(parties[to].end(usize::from(from == to)), tables, names),
    };
    let row = |from| (0..parties.len()).map(|to| cell(from, to)).collect::<io::Result<Vec<_>>>();
    let rows = (0..parties.len()).map(row).collect::<io::Result<_>>()?;
    Ok(Matrix { in_force: tables.state()?.epoch != 0, parties, rows, left_out })
}

fn look(tables: &impl Tables, ip: IpAddr) -> io::Result<Look> {
    let under = tables.policed(ip)?.map(|policed| (policed.egress, policed.ingress));
    Ok((ip.is_ipv4(), under, class(tables, ip)?))
}

impl Party {
    fn of(pods: &[(&str, &[IpAddr])]) -> Self {
        let mut names = pods.iter().map(|(name, _)| (*name).to_owned());
        let name = names.next().unwrap_or_default();
        // Two pods are enough to ask for: the others differ from them in nothing that rules see.
        let ends = pods.iter().take(2).map(|(_, ips)| ips.to_vec()).collect();
        Self { name, more: names.collect(), ends }
    }

    /// Addresses of the pod at that place, or of the only one.
    fn end(&self, place: usize) -> &[IpAddr] {
        self.ends.get(place).or(self.ends.first()).map(Vec::as_slice).unwrap_or_default()
    }

    fn towards(&self, to: &[IpAddr], tables: &impl Tables, names: &Names) -> io::Result<Cell> {
        let mut families = Vec::new();
        for dst in to {
            let Some(src) = self.end(0).iter().find(|src| src.is_ipv4() == dst.is_ipv4()) else { continue };
            families.push((*dst, between(tables, names, *src, *dst)?));
        }
        families.dedup_by(|one, other| one.1 == other.1);
        let several = families.len() > 1;
        let prefix = |dst: IpAddr| match (several, dst.is_ipv4()) {
            (false, _) => "",
            (true, true) => "IPv4: ",
            (true, false) => "IPv6: ",
        };
        let named = |(dst, answers): (IpAddr, Vec<Answer>)| {
            let name =
                move |answer: Answer| Answer { what: format!("{}{}", prefix(dst), answer.what), ..answer };
            answers.into_iter().map(name).collect::<Vec<_>>()
        };
        Ok(Cell { answers: families.into_iter().flat_map(named).collect() })
    }
}

/// Some ports of a protocol; of one without ports all of it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Span {
    pub(super) proto: Option<Proto>,
    pub(super) first: u16,
    pub(super) last: u16,
}

/// What becomes of every port of every protocol between two addresses: those of which the same is said stand together.
fn between(tables: &impl Tables, names: &Names, src: IpAddr, dst: IpAddr) -> io::Result<Vec<Answer>> {
    let found = stretches(tables, names, src, dst)?;
    let rest = found.iter().position(|(_, spans)| spans.iter().any(|span| span.proto.is_none()));
    let one = found.len() == 1;
    let answer = |(place, ((allowed, egress, ingress), spans)): (usize, (Said, Vec<Span>))| Answer {
        what: match (one, rest == Some(place)) {
            (true, _) => "everything".into(),
            (false, true) => "everything else".into(),
            (false, false) => text(&spans),
        },
        allowed,
        egress,
        ingress,
    };
    let mut answers: Vec<_> = found.into_iter().enumerate().map(answer).collect();
    // What is allowed comes first, and what the rules leave last.
    answers.sort_by_key(|answer| (answer.what == "everything else", !answer.allowed));
    Ok(answers)
}

/// Whether it is allowed, and what each end says.
type Said = (bool, String, String);

/// What is said between two addresses, and of which ports each.
pub(super) fn stretches(
    tables: &impl Tables,
    names: &Names,
    src: IpAddr,
    dst: IpAddr,
) -> io::Result<Vec<(Said, Vec<Span>)>> {
    let mut found: Vec<(Said, Vec<Span>)> = Vec::new();
    for span in spans(tables, src, dst)? {
        let icmp = if dst.is_ipv4() { Proto::ICMP } else { Proto::ICMP6 };
        let port = Port::new(if span.proto.is_some() { span.first } else { 0 });
        let proto = span.proto.unwrap_or(icmp);
        let connection = Connection { src, dst, port, proto, road: Road::Direct };
        let Judgement { verdict, egress, ingress } = judge(tables, names, &connection)?;
        let allowed = matches!(verdict, Verdict::Allowed | Verdict::AllowedHere);
        let said = (allowed, egress.text, ingress.text);
        match found.iter_mut().find(|(other, _)| *other == said) {
            Some((_, spans)) => spans.push(span),
            None => found.push((said, vec![span])),
        }
    }
    Ok(found)
}

/// All ports in stretches about each of which both ends say one thing.
fn spans(tables: &impl Tables, src: IpAddr, dst: IpAddr) -> io::Result<Vec<Span>> {
    let mut begins: BTreeSet<(Proto, u16)> = WITH_PORTS.into_iter().map(|proto| (proto, 1)).collect();
    let egress = tables.policed(src)?.map(|policed| (policed.egress, dst));
    let ingress = tables.policed(dst)?.map(|policed| (policed.ingress, src));
    for (rules, peer) in [egress, ingress].into_iter().flatten() {
        for page in pages(tables, rules, class(tables, peer)?)?.iter().flatten() {
            for interval in page.intervals.iter().take(usize::from(page.count)) {
                begins.insert((interval.proto, interval.first.max(1)));
                begins.extend(interval.last.checked_add(1).map(|next| (interval.proto, next)));
            }
        }
    }
    let begins: Vec<_> = begins.into_iter().collect();
    let span = |(place, (proto, first)): (usize, &(Proto, u16))| {
        let next = begins.get(place + 1).filter(|(other, _)| other == proto);
        Span { proto: Some(*proto), first: *first, last: next.map_or(u16::MAX, |(_, next)| next - 1) }
    };
    let mut spans: Vec<_> = begins.iter().enumerate().map(span).collect();
    spans.push(Span { proto: None, first: 0, last: 0 });
    Ok(spans)
}

/// `TCP 80, 8080-8090; UDP all ports`.
fn text(spans: &[Span]) -> String {
    let mut protocols: BTreeMap<Option<Proto>, Vec<(u16, u16)>> = BTreeMap::new();
    for span in spans {
        let ranges = protocols.entry(span.proto).or_default();
        match ranges.last_mut() {
            Some((_, last)) if *last != u16::MAX && *last + 1 == span.first => *last = span.last,
            _ => ranges.push((span.first, span.last)),
        }
    }
    let range = |(first, last): &(u16, u16)| match (first, last) {
        (1, &u16::MAX) => "all ports".into(),
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    };
    let protocol = |(proto, ranges): (&Option<Proto>, &Vec<(u16, u16)>)| {
        let ranges: Vec<String> = ranges.iter().map(range).collect();
        proto.map_or("other protocols".into(), |proto| format!("{proto} {}", ranges.join(", ")))
    };
    protocols.iter().map(protocol).collect::<Vec<_>>().join("; ")
}
