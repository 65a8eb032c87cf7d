//! What ClusterNetworkPolicies do, item by item of the contract, and why: explanations name the rule.

use proxy_common::{Port, Proto};
use proxy_model::Event;
use proxy_model::fact::{
    Action, ClusterPeer, ClusterPolicy, ClusterRule, NetworkPolicy, Node, Pod, PortMatch, Selector, Subject,
    Tier, Understood,
};
use proxy_model::policy::{PolicyCapacity, Question, explain};

use crate::fixture::*;
use crate::kernel::Machine;

const SERVER: &str = "10.0.1.2";
const CLIENT: &str = "10.0.2.3";
const NODE: &str = "192.168.0.2";
const WORLD: &str = "203.0.113.7";

fn machine(events: impl IntoIterator<Item = Event>) -> Machine {
    let mut machine = Machine::new(PolicyCapacity::default());
    machine.apply(synced());
    machine.apply([namespace("x", "team=x"), namespace("y", "team=y")].map(put));
    let client = Pod {
        node: Some(THERE.into()),
        ports: vec![named("web", Proto::TCP, 80), named("web", Proto::UDP, 81)],
        ..pod("y/client", "app=client", &[CLIENT])
    };
    machine.apply([pod("x/server", "app=server", &[SERVER]), client].map(put));
    let there = Node { labels: labels("role=worker"), ..node(THERE, "", &[NODE]) };
    machine.apply([put(there), put(node(HERE, "", &["192.168.0.1"]))]);
    machine.apply(events);
    machine.sync();
    machine
}

fn does(action: Action, peers: Vec<ClusterPeer>, protocols: Vec<PortMatch>) -> ClusterRule {
    ClusterRule { name: "".into(), action, peers, protocols, rest: Understood::Fully }
}

fn clients() -> Vec<ClusterPeer> {
    vec![ClusterPeer::Pods { namespaces: select("team=y"), pods: select("app=client") }]
}

fn everybody() -> Vec<ClusterPeer> {
    vec![ClusterPeer::Networks(vec![prefix("0.0.0.0/0")])]
}

/// What the maps and the explanation say about what the server gets from the client, and by which rule.
fn ingress(machine: &Machine, proto: Proto, port: u16) -> String {
    judge(machine, CLIENT, SERVER, proto, port)[1].clone()
}

/// The same about what it sends.
fn egress(machine: &Machine, to: &str, proto: Proto, port: u16) -> String {
    judge(machine, SERVER, to, proto, port)[0].clone()
}

fn judge(machine: &Machine, from: &str, to: &str, proto: Proto, port: u16) -> [String; 2] {
    let question = Question { from: ip(from), to: ip(to), proto, port: Port::new(port) };
    let told = explain(&machine.world, &question);
    let said = machine.kernel.verdict(&packet(from, to, proto, port));
    let both = [(&told.egress, said[0]), (&told.ingress, said[1])];
    both.map(|(side, ruling)| {
        assert_eq!(side.effect(), ruling.effect, "{side}");
        side.to_string()
    })
}

fn admin(name: &str, priority: u16, ingress: Vec<ClusterRule>) -> ClusterPolicy {
    ClusterPolicy { ingress, subject: Subject::Namespaces(select("team=x")), ..cluster(name, priority) }
}

fn baseline(name: &str, ingress: Vec<ClusterRule>) -> ClusterPolicy {
    ClusterPolicy { tier: Tier::Baseline, ..admin(name, 0, ingress) }
}

fn allow_80() -> NetworkPolicy {
    NetworkPolicy { ingress: vec![rule(vec![], vec![port(Proto::TCP, 80)])], ..policy("x/allow-80") }
}

