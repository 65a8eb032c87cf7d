//! ClusterNetworkPolicy (policy.networking.k8s.io/v1alpha2) → fact, read field by field from its JSON: the API is young,
//! and a field that a later version has must not be passed over (policy item 58). So every object says which of its
//! fields nobody asked for.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::serde::Deserialize as _;
use kube::api::DynamicObject;
use proxy_common::Proto;
use proxy_model::fact::{
    Action, ClusterPeer, ClusterPolicy, ClusterRule, PortMatch, Selector, Subject, Tier, Understood,
};
use serde_json::Value;

use super::address::prefix;
use super::port::port;
use super::selector::selector;
use super::{Closed, Report, created};

/// The largest `spec.priority`.
const PRIORITY: u64 = 1_000;

pub(super) fn parse(object: &DynamicObject, report: &mut Report<'_>) -> ClusterPolicy {
    let mut top = Fields::of(Some(&object.data), "", Closed::Subject, report);
    let spec = top.take("spec");
    let mut spec = Fields::of(spec, "spec", Closed::Subject, report);
    let tier = match spec.take("tier").and_then(Value::as_str) {
        Some("Admin") => Tier::Admin,
        Some("Baseline") => Tier::Baseline,
        other => {
            let what = format!("{} is not Admin or Baseline", other.unwrap_or("nothing"));
            report.problem("spec.tier", Closed::Tier.fault(what));
            Tier::Admin
        }
    };
    let priority = match spec.take("priority").and_then(Value::as_u64).filter(|number| *number <= PRIORITY) {
        Some(number) => u16::try_from(number).unwrap_or_default(),
        None => {
            report
                .problem("spec.priority", Closed::Priority.fault(format!("not a number of 0 to {PRIORITY}")));
            0
        }
    };
    let subject = spec.take("subject");
    let subject = subject_of(subject, report);
    let ingress = rules(spec.take("ingress"), &INGRESS, report);
    let egress = rules(spec.take("egress"), &EGRESS, report);
    // A field that says more of whom it is about, or of when: what it means is not known.
    let subject = match spec.end(report) {
        Understood::Fully => subject,
        Understood::InPart => Subject::Unknown,
    };
    ClusterPolicy {
        name: report.object_key().name,
        created: created(&object.metadata),
        tier,
        priority,
        subject,
        ingress,
        egress,
    }
}

/// What the fields of a direction are called, and what a peer may be.
struct Side {
    rules: &'static str,
    peers: &'static str,
    kinds: &'static [&'static str],
}

const INGRESS: Side = Side { rules: "ingress", peers: "from", kinds: &["namespaces", "pods"] };
const EGRESS: Side =
    Side { rules: "egress", peers: "to", kinds: &["namespaces", "pods", "nodes", "networks"] };

fn subject_of(value: Option<&Value>, report: &mut Report<'_>) -> Subject {
    let (path, closed) = ("spec.subject", Closed::Subject);
    let one = one_of(value, path, &["namespaces", "pods"], closed, report);
    let read = one.and_then(|(name, value)| match name {
        "namespaces" => {
            labels(Some(value), "spec.subject.namespaces", closed, report).map(Subject::Namespaces)
        }
        _ => {
            let (namespaces, pods) = namespaced(value, "spec.subject.pods", closed, report)?;
            Some(Subject::Pods { namespaces, pods })
        }
    });
    read.unwrap_or(Subject::Unknown)
}

fn rules(value: Option<&Value>, side: &Side, report: &mut Report<'_>) -> Vec<ClusterRule> {
    let path = format!("spec.{}", side.rules);
    // What is there instead of a list is one rule that nobody understands.
    let (rules, _) = list(value, &path, report);
    rules.enumerate().map(|(index, value)| rule(value, &format!("{path}[{index}]"), side, report)).collect()
}

fn rule(value: &Value, path: &str, side: &Side, report: &mut Report<'_>) -> ClusterRule {
    let mut fields = Fields::of(Some(value), path, Closed::Rule, report);
    let name = fields.take("name").and_then(Value::as_str).unwrap_or_default().into();
    let action = match fields.take("action").and_then(Value::as_str) {
        Some("Accept") => Action::Accept,
        Some("Deny") => Action::Deny,
        Some("Pass") => Action::Pass,
        other => {
            let what = format!("{} is not Accept, Deny or Pass", other.unwrap_or("nothing"));
            report.problem(format!("{path}.action"), Closed::Rule.fault(what));
            Action::Unknown
        }
    };
    let place = format!("{path}.{}", side.peers);
    let given = fields.take(side.peers);
    let (peers, are_list) = list(given, &place, report);
    let mut peers: Vec<_> =
        peers.enumerate().map(|(at, one)| peer(one, &format!("{place}[{at}]"), side, report)).collect();
    if peers.is_empty() {
        // Item 56: required. Without it the rule would be about everybody.
        report.problem(&place, Closed::Rule.fault("no peer"));
        peers.push(ClusterPeer::Unknown);
    }
    let place = format!("{path}.protocols");
    let (protocols, are_protocols) = list(fields.take("protocols"), &place, report);
    let protocols =
        protocols.enumerate().map(|(at, one)| protocol(one, &format!("{place}[{at}]"), report)).collect();
    let rest = [are_list, are_protocols, fields.end(report)].into_iter().max().unwrap_or_default();
    ClusterRule { name, action, peers, protocols, rest }
}

