//! What the contract demands, packet by packet, straight from the facts. Shares no code with the compiler: it has selectors,
//! prefixes and tiers of its own, and knows neither classes nor rule sets.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proxy_common::{Port, Proto};
use proxy_model::Name;
use proxy_model::fact::{
    Action, ClusterPeer, ClusterPolicy, ClusterRule, Direction, NamedPort, Namespace, NetworkPeer,
    NetworkPolicy, NetworkRule, Node, Operator, Pod, PodPhase, PortMatch, Prefix, Selector, Subject, Tier,
    Understood,
};
use proxy_model::policy::PolicyName;

/// Everything that is known.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Facts {
    pub namespaces: Vec<Namespace>,
    pub pods: Vec<Pod>,
    pub nodes: Vec<Node>,
    pub network: Vec<NetworkPolicy>,
    pub cluster: Vec<ClusterPolicy>,
    pub devices: BTreeMap<IpAddr, u32>,
}

/// The first packet of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Packet {
    pub src: IpAddr,
    pub dst: IpAddr,
    pub proto: Proto,
    /// Zero for protocols without ports.
    pub port: Port,
}

/// Whose rule it is, in which list, at which place.
pub type ByRule = (PolicyName, Direction, usize);

/// What one end says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    pub passes: bool,
    /// None: isolation, or that nothing is forbidden.
    pub by: Option<ByRule>,
}

impl Said {
    const FREE: Self = Self { passes: true, by: None };
    const ISOLATED: Self = Self { passes: false, by: None };
}

fn matches(selector: &Selector, labels: &BTreeMap<Name, Name>) -> bool {
    for (key, value) in &selector.labels {
        if labels.get(key) != Some(value) {
            return false;
        }
    }
    for expression in &selector.expressions {
        let holds = match (&expression.operator, labels.get(&expression.key)) {
            (Operator::In(values), Some(value)) => values.contains(value),
            (Operator::NotIn(values), Some(value)) => !values.contains(value),
            (Operator::Exists, Some(_)) | (Operator::NotIn(_) | Operator::DoesNotExist, None) => true,
            (Operator::In(_) | Operator::Exists, None) | (Operator::DoesNotExist, Some(_)) => false,
        };
        if !holds {
            return false;
        }
    }
    true
}

fn bits(addr: IpAddr) -> (u32, u128) {
    match addr {
        IpAddr::V4(v4) => (32, u128::from(v4.to_bits())),
        IpAddr::V6(v6) => (128, v6.to_bits()),
    }
}

fn inside(prefix: Prefix, addr: IpAddr) -> bool {
    let ((width, net), (other, addr)) = (bits(prefix.addr), bits(addr));
    let rest = width.saturating_sub(u32::from(prefix.len));
    width == other && (rest >= 128 || net >> rest == addr >> rest)
}

fn is_up(pod: &Pod) -> bool {
    !pod.host_network && pod.phase != PodPhase::Succeeded && pod.phase != PodPhase::Failed
}

/// Both tiers' outcome of one ClusterNetworkPolicy rule list.
enum Decision {
    Final(Said),
    Undecided,
}

impl Facts {
    /// Items 44 and 45: who has the address.
    pub fn pod_at(&self, addr: IpAddr) -> Option<&Pod> {
        let mut claims: Vec<_> =
            self.pods.iter().filter(|pod| is_up(pod) && pod.ips.contains(&addr)).collect();
        claims.sort_by(|a, b| a.key.cmp(&b.key));
        let runs = claims.iter().find(|pod| pod.phase == PodPhase::Running);
        runs.or(claims.first()).copied()
    }

    fn namespace_matches(&self, selector: &Selector, name: &Name) -> bool {
        let known = self.namespaces.iter().find(|namespace| namespace.name == *name);
        let mut labels = known.map(|namespace| namespace.labels.clone()).unwrap_or_default();
        labels.entry("kubernetes.io/metadata.name".into()).or_insert_with(|| name.clone());
        matches(selector, &labels)
    }

