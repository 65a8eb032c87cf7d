//! NetworkPolicies of which a part cannot be decoded or is not known: the object and the field are named, and what cannot be
//! understood allows nothing (policy item 58).

use std::collections::BTreeSet;

use proxy_model::fact::{Direction, NetworkPeer, NetworkPolicy, PortMatch, Selector};
use proxy_model::{Change, Event, ObjectKey};

use super::*;
use crate::parse::Fact;
use crate::source::{Key, Kind};

fn policy(spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "spec": spec,
        "metadata": {"name": "guard", "namespace": "shop", "resourceVersion": "5"}})
}

/// A policy that lets everybody in to some pods, on one port.
fn open() -> Value {
    policy(&json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": 80}]}]}))
}

/// What an update tells of policies: as it was learnt, and what is wrong with it; and the kind that is known in full now.
async fn told_once(
    updates: &mut mpsc::Receiver<Update>,
) -> (Option<NetworkPolicy>, Vec<String>, Option<Kind>) {
    let update = tokio::time::timeout(Duration::from_secs(20), updates.recv()).await;
    match update.expect("an update in time").expect("the source runs") {
        Update::Put(Key { kind: Kind::NetworkPolicy, .. }, parsed) => {
            let Fact::Model(Event::NetworkPolicy(Change::Put(fact))) = parsed.fact else {
                panic!("{:?}", parsed.fact)
            };
            (Some(fact), parsed.problems.iter().map(ToString::to_string).collect(), None)
        }
        Update::Misshapen(problem) => (None, vec![problem.to_string()], None),
        Update::Synced(kind) => (None, Vec::new(), Some(kind)),
        Update::Put(..)
        | Update::Delete(_)
        | Update::Contact(_)
        | Update::Extent(_)
        | Update::UnreadableFiles(_) => (None, Vec::new(), None),
    }
}

/// What is told of policies until these kinds are known in full.
async fn told(updates: &mut mpsc::Receiver<Update>, kinds: &[Kind]) -> (Vec<NetworkPolicy>, Vec<String>) {
    let (mut facts, mut problems, mut synced) = (Vec::new(), Vec::new(), BTreeSet::new());
    while !kinds.iter().all(|kind| synced.contains(kind)) {
        let (fact, wrong, kind) = told_once(updates).await;
        facts.extend(fact);
        problems.extend(wrong);
        synced.extend(kind);
    }
    (facts, problems)
}

fn app(value: &str) -> Selector {
    Selector { labels: [("app".into(), value.into())].into(), expressions: vec![] }
}

/// Isolates its whole namespace in both directions and allows nothing.
fn closed() -> NetworkPolicy {
    NetworkPolicy {
        key: ObjectKey::new("shop", "guard"),
        created: 0,
        pods: Selector::default(),
        types: Some([Direction::Ingress, Direction::Egress].into()),
        ingress: vec![],
        egress: vec![],
    }
}

/// The kinds without which no policy can be enforced: they are asked for once there is one.
const NEEDED: [Kind; 3] = [Kind::NetworkPolicy, Kind::Pod, Kind::Namespace];

#[tokio::test]
async fn a_policy_without_the_shape_of_one_isolates_its_namespace_though_it_is_the_only_one() {
    for (spec, field) in [
        (json!({"policyTypes": "Ingress", "ingress": [{}]}), "spec.policyTypes"),
        (json!({"policyTypes": [7], "ingress": [{}]}), "spec.policyTypes[0]"),
        (json!({"podSelector": ["web"], "ingress": [{}]}), "spec.podSelector"),
        (
            json!({"podSelector": {"matchLabels": {"app": 7}}, "ingress": [{}]}),
            "spec.podSelector.matchLabels.app",
        ),
        (
            json!({"podSelector": {"matchExpressions": {"key": "app"}}, "egress": [{}]}),
            "spec.podSelector.matchExpressions",
        ),
        (json!({"ingress": "everybody"}), "spec.ingress"),
        (json!({"ingress": [{"from": {"podSelector": {}}}]}), "spec.ingress[0].from"),
        (json!({"ingress": [{"ports": [{"port": true}]}]}), "spec.ingress[0].ports[0].port"),
        (json!({"egress": [{"ports": [{"port": 1, "endPort": "2"}]}]}), "spec.egress[0].ports[0].endPort"),
        (json!({"egress": [{"to": [{"ipBlock": "10.0.0.0/8"}]}]}), "spec.egress[0].to[0].ipBlock"),
    ] {
        for streaming in [Streaming::Offered, Streaming::Unknown] {
            let script = Script { policies: vec![policy(&spec)], streaming, ..Script::default() };
            let (_server, mut updates) = start(script).await;
            let (facts, problems) = told(&mut updates, &NEEDED).await;
            assert_eq!(facts, [closed()], "{field}");
            let [problem] = &problems[..] else { panic!("{problems:?}") };
            assert!(
                problem.starts_with(&format!("NetworkPolicy shop/guard {field}: invalid type: ")),
                "{problem}"
            );
        }
    }
}

#[tokio::test]
async fn a_pod_that_cannot_be_decoded_says_nothing_about_frontends() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "spec": {"hostNetwork": "yes"},
        "metadata": {"name": "p", "namespace": "shop", "resourceVersion": "5"}});
    let script = Script { policies: vec![open()], pods: vec![pod], ..Script::default() };
    let (_server, mut updates) = start(script).await;
    let (mut problems, mut extents, mut is_listed) = (0, Vec::new(), false);
    while !is_listed {
        let update = tokio::time::timeout(Duration::from_secs(20), updates.recv()).await;
        match update.expect("an update in time").expect("the source runs") {
            Update::Misshapen(_) => problems += 1,
            Update::Extent(extent) => extents.push(extent),
            Update::Synced(kind) => is_listed = kind == Kind::Pod,
            Update::Put(..) | Update::Delete(_) | Update::Contact(_) | Update::UnreadableFiles(_) => {}
        }
    }
    assert_eq!((problems, extents), (1, vec![]));
}