fn peer(value: &Value, path: &str, side: &Side, report: &mut Report<'_>) -> ClusterPeer {
    let closed = Closed::Rule;
    let one = one_of(Some(value), path, side.kinds, closed, report);
    let read = one.and_then(|(name, value)| {
        let path = format!("{path}.{name}");
        match name {
            "namespaces" => labels(Some(value), &path, closed, report).map(ClusterPeer::Namespaces),
            "nodes" => labels(Some(value), &path, closed, report).map(ClusterPeer::Nodes),
            "networks" => networks(value, &path, report),
            _ => {
                let (namespaces, pods) = namespaced(value, &path, closed, report)?;
                Some(ClusterPeer::Pods { namespaces, pods })
            }
        }
    });
    read.unwrap_or(ClusterPeer::Unknown)
}

/// One range that cannot be read makes the peer unreadable: what denies would deny too little without it.
fn networks(value: &Value, path: &str, report: &mut Report<'_>) -> Option<ClusterPeer> {
    let (ranges, understood) = list(Some(value), path, report);
    let read = |(index, value): (usize, &Value)| {
        let text = value.as_str().unwrap_or_default();
        let range = prefix(text).map_err(|fault| Closed::Rule.fault(fault.cause()));
        report.keep(|| format!("{path}[{index}]"), range)
    };
    let ranges: Vec<_> = ranges.enumerate().map(read).collect();
    let ranges = ranges.into_iter().collect::<Option<Vec<_>>>()?;
    (understood == Understood::Fully && !ranges.is_empty()).then_some(ClusterPeer::Networks(ranges))
}

/// Item 57.
fn protocol(value: &Value, path: &str, report: &mut Report<'_>) -> PortMatch {
    let known = ["tcp", "udp", "sctp", "destinationNamedPort"];
    let one = one_of(Some(value), path, &known, Closed::Rule, report);
    let read = one.and_then(|(name, value)| {
        let path = format!("{path}.{name}");
        match name {
            "tcp" => ports(value, &path, Proto::TCP, report),
            "udp" => ports(value, &path, Proto::UDP, report),
            "sctp" => ports(value, &path, Proto::SCTP, report),
            _ => {
                let name = value.as_str().filter(|name| !name.is_empty());
                if name.is_none() {
                    report.problem(path, Closed::Rule.fault("not the name of a port"));
                }
                Some(PortMatch::Named { proto: None, name: name?.into() })
            }
        }
    });
    read.unwrap_or(PortMatch::Unknown)
}

fn ports(value: &Value, path: &str, proto: Proto, report: &mut Report<'_>) -> Option<PortMatch> {
    let closed = Closed::Rule;
    let (_, value) = one_of(Some(value), path, &["destinationPort"], closed, report)?;
    let path = format!("{path}.destinationPort");
    let (name, value) = one_of(Some(value), &path, &["number", "range"], closed, report)?;
    let path = format!("{path}.{name}");
    if name == "number" {
        let number = number(Some(value), &path, report)?;
        return Some(PortMatch::Range { proto, first: number, last: number });
    }
    let mut range = Fields::of(Some(value), &path, closed, report);
    let first = number(range.take("start"), &format!("{path}.start"), report);
    let last = number(range.take("end"), &format!("{path}.end"), report);
    let understood = range.end(report);
    let (first, last) = (first?, last?);
    if last.number() < first.number() {
        let what = format!("{} is below {}", last.number(), first.number());
        report.problem(format!("{path}.end"), closed.fault(what));
        return None;
    }
    (understood == Understood::Fully).then_some(PortMatch::Range { proto, first, last })
}

fn number(value: Option<&Value>, path: &str, report: &mut Report<'_>) -> Option<proxy_common::Port> {
    let number = value.and_then(Value::as_i64).and_then(|number| i32::try_from(number).ok());
    let found = port(number.unwrap_or(0)).map_err(|fault| Closed::Rule.fault(fault.cause()));
    report.keep(|| path.to_owned(), found)
}

