//! `proxyctl` about policies, over maps that were written by hand and with no agent alive: what it says, what the real
//! programs do with packets, and that asking leaves no trace.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use proxy_agent::kernel::pins::Pins;
use proxy_agent::kernel::record::{RUN_ROOT, Record};
use proxy_agent::kernel::sys::{Access, Update};
use proxy_agent::observe::policy_names::{
    Digest, Direction, PodLine, PolicyKind, PolicyLine, PolicyName, PolicyNames, RuleLine, RuleSetLine,
    VERSION,
};
use proxy_common::mentioned::Mark;
use proxy_common::policy::{Effect, Interval};
use proxy_common::{
    Addr4, PeerClass, Policed, PolicyState, Proto, RuleId, RuleSetId, VerdictKey, VerdictPage,
};
use rustix::process::Signal;
use serde_json::{Value, json};
use zerocopy::IntoBytes;

use crate::node::{Node, eventually, on_a_node};

static NUMBER: AtomicU32 = AtomicU32::new(0);
const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 6);
const RULES: RuleSetId = RuleSetId(0x21);
const RULE: RuleId = RuleId(0x5);

/// A namespace with a pod's end of a veth, as long as this lives.
struct Pod(String);

impl Pod {
    fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let pod = Self(format!("sluice-policy-{}-{number}", std::process::id()));
        let name = &pod.0;
        for words in [
            format!("ip netns add {name}"),
            format!("ip link add pod0 type veth peer name eth0 netns {name}"),
            "ip link set pod0 up".into(),
            format!("ip route add {POD}/32 dev pod0"),
        ] {
            run(&words);
        }
        pod.run(&format!("ip addr add {POD}/32 dev eth0"));
        pod.run("ip link set eth0 up");
        pod.run("ip route add default dev eth0");
        pod
    }

    /// Runs a command in the pod.
    fn run(&self, words: &str) {
        run(&format!("nsenter --net=/run/netns/{} {words}", self.0));
    }

    /// Sends a datagram to the node.
    fn send(&self) {
        let net = format!("--net=/run/netns/{}", self.0);
        let words = ["bash", "-c", "echo hello > /dev/udp/192.0.2.1/9"];
        let status = Command::new("nsenter").arg(net).args(words).status().expect("nsenter");
        assert!(status.success());
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(words: &str) {
    let mut split = words.split(' ');
    let status = Command::new(split.next().expect("a command")).args(split).status().expect("a command");
    assert!(status.success(), "{words}");
}

/// The pod may not send, and gets TCP 80 from everybody.
fn write_maps(root: &Path) {
    let pins = Pins::below(root);
    let put = |map, key: &[u8], value: &[u8]| {
        let map = pins.open(map, Access::Write).expect("a pinned map");
        map.update(key, value, Update::Any).expect("an entry fits");
    };
    let mut page = VerdictPage { pages: 1, count: 1, otherwise: RuleId::NONE, ..VerdictPage::default() };
    page.intervals[0] =
        Interval { by: RULE, first: 80, last: 80, proto: Proto::TCP, effect: Effect::ALLOW, pad: [0; 2] };
    put("verdicts", VerdictKey::new(RULES, PeerClass::WORLD, 0).as_bytes(), page.as_bytes());
    let policed = Policed { egress: RuleSetId::CLOSED, ingress: RULES, device: 0, pad: 0 };
    let Mark { word, bits } = Mark::of(&Addr4::from(POD));
    put("mentioned", &word.to_ne_bytes(), &bits.to_ne_bytes());
    put("policed4", Addr4::from(POD).as_bytes(), policed.as_bytes());
    let state = PolicyState { epoch: 1, ..PolicyState::default() };
    put("policy", &0_u32.to_ne_bytes(), state.as_bytes());
}

fn write_names(root: &Path) {
    let policy =
        PolicyName { kind: PolicyKind::NetworkPolicy, namespace: Some("shop".into()), name: "web".into() };
    let names = PolicyNames {
        version: VERSION,
        at: 7,
        node: "n1".into(),
        policies: vec![PolicyLine { policy: policy.clone(), tier: None, priority: None, refused: None }],
        rules: vec![RuleLine {
            id: Digest::from(RULE),
            policy: policy.clone(),
            direction: Direction::Ingress,
            index: 0,
            text: "from everybody, TCP 80".into(),
        }],
        rule_sets: vec![RuleSetLine {
            id: Digest::from(RULES),
            direction: Direction::Ingress,
            policies: vec![policy],
            rules: vec![Digest::from(RULE)],
        }],
        pods: vec![PodLine {
            pod: "shop/web-0".into(),
            node: Some("n1".into()),
            addresses: vec![POD.into()],
        }],
        nodes: BTreeMap::new(),
    };
    Record::of(Path::new(RUN_ROOT), root).write_policy_names(&names).expect("a file");
}

/// A node whose agent has gone, with a pod under a policy.
fn staged(node: &mut Node) -> Pod {
    let pod = Pod::new();
    node.start_with(&[("--socket-lb", "off"), ("--cluster-cidr", "10.244.0.0/16")]);
    eventually("the pod's device has its hooks", || {
        let status = node.ctl(&["status"]);
        let hooks = status["hooks"].as_array().expect("hooks").clone();
        let of_pod = hooks.iter().filter(|hook| hook["target"] == "pod0").count();
        (of_pod == 2).then_some(())
    });
    node.end(Signal::KILL);
    write_maps(node.root());
    write_names(node.root());
    pod
}

fn verdict(node: &Node, port: &str) -> [Value; 2] {
    let page = node.ctl(&["explain", "--from", "198.51.100.9", "--to", "shop/web-0", "--port", port]);
    [page["verdict"].clone(), page["answers"][0]["ingress"]["text"].clone()]
}

/// Hooks and reasons, and the end, of a packet from outside to the pod.
fn traced(node: &Node, port: &str) -> Value {
    let trace = node.ctl(&["trace", "--from", "198.51.100.9", "--to", "shop/web-0", "--port", port]);
    let steps = trace["steps"].as_array().expect("steps").iter();
    let steps: Vec<_> = steps.map(|step| json!([step["hook"], step["device"], step["reason"]])).collect();
    json!([steps, trace["end"]])
}

/// Everything that programs write about connections and policies.
fn state(node: &Node) -> Vec<Value> {
    let maps = ["flows4", "halfopen4", "denials", "tallies", "affinity", "tunnels4"];
    let mut all: Vec<_> = maps.iter().map(|map| node.ctl(&["map", "dump", map])).collect();
    let about = ["denied-ingress", "denied-egress", "judged", "judged-flow", "service-new"];
    let counters = node.ctl(&["counter", "list"]);
    let counted = counters.as_array().expect("rows").iter();
    all.extend(counted.filter(|row| about.contains(&row["reason"].as_str().unwrap_or_default())).cloned());
    all
}

#[test]
fn a_verdict_is_explained_and_the_programs_agree_without_a_trace_left() {
    on_a_node(|node| {
        let _pod = staged(node);
        let before = state(node);
        assert_eq!(
            verdict(node, "80"),
            ["allowed", "allowed by NetworkPolicy shop/web ingress rule 0: from everybody, TCP 80"]
        );
        assert_eq!(
            verdict(node, "81"),
            [
                "denied",
                "denied: no rule of NetworkPolicy shop/web allows it; nearest: NetworkPolicy shop/web ingress rule 0 (from \
                 everybody, TCP 80) allows this peer TCP 80"
            ]
        );
        let arrives = json!(["from_wire", "eth0", "not-a-service"]);
        assert_eq!(traced(node, "80"), json!([[arrives, ["to_pod", "pod0", "judged"]], "pod"]));
        assert_eq!(traced(node, "81"), json!([[arrives, ["to_pod", "pod0", "denied-ingress"]], "dropped"]));
        let from_pod = node.ctl(&["trace", "--from", "shop/web-0", "--to", "192.0.2.1", "--port", "9"]);
        assert_eq!(
            [&from_pod["steps"][0]["reason"], &from_pod["end"]],
            [&json!("denied-egress"), &json!("dropped")]
        );
        let rows = node.ctl(&["policy", "list"]);
        assert_eq!([&rows[0]["policy"]["name"], &rows[0]["pods"]], [&json!("web"), &json!(["shop/web-0"])]);
        assert_eq!(state(node), before, "asking has changed something");
    });
}

/// The flags of the `policy` map.
fn flags(node: &Node) -> Value {
    node.ctl(&["map", "dump", "policy"])["entries"][0]["value"]["flags"].clone()
}

#[test]
fn monitors_see_what_is_dropped_and_the_last_of_them_puts_the_light_out() {
    on_a_node(|node| {
        let pod = staged(node);
        let monitors = [1, 2].map(|_| node.monitor(&["--drops", "--pod", "shop/web-0", "--limit", "1"]));
        eventually("the programs know that somebody listens", || (flags(node) == 4).then_some(()));
        // One that leaves early takes nothing from the others.
        node.monitor(&["--limit", "0"]).wait_with_output().unwrap();
        assert_eq!(flags(node), 4);
        pod.send();
        for mut monitor in monitors {
            // What is never told must not be waited for without an end.
            eventually("the monitor has seen its drop", || monitor.try_wait().unwrap());
            let output = monitor.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let told: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(
                [&told["reason"], &told["source"]["name"], &told["destination"]["address"], &told["by"]],
                [
                    &json!("denied-egress"),
                    &json!("shop/web-0"),
                    &json!("192.0.2.1"),
                    &json!("its rules are not known yet, or had no room")
                ]
            );
        }
        assert_eq!(flags(node), 0);
        let closed = node.ctl(&["policy", "list"])[1].clone();
        assert_eq!(closed["pods"], json!(["shop/web-0"]));
        assert!(closed["denied"].as_u64() >= Some(1), "{closed}");
    });
}