#[tokio::test]
async fn values_that_are_not_known_close_what_they_stand_in_and_are_named() {
    let all = Selector::default();
    let both: BTreeSet<_> = [Direction::Ingress, Direction::Egress].into();
    for (spec, field, wanted) in [
        (
            json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress", "Forward"]}),
            "spec.policyTypes[1]: \"Forward\" is not Ingress or Egress",
            NetworkPolicy { pods: app("web"), types: Some(both.clone()), ..closed() },
        ),
        (
            json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "Like", "values": ["w*"]}]},
                "policyTypes": ["Ingress", "Egress"], "ingress": [{}], "egress": [{}]}),
            "spec.podSelector.matchExpressions[0].operator: \"Like\" is not In, NotIn, Exists or DoesNotExist",
            closed(),
        ),
        (
            json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{"from": [{"serviceAccounts": {"a": "b"}}]}]}),
            "spec.ingress[0].from[0]: none of podSelector, namespaceSelector and ipBlock",
            NetworkPolicy { pods: all, ingress: vec![rule(vec![NetworkPeer::Unknown], vec![])], ..closed() },
        ),
        (
            json!({"policyTypes": ["Ingress", "Egress"], "ingress": [{"ports": [{"protocol": "QUIC"}]}]}),
            "spec.ingress[0].ports[0].protocol: \"QUIC\" is not TCP, UDP or SCTP",
            NetworkPolicy { ingress: vec![rule(vec![], vec![PortMatch::Unknown])], ..closed() },
        ),
    ] {
        let script = Script { policies: vec![policy(&spec)], ..Script::default() };
        let (_server, mut updates) = start(script).await;
        let (facts, problems) = told(&mut updates, &NEEDED).await;
        assert_eq!(facts, [wanted], "{field}");
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert!(problem.starts_with(&format!("NetworkPolicy shop/guard {field}; ")), "{problem}");
    }
}

fn rule(peers: Vec<NetworkPeer>, ports: Vec<PortMatch>) -> proxy_model::fact::NetworkRule {
    proxy_model::fact::NetworkRule { peers, ports }
}

#[tokio::test]
async fn a_policy_that_comes_without_its_shape_closes_and_one_that_was_known_stays_as_it_was() {
    let broken = policy(&json!({"policyTypes": "Ingress", "ingress": [{}]}));
    // What the first of these events brings has objects decoded one by one; the second is decoded so.
    let comes = |kind| {
        let event = json!([{"type": kind, "object": broken}]);
        VecDeque::from([event.clone(), event])
    };
    let script = Script { policy_watches: comes("ADDED"), ..Script::default() };
    let (_server, mut updates) = start(script).await;
    let (facts, problems) = told(&mut updates, &NEEDED).await;
    assert_eq!((facts, problems.len()), (vec![closed()], 1));
    let script = Script { policies: vec![open()], policy_watches: comes("MODIFIED"), ..Script::default() };
    let (_server, mut updates) = start(script).await;
    let (mut facts, mut problems) = (Vec::new(), Vec::new());
    while problems.is_empty() {
        let news = told_once(&mut updates).await;
        facts.extend(news.0);
        problems.extend(news.1);
    }
    let pods = |fact: &NetworkPolicy| fact.pods == app("web") && fact.ingress.len() == 1;
    assert!(!facts.is_empty() && facts.iter().all(pods), "{facts:?}");
    assert_eq!(problems.len(), 1, "{problems:?}");
}