fn namespaced(
    value: &Value,
    path: &str,
    closed: Closed,
    report: &mut Report<'_>,
) -> Option<(Selector, Selector)> {
    let mut fields = Fields::of(Some(value), path, closed, report);
    let namespaces = fields.take("namespaceSelector");
    let pods = fields.take("podSelector");
    let understood = fields.end(report);
    let namespaces = labels(namespaces, &format!("{path}.namespaceSelector"), closed, report);
    let pods = labels(pods, &format!("{path}.podSelector"), closed, report);
    (understood == Understood::Fully).then_some((namespaces?, pods?))
}

/// A LabelSelector; one that is missing selects everything, as an empty one does.
fn labels(value: Option<&Value>, path: &str, closed: Closed, report: &mut Report<'_>) -> Option<Selector> {
    let Some(value) = value else { return Some(Selector::default()) };
    let mut fields = Fields::of(Some(value), path, closed, report);
    fields.take("matchLabels");
    let expressions = fields.take("matchExpressions");
    let mut understood = fields.end(report);
    let all = expressions.and_then(Value::as_array).into_iter().flatten();
    for (index, value) in all.enumerate() {
        let path = format!("{path}.matchExpressions[{index}]");
        let mut fields = Fields::of(Some(value), &path, closed, report);
        for name in ["key", "operator", "values"] {
            fields.take(name);
        }
        understood = understood.max(fields.end(report));
    }
    let read = LabelSelector::deserialize(value).map_err(|error| closed.fault(error.to_string()));
    let read = report.keep(|| path.to_owned(), read)?;
    let read = selector(&read, path, closed, report)?;
    (understood == Understood::Fully).then_some(read)
}

/// The one field of an object that must have one of these and nothing else.
fn one_of<'v>(
    value: Option<&'v Value>,
    path: &str,
    known: &[&'static str],
    closed: Closed,
    report: &mut Report<'_>,
) -> Option<(&'static str, &'v Value)> {
    let mut fields = Fields::of(value, path, closed, report);
    let found: Vec<_> = known.iter().filter_map(|name| Some((*name, fields.take(name)?))).collect();
    let understood = fields.end(report);
    match (&found[..], understood) {
        ([one], Understood::Fully) => Some(*one),
        (_, Understood::InPart) => None,
        ([] | [_, ..], Understood::Fully) => {
            report.problem(path, closed.fault(format!("not exactly one of {}", known.join(", "))));
            None
        }
    }
}

/// The elements of a list; one that is missing has none, and what is no list is not understood.
fn list<'v>(
    value: Option<&'v Value>,
    path: &str,
    report: &mut Report<'_>,
) -> (impl Iterator<Item = &'v Value> + use<'v>, Understood) {
    let (items, understood) = match value {
        None => (&[][..], Understood::Fully),
        Some(Value::Array(items)) => (items.as_slice(), Understood::Fully),
        // Read as its only element, it is no object either.
        Some(other) => {
            report.problem(path, Closed::Rule.fault("not a list"));
            (std::slice::from_ref(other), Understood::InPart)
        }
    };
    (items.iter(), understood)
}

/// The fields of an object that nobody has asked for yet.
struct Fields<'v> {
    path: String,
    closed: Closed,
    left: BTreeMap<&'v str, &'v Value>,
    understood: Understood,
}

impl<'v> Fields<'v> {
    /// All of them; what is missing is an object without any.
    fn of(value: Option<&'v Value>, path: &str, closed: Closed, report: &mut Report<'_>) -> Self {
        let (left, understood) = match value {
            Some(Value::Object(map)) => {
                let given = map.iter().filter(|(_, value)| !value.is_null());
                (given.map(|(name, value)| (name.as_str(), value)).collect(), Understood::Fully)
            }
            None | Some(Value::Null) => (BTreeMap::new(), Understood::Fully),
            Some(_) => {
                report.problem(path, closed.fault("not an object"));
                (BTreeMap::new(), Understood::InPart)
            }
        };
        Self { path: path.to_owned(), closed, left, understood }
    }

    fn take(&mut self, name: &str) -> Option<&'v Value> {
        self.left.remove(name)
    }

    /// Whether that was all; what is left over is a problem.
    fn end(self, report: &mut Report<'_>) -> Understood {
        let Self { path, closed, left, understood } = self;
        for name in left.keys() {
            report.problem(format!("{path}.{name}"), closed.fault("not known"));
        }
        if left.is_empty() { understood } else { Understood::InPart }
    }
}
