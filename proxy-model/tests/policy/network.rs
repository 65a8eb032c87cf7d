//! What single NetworkPolicies do, item by item of the contract: each table says who reaches whom.

use proxy_common::Proto;
use proxy_common::policy::Effect;
use proxy_model::Event;
use proxy_model::fact::{
    Direction, NetworkPeer, NetworkPolicy, NetworkRule, Pod, PodPhase, PortMatch, Selector,
};
use proxy_model::policy::PolicyCapacity;

use crate::fixture::*;
use crate::kernel::Machine;
use Direction::{Egress, Ingress};

const CLIENT: &str = "10.0.1.1";
const SERVER: &str = "10.0.1.2";
const OTHER: &str = "10.0.2.3";
const WORLD: &str = "203.0.113.7";

/// `x/client` and `x/server` here, `y/other` on another node.
fn cluster() -> Vec<Event> {
    let other = Pod { node: Some(THERE.into()), ..pod("y/other", "app=other", &[OTHER, "fd00:2::3"]) };
    let server = Pod {
        ports: vec![named("web", Proto::TCP, 80), named("web", Proto::UDP, 81), named("dns", Proto::UDP, 53)],
        ..pod("x/server", "app=server", &[SERVER, "fd00:1::2"])
    };
    let mut events = synced();
    events.extend([namespace("x", "team=x"), namespace("y", "team=y")].map(put));
    events.extend([pod("x/client", "app=client", &[CLIENT, "fd00:1::1"]), server, other].map(put));
    events.extend([node(HERE, "", &["192.168.0.1"]), node(THERE, "", &["192.168.0.2"])].map(put));
    events
}

fn machine(policies: impl IntoIterator<Item = NetworkPolicy>) -> Machine {
    let mut machine = Machine::new(PolicyCapacity::default());
    machine.apply(cluster());
    machine.apply(policies.into_iter().map(put));
    machine.sync();
    machine
}

/// For the server alone.
fn at_server(ingress: Vec<NetworkRule>) -> NetworkPolicy {
    NetworkPolicy { pods: select("app=server"), ingress, ..policy("x/policy") }
}

/// From the client alone.
fn at_client(egress: Vec<NetworkRule>) -> NetworkPolicy {
    NetworkPolicy { pods: select("app=client"), types: types(&[Egress]), egress, ..policy("x/policy") }
}

fn passes(machine: &Machine, src: &str, dst: &str, proto: Proto, port: u16) -> bool {
    let said = machine.kernel.verdict(&packet(src, dst, proto, port));
    said.iter().all(|ruling| ruling.effect == Effect::ALLOW)
}

/// Who of client, other and world reaches the server's TCP port 80.
fn reach(machine: &Machine) -> [bool; 3] {
    [CLIENT, OTHER, WORLD].map(|src| passes(machine, src, SERVER, Proto::TCP, 80))
}

#[test]
fn items_1_to_4_what_a_policy_is_about_depends_on_its_types() {
    let rule = || vec![rule(vec![block("203.0.113.0/24", &[])], vec![])];
    let about = |types, ingress, egress| {
        let machine = machine([NetworkPolicy { types, ingress, egress, ..policy("x/policy") }]);
        // From outside, to the outside, and to somewhere else.
        [(WORLD, SERVER), (OTHER, SERVER), (SERVER, WORLD), (SERVER, OTHER)]
            .map(|(src, dst)| passes(&machine, src, dst, Proto::TCP, 80))
    };
    assert_eq!(about(None, vec![], vec![]), [false, false, true, true], "item 3: ingress always");
    assert_eq!(about(None, rule(), rule()), [true, false, true, false], "item 3: egress if there is a rule");
    assert_eq!(about(types(&[Egress]), rule(), vec![]), [true, true, false, false], "item 4");
    assert_eq!(about(types(&[Ingress]), rule(), rule()), [true, false, true, true], "item 2");
    assert_eq!(about(types(&[Ingress, Egress]), rule(), rule()), [true, false, true, false], "item 2");
}

