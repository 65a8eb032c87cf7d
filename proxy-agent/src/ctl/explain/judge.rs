//! What becomes of one new connection by the policies: both of its ends, each judged as the programs judge it, and named
//! with what the agent wrote down. Pure: maps are asked through [`Tables`].

use std::io;
use std::net::IpAddr;

use proxy_common::policy::{Effect, Ruling};
use proxy_common::{PeerClass, Port, Proto, RuleId, RuleSetId};
use serde::Serialize;

use super::nearest::{Nearest, nearest};
use crate::ctl::policy::names::{Names, Owner};
use crate::ctl::policy::tables::{Tables, class, ruling};
use crate::observe::policy_names::{Digest, Direction, PolicyName, RuleLine};

/// A new connection, behind a Service that to the backend.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ctl) struct Connection {
    /// Who opens it.
    pub(in crate::ctl) src: IpAddr,
    /// Whom it reaches.
    pub(in crate::ctl) dst: IpAddr,
    /// Port there; [`Port::NONE`] for a protocol without ports.
    pub(in crate::ctl) port: Port,
    /// Protocol.
    pub(in crate::ctl) proto: Proto,
    /// How it got there.
    pub(in crate::ctl) road: Road,
}

/// How a connection gets to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::ctl) enum Road {
    /// It was sent to that address.
    Direct,
    /// It was sent to a Service.
    Service,
}

/// What becomes of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) enum Verdict {
    /// Nobody denies it.
    Allowed,
    /// This node lets it pass; another one judges an end of it that is there.
    AllowedHere,
    /// Some of several are allowed, and some are not.
    Partly,
    /// An end of it denies it.
    Denied,
    /// The Service does not take it, whatever the policies say.
    Refused,
}

impl Verdict {
    /// For people.
    pub(in crate::ctl) const fn text(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::AllowedHere => "allowed on this node",
            Self::Partly => "allowed in part",
            Self::Denied => "denied",
            Self::Refused => "refused",
        }
    }
}

/// How one end of a connection stands to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) enum Standing {
    /// A rule lets it pass, or no rule forbids it.
    Allowed,
    /// A rule denies it, or none lets it pass.
    Denied,
    /// A pod of this node that no policy is about in this direction.
    NotIsolated,
    /// A pod of another node: that node judges.
    Elsewhere,
    /// Not a pod that has rules: a node, or an address outside.
    NoPod,
    /// What this node itself sends to its pods always passes (policy item 34).
    OwnNode,
    /// A pod that talks to itself: the packets never leave it (policy item 33).
    Itself,
    /// There is no policy on this node.
    NoPolicy,
}

/// One end.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) struct Side {
    pub(in crate::ctl) address: IpAddr,
    /// `namespace/name` of a pod, `node NAME`; absent if the address is nobody's.
    pub(in crate::ctl) name: Option<String>,
    pub(in crate::ctl) standing: Standing,
    /// Whom to ask about an end that is elsewhere.
    pub(in crate::ctl) ask: Option<String>,
    /// The rules that were asked.
    pub(in crate::ctl) rule_set: Option<Digest>,
    /// Policies that they are from.
    pub(in crate::ctl) policies: Vec<PolicyName>,
    /// The rule that decided, if one did.
    pub(in crate::ctl) rule: Option<Decider>,
    /// What comes nearest to letting it pass.
    pub(in crate::ctl) nearest: Option<Nearest>,
    /// All of this in one line.
    pub(in crate::ctl) text: String,
}

/// A rule that decided.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::ctl) struct Decider {
    pub(in crate::ctl) id: Digest,
    /// The rest is absent if the rule's name is not known.
    pub(in crate::ctl) policy: Option<PolicyName>,
    pub(in crate::ctl) index: Option<u32>,
    pub(in crate::ctl) text: Option<String>,
}

impl Decider {
    fn of(id: RuleId, line: Option<&RuleLine>) -> Self {
        Self {
            id: id.into(),
            policy: line.map(|line| line.policy.clone()),
            index: line.map(|line| line.index),
            text: line.map(|line| line.text.clone()),
        }
    }
}

/// What becomes of a connection, and what each end says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::ctl) struct Judgement {
    pub(in crate::ctl) verdict: Verdict,
    pub(in crate::ctl) egress: Side,
    pub(in crate::ctl) ingress: Side,
}

/// Judges both ends of a connection.
pub(in crate::ctl) fn judge(
    tables: &impl Tables,
    names: &Names,
    connection: &Connection,
) -> io::Result<Judgement> {
    let egress = side(tables, names, connection, Direction::Egress)?;
    let ingress = side(tables, names, connection, Direction::Ingress)?;
    let standings = [egress.standing, ingress.standing];
    let verdict = if standings.contains(&Standing::Denied) {
        Verdict::Denied
    } else if standings.contains(&Standing::Elsewhere) {
        Verdict::AllowedHere
    } else {
        Verdict::Allowed
    };
    Ok(Judgement { verdict, egress, ingress })
}

