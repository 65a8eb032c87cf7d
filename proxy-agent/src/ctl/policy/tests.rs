//! How policies are listed: what the maps say, under the names that were written down.

use std::collections::BTreeMap;

use proxy_common::policy::DenialKey;

use super::*;
use crate::ctl::output::{Format, Page as _};
use crate::observe::policy_names::{Digest, PodLine, PolicyKind, PolicyNames, RuleSetLine, VERSION};

fn policy(name: &str) -> PolicyName {
    PolicyName { kind: PolicyKind::NetworkPolicy, namespace: Some("shop".into()), name: name.into() }
}

fn names() -> PolicyNames {
    let guard = PolicyName { kind: PolicyKind::ClusterNetworkPolicy, namespace: None, name: "guard".into() };
    let rule = |id, policy: &PolicyName, direction, text: &str| RuleLine {
        id: Digest(id),
        policy: policy.clone(),
        direction,
        index: 0,
        text: text.into(),
    };
    let line = |policy: &PolicyName, tier: Option<&str>, refused: Option<&str>| PolicyLine {
        policy: policy.clone(),
        tier: tier.map(Into::into),
        priority: tier.map(|_| 5),
        refused: refused.map(Into::into),
    };
    PolicyNames {
        version: VERSION,
        at: 7,
        node: "n1".into(),
        policies: vec![
            line(&policy("web"), None, None),
            line(&policy("late"), None, Some("no room")),
            line(&guard, Some("Admin"), None),
        ],
        rules: vec![
            rule(1, &policy("web"), Direction::Ingress, "from all pods, TCP 80"),
            rule(2, &guard, Direction::Ingress, "deny from 203.0.113.0/24"),
        ],
        rule_sets: vec![RuleSetLine {
            id: Digest(10),
            direction: Direction::Ingress,
            policies: vec![guard, policy("web")],
            rules: vec![Digest(2), Digest(1)],
        }],
        pods: vec![PodLine {
            pod: "shop/\x1b[31mweb".into(),
            node: Some("n1".into()),
            addresses: vec!["10.244.0.6".parse().unwrap(), "fd00::6".parse().unwrap()],
        }],
        nodes: BTreeMap::new(),
    }
}

fn maps() -> InForce {
    let policed = |egress, ingress| Policed {
        egress: RuleSetId(egress),
        ingress: RuleSetId(ingress),
        ..Policed::default()
    };
    let denial = |rules, by, count| (DenialKey { rules: RuleSetId(rules), by: RuleId(by) }, count);
    InForce {
        policed: BTreeMap::from([
            ("10.244.0.6".parse().unwrap(), policed(0, 10)),
            ("fd00::6".parse().unwrap(), policed(0, 10)),
            ("10.244.0.7".parse().unwrap(), policed(u64::MAX, u64::MAX)),
            ("10.244.0.8".parse().unwrap(), policed(11, 0)),
        ]),
        denials: BTreeMap::from([
            denial(10, 0, 3),
            denial(10, 2, 40),
            denial(11, 0, 5),
            denial(u64::MAX, 0, 9),
        ]),
    }
}

#[test]
fn policies_are_listed_with_their_pods_and_what_they_denied() {
    let rows = rows(&maps(), &Names::of(Some(names())));
    assert_eq!(
        Format::Wide.rows(&rows).unwrap(),
        "POLICY                      TIER   PRIORITY  PODS  RULES  DENIED  STATE                                     POD NAMES
NetworkPolicy shop/late     -      -         0     0      0       refused: no room
NetworkPolicy shop/web      -      -         1     1      3       in force                                  shop/\\u{1b}[31mweb
ClusterNetworkPolicy guard  Admin  5         1     1      43      in force                                  shop/\\u{1b}[31mweb
(closed)                    -      -         1     0      9       refused: rules not known yet, or no room  10.244.0.7
rule set #000000000000000b  -      -         1     0      5       in force                                  10.244.0.8
"
    );
}

#[test]
fn a_policy_is_shown_with_its_rules_and_escapes_are_not_obeyed() {
    let page = page(&maps(), &Names::of(Some(names())), "guard").unwrap();
    assert_eq!(
        page.text(),
        "ClusterNetworkPolicy guard, tier Admin, priority 5
packets of its pods that no rule let pass: 3

POD                 ADDRESS     DIRECTIONS
shop/\\u{1b}[31mweb  10.244.0.6  ingress
shop/\\u{1b}[31mweb  fd00::6     ingress

RULE       ID                DENIED  WHAT
ingress 0  0000000000000002  40      deny from 203.0.113.0/24
"
    );
    let json: serde_json::Value = serde_json::from_str(&Format::Json.one(&page).unwrap()).unwrap();
    let pod = |address: &str| serde_json::json!({"name": "shop/\x1b[31mweb", "address": address, "directions": ["ingress"]});
    assert_eq!(
        json,
        serde_json::json!({
            "policy": {"kind": "ClusterNetworkPolicy", "name": "guard"}, "tier": "Admin", "priority": 5,
            "refused": null, "pods": [pod("10.244.0.6"), pod("fd00::6")], "deniedByIsolation": 3,
            "rules": [{"direction": "ingress", "index": 0, "id": "0000000000000002",
                "text": "deny from 203.0.113.0/24", "denied": 40}],
        })
    );
}

#[test]
fn a_policy_without_pods_and_rules_says_so_and_one_that_is_not_there_what_to_do() {
    let names = Names::of(Some(names()));
    assert_eq!(
        page(&maps(), &names, "shop/late").unwrap().text(),
        "NetworkPolicy shop/late\nrefused: no room\npackets of its pods that no rule let pass: 0\n\n\
         no pod of this node is under it\n\n\
         without rules: nothing passes in its directions but what other policies let pass\n"
    );
    for (names, name, error) in [
        (
            &names,
            "web",
            "no policy web is about a pod of this node; `proxyctl policy list` shows those that are",
        ),
        (
            &Names::default(),
            "shop/web",
            "no agent has written down names of policies; `proxyctl policy list` shows what is in force",
        ),
    ] {
        assert_eq!(page(&maps(), names, name).unwrap_err().to_string(), error);
    }
}
