//! Policies, and whom they are about. Items are those of the contract of policies.

use proxy_model::fact::{
    Action, ClusterPeer, ClusterPolicy, ClusterRule, Direction, NamedPort, NetworkPeer, NetworkPolicy,
    Operator, PortMatch, Requirement, Selector, Subject, Tier, Understood,
};

use super::*;

fn network(spec: Value) -> (NetworkPolicy, Vec<String>) {
    let parsed = parse(
        json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec,
            "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "1970-01-01T00:00:07Z"}}),
        Object::NetworkPolicy,
    );
    let problems = problems(&parsed);
    let Fact::Model(Event::NetworkPolicy(Change::Put(policy))) = parsed.fact else {
        panic!("{:?}", parsed.fact)
    };
    (policy, problems)
}

fn cluster(spec: Value) -> (ClusterPolicy, Vec<String>) {
    let parsed = parse(
        json!({"apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "spec": spec,
            "metadata": {"name": "guard"}}),
        Object::ClusterNetworkPolicy,
    );
    let problems = problems(&parsed);
    let Fact::Model(Event::ClusterPolicy(Change::Put(policy))) = parsed.fact else {
        panic!("{:?}", parsed.fact)
    };
    (policy, problems)
}

fn app(value: &str) -> Selector {
    Selector { labels: [("app".into(), value.into())].into(), expressions: vec![] }
}

fn range(proto: Proto, first: u16, last: u16) -> PortMatch {
    PortMatch::Range { proto, first: Port::new(first), last: Port::new(last) }
}

fn net(text: &str) -> Prefix {
    let (addr, len) = text.split_once('/').unwrap();
    Prefix { addr: addr.parse().unwrap(), len: len.parse().unwrap() }
}

#[test]
fn a_whole_network_policy_is_reduced_to_what_it_says() {
    let (policy, problems) = network(json!({
        "podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]}, {"key": "old", "operator": "DoesNotExist"},
            {"key": "zone", "operator": "NotIn", "values": ["c"]}, {"key": "team", "operator": "Exists"}]},
        "policyTypes": ["Egress", "Ingress"],
        "ingress": [
            {"from": [{"podSelector": {}}, {"namespaceSelector": {"matchLabels": {"app": "x"}}},
                {"podSelector": {"matchLabels": {"app": "y"}}, "namespaceSelector": {}},
                {"ipBlock": {"cidr": "010.0.0.0/8", "except": ["10.1.0.0/16", "fd00::/8"]}}],
             "ports": [{"port": 80}, {"port": 30_000, "endPort": 32_000, "protocol": "UDP"}, {"protocol": "SCTP"},
                {"port": "http"}]},
            {}],
        "egress": [{"to": [{"ipBlock": {"cidr": "fd00::/8"}}]}],
    }));
    assert_eq!(problems, nothing());
    let requirement = |key: &str, operator| Requirement { key: key.into(), operator };
    let expected = Selector {
        expressions: vec![
            requirement("tier", Operator::In(["a".into(), "b".into()].into())),
            requirement("old", Operator::DoesNotExist),
            requirement("zone", Operator::NotIn(["c".into()].into())),
            requirement("team", Operator::Exists),
        ],
        ..app("web")
    };
    assert_eq!((&policy.key, policy.created, policy.pods), (&ObjectKey::new("shop", "web"), 7, expected));
    assert_eq!(policy.types, Some([Direction::Ingress, Direction::Egress].into()));
    let [first, second] = &policy.ingress[..] else { panic!("{:?}", policy.ingress) };
    assert_eq!(
        first.peers,
        [
            NetworkPeer::Pods { namespaces: None, pods: Some(Selector::default()) },
            NetworkPeer::Pods { namespaces: Some(app("x")), pods: None },
            NetworkPeer::Pods { namespaces: Some(Selector::default()), pods: Some(app("y")) },
            NetworkPeer::Block { net: net("10.0.0.0/8"), except: vec![net("10.1.0.0/16"), net("fd00::/8")] },
        ]
    );
    assert_eq!(
        first.ports,
        [
            range(Proto::TCP, 80, 80),
            range(Proto::UDP, 30_000, 32_000),
            PortMatch::Every(Proto::SCTP),
            PortMatch::Named { proto: Some(Proto::TCP), name: "http".into() },
        ]
    );
    assert_eq!((second.peers.len(), second.ports.len()), (0, 0), "everybody, every port (item 10)");
    assert_eq!(policy.egress[0].peers, [NetworkPeer::Block { net: net("fd00::/8"), except: vec![] }]);
}