fn side(
    tables: &impl Tables,
    names: &Names,
    connection: &Connection,
    direction: Direction,
) -> io::Result<Side> {
    let (address, peer) = match direction {
        Direction::Egress => (connection.src, connection.dst),
        Direction::Ingress => (connection.dst, connection.src),
    };
    let mut side = Side {
        address,
        name: names.label(address),
        standing: Standing::NoPod,
        ask: None,
        rule_set: None,
        policies: Vec::new(),
        rule: None,
        nearest: None,
        text: String::new(),
    };
    let policed = tables.policed(address)?;
    let standing = match names.owner(address) {
        Some(Owner::Pod(pod)) if policed.is_none() && is_elsewhere(pod.node.as_deref(), names) => {
            side.ask.clone_from(&pod.node);
            Standing::Elsewhere
        }
        _ if tables.state()?.epoch == 0 => Standing::NoPolicy,
        _ if connection.src == connection.dst && connection.road == Road::Direct => Standing::Itself,
        Some(Owner::Pod(_)) if policed.is_none() => Standing::NotIsolated,
        _ if policed.is_some() && direction == Direction::Ingress && tables.is_own(peer)? => {
            Standing::OwnNode
        }
        _ => match policed {
            None => Standing::NoPod,
            Some(policed) => {
                let rules = match direction {
                    Direction::Egress => policed.egress,
                    Direction::Ingress => policed.ingress,
                };
                return ruled(tables, names, side, (rules, direction, peer), connection);
            }
        },
    };
    side.standing = standing;
    side.text = unruled(&side);
    Ok(side)
}

fn is_elsewhere(node: Option<&str>, names: &Names) -> bool {
    node.is_some() && node != names.node.as_deref()
}

/// The line of an end that no rules were asked about.
fn unruled(side: &Side) -> String {
    match (side.standing, &side.ask) {
        (Standing::Elsewhere, Some(node)) => format!("not judged here: ask node {node}"),
        (Standing::Elsewhere, None) => "not judged here: a pod of another node".into(),
        (Standing::NoPolicy, _) => "no policy is in force on this node".into(),
        (Standing::Itself, _) => "a pod always reaches itself".into(),
        (Standing::NotIsolated, _) => "under no policy".into(),
        (Standing::OwnNode, _) => "what the node itself sends to its pods always passes".into(),
        (Standing::NoPod | Standing::Allowed | Standing::Denied, _) => "not a pod of this node".into(),
    }
}

/// An end that rules were asked about.
fn ruled(
    tables: &impl Tables,
    names: &Names,
    side: Side,
    (rules, direction, peer): (RuleSetId, Direction, IpAddr),
    connection: &Connection,
) -> io::Result<Side> {
    match rules {
        RuleSetId::OPEN => {
            let text = format!("under no policy for {direction}");
            return Ok(Side { standing: Standing::NotIsolated, text, ..side });
        }
        RuleSetId::CLOSED => {
            let text = "denied: its rules are not known yet, or there was no room for them: nothing passes";
            return Ok(Side {
                standing: Standing::Denied,
                rule_set: Some(rules.into()),
                text: text.into(),
                ..side
            });
        }
        _ => {}
    }
    let class: PeerClass = class(tables, peer)?;
    let port = (connection.proto, connection.port);
    let Ruling { by, effect } = ruling(tables, rules, class, port)?;
    let policies = names.set(rules).map(|set| set.policies.clone()).unwrap_or_default();
    let line = names.rule(by);
    let (standing, verb) = match effect {
        Effect::ALLOW => (Standing::Allowed, "allowed"),
        _ => (Standing::Denied, "denied"),
    };
    let mut side = Side { standing, rule_set: Some(rules.into()), policies, ..side };
    if by != RuleId::NONE {
        let what = line.map(|line| format!(": {}", line.text)).unwrap_or_default();
        side.text = format!("{verb} by {}{what}", names.rule_label(by));
        side.rule = Some(Decider::of(by, line));
        return Ok(side);
    }
    if standing == Standing::Allowed {
        side.text = format!("allowed: no rule says anything, and nothing isolates it for {direction}");
        return Ok(side);
    }
    side.nearest = nearest(tables, names, (rules, class), port)?;
    let hint = side.nearest.as_ref().map_or("there is none", |nearest| nearest.text.as_str());
    side.text = format!("denied: no rule of {} allows it; nearest: {hint}", of_policies(&side));
    Ok(side)
}

/// Names the policies of a side: those of the set, or the set's number.
fn of_policies(side: &Side) -> String {
    let names: Vec<_> = side.policies.iter().map(ToString::to_string).collect();
    match (names.is_empty(), side.rule_set) {
        (false, _) => names.join(", "),
        (true, Some(set)) => format!("rule set #{set}"),
        (true, None) => "its policies".into(),
    }
}
