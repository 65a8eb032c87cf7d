//! What the numbers in the policy maps stand for, written down beside them for `proxyctl`: the maps hold digests, and this
//! says whose they are. Also whose the addresses are, because the maps know no pod. A file, for the reasons that
//! [`super::explain`] has; nothing in it decides about a packet.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use proxy_common::{RuleId, RuleSetId};
use serde::{Deserialize, Serialize};

/// Name of the file, in the run directory.
pub const FILE: &str = "policy-names.json";

/// Of the file's format. A reader that finds another knows no names.
pub const VERSION: u32 = 1;

/// Everything that is written down.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyNames {
    /// [`VERSION`].
    pub version: u32,
    /// Seconds since 1970.
    pub at: u64,
    /// This node's name.
    pub node: String,
    /// Policies that this node knows to be about one of its pods, or refuses, in the order of their names.
    pub policies: Vec<PolicyLine>,
    /// Rules of the sets below.
    pub rules: Vec<RuleLine>,
    /// Sets that the pods of this node are under.
    pub rule_sets: Vec<RuleSetLine>,
    /// Pods of the cluster, as far as the agent knows them, those without an address of their own left out.
    pub pods: Vec<PodLine>,
    /// Addresses of nodes.
    pub nodes: BTreeMap<String, Vec<IpAddr>>,
}

/// An id of the policy maps, as sixteen hexadecimal digits: not every reader of JSON takes a number of 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(pub u64);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Digest {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u64::from_str_radix(text, 16).map(Self)
    }
}

impl TryFrom<String> for Digest {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl From<RuleId> for Digest {
    fn from(id: RuleId) -> Self {
        Self(id.0)
    }
}

impl From<RuleSetId> for Digest {
    fn from(id: RuleSetId) -> Self {
        Self(id.0)
    }
}

/// What kind of object a policy is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum PolicyKind {
    /// `networking.k8s.io/v1`.
    NetworkPolicy,
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy,
}

/// Which policy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyName {
    /// Kind of object.
    pub kind: PolicyKind,
    /// Absent for what is of no namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl PolicyName {
    /// It is what somebody means who writes `NAMESPACE/NAME`; a name alone is of no namespace, or in `default`.
    #[must_use]
    pub fn is_called(&self, text: &str) -> bool {
        match (text.split_once('/'), self.namespace.as_deref()) {
            (Some((namespace, name)), own) => own == Some(namespace) && self.name == name,
            (None, None | Some("default")) => self.name == text,
            (None, Some(_)) => false,
        }
    }
}

impl fmt::Display for PolicyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{:?} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{:?} {}", self.kind, self.name),
        }
    }
}

/// A policy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyLine {
    /// Which.
    pub policy: PolicyName,
    /// `Admin` or `Baseline`; absent for a NetworkPolicy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// Within the tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Why it is not in force as it was written, if it is not: no room, or a part that is not understood.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Which way packets go, as the pod sees it that the rules are about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// What it sends.
    Egress,
    /// What it gets.
    Ingress,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Egress => "egress",
            Self::Ingress => "ingress",
        })
    }
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleLine {
    /// [`RuleId`].
    pub id: Digest,
    /// Whose it is.
    pub policy: PolicyName,
    /// In which of its two lists.
    pub direction: Direction,
    /// Place in that list, from zero.
    pub index: u32,
    /// The rule in one line, without its policy and place: `from pods {app: web} in namespace shop, TCP 80, 443`.
    pub text: String,
}

impl fmt::Display for RuleLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} rule {}", self.policy, self.direction, self.index)
    }
}

/// All that the pods with the same rules are under in one direction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleSetLine {
    /// [`RuleSetId`].
    pub id: Digest,
    /// Direction.
    pub direction: Direction,
    /// Policies that it is made of, those without a rule among them: they isolate.
    pub policies: Vec<PolicyName>,
    /// [`RuleId`]s in the order in which they are asked.
    pub rules: Vec<Digest>,
}

/// Whose addresses these are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodLine {
    /// `namespace/name`.
    pub pod: String,
    /// Its node, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Its own addresses: of two pods that claim one, the running one has it.
    pub addresses: Vec<IpAddr>,
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::kernel::record::Record;

    fn names() -> PolicyNames {
        let policy = PolicyName {
            kind: PolicyKind::NetworkPolicy,
            namespace: Some("shop".into()),
            name: "web".into(),
        };
        let admin =
            PolicyName { kind: PolicyKind::ClusterNetworkPolicy, namespace: None, name: "guard".into() };
        PolicyNames {
            version: VERSION,
            at: 7,
            node: "n1".into(),
            policies: vec![
                PolicyLine {
                    policy: admin,
                    tier: Some("Admin".into()),
                    priority: Some(10),
                    refused: Some("no room".into()),
                },
                PolicyLine { policy: policy.clone(), tier: None, priority: None, refused: None },
            ],
            rules: vec![RuleLine {
                id: Digest(u64::MAX - 1),
                policy: policy.clone(),
                direction: Direction::Ingress,
                index: 2,
                text: "from all pods, TCP 80".into(),
            }],
            rule_sets: vec![RuleSetLine {
                id: Digest(0x2a),
                direction: Direction::Ingress,
                policies: vec![policy],
                rules: vec![Digest(u64::MAX - 1)],
            }],
            pods: vec![PodLine {
                pod: "shop/web-0".into(),
                node: None,
                addresses: vec!["10.244.0.2".parse().unwrap()],
            }],
            nodes: BTreeMap::from([("n1".into(), vec!["192.0.2.1".parse().unwrap()])]),
        }
    }

    #[test]
    fn the_file_is_what_it_always_was() {
        let policy = json!({"kind": "NetworkPolicy", "namespace": "shop", "name": "web"});
        let expected = json!({
            "version": 1, "at": 7, "node": "n1",
            "policies": [
                {"policy": {"kind": "ClusterNetworkPolicy", "name": "guard"}, "tier": "Admin", "priority": 10,
                 "refused": "no room"},
                {"policy": policy},
            ],
            "rules": [{"id": "fffffffffffffffe", "policy": policy, "direction": "ingress", "index": 2,
                "text": "from all pods, TCP 80"}],
            "ruleSets": [{"id": "000000000000002a", "direction": "ingress", "policies": [policy],
                "rules": ["fffffffffffffffe"]}],
            "pods": [{"pod": "shop/web-0", "addresses": ["10.244.0.2"]}],
            "nodes": {"n1": ["192.0.2.1"]},
        });
        assert_eq!(serde_json::to_value(names()).unwrap(), expected);
    }

    #[test]
    fn names_are_read_back_and_those_of_another_format_are_as_if_absent() {
        let run = tempfile::tempdir().unwrap();
        let record = Record::of(run.path(), Path::new("/sys/fs/bpf/x"));
        assert_eq!(record.policy_names(), None);
        record.write_policy_names(&names()).unwrap();
        assert_eq!(record.policy_names(), Some(names()));
        record.write_policy_names(&PolicyNames { version: VERSION + 1, ..names() }).unwrap();
        assert_eq!(record.policy_names(), None);
    }

    #[test]
    fn a_rule_is_called_by_its_policy_and_place() {
        let rule = &names().rules[0];
        assert_eq!(rule.to_string(), "NetworkPolicy shop/web ingress rule 2");
        assert_eq!(names().policies[0].policy.to_string(), "ClusterNetworkPolicy guard");
    }
}