#[test]
fn items_3_8_and_9_what_is_not_said_stays_open() {
    let (policy, problems) = network(json!({}));
    assert_eq!(problems, nothing());
    assert_eq!((policy.pods, policy.types), (Selector::default(), None));
    assert_eq!((policy.ingress.len(), policy.egress.len()), (0, 0));
    assert_eq!(network(json!({"policyTypes": []})).0.types, None);
}

#[test]
fn items_16_27_and_49_a_peer_or_port_that_makes_no_sense_is_nobody_and_none() {
    let peer = |value: Value| {
        let (policy, problems) = network(json!({"ingress": [{"from": [value]}]}));
        assert_eq!(policy.ingress[0].peers, [NetworkPeer::Unknown]);
        problems
    };
    let port = |value: Value| {
        let (policy, problems) = network(json!({"egress": [{"ports": [value]}]}));
        assert_eq!(policy.egress[0].ports, [PortMatch::Unknown]);
        problems
    };
    for (found, field, cause) in [
        (peer(json!({})), "spec.ingress[0].from[0]", "none of podSelector, namespaceSelector and ipBlock"),
        (
            peer(json!({"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}})),
            "spec.ingress[0].from[0]",
            "ipBlock beside a selector",
        ),
        (
            peer(json!({"ipBlock": {"cidr": "10.0.0.0"}})),
            "spec.ingress[0].from[0].ipBlock.cidr",
            "\"10.0.0.0\" is not an address range",
        ),
        (
            peer(json!({"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16", "here"]}})),
            "spec.ingress[0].from[0].ipBlock.except[1]",
            "\"here\" is not an address range",
        ),
        (
            peer(json!({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Like"}]}})),
            "spec.ingress[0].from[0].podSelector.matchExpressions[0].operator",
            "\"Like\" is not In, NotIn, Exists or DoesNotExist",
        ),
        (
            peer(json!({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}})),
            "spec.ingress[0].from[0].namespaceSelector.matchExpressions[0].operator",
            "In without values",
        ),
    ] {
        assert_eq!(found, [format!("NetworkPolicy shop/web {field}: {cause}; the peer matches nobody")]);
    }
    for (found, field, cause) in [
        (port(json!({"protocol": "ICMP"})), "protocol", "\"ICMP\" is not TCP, UDP or SCTP"),
        (port(json!({"port": 0})), "port", "0 is not a port number"),
        (port(json!({"port": 80, "endPort": 70_000})), "endPort", "70000 is not a port number"),
        (port(json!({"port": 80, "endPort": 79})), "endPort", "79 is below 80"),
        (port(json!({"endPort": 80})), "endPort", "without a port number to begin at"),
        (port(json!({"port": "http", "endPort": 80})), "endPort", "without a port number to begin at"),
        (port(json!({"port": ""})), "port", "empty"),
    ] {
        let field = format!("spec.egress[0].ports[0].{field}");
        assert_eq!(found, [format!("NetworkPolicy shop/web {field}: {cause}; it matches no port")]);
    }
}

#[test]
fn a_policy_whose_pods_or_directions_are_not_understood_isolates_more_and_allows_nothing() {
    let (policy, problems) = network(json!({
        "podSelector": {"matchLabels": {"app": "web"}, "matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]},
        "ingress": [{}], "egress": [{}],
    }));
    let field = "NetworkPolicy shop/web spec.podSelector.matchExpressions[0].operator: Exists with values";
    assert_eq!(
        problems,
        [format!("{field}; the policy isolates every pod of its namespace and allows nothing")]
    );
    assert_eq!((policy.pods, policy.ingress.len(), policy.egress.len()), (Selector::default(), 0, 0));
    assert_eq!(
        policy.types,
        Some([Direction::Ingress, Direction::Egress].into()),
        "as if nothing were wrong"
    );
    let (policy, problems) = network(json!({"policyTypes": ["ingress"]}));
    assert_eq!(policy.types, Some([Direction::Ingress, Direction::Egress].into()));
    let field = "NetworkPolicy shop/web spec.policyTypes[0]: \"ingress\" is not Ingress or Egress";
    assert_eq!(problems, [format!("{field}; the policy isolates in both directions")]);
}

#[test]
fn a_whole_cluster_policy_is_reduced_to_what_it_says() {
    let all = json!({"namespaces": {}});
    let (policy, problems) = cluster(json!({
        "tier": "Baseline", "priority": 7,
        "subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}},
        "ingress": [{"name": "first", "action": "Pass", "from": [all], "protocols": [
            {"tcp": {"destinationPort": {"number": 80}}},
            {"udp": {"destinationPort": {"range": {"start": 1_000, "end": 2_000}}}},
            {"sctp": {"destinationPort": {"number": 9_003}}}, {"destinationNamedPort": "web"}]}],
        "egress": [{"action": "Deny", "to": [
            {"nodes": {"matchLabels": {"app": "x"}}}, {"networks": ["10.0.0.0/8", "fd00::/8"]},
            {"pods": {"namespaceSelector": {"matchLabels": {"app": "n"}}, "podSelector": {}}}]}],
    }));
    assert_eq!(problems, nothing());
    let expected = ClusterPolicy {
        name: "guard".into(),
        created: 0,
        tier: Tier::Baseline,
        priority: 7,
        subject: Subject::Pods { namespaces: Selector::default(), pods: app("web") },
        ingress: vec![ClusterRule {
            name: "first".into(),
            action: Action::Pass,
            peers: vec![ClusterPeer::Namespaces(Selector::default())],
            protocols: vec![
                range(Proto::TCP, 80, 80),
                range(Proto::UDP, 1_000, 2_000),
                range(Proto::SCTP, 9_003, 9_003),
                PortMatch::Named { proto: None, name: "web".into() },
            ],
            rest: Understood::Fully,
        }],
        egress: vec![ClusterRule {
            name: "".into(),
            action: Action::Deny,
            peers: vec![
                ClusterPeer::Nodes(app("x")),
                ClusterPeer::Networks(vec![net("10.0.0.0/8"), net("fd00::/8")]),
                ClusterPeer::Pods { namespaces: app("n"), pods: Selector::default() },
            ],
            protocols: vec![],
            rest: Understood::Fully,
        }],
    };
    assert_eq!(policy, expected);
}

/// A policy with one rule, after `change`.
fn changed(change: impl FnOnce(&mut Value)) -> (ClusterPolicy, Vec<String>) {
    let mut spec = json!({"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "egress": [
        {"action": "Accept", "to": [{"namespaces": {}}], "protocols": [{"tcp": {"destinationPort": {"number": 80}}}]}]});
    change(&mut spec);
    cluster(spec)
}

#[test]
fn item_58_a_peer_or_protocol_that_is_not_understood_is_unknown_and_said() {
    for (value, field, cause) in [
        (json!({"domainNames": ["example.com"]}), ".domainNames", "not known"),
        (json!({"namespaces": {}, "later": 1}), ".later", "not known"),
        (
            json!({"namespaces": {"matchLabels": {}, "sameLabels": ["a"]}}),
            ".namespaces.sameLabels",
            "not known",
        ),
        (json!({}), "", "not exactly one of namespaces, pods, nodes, networks"),
        (json!({"networks": ["10.0.0.0/8", "x"]}), ".networks[1]", "\"x\" is not an address range"),
        (json!({"networks": "10.0.0.0/8"}), ".networks", "not a list"),
        (json!({"pods": {"podSelector": {}, "extra": {}}}), ".pods.extra", "not known"),
        (json!("everybody"), "", "not an object"),
    ] {
        let (policy, problems) = changed(|spec| spec["egress"][0]["to"][0] = value.clone());
        assert_eq!(policy.egress[0].peers, [ClusterPeer::Unknown], "{value}");
        let consequence = "the rule accepts nothing, or, if it does not accept, denies everything";
        let expected =
            format!("ClusterNetworkPolicy guard spec.egress[0].to[0]{field}: {cause}; {consequence}");
        assert!(problems.contains(&expected), "{value}: {problems:?}");
    }
    for value in [
        json!({"tcp": {}}),
        json!({"tcp": {"destinationPort": {"number": 0}}}),
        json!({"tcp": {"destinationPort": {"number": 80, "range": {"start": 1, "end": 2}}}}),
        json!({"tcp": {"destinationPort": {"range": {"start": 2, "end": 1}}}}),
        json!({"tcp": {"destinationPort": {"number": 80}, "sourcePort": {"number": 80}}}),
        json!({"icmp": {}}),
        json!({"destinationNamedPort": 80}),
    ] {
        let (policy, problems) = changed(|spec| spec["egress"][0]["protocols"][0] = value.clone());
        assert_eq!(
            (&policy.egress[0].protocols[..], problems.len()),
            (&[PortMatch::Unknown][..], 1),
            "{value}"
        );
    }
}

#[test]
fn item_58_what_else_is_not_understood_closes_the_rule_or_the_policy() {
    let (policy, problems) = changed(|spec| spec["egress"][0]["log"] = json!(true));
    assert_eq!((policy.egress[0].rest, problems.len()), (Understood::InPart, 1));
    let (policy, problems) = changed(|spec| spec["egress"][0]["action"] = json!("Allow"));
    assert_eq!((policy.egress[0].action, problems.len()), (Action::Unknown, 1));
    let (policy, problems) = changed(|spec| spec["egress"][0]["to"] = json!([]));
    assert_eq!((&policy.egress[0].peers[..], problems.len()), (&[ClusterPeer::Unknown][..], 1));
    let (policy, problems) = changed(|spec| spec["subject"] = json!({"namespaces": {}, "pods": {}}));
    assert_eq!((policy.subject, problems.len()), (Subject::Unknown, 1));
    let (policy, problems) = changed(|spec| spec["schedule"] = json!("nights"));
    assert_eq!((policy.subject, problems.len()), (Subject::Unknown, 1));
    let (policy, problems) = changed(|spec| spec["tier"] = json!("Later"));
    assert_eq!((policy.tier, problems.len()), (Tier::Admin, 1));
    let (policy, problems) = changed(|spec| spec["priority"] = json!(1_001));
    assert_eq!((policy.priority, problems.len()), (0, 1));
    let (policy, problems) = changed(|spec| spec["egress"] = json!({"action": "Deny"}));
    assert_eq!((policy.egress.len(), problems.is_empty()), (1, false));
    assert_eq!(policy.egress[0].peers, [ClusterPeer::Unknown]);
}

#[test]
fn items_26_and_30_named_ports_are_those_of_containers_that_run_beside_each_other() {
    let parsed = parse(
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "web-0", "namespace": "shop", "deletionTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"nodeName": "n1", "containers": [
                {"name": "a", "ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81},
                    {"name": "dns", "containerPort": 53, "protocol": "UDP"}]},
                {"name": "b", "ports": [{"name": "http", "containerPort": 8_080},
                    {"name": "bad", "containerPort": 0}]}],
              "initContainers": [
                {"name": "c", "ports": [{"name": "once", "containerPort": 1}]},
                {"name": "d", "restartPolicy": "Always", "ports": [{"name": "proxy", "containerPort": 15_001}]}]},
            "status": {"phase": "Running", "podIPs": [{"ip": "10.244.1.5"}]}}),
        Object::Pod,
    );
    let bad = "Pod shop/web-0 spec.containers[1].ports[1]: 0 is not a port number; the port is left out";
    assert_eq!(problems(&parsed), [bad]);
    let Fact::Model(Event::Pod(Change::Put(pod))) = parsed.fact else { panic!("{:?}", parsed.fact) };
    let named = |name: &str, proto, port| NamedPort { name: name.into(), proto, port: Port::new(port) };
    assert_eq!(
        pod.ports,
        [named("http", Proto::TCP, 80), named("dns", Proto::UDP, 53), named("proxy", Proto::TCP, 15_001)]
    );
    assert_eq!((pod.phase, pod.ips), (fact::PodPhase::Running, ips(&["10.244.1.5"])), "item 43");
}
