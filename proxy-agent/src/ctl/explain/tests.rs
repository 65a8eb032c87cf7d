//! What is answered, from maps in memory.

use std::collections::BTreeMap;

use proxy_common::policy::{Effect, PolicyFlags};
use proxy_common::{RuleId, RuleSetId, ServiceId};
use proxy_model::ObjectKey;

use super::*;
use crate::ctl::output::Page as _;
use crate::ctl::policy::fake::{Fake, allow};
use crate::observe::policy_names::{
    Digest, Direction, PodLine, PolicyKind, PolicyName, PolicyNames, RuleLine, RuleSetLine, VERSION,
};

const EGRESS: RuleSetId = RuleSetId(20);
const INGRESS: RuleSetId = RuleSetId(21);

/// One Service, `shop/web`.
struct Services;

impl Directory for Services {
    fn frontends(&self, service: &ObjectKey, port: Option<&str>, _: Proto) -> anyhow::Result<Vec<Place>> {
        let is_it = *service == ObjectKey::new("shop", "front") && port.is_none_or(|port| port == "80");
        let place = Place { address: "10.96.0.1".parse()?, port: Port::new(80) };
        Ok(if is_it { vec![place] } else { vec![] })
    }
}

fn names() -> PolicyNames {
    let policy = |name: &str| PolicyName {
        kind: PolicyKind::NetworkPolicy,
        namespace: Some("shop".into()),
        name: name.into(),
    };
    let rule = |id, name, direction, index, text: &str| RuleLine {
        id: Digest(id),
        policy: policy(name),
        direction,
        index,
        text: text.into(),
    };
    let pod = |name: &str, node: &str, addresses: &[&str]| PodLine {
        pod: format!("shop/{name}"),
        node: Some(node.into()),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
    };
    PolicyNames {
        version: VERSION,
        at: 7,
        node: "n1".into(),
        policies: vec![],
        rules: vec![
            rule(1, "client", Direction::Egress, 0, "to pods of shop, TCP 8080"),
            rule(2, "web", Direction::Ingress, 0, "from pods {app: client}, TCP 8080-8090"),
            rule(3, "web", Direction::Ingress, 1, "from 203.0.113.0/24, any port"),
        ],
        rule_sets: vec![
            RuleSetLine {
                id: Digest(20),
                direction: Direction::Egress,
                policies: vec![policy("client")],
                rules: vec![Digest(1)],
            },
            RuleSetLine {
                id: Digest(21),
                direction: Direction::Ingress,
                policies: vec![policy("web"), policy("quiet")],
                rules: vec![Digest(2), Digest(3)],
            },
        ],
        pods: vec![
            pod("client", "n1", &["10.244.0.5", "fd00::5"]),
            pod("web", "n1", &["10.244.0.6"]),
            pod("early", "n1", &["10.244.0.7"]),
            pod("free", "n1", &["10.244.0.8"]),
            pod("far", "n2", &["10.244.1.9"]),
        ],
        nodes: BTreeMap::from([("n2".into(), vec!["192.0.2.2".parse().unwrap()])]),
    }
}

/// `client` may send to class 1 on 8080; `web` takes class 2 on 8080-8090 and class 3 on all ports.
fn tables() -> Fake {
    let mut fake = Fake::default()
        .pod("10.244.0.5", EGRESS, RuleSetId::OPEN)
        .pod("fd00::5", EGRESS, RuleSetId::OPEN)
        .pod("10.244.0.6", RuleSetId::OPEN, INGRESS)
        .pod("10.244.0.7", RuleSetId::CLOSED, RuleSetId::CLOSED)
        .peer("10.244.0.5", 2)
        .peer("10.244.0.6", 1)
        .peer("10.244.0.8", 1)
        .peer("10.244.1.9", 1)
        .block("203.0.113.0/24", 3)
        .says(EGRESS, 1, &[allow(1, Proto::TCP, 8080, 8080)])
        .says(INGRESS, 2, &[allow(2, Proto::TCP, 8080, 8090)])
        .says_all(INGRESS, 3, &[], (RuleId(3), Effect::ALLOW));
    fake.own = vec!["192.0.2.1".parse().unwrap()];
    let frontend =
        Frontend { flags: FrontendFlags::CLUSTER_IP, service: ServiceId(1), ..Frontend::default() };
    let wildcard = Frontend { flags: FrontendFlags::WILDCARD, ..Frontend::default() };
    let vip = "10.96.0.1".parse().unwrap();
    fake.frontends.insert((vip, Port::new(80), Proto::TCP), frontend);
    fake.frontends.insert((vip, Port::NONE, Proto::ANY), wildcard);
    let backend = |ip: &str| (ip.parse().unwrap(), Port::new(8080));
    fake.cluster = vec![backend("10.244.0.6"), backend("10.244.1.9")];
    fake
}

