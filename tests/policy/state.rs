//! The cluster of the test: pods with labels, namespaces with labels, policies; who may reach whom, found out the plain way;
//! and all of it as objects. Knows no product.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Value, json};

/// What the loads connect to.
pub(crate) const PORT: u16 = 80;
/// What the connections that stay open were made to; pods with the label `keep` may always reach each other there.
pub(crate) const KEPT_PORT: u16 = 81;
/// The two values of the label `team` of namespaces, and of `role` of pods.
pub(crate) const VALUES: [&str; 2] = ["one", "two"];

/// A pod.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    pub(crate) namespace: &'static str,
    pub(crate) name: &'static str,
    pub(crate) node: &'static str,
    pub(crate) ips: [IpAddr; 2],
    pub(crate) role: &'static str,
    /// Has the label `keep`.
    pub(crate) keeps: bool,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

/// Whom a rule is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Peer {
    Everybody,
    /// Pods of the same namespace.
    Role(&'static str),
    /// All pods of the namespaces.
    Team(&'static str),
    /// Some pods of all namespaces.
    RoleAnywhere(&'static str),
    /// The pods of a node's range, less the address of one.
    Range {
        node: &'static str,
        except: &'static str,
    },
}

/// Which ports.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ports {
    Every,
    /// Just [`PORT`].
    One,
    /// A range around [`PORT`].
    Range,
    /// Another port than [`PORT`].
    Other,
}

/// A policy with one rule, or none.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    pub(crate) namespace: &'static str,
    /// Of the pods that it selects; none: all.
    pub(crate) role: Option<&'static str>,
    pub(crate) way: Way,
    pub(crate) rule: Option<(Peer, Ports)>,
}

impl Policy {
    fn selects(&self, pod: &Pod) -> bool {
        self.namespace == pod.namespace && self.role.is_none_or(|role| role == pod.role)
    }
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) pods: BTreeMap<&'static str, Pod>,
    /// Label `team` of each namespace.
    pub(crate) teams: BTreeMap<&'static str, &'static str>,
    pub(crate) policies: BTreeMap<usize, Policy>,
}

impl State {
    /// Whether a new connection to [`PORT`] passes both ends (policy items 1–6).
    pub(crate) fn allows(&self, from: &str, to: &str) -> bool {
        let (from, to) = (&self.pods[from], &self.pods[to]);
        self.end_allows(from, to, Way::Out) && self.end_allows(to, from, Way::In)
    }

    /// Whether a connection may pass while the cluster goes from this state to `new`. Each node changes at a time of its own, so of
    /// ends on two nodes one may have the old rules and the other the new ones; on one node both change together.
    pub(crate) fn may_pass_on_the_way(&self, new: &Self, from: &str, to: &str) -> bool {
        let either = |way: Way| {
            [self, new].into_iter().any(|state| match way {
                Way::Out => state.end_allows(&state.pods[from], &state.pods[to], way),
                Way::In => state.end_allows(&state.pods[to], &state.pods[from], way),
            })
        };
        let on_two_nodes = self.pods[from].node != self.pods[to].node;
        self.allows(from, to) || new.allows(from, to) || on_two_nodes && either(Way::Out) && either(Way::In)
    }

    /// Whether some policy selects a pod.
    pub(crate) fn isolates(&self, pod: &str) -> bool {
        let pod = &self.pods[pod];
        let mut policies = self.policies.values();
        pod.keeps || policies.any(|policy| policy.selects(pod))
    }

    fn end_allows(&self, own: &Pod, other: &Pod, way: Way) -> bool {
        let mut isolated = own.keeps;
        for policy in self.policies.values().filter(|policy| policy.way == way) {
            if !policy.selects(own) {
                continue;
            }
            isolated = true;
            let Some((peer, ports)) = policy.rule else { continue };
            if !matches!(ports, Ports::Other) && self.is_peer(peer, policy.namespace, other) {
                return true;
            }
        }
        !isolated
    }

    fn is_peer(&self, peer: Peer, namespace: &str, other: &Pod) -> bool {
        match peer {
            Peer::Everybody => true,
            Peer::Role(role) => other.namespace == namespace && other.role == role,
            Peer::Team(team) => self.teams[other.namespace] == team,
            Peer::RoleAnywhere(role) => other.role == role,
            Peer::Range { node, except } => other.node == node && other.name != except,
        }
    }

