//! What is shown of notices that were made by hand.

use std::collections::BTreeMap;

use proxy_common::{Addr4, Addr6, Address as _, Port, Proto, RuleId, RuleSetId};

use super::*;
use crate::observe::policy_names::{
    Digest, Direction, PodLine, PolicyKind, PolicyName, PolicyNames, RuleLine, RuleSetLine, VERSION,
};

fn names() -> Names {
    let policy =
        PolicyName { kind: PolicyKind::NetworkPolicy, namespace: Some("shop".into()), name: "web".into() };
    let guard = PolicyName { kind: PolicyKind::ClusterNetworkPolicy, namespace: None, name: "guard".into() };
    let pod = |name: &str, ip: &str| PodLine {
        pod: name.into(),
        node: Some("n1".into()),
        addresses: vec![ip.parse().unwrap()],
    };
    Names::of(Some(PolicyNames {
        version: VERSION,
        at: 7,
        node: "n1".into(),
        policies: vec![],
        rules: vec![RuleLine {
            id: Digest(5),
            policy: guard.clone(),
            direction: Direction::Ingress,
            index: 1,
            text: "deny from all".into(),
        }],
        rule_sets: vec![RuleSetLine {
            id: Digest(9),
            direction: Direction::Ingress,
            policies: vec![guard, policy],
            rules: vec![Digest(5)],
        }],
        pods: vec![pod("shop/\x1b[2Jweb", "10.244.0.6"), pod("default/six", "fd00::6")],
        nodes: BTreeMap::new(),
    }))
}

fn clock() -> Clock {
    Clock { day: Duration::from_secs(1_000_000), up: Duration::from_secs(100) }
}

fn notice(reason: Reason, rules: u64, by: u64) -> Notice {
    Notice {
        at: 101_250_000_000,
        rules: RuleSetId(rules),
        by: RuleId(by),
        src: Addr4::from_ip("192.0.2.9".parse().unwrap()).unwrap().to_words(),
        dst: Addr4::from_ip("10.244.0.6".parse().unwrap()).unwrap().to_words(),
        device: 4,
        sport: Port::new(40_000),
        dport: Port::new(80),
        proto: Proto::TCP,
        reason: reason as u8,
        family: 4,
        pad: 0,
        length: 74,
    }
}

fn six() -> Notice {
    let addr = |ip: &str| Addr6::from_ip(ip.parse().unwrap()).unwrap().to_words();
    Notice {
        src: addr("fd00::6"),
        dst: addr("2001:db8::1"),
        family: 6,
        proto: Proto::ICMP6,
        sport: Port::NONE,
        dport: Port::NONE,
        ..notice(Reason::DeniedEgress, u64::MAX, 0)
    }
}

fn monitor(filter: Filter, format: Format) -> Monitor {
    Monitor { filter, format, clock: clock(), names: names(), left: 1 }
}

#[test]
fn a_notice_is_a_line_under_its_names_and_escapes_are_not_obeyed() {
    let monitor = monitor(Filter::default(), Format::Table);
    let web = "1970-01-12T13:46:41.250Z drop denied-ingress: 192.0.2.9:40000 -> shop/\\u{1b}[2Jweb (10.244.0.6:80) TCP, 74 bytes, device 4";
    for (notice, line) in [
        (
            notice(Reason::DeniedIngress, 9, 0),
            format!("{web}, no rule of ClusterNetworkPolicy guard, NetworkPolicy shop/web\n"),
        ),
        (notice(Reason::DeniedIngress, 9, 5), format!("{web}, by ClusterNetworkPolicy guard ingress rule 1\n")),
        (notice(Reason::DeniedIngress, 16, 17), format!("{web}, by rule #0000000000000011\n")),
        (notice(Reason::DeniedIngress, 16, 0), format!("{web}, no rule of rule set #0000000000000010\n")),
        (
            notice(Reason::NoEndpoints, 0, 0),
            format!("{}\n", web.replace("drop denied-ingress", "reject no-endpoints")),
        ),
        (
            six(),
            "1970-01-12T13:46:41.250Z drop denied-egress: default/six (fd00::6) -> 2001:db8::1 ICMPv6, 74 bytes, device 4, its rules are not known yet, or had no room\n".into(),
        ),
    ] {
        assert_eq!(monitor.line(&notice), Some(line));
    }
    let unknown = Notice { reason: 250, ..notice(Reason::NotIp, 0, 0) };
    assert_eq!(
        monitor.line(&unknown),
        Some(format!("{}\n", web.replace("drop denied-ingress", "? reason-250")))
    );
}

#[test]
fn a_notice_in_json_is_a_line_with_everything() {
    let line = monitor(Filter::default(), Format::Json).line(&notice(Reason::DeniedIngress, 9, 5)).unwrap();
    assert_eq!(line.lines().count(), 1);
    let guard = serde_json::json!({"kind": "ClusterNetworkPolicy", "name": "guard"});
    let web = serde_json::json!({"kind": "NetworkPolicy", "namespace": "shop", "name": "web"});
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&line).unwrap(),
        serde_json::json!({
            "time": "1970-01-12T13:46:41.250Z", "reason": "denied-ingress", "outcome": "drop", "protocol": "TCP",
            "source": {"address": "192.0.2.9", "port": 40_000, "name": null},
            "destination": {"address": "10.244.0.6", "port": 80, "name": "shop/\x1b[2Jweb"},
            "device": 4, "length": 74, "ruleSet": "0000000000000009", "policies": [guard, web],
            "policy": guard, "rule": "0000000000000005", "by": "by ClusterNetworkPolicy guard ingress rule 1",
        })
    );
}

#[test]
fn filters_take_what_they_are_about_and_nothing_older_than_the_question_is_shown() {
    let denied = notice(Reason::DeniedIngress, 9, 0);
    let by_rule = notice(Reason::DeniedIngress, 9, 5);
    let judged = notice(Reason::Judged, 9, 0);
    let all = [denied, by_rule, judged, six()];
    let args = MonitorArgs { drops: false, policy: None, pod: None, reason: None, limit: None };
    let text = |text: &str| Some(text.to_owned());
    for (args, shown) in [
        (args.clone(), [true, true, true, true]),
        (MonitorArgs { drops: true, ..args.clone() }, [true, true, false, true]),
        (MonitorArgs { policy: text("shop/web"), ..args.clone() }, [true, false, true, false]),
        (MonitorArgs { policy: text("guard"), ..args.clone() }, [true, true, true, false]),
        (MonitorArgs { pod: text("six"), ..args.clone() }, [false, false, false, true]),
        (MonitorArgs { pod: text("10.244.0.6"), ..args.clone() }, [true, true, true, false]),
        (MonitorArgs { reason: text("judged"), ..args.clone() }, [false, false, true, false]),
    ] {
        let monitor = monitor(Filter::of(&args).unwrap(), Format::Json);
        assert_eq!(all.map(|notice| monitor.line(&notice).is_some()), shown, "{args:?}");
    }
    let old = Notice { at: 99_000_000_000, ..denied };
    assert_eq!(monitor(Filter::default(), Format::Table).line(&old), None);
    let error = Filter::of(&MonitorArgs { reason: text("denied"), ..args }).unwrap_err();
    assert_eq!(error.to_string(), "there is no reason \"denied\"; `proxyctl counter list` shows all");
}