fn ask(tables: &Fake, names: &Names, words: &str) -> anyhow::Result<Explanation> {
    let [from, to, port, proto] = words.split(' ').collect::<Vec<_>>()[..] else { panic!("four words") };
    let question = Question {
        from: from.into(),
        to: to.into(),
        port: port.parse().ok(),
        proto: ProtoArg::from_str(proto, true).unwrap(),
    };
    explain(&Sources { tables, names, directory: &Services }, &question)
}

/// The text, without the line that repeats the question.
fn text(words: &str) -> String {
    let text = ask(&tables(), &Names::of(Some(names())), words).unwrap().text();
    text.split_once("\n\n").unwrap().1.into()
}

/// Questions, and what is answered.
const SIDES: &[(&str, &str)] = &[
        (
            "shop/client shop/web 8080 tcp",
            "10.244.0.5 -> 10.244.0.6:8080 TCP: allowed
  egress  shop/client: allowed by NetworkPolicy shop/client egress rule 0: to pods of shop, TCP 8080
  ingress shop/web: allowed by NetworkPolicy shop/web ingress rule 0: from pods {app: client}, TCP 8080-8090\n",
        ),
        (
            "shop/client shop/web 8081 tcp",
            "10.244.0.5 -> 10.244.0.6:8081 TCP: denied
  egress  shop/client: denied: no rule of NetworkPolicy shop/client allows it; nearest: NetworkPolicy shop/client egress rule 0 (to pods of shop, TCP 8080) allows this peer TCP 8080
  ingress shop/web: allowed by NetworkPolicy shop/web ingress rule 0: from pods {app: client}, TCP 8080-8090\n",
        ),
        (
            "shop/free shop/web 8085 tcp",
            "10.244.0.8 -> 10.244.0.6:8085 TCP: denied
  egress  shop/free: under no policy
  ingress shop/web: denied: no rule of NetworkPolicy shop/web, NetworkPolicy shop/quiet allows it; nearest: NetworkPolicy shop/web ingress rule 0 (from pods {app: client}, TCP 8080-8090) allows the port, for other peers\n",
        ),
        (
            "203.0.113.9 shop/web - icmp",
            "203.0.113.9 -> 10.244.0.6 ICMP: allowed
  egress  203.0.113.9: not a pod of this node
  ingress shop/web: allowed by NetworkPolicy shop/web ingress rule 1: from 203.0.113.0/24, any port\n",
        ),
        (
            "node shop/web 22 tcp",
            "192.0.2.1 -> 10.244.0.6:22 TCP: allowed
  egress  192.0.2.1: not a pod of this node
  ingress shop/web: what the node itself sends to its pods always passes\n",
        ),
        (
            "shop/client shop/far 8080 tcp",
            "10.244.0.5 -> 10.244.1.9:8080 TCP: allowed on this node
  egress  shop/client: allowed by NetworkPolicy shop/client egress rule 0: to pods of shop, TCP 8080
  ingress shop/far: not judged here: ask node n2\n",
        ),
        (
            "shop/web shop/early 53 udp",
            "10.244.0.6 -> 10.244.0.7:53 UDP: denied
  egress  shop/web: under no policy for egress
  ingress shop/early: denied: its rules are not known yet, or there was no room for them: nothing passes\n",
        ),
        (
            "shop/web shop/web 9 udp",
            "10.244.0.6 -> 10.244.0.6:9 UDP: allowed
  egress  shop/web: a pod always reaches itself
  ingress shop/web: a pod always reaches itself\n",
        ),
        (
            "shop/client 2001:db8::1 443 tcp",
            "fd00::5 -> [2001:db8::1]:443 TCP: denied
  egress  shop/client: denied: no rule of NetworkPolicy shop/client allows it; nearest: NetworkPolicy shop/client egress rule 0 (to pods of shop, TCP 8080) allows this, for other peers on other ports
  ingress 2001:db8::1: not a pod of this node\n",
        ),
        (
            "192.0.2.2 shop/web 1 tcp",
            "192.0.2.2 -> 10.244.0.6:1 TCP: denied
  egress  node n2: not a pod of this node
  ingress shop/web: denied: no rule of NetworkPolicy shop/web, NetworkPolicy shop/quiet allows it; nearest: NetworkPolicy shop/web ingress rule 1 (from 203.0.113.0/24, any port) allows the port, for other peers\n",
        ),
];