    /// A pod as an object; without addresses it is one that has not begun.
    pub(crate) fn pod(&self, name: &str, begun: Begun) -> Value {
        let pod = &self.pods[name];
        let ips: Vec<Value> = pod.ips.iter().map(|ip| json!({"ip": ip})).collect();
        let mut labels = json!({"role": pod.role});
        if pod.keeps {
            labels["keep"] = json!("yes");
        }
        let status = match begun {
            Begun::Yes => json!({"phase": "Running", "podIP": pod.ips[0], "podIPs": ips}),
            Begun::No => json!({"phase": "Pending"}),
        };
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "uid": pod.name, "labels": labels},
            "spec": {"nodeName": pod.node, "containers": []},
            "status": status,
        })
    }

    /// A namespace as an object.
    pub(crate) fn namespace(&self, name: &str) -> Value {
        let labels = json!({"team": self.teams[name], "kubernetes.io/metadata.name": name});
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    }

    /// A policy as an object.
    pub(crate) fn policy(&self, slot: usize) -> Value {
        let policy = &self.policies[&slot];
        let rules: Vec<Value> = policy.rule.iter().map(|rule| self.rule(policy.way, *rule)).collect();
        let (field, kind) = match policy.way {
            Way::In => ("ingress", "Ingress"),
            Way::Out => ("egress", "Egress"),
        };
        let selected = policy.role.map_or_else(|| json!({}), |role| json!({"matchLabels": {"role": role}}));
        let mut spec = json!({"podSelector": selected, "policyTypes": [kind]});
        spec[field] = json!(rules);
        network_policy(policy.namespace, &policy_name(slot), &spec)
    }

    fn rule(&self, way: Way, (peer, ports): (Peer, Ports)) -> Value {
        let labels = |key: &str, value: &str| {
            let mut labels = json!({});
            labels[key] = json!(value);
            json!({"matchLabels": labels})
        };
        let peers = match peer {
            Peer::Everybody => Vec::new(),
            Peer::Role(role) => vec![json!({"podSelector": labels("role", role)})],
            Peer::Team(team) => vec![json!({"namespaceSelector": labels("team", team)})],
            Peer::RoleAnywhere(role) => {
                vec![json!({"namespaceSelector": {}, "podSelector": labels("role", role)})]
            }
            Peer::Range { node, except } => self.blocks(node, except),
        };
        let ports = match ports {
            Ports::Every => Vec::new(),
            Ports::One => vec![json!({"protocol": "TCP", "port": PORT})],
            Ports::Range => vec![json!({"protocol": "TCP", "port": PORT - 10, "endPort": PORT + 900})],
            Ports::Other => vec![json!({"protocol": "TCP", "port": PORT + 1})],
        };
        let field = if way == Way::In { "from" } else { "to" };
        let mut rule = json!({});
        if !peers.is_empty() {
            rule[field] = json!(peers);
        }
        if !ports.is_empty() {
            rule["ports"] = json!(ports);
        }
        rule
    }

    fn blocks(&self, node: &str, except: &str) -> Vec<Value> {
        let number = node.trim_start_matches("node-");
        let ranges = [(format!("10.244.{number}.0/24"), 32), (format!("fd00:244:{number}::/64"), 128)];
        let block = |((range, bits), ip): ((String, u8), IpAddr)| {
            // An exception has to lie in its block; one of the other node leaves the block whole.
            let inside = self.pods[except].node == node;
            let except = if inside { json!([format!("{ip}/{bits}")]) } else { json!([]) };
            json!({"ipBlock": {"cidr": range, "except": except}})
        };
        ranges.into_iter().zip(self.pods[except].ips).map(block).collect()
    }
}

/// Whether a pod has addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begun {
    Yes,
    No,
}

/// A NetworkPolicy object.
pub(crate) fn network_policy(namespace: &str, name: &str, spec: &Value) -> Value {
    let metadata = json!({"name": name, "namespace": namespace});
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
}

/// What lets the pods with `keep` reach each other on [`KEPT_PORT`], and isolates them from all others.
pub(crate) fn keep(namespace: &str) -> Value {
    let keep = json!({"matchLabels": {"keep": "yes"}});
    let peers = json!([{"namespaceSelector": {}, "podSelector": keep}]);
    let ports = json!([{"protocol": "TCP", "port": KEPT_PORT}]);
    let spec = json!({
        "podSelector": keep,
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": peers, "ports": ports}],
        "egress": [{"to": peers, "ports": ports}],
    });
    network_policy(namespace, "keep", &spec)
}

pub(crate) fn policy_name(slot: usize) -> String {
    format!("policy-{slot}")
}