#[test]
fn items_5_12_and_13_policies_add_up_and_the_last_one_leaves_the_pod_open() {
    let from = |key: &str, peers| NetworkPolicy { ingress: vec![rule(peers, vec![])], ..policy(key) };
    let client = from("x/client", vec![pods(None, Some("app=client"))]);
    let world = from("x/world", vec![block("203.0.113.0/24", &[])]);
    let mut machine = machine([client.clone(), world.clone(), policy("x/none")]);
    assert_eq!(reach(&machine), [true, false, true]);
    machine.apply([put(from("x/all", vec![]))]);
    machine.sync();
    assert_eq!(reach(&machine), [true, true, true], "item 12");
    machine.apply([delete(&from("x/all", vec![])), delete(&world)]);
    machine.sync();
    assert_eq!(reach(&machine), [true, false, false]);
    machine.apply([delete(&client), delete(&policy("x/none"))]);
    machine.sync();
    assert_eq!(reach(&machine), [true, true, true], "item 13");
}

#[test]
fn item_6_both_ends_are_asked() {
    let egress = NetworkPolicy { key: policy("x/out").key, ..at_client(vec![]) };
    let open = at_server(vec![rule(vec![], vec![])]);
    assert_eq!(reach(&machine([egress, open.clone()])), [false, true, true]);
    assert_eq!(reach(&machine([open])), [true, true, true]);
}

#[test]
fn items_7_to_10_selectors_and_lists_that_are_empty() {
    let everywhere = NetworkPolicy { pods: Selector::default(), ..policy("y/policy") };
    assert_eq!(reach(&machine([everywhere])), [true, true, true], "item 7: another namespace");
    assert_eq!(reach(&machine([policy("x/policy")])), [false, false, false], "items 8, 9: deny all");
    assert_eq!(reach(&machine([at_server(vec![rule(vec![], vec![])])])), [true, true, true], "items 9, 10");
    let later = pod("x/later", "", &["10.0.1.7"]);
    let mut machine = machine([policy("x/policy")]);
    machine.apply([put(later)]);
    machine.sync();
    assert!(!passes(&machine, WORLD, "10.0.1.7", Proto::TCP, 80), "item 8: pods that come later");
}

#[test]
fn item_11_peers_and_ports_are_alternatives_and_both_must_match() {
    let peers = || vec![pods(None, Some("app=client")), block("203.0.113.0/24", &[])];
    let machine = machine([at_server(vec![rule(peers(), vec![port(Proto::TCP, 80), port(Proto::UDP, 53)])])]);
    for src in [CLIENT, WORLD] {
        assert!(passes(&machine, src, SERVER, Proto::TCP, 80));
        assert!(passes(&machine, src, SERVER, Proto::UDP, 53));
        assert!(!passes(&machine, src, SERVER, Proto::UDP, 80));
        assert!(!passes(&machine, src, SERVER, Proto::TCP, 81));
    }
    assert!(!passes(&machine, OTHER, SERVER, Proto::TCP, 80));
}

#[test]
fn items_14_to_16_and_18_which_pods_a_peer_names() {
    let by = |peers| reach(&machine([at_server(vec![rule(peers, vec![])])]));
    assert_eq!(by(vec![pods(None, Some("app=other"))]), [false, false, false], "own namespace");
    assert_eq!(by(vec![pods(None, Some(""))]), [true, false, false], "all of the own namespace");
    assert_eq!(by(vec![pods(Some("team=y"), None)]), [false, true, false], "namespaces");
    assert_eq!(by(vec![pods(Some("team=y"), Some("app=client"))]), [false, false, false], "both");
    assert_eq!(by(vec![pods(Some("team=y"), Some("app=other"))]), [false, true, false], "both");
    assert_eq!(
        by(vec![pods(Some("team=y"), None), pods(None, Some("app=client"))]),
        [true, true, false],
        "either"
    );
    assert_eq!(by(vec![pods(Some(""), None)]), [true, true, false], "item 15: every namespace, no outsider");
    assert_eq!(by(vec![pods(Some(""), Some(""))]), [true, true, false], "item 15");
    assert_eq!(by(vec![pods(Some("kubernetes.io/metadata.name=y"), None)]), [false, true, false], "item 18");
    assert_eq!(by(vec![pods(None, None)]), [false, false, false], "item 16");
    assert_eq!(by(vec![NetworkPeer::Unknown]), [false, false, false], "not everybody");
}