#[test]
fn each_side_says_who_decided() {
    for (words, wanted) in SIDES {
        assert_eq!(text(words), *wanted, "{words}");
    }
}

#[test]
fn a_service_has_an_answer_for_each_backend() {
    let whole = ask(&tables(), &Names::of(Some(names())), "shop/client svc/shop/front 80 tcp").unwrap();
    assert_eq!(
        whole.text(),
        "shop/client -> svc/shop/front: allowed on this node

10.244.0.5 -> 10.244.0.6:8080 TCP by way of 10.96.0.1:80: allowed
  egress  shop/client: allowed by NetworkPolicy shop/client egress rule 0: to pods of shop, TCP 8080
  ingress shop/web: allowed by NetworkPolicy shop/web ingress rule 0: from pods {app: client}, TCP 8080-8090

10.244.0.5 -> 10.244.1.9:8080 TCP by way of 10.96.0.1:80: allowed on this node
  egress  shop/client: allowed by NetworkPolicy shop/client egress rule 0: to pods of shop, TCP 8080
  ingress shop/far: not judged here: ask node n2
"
    );
    assert_eq!(
        text("shop/free 10.96.0.1 81 tcp"),
        "10.244.0.8 -> 10.96.0.1:81 TCP: refused (unknown-port)\n"
    );
    let mut empty = tables();
    empty.cluster.clear();
    let refused = ask(&empty, &Names::default(), "10.244.0.8 10.96.0.1:80 - tcp").unwrap();
    assert_eq!(
        refused.text(),
        "10.244.0.8 -> 10.96.0.1:80: refused\n\n10.244.0.8 -> 10.96.0.1:80 TCP: refused (no-endpoints)\n"
    );
}

#[test]
fn a_pod_that_reaches_itself_through_a_service_is_judged_policy_item_61() {
    let mut tables = tables();
    tables.cluster.truncate(1);
    let page = ask(&tables, &Names::of(Some(names())), "shop/web shop/front 80 tcp").unwrap();
    assert!(page.text().contains("ingress shop/web: denied: no rule of"), "{}", page.text());
}

#[test]
fn without_names_ids_and_addresses_stand_for_themselves() {
    let text = ask(&tables(), &Names::default(), "10.244.0.8 10.244.0.6 8085 tcp").unwrap().text();
    assert_eq!(
        text,
        "10.244.0.8 -> 10.244.0.6: denied

10.244.0.8 -> 10.244.0.6:8085 TCP: denied
  egress  10.244.0.8: not a pod of this node
  ingress 10.244.0.6: denied: no rule of rule set #0000000000000015 allows it; nearest: rule #0000000000000002 allows the port, for other peers
"
    );
}

#[test]
fn prefixes_count_only_where_they_are_in_use_and_no_policy_is_no_question() {
    let mut unused = tables();
    unused.state.flags = PolicyFlags::default();
    let verdict = |tables: &Fake| {
        let page = ask(tables, &Names::of(Some(names())), "203.0.113.9 shop/web 5 tcp").unwrap();
        serde_json::to_value(page).unwrap()["verdict"].clone()
    };
    assert_eq!(verdict(&unused), "denied");
    assert_eq!(verdict(&tables()), "allowed");
    let mut off = tables();
    off.state.epoch = 0;
    assert_eq!(verdict(&Fake { policed: BTreeMap::new(), ..off }), "allowed");
}