#[test]
fn items_51_55_and_60_tiers_are_asked_in_order_and_pass_goes_to_the_next() {
    let admin = |action| put(admin("admin", 0, vec![does(action, clients(), vec![])]));
    let baseline = |action| put(baseline("base", vec![does(action, clients(), vec![])]));
    let network = || put(allow_80());
    let by_admin = "by ClusterNetworkPolicy admin, ingress[0]";
    let by_base = "by ClusterNetworkPolicy base, ingress[0]";
    let by_network = "allowed by NetworkPolicy x/allow-80, ingress[0]";
    let table: Vec<(Vec<Event>, u16, String)> = vec![
        (vec![admin(Action::Accept), network()], 81, format!("allowed {by_admin}")),
        (vec![admin(Action::Deny), network()], 80, format!("denied {by_admin}")),
        (vec![admin(Action::Pass), network()], 80, by_network.into()),
        (vec![admin(Action::Pass), network()], 81, "no rule allows it; nearest".into()),
        (vec![admin(Action::Pass), baseline(Action::Deny)], 80, format!("denied {by_base}")),
        (vec![admin(Action::Pass), baseline(Action::Accept)], 80, format!("allowed {by_base}")),
        (vec![network(), baseline(Action::Deny)], 80, by_network.into()),
        (vec![network(), baseline(Action::Accept)], 81, "no rule allows it; nearest".into()),
        (vec![baseline(Action::Pass)], 80, "no policy says anything about it".into()),
        (vec![admin(Action::Pass)], 80, "no policy says anything about it".into()),
    ];
    for (events, port, expected) in table {
        let said = ingress(&machine(events.clone()), Proto::TCP, port);
        assert!(said.starts_with(&expected), "{said}, not {expected}: {events:?}");
    }
}

#[test]
fn item_52_lower_numbers_come_first_then_lower_names() {
    let deny = vec![does(Action::Deny, clients(), vec![])];
    let accept = vec![does(Action::Accept, clients(), vec![])];
    let said = |policies: [ClusterPolicy; 2]| ingress(&machine(policies.map(put)), Proto::TCP, 80);
    assert!(said([admin("z", 1, deny.clone()), admin("a", 2, accept.clone())]).starts_with("denied"));
    assert!(said([admin("z", 2, deny.clone()), admin("a", 1, accept.clone())]).starts_with("allowed"));
    assert!(said([admin("b", 1, deny), admin("a", 1, accept)]).starts_with("allowed"));
}

#[test]
fn item_53_subjects_are_namespaces_or_pods_and_never_of_the_host_network() {
    let deny = || vec![does(Action::Deny, clients(), vec![])];
    let with = |subject| {
        let policy = ClusterPolicy { subject, ..admin("admin", 0, deny()) };
        ingress(&machine([put(policy)]), Proto::TCP, 80).starts_with("denied")
    };
    let by_pods = |namespaces, pods| Subject::Pods { namespaces: select(namespaces), pods: select(pods) };
    assert!(with(Subject::Namespaces(Selector::default())));
    assert!(!with(Subject::Namespaces(select("team=y"))));
    assert!(with(by_pods("team=x", "app=server")));
    assert!(!with(by_pods("team=x", "app=client")));
    assert!(!with(by_pods("team=y", "app=server")));
    assert!(with(Subject::Unknown), "item 58");
    let host = Pod { host_network: true, ..pod("x/server", "app=server", &[SERVER]) };
    let machine = machine([put(admin("admin", 0, deny())), put(host)]);
    assert!(machine.kernel.policed.is_empty());
}

#[test]
fn item_54_the_first_rule_that_is_about_it_decides_and_nobody_is_isolated() {
    let rules = vec![
        does(Action::Deny, clients(), vec![port(Proto::TCP, 80)]),
        does(Action::Accept, clients(), vec![ports(Proto::TCP, 80, 90)]),
        does(Action::Deny, clients(), vec![PortMatch::Every(Proto::TCP)]),
    ];
    let machine = machine([put(admin("admin", 0, rules))]);
    let by = |port| {
        let said = ingress(&machine, Proto::TCP, port);
        said.split(" (").next().unwrap().to_owned()
    };
    assert_eq!(by(80), "denied by ClusterNetworkPolicy admin, ingress[0]");
    assert_eq!(by(90), "allowed by ClusterNetworkPolicy admin, ingress[1]");
    assert_eq!(by(91), "denied by ClusterNetworkPolicy admin, ingress[2]");
    assert_eq!(ingress(&machine, Proto::UDP, 80), "no policy says anything about it");
    assert_eq!(judge(&machine, WORLD, SERVER, Proto::TCP, 80)[1], "no policy says anything about it");
    assert_eq!(egress(&machine, CLIENT, Proto::TCP, 80), "no policy says anything about it");
}