    /// Item 6: what both ends say; a side that is not a pod of this node says nothing.
    pub fn verdict(&self, packet: &Packet, here: &str) -> [Said; 2] {
        self.verdict_of(packet, &|pod| pod.node.as_deref() == Some(here))
    }

    /// The same, and these pods are asked.
    pub fn verdict_of(&self, packet: &Packet, is_asked: &dyn Fn(&Pod) -> bool) -> [Said; 2] {
        [Direction::Egress, Direction::Ingress].map(|direction| {
            let (own, _) = ends(packet, direction);
            match self.pod_at(own) {
                Some(pod) if is_asked(pod) => self.side(pod, direction, packet),
                Some(_) | None => Said::FREE,
            }
        })
    }

    fn side(&self, pod: &Pod, direction: Direction, packet: &Packet) -> Said {
        if let Decision::Final(said) = self.tier(Tier::Admin, pod, direction, packet) {
            return said;
        }
        let mut selecting: Vec<_> = self
            .network
            .iter()
            .filter(|policy| policy.key.namespace == pod.key.namespace && matches(&policy.pods, &pod.labels))
            .filter(|policy| match (&policy.types, direction) {
                (Some(types), direction) => types.contains(&direction),
                (None, Direction::Ingress) => true,
                (None, Direction::Egress) => !policy.egress.is_empty(),
            })
            .collect();
        selecting.sort_by(|a, b| a.key.cmp(&b.key));
        if !selecting.is_empty() {
            return self.union(&selecting, pod, direction, packet);
        }
        match self.tier(Tier::Baseline, pod, direction, packet) {
            Decision::Final(said) => said,
            Decision::Undecided => Said::FREE,
        }
    }

    /// Item 5: any rule of any policy.
    fn union(&self, selecting: &[&NetworkPolicy], pod: &Pod, direction: Direction, packet: &Packet) -> Said {
        for policy in selecting {
            let rules = if direction == Direction::Ingress { &policy.ingress } else { &policy.egress };
            for (index, rule) in rules.iter().enumerate() {
                if self.network_rule_is_about(rule, policy, pod, direction, packet) {
                    let by = Some((PolicyName::Network(policy.key.clone()), direction, index));
                    return Said { passes: true, by };
                }
            }
        }
        Said::ISOLATED
    }

    fn network_rule_is_about(
        &self,
        rule: &NetworkRule,
        policy: &NetworkPolicy,
        pod: &Pod,
        direction: Direction,
        packet: &Packet,
    ) -> bool {
        let (_, other) = ends(packet, direction);
        let peer = rule.peers.is_empty()
            || rule.peers.iter().any(|peer| match peer {
                NetworkPeer::Pods { namespaces: None, pods: None } | NetworkPeer::Unknown => false,
                NetworkPeer::Pods { namespaces, pods } => self.pod_at(other).is_some_and(|remote| {
                    let namespace = match namespaces {
                        Some(selector) => self.namespace_matches(selector, &remote.key.namespace),
                        None => remote.key.namespace == policy.key.namespace,
                    };
                    namespace && pods.as_ref().is_none_or(|pods| matches(pods, &remote.labels))
                }),
                NetworkPeer::Block { net, except } => {
                    inside(*net, other) && !except.iter().any(|except| inside(*except, other))
                }
            });
        peer && self.ports_are_about(&rule.ports, pod, direction, packet)
    }

    fn ports_are_about(&self, ports: &[PortMatch], pod: &Pod, direction: Direction, packet: &Packet) -> bool {
        // Item 26: named by the pod that the connection goes to.
        let names: &[NamedPort] = match direction {
            Direction::Ingress => &pod.ports,
            Direction::Egress => self.pod_at(packet.dst).map_or(&[], |pod| &pod.ports),
        };
        ports.is_empty()
            || ports.iter().any(|port| match port {
                PortMatch::Every(proto) => *proto == packet.proto,
                PortMatch::Range { proto, first, last } => {
                    *proto == packet.proto && (*first..=*last).contains(&packet.port)
                }
                PortMatch::Named { proto, name } => {
                    let same = |port: &&NamedPort| port.name == *name && port.proto == packet.proto;
                    proto.is_none_or(|proto| proto == packet.proto)
                        && names.iter().find(same).is_some_and(|port| port.port == packet.port)
                }
                PortMatch::Unknown => false,
            })
    }

