//! NetworkPolicy → fact. The API server checks all of this; a file has nobody else to check it (items 16, 27, 49).

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proxy_common::Proto;
use proxy_model::fact::{self, Direction, NetworkPeer, NetworkRule, PortMatch, Selector};

use super::address::prefix;
use super::port::{port, protocol};
use super::selector::selector;
use super::{Closed, Fault, Report, created};

pub(super) fn parse(object: &NetworkPolicy, report: &mut Report<'_>) -> fact::NetworkPolicy {
    let nothing = NetworkPolicySpec::default();
    let spec = object.spec.as_ref().unwrap_or(&nothing);
    let pods = spec
        .pod_selector
        .as_ref()
        .map_or(Some(Selector::default()), |pods| selector(pods, "spec.podSelector", Closed::Policy, report));
    let ingress =
        rules(spec.ingress.iter().flatten().map(|rule| (&rule.from, &rule.ports)), &INGRESS, report);
    let egress = rules(spec.egress.iter().flatten().map(|rule| (&rule.to, &rule.ports)), &EGRESS, report);
    // Whom it selects is not known: it isolates its whole namespace, and allows nothing.
    let is_known = pods.is_some();
    let known = |rules: Vec<NetworkRule>| if is_known { rules } else { Vec::new() };
    let types = types(spec, report);
    fact::NetworkPolicy {
        key: report.object_key(),
        created: created(&object.metadata),
        pods: pods.unwrap_or_default(),
        types: if is_known { types } else { types.or_else(|| Some(of_rules(&egress))) },
        ingress: known(ingress),
        egress: known(egress),
    }
}

/// Item 3: what a policy is about that does not say.
fn of_rules(egress: &[NetworkRule]) -> BTreeSet<Direction> {
    let also = (!egress.is_empty()).then_some(Direction::Egress);
    [Direction::Ingress].into_iter().chain(also).collect()
}

/// `spec.policyTypes`. A type that is not known stands for both directions.
fn types(spec: &NetworkPolicySpec, report: &mut Report<'_>) -> Option<BTreeSet<Direction>> {
    let named = spec.policy_types.as_ref().filter(|types| !types.is_empty())?;
    let mut found = BTreeSet::new();
    for (index, name) in named.iter().enumerate() {
        match name.as_str() {
            "Ingress" => drop(found.insert(Direction::Ingress)),
            "Egress" => drop(found.insert(Direction::Egress)),
            other => {
                let fault = Closed::Types.fault(format!("{other:?} is not Ingress or Egress"));
                report.problem(format!("spec.policyTypes[{index}]"), fault);
                found.extend([Direction::Ingress, Direction::Egress]);
            }
        }
    }
    Some(found)
}

/// What the fields of a direction are called.
struct Side {
    rules: &'static str,
    peers: &'static str,
}

const INGRESS: Side = Side { rules: "ingress", peers: "from" };
const EGRESS: Side = Side { rules: "egress", peers: "to" };

type Peers = Option<Vec<NetworkPolicyPeer>>;
type Ports = Option<Vec<NetworkPolicyPort>>;

fn rules<'a>(
    rules: impl Iterator<Item = (&'a Peers, &'a Ports)>,
    side: &Side,
    report: &mut Report<'_>,
) -> Vec<NetworkRule> {
    rules
        .enumerate()
        .map(|(index, (peers, ports))| {
            let path = format!("spec.{}[{index}]", side.rules);
            let peers = peers.iter().flatten().enumerate();
            let ports = ports.iter().flatten().enumerate();
            NetworkRule {
                peers: peers
                    .map(|(at, one)| peer(one, &format!("{path}.{}[{at}]", side.peers), report))
                    .collect(),
                ports: ports.map(|(at, one)| ports_of(one, &format!("{path}.ports[{at}]"), report)).collect(),
            }
        })
        .collect()
}

fn peer(object: &NetworkPolicyPeer, path: &str, report: &mut Report<'_>) -> NetworkPeer {
    let NetworkPolicyPeer { ip_block, namespace_selector, pod_selector } = object;
    let mut read = |field: &str, from: &Option<_>| match from {
        Some(from) => selector(from, &format!("{path}.{field}"), Closed::Peer, report).map(Some),
        None => Some(None),
    };
    match (ip_block, namespace_selector, pod_selector) {
        (Some(found), None, None) => block(found, path, report).unwrap_or(NetworkPeer::Unknown),
        (None, None, None) => {
            report.problem(path, Closed::Peer.fault("none of podSelector, namespaceSelector and ipBlock"));
            NetworkPeer::Unknown
        }
        (Some(_), _, _) => {
            report.problem(path, Closed::Peer.fault("ipBlock beside a selector"));
            NetworkPeer::Unknown
        }
        (None, namespaces, pods) => {
            match (read("namespaceSelector", namespaces), read("podSelector", pods)) {
                (Some(namespaces), Some(pods)) => NetworkPeer::Pods { namespaces, pods },
                (None, _) | (_, None) => NetworkPeer::Unknown,
            }
        }
    }
}

/// Items 22, 49. An exception that cannot be read takes the block along: without it, the block would hold too many.
fn block(object: &IPBlock, path: &str, report: &mut Report<'_>) -> Option<NetworkPeer> {
    let unreadable = |text: &str| Closed::Peer.fault(format!("{text:?} is not an address range"));
    let range = |text: &String| prefix(text).map_err(|_| unreadable(text));
    let net = report.keep(|| format!("{path}.ipBlock.cidr"), range(&object.cidr));
    let except: Vec<_> = object
        .except
        .iter()
        .flatten()
        .enumerate()
        .map(|(index, text)| report.keep(|| format!("{path}.ipBlock.except[{index}]"), range(text)))
        .collect();
    Some(NetworkPeer::Block { net: net?, except: except.into_iter().collect::<Option<_>>()? })
}

fn ports_of(object: &NetworkPolicyPort, path: &str, report: &mut Report<'_>) -> PortMatch {
    let closed = |fault: Fault| Closed::Port.fault(fault.cause());
    let Some(proto) =
        report.keep(|| format!("{path}.protocol"), protocol(object.protocol.as_deref()).map_err(closed))
    else {
        return PortMatch::Unknown;
    };
    let found = match (&object.port, object.end_port) {
        (None, None) => Ok(PortMatch::Every(proto)),
        (Some(IntOrString::Int(first)), last) => range(proto, *first, last.unwrap_or(*first)),
        (Some(IntOrString::String(name)), None) if !name.is_empty() => {
            Ok(PortMatch::Named { proto: Some(proto), name: name.as_str().into() })
        }
        (Some(IntOrString::String(_)), None) => Err(("port", Closed::Port.fault("empty"))),
        (None | Some(IntOrString::String(_)), Some(_)) => {
            Err(("endPort", Closed::Port.fault("without a port number to begin at")))
        }
    };
    match found {
        Ok(ports) => ports,
        Err((field, fault)) => {
            report.problem(format!("{path}.{field}"), fault);
            PortMatch::Unknown
        }
    }
}

/// Item 27; the field that is wrong, if one is.
fn range(proto: Proto, first: i32, last: i32) -> Result<PortMatch, (&'static str, Fault)> {
    let number = |field, number| port(number).map_err(|fault| (field, Closed::Port.fault(fault.cause())));
    if last < first {
        return Err(("endPort", Closed::Port.fault(format!("{last} is below {first}"))));
    }
    Ok(PortMatch::Range { proto, first: number("port", first)?, last: number("endPort", last)? })
}