#[test]
fn items_56_and_57_egress_peers_are_pods_nodes_and_networks() {
    let deny = |peers, protocols| {
        let egress = vec![does(Action::Deny, peers, protocols)];
        machine([put(ClusterPolicy { egress, ..admin("admin", 0, vec![]) })])
    };
    let denied = |machine: &Machine| {
        [CLIENT, NODE, "192.168.0.1", WORLD]
            .map(|to| egress(machine, to, Proto::TCP, 80).starts_with("denied"))
    };
    let workers = deny(vec![ClusterPeer::Nodes(select("role=worker"))], vec![]);
    assert_eq!(denied(&workers), [false, true, false, false]);
    assert_eq!(denied(&deny(vec![ClusterPeer::Nodes(select(""))], vec![])), [false, true, true, false]);
    let all = deny(everybody(), vec![]);
    assert_eq!(denied(&all), [true; 4], "pods match networks, too");
    assert!(egress(&all, WORLD, Proto::ICMP, 0).starts_with("denied"), "everything, ICMP too");
    assert_eq!(denied(&deny(clients(), vec![])), [true, false, false, false]);
    let some = deny(vec![ClusterPeer::Namespaces(select("team=y"))], vec![port(Proto::TCP, 80)]);
    assert_eq!(denied(&some), [true, false, false, false]);
    assert!(!egress(&some, CLIENT, Proto::ICMP, 0).starts_with("denied"));
}

#[test]
fn item_57_a_named_port_is_what_the_pod_says_with_its_protocol() {
    let web = vec![PortMatch::Named { proto: None, name: "web".into() }];
    let egress_rules = vec![does(Action::Deny, clients(), web)];
    let machine = machine([put(ClusterPolicy { egress: egress_rules, ..admin("admin", 0, vec![]) })]);
    for (proto, port, expected) in
        [(Proto::TCP, 80, true), (Proto::UDP, 81, true), (Proto::TCP, 81, false), (Proto::UDP, 80, false)]
    {
        let said = egress(&machine, CLIENT, proto, port);
        assert_eq!(said.starts_with("denied"), expected, "{proto} {port}: {said}");
    }
}

#[test]
fn item_58_what_is_not_understood_accepts_nothing_and_denies_everything() {
    let strange = [
        |rule: &mut ClusterRule| rule.peers.push(ClusterPeer::Unknown),
        |rule: &mut ClusterRule| rule.protocols.push(PortMatch::Unknown),
        |rule: &mut ClusterRule| rule.rest = Understood::InPart,
    ];
    for make_strange in strange {
        for (action, expected) in [
            (Action::Accept, "denied by ClusterNetworkPolicy later"),
            (Action::Deny, "denied by ClusterNetworkPolicy admin"),
            (Action::Pass, "denied by ClusterNetworkPolicy admin"),
            (Action::Unknown, "denied by ClusterNetworkPolicy admin"),
        ] {
            let mut odd =
                does(action, vec![ClusterPeer::Namespaces(select("team=y"))], vec![port(Proto::TCP, 9)]);
            make_strange(&mut odd);
            let later = admin("later", 1, vec![does(Action::Deny, clients(), vec![])]);
            let machine = machine([put(admin("admin", 0, vec![odd])), put(later)]);
            let said = ingress(&machine, Proto::TCP, 80);
            assert!(said.starts_with(expected), "{action:?}: {said}");
        }
    }
}

#[test]
fn the_nearest_rule_is_the_one_with_the_peer_then_the_one_with_the_port() {
    let with = |rules| {
        let machine = machine([put(NetworkPolicy { ingress: rules, ..policy("x/policy") })]);
        ingress(&machine, Proto::TCP, 80)
    };
    let here = || vec![pods(None, Some("app=here"))];
    let client = || vec![pods(Some("team=y"), None)];
    assert_eq!(with(vec![]), "no rule allows it");
    assert_eq!(with(vec![rule(here(), vec![port(Proto::TCP, 81)])]), "no rule allows it");
    let by_port = rule(here(), vec![port(Proto::TCP, 80)]);
    let by_peer = rule(client(), vec![port(Proto::TCP, 81)]);
    assert_eq!(
        with(vec![by_port.clone()]),
        "no rule allows it; nearest: NetworkPolicy x/policy, ingress[0] (accept from pods app=here in x: TCP 80), \
         but not this peer"
    );
    assert_eq!(
        with(vec![by_port, by_peer]),
        "no rule allows it; nearest: NetworkPolicy x/policy, ingress[1] (accept from pods all in namespaces team=y: \
         TCP 81), but not this port"
    );
}

#[test]
fn item_34_the_explanation_knows_that_a_pod_is_reached_from_its_own_node() {
    let machine = machine([put(policy("x/closed"))]);
    let told = |from| {
        let question = Question { from: ip(from), to: ip(SERVER), proto: Proto::TCP, port: Port::new(80) };
        explain(&machine.world, &question).ingress.to_string()
    };
    assert_eq!(told("192.168.0.1"), "the pod's own node always reaches it");
    assert_eq!(told(NODE), "no rule allows it");
    assert_eq!(told(WORLD), "no rule allows it");
}