    /// Items 51–55: the first rule of the first policy that is about the packet.
    fn tier(&self, tier: Tier, pod: &Pod, direction: Direction, packet: &Packet) -> Decision {
        let mut policies: Vec<_> = self.cluster.iter().filter(|policy| policy.tier == tier).collect();
        policies.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
        for policy in policies {
            let about_pod = match &policy.subject {
                Subject::Namespaces(namespaces) => self.namespace_matches(namespaces, &pod.key.namespace),
                Subject::Pods { namespaces, pods } => {
                    self.namespace_matches(namespaces, &pod.key.namespace) && matches(pods, &pod.labels)
                }
                Subject::Unknown => true,
            };
            if !about_pod {
                continue;
            }
            let rules = if direction == Direction::Ingress { &policy.ingress } else { &policy.egress };
            for (index, rule) in rules.iter().enumerate() {
                let Some(action) = self.cluster_rule(rule, policy, pod, direction, packet) else { continue };
                let by = Some((PolicyName::Cluster(policy.name.clone()), direction, index));
                return match action {
                    Action::Accept => Decision::Final(Said { passes: true, by }),
                    Action::Deny | Action::Unknown => Decision::Final(Said { passes: false, by }),
                    Action::Pass => Decision::Undecided,
                };
            }
        }
        Decision::Undecided
    }

    /// What a rule does with a packet, if anything (item 58).
    fn cluster_rule(
        &self,
        rule: &ClusterRule,
        policy: &ClusterPolicy,
        pod: &Pod,
        direction: Direction,
        packet: &Packet,
    ) -> Option<Action> {
        if policy.subject == Subject::Unknown && matches!(rule.action, Action::Accept | Action::Pass) {
            return None;
        }
        let is_strange = rule.rest == Understood::InPart
            || rule.action == Action::Unknown
            || rule.peers.contains(&ClusterPeer::Unknown)
            || rule.protocols.contains(&PortMatch::Unknown);
        if is_strange {
            return (rule.action != Action::Accept).then_some(Action::Deny);
        }
        let (_, other) = ends(packet, direction);
        let remote = self.pod_at(other);
        let is_peer = |peer: &ClusterPeer| match peer {
            ClusterPeer::Namespaces(namespaces) => {
                remote.is_some_and(|pod| self.namespace_matches(namespaces, &pod.key.namespace))
            }
            ClusterPeer::Pods { namespaces, pods } => remote.is_some_and(|pod| {
                self.namespace_matches(namespaces, &pod.key.namespace) && matches(pods, &pod.labels)
            }),
            ClusterPeer::Nodes(selector) => {
                remote.is_none()
                    && self
                        .nodes
                        .iter()
                        .any(|node| node.addresses.contains(&other) && matches(selector, &node.labels))
            }
            ClusterPeer::Networks(nets) => nets.iter().any(|net| inside(*net, other)),
            ClusterPeer::Unknown => unreachable!("such a rule is strange"),
        };
        let about = (rule.peers.is_empty() || rule.peers.iter().any(is_peer))
            && self.ports_are_about(&rule.protocols, pod, direction, packet);
        about.then_some(rule.action)
    }

    /// Every address that somebody has.
    pub fn addresses(&self) -> BTreeSet<IpAddr> {
        let pods = self.pods.iter().flat_map(|pod| &pod.ips);
        pods.chain(self.nodes.iter().flat_map(|node| &node.addresses)).copied().collect()
    }
}

/// The end that is judged, and the other one.
fn ends(packet: &Packet, direction: Direction) -> (IpAddr, IpAddr) {
    match direction {
        Direction::Ingress => (packet.dst, packet.src),
        Direction::Egress => (packet.src, packet.dst),
    }
}