#[test]
fn an_answer_in_json_holds_everything() {
    let page = ask(&tables(), &Names::of(Some(names())), "shop/free shop/web 79 udp").unwrap();
    let policy = |name: &str| serde_json::json!({"kind": "NetworkPolicy", "namespace": "shop", "name": name});
    let nearest = "NetworkPolicy shop/web ingress rule 1 (from 203.0.113.0/24, any port) allows the port, for other peers";
    assert_eq!(
        serde_json::to_value(page).unwrap(),
        serde_json::json!({
            "from": "shop/free", "to": "shop/web", "verdict": "denied", "answers": [{
                "source": "10.244.0.8", "destination": "10.244.0.6", "port": 79, "protocol": "UDP",
                "service": null, "verdict": "denied", "reason": null,
                "egress": {"address": "10.244.0.8", "name": "shop/free", "standing": "notIsolated", "ask": null,
                    "ruleSet": null, "policies": [], "rule": null, "nearest": null, "text": "under no policy"},
                "ingress": {"address": "10.244.0.6", "name": "shop/web", "standing": "denied", "ask": null,
                    "ruleSet": "0000000000000015", "policies": [policy("web"), policy("quiet")], "rule": null,
                    "nearest": {"rule": "0000000000000003", "policy": policy("web"), "index": 1, "text": nearest},
                    "text": format!("denied: no rule of NetworkPolicy shop/web, NetworkPolicy shop/quiet allows it; nearest: {nearest}")},
            }],
        })
    );
}

#[test]
fn a_batch_answers_line_by_line_and_a_bad_line_stops_no_other() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines = [
        r#"{"from": "shop/client", "to": "shop/web", "port": 8080}"#,
        "",
        "nonsense",
        r#"{"from": "shop/none", "to": "shop/web", "port": 1, "proto": "udp"}"#,
    ];
    std::fs::write(file.path(), lines.join("\n")).unwrap();
    let (tables, names) = (tables(), Names::of(Some(names())));
    let answers =
        batch(&Sources { tables: &tables, names: &names, directory: &Services }, file.path()).unwrap();
    let lines: Vec<serde_json::Value> =
        answers.lines().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0]["verdict"], "allowed");
    assert!(lines[1]["error"].as_str().unwrap().starts_with("line 3 is no question: "), "{}", lines[1]);
    assert_eq!(
        lines[2]["error"],
        "--from shop/none: no pod shop/none is known on this node; pods are known while a policy exists, and without \
         hostNetwork: give its address"
    );
}

#[test]
fn a_question_that_cannot_be_answered_says_what_to_write_instead() {
    for (words, error) in [
        ("shop/client shop/web - tcp", "--to shop/web: --port is missing: TCP is judged by its port"),
        ("shop/client shop/web 7 icmp", "--to shop/web: ICMP has no ports: leave --port 7 out"),
        (
            "10.0.0.1:5 shop/web 7 tcp",
            "--from 10.0.0.1:5: --from takes no port (5): a client's port decides nothing",
        ),
        (
            "shop/client a/b/c 7 tcp",
            "\"a/b/c\" is none of NAMESPACE/NAME of a pod or Service, pod/NAMESPACE/NAME, svc/NAMESPACE/NAME[:PORT], an \
             address, or `node`",
        ),
        (
            "shop/client shop/nobody 7 tcp",
            "--to shop/nobody: neither a pod nor a Service shop/nobody is known on this node; give an address, or ask \
             where it is known",
        ),
        (
            "shop/client svc/shop/front:http 7 tcp",
            "--to svc/shop/front:http: the maps have no frontend of Service shop/front:http for TCP; `proxyctl service \
             list` shows those that there are",
        ),
        (
            "shop/free 2001:db8::1 7 tcp",
            "shop/free and 2001:db8::1 have no address of the same family: no packet passes",
        ),
    ] {
        let found = ask(&tables(), &Names::of(Some(names())), words).unwrap_err();
        assert_eq!(crate::observe::causes(found.as_ref()), error, "{words}");
    }
}