#[test]
fn items_20_to_23_blocks_match_pods_and_exceptions_are_the_blocks_own() {
    let by = |peers| reach(&machine([at_server(vec![rule(peers, vec![])])]));
    assert_eq!(by(vec![block("10.0.0.0/8", &[])]), [true, true, false], "item 21");
    assert_eq!(by(vec![block("10.0.1.1/32", &[])]), [true, false, false], "item 21");
    assert_eq!(by(vec![block("0.0.0.0/0", &["10.0.2.0/24"])]), [true, false, true], "item 22");
    let other = block("10.0.2.3/32", &[]);
    assert_eq!(by(vec![block("0.0.0.0/0", &["10.0.0.0/8"]), other]), [false, true, true], "item 22");
    let four = machine([at_server(vec![rule(vec![block("0.0.0.0/0", &[])], vec![])])]);
    assert!(!passes(&four, "fd00:1::1", "fd00:1::2", Proto::TCP, 80), "item 23");
    assert!(!passes(&four, "2001:db8::7", "fd00:1::2", Proto::TCP, 80), "item 23");
    let six = machine([at_server(vec![rule(vec![block("fd00::/16", &["fd00:2::/32"])], vec![])])]);
    assert!(passes(&six, "fd00:1::1", "fd00:1::2", Proto::TCP, 80), "item 46");
    assert!(!passes(&six, "fd00:2::3", "fd00:1::2", Proto::TCP, 80));
    assert!(!passes(&six, CLIENT, SERVER, Proto::TCP, 80));
}

#[test]
fn items_24_44_and_45_pods_that_selectors_do_not_know() {
    let from_clients = || at_server(vec![rule(vec![pods(None, Some("app=client"))], vec![])]);
    let client = |phase, host_network| Pod {
        phase,
        host_network,
        ..pod("x/client", "app=client", &[CLIENT, "fd00:1::1"])
    };
    let with = |change| {
        let mut machine =
            machine([from_clients(), NetworkPolicy { types: types(&[Egress]), ..policy("x/out") }]);
        machine.apply([put(change)]);
        machine.sync();
        let is_judged = machine.kernel.policed.contains_key(&ip(CLIENT));
        (passes(&machine, CLIENT, SERVER, Proto::TCP, 80), is_judged)
    };
    assert_eq!(with(client(PodPhase::Running, false)), (false, true));
    assert_eq!(with(client(PodPhase::Running, true)), (false, false), "items 24, 45");
    assert_eq!(with(client(PodPhase::Succeeded, false)), (false, false), "item 44");
    assert_eq!(with(client(PodPhase::Failed, false)), (false, false), "item 44");
}

#[test]
fn item_44_of_two_pods_with_one_address_the_one_that_runs_has_it() {
    let by_label = at_server(vec![rule(vec![pods(None, Some("app=client"))], vec![])]);
    let mut machine = machine([by_label]);
    let twin = |phase| Pod { phase, ..pod("x/a-twin", "app=twin", &[CLIENT]) };
    let old = |phase| Pod { phase, ..pod("x/client", "app=client", &[CLIENT]) };
    for (first, second, expected) in [
        (PodPhase::Running, PodPhase::Pending, true),
        (PodPhase::Pending, PodPhase::Running, false),
        (PodPhase::Succeeded, PodPhase::Pending, false),
        (PodPhase::Running, PodPhase::Succeeded, true),
    ] {
        machine.apply([put(old(first)), put(twin(second))]);
        machine.sync();
        let passes = passes(&machine, CLIENT, SERVER, Proto::TCP, 80);
        assert_eq!(passes, expected, "{first:?} {second:?}");
    }
}

#[test]
fn items_25_27_and_28_ports_ranges_and_protocols() {
    let machine_with = |ports| machine([at_server(vec![rule(vec![], ports)])]);
    let reached = |machine: &Machine, proto| {
        [79, 80, 81, 90, 91].map(|port| passes(machine, CLIENT, SERVER, proto, port))
    };
    let every = machine_with(vec![PortMatch::Every(Proto::UDP)]);
    assert_eq!(reached(&every, Proto::UDP), [true; 5], "item 25");
    assert_eq!(reached(&every, Proto::TCP), [false; 5], "item 25");
    let range = machine_with(vec![ports(Proto::TCP, 80, 90)]);
    assert_eq!(reached(&range, Proto::TCP), [false, true, true, true, false], "item 27");
    let sctp = machine_with(vec![port(Proto::SCTP, 80)]);
    assert_eq!(reached(&sctp, Proto::SCTP), [false, true, false, false, false], "item 28");
    assert_eq!(reached(&sctp, Proto::TCP), [false; 5], "item 28");
    let unknown = machine_with(vec![PortMatch::Unknown]);
    assert_eq!(reached(&unknown, Proto::TCP), [false; 5], "not every port");
}

#[test]
fn item_31_only_rules_about_every_port_let_protocols_without_ports_pass() {
    let by = |ports| passes(&machine([at_server(vec![rule(vec![], ports)])]), CLIENT, SERVER, Proto::ICMP, 0);
    assert!(by(vec![]));
    assert!(!by(vec![
        PortMatch::Every(Proto::TCP),
        PortMatch::Every(Proto::UDP),
        PortMatch::Every(Proto::SCTP)
    ]));
}

fn web(proto: Proto) -> PortMatch {
    PortMatch::Named { proto: Some(proto), name: "web".into() }
}

#[test]
fn item_26_a_named_port_is_what_the_destination_calls_so() {
    let ingress = machine([at_server(vec![rule(vec![], vec![web(Proto::TCP)])])]);
    assert!(passes(&ingress, CLIENT, SERVER, Proto::TCP, 80));
    assert!(!passes(&ingress, CLIENT, SERVER, Proto::TCP, 81), "the name with UDP is another");
    assert!(!passes(&ingress, CLIENT, SERVER, Proto::UDP, 81));
    let mut egress = machine([at_client(vec![rule(vec![], vec![web(Proto::TCP)])])]);
    assert!(passes(&egress, CLIENT, SERVER, Proto::TCP, 80));
    assert!(!passes(&egress, CLIENT, OTHER, Proto::TCP, 80), "a pod without that name");
    assert!(!passes(&egress, CLIENT, WORLD, Proto::TCP, 80), "nobody's name");
    let other = Pod {
        node: Some(THERE.into()),
        ports: vec![named("web", Proto::TCP, 8080)],
        ..pod("y/other", "app=other", &[OTHER])
    };
    egress.apply([put(other)]);
    egress.sync();
    assert!(passes(&egress, CLIENT, OTHER, Proto::TCP, 8080), "item 42: another number for another pod");
    assert!(!passes(&egress, CLIENT, OTHER, Proto::TCP, 80));
    assert!(passes(&egress, CLIENT, SERVER, Proto::TCP, 80));
}

#[test]
fn item_26_a_name_counts_for_pods_that_a_block_names_too() {
    let machine = machine([at_client(vec![rule(vec![block("10.0.0.0/8", &[])], vec![web(Proto::TCP)])])]);
    assert!(passes(&machine, CLIENT, SERVER, Proto::TCP, 80));
    assert!(!passes(&machine, CLIENT, OTHER, Proto::TCP, 80));
    assert!(!passes(&machine, CLIENT, "10.9.9.9", Proto::TCP, 80));
}

#[test]
fn item_36_who_may_be_reached_may_not_therefore_reach() {
    let machine = machine([
        at_server(vec![rule(vec![pods(None, Some("app=client"))], vec![])]),
        NetworkPolicy { pods: select("app=client"), ..policy("x/closed") },
    ]);
    assert!(passes(&machine, CLIENT, SERVER, Proto::TCP, 80));
    assert!(!passes(&machine, SERVER, CLIENT, Proto::TCP, 80));
}

#[test]
fn item_42_every_change_is_seen() {
    let by_team = at_server(vec![rule(vec![pods(Some("team=y"), Some("app=other"))], vec![])]);
    let mut machine = machine([by_team]);
    assert_eq!(reach(&machine), [false, true, false]);
    let steps: [(&str, Event, [bool; 3]); 6] = [
        ("a namespace's label", put(namespace("y", "team=z")), [false, false, false]),
        ("another namespace's", put(namespace("x", "team=y")), [false, false, false]),
        ("a pod's label", put(pod("x/client", "app=other", &[CLIENT])), [true, false, false]),
        ("a pod's address", put(pod("x/client", "app=other", &[WORLD])), [false, false, true]),
        ("a pod is gone", delete(&pod("x/client", "", &[])), [false, false, false]),
        ("a namespace is back", put(namespace("y", "team=y")), [false, true, false]),
    ];
    for (what, event, expected) in steps {
        machine.apply([event]);
        machine.sync();
        assert_eq!(reach(&machine), expected, "{what}");
    }
    machine.apply([put(pod("x/server", "app=closed", &[SERVER]))]);
    machine.sync();
    assert_eq!(reach(&machine), [true, true, true], "the subject's label");
}

#[test]
fn only_rules_over_pods_of_this_node_are_loaded() {
    let elsewhere =
        NetworkPolicy { ingress: vec![rule(vec![pods(Some(""), None)], vec![])], ..policy("y/policy") };
    let machine = machine([elsewhere]);
    assert_eq!(machine.kernel, crate::kernel::Kernel::default());
}
