//! Policies with real agents and sockets: a pod is isolated from the moment that a policy selects it until none does, also
//! while no agent runs, and a pod that is new sends nothing before its rules are there.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::wire::Outcome;
use sluice_lab::{PodSpec, Probe, Protocol, SocketLb, Stop};

use crate::objects::{DNS_TARGET, HTTP_TARGET, listeners};
use crate::stage::{NODES, PATIENCE, Stage};

/// How long an attempt waits that is to be blocked: on an idle node an answer takes a hundredth.
const GLANCE: Duration = Duration::from_millis(300);
/// How long one waits that is to be answered, with two cores busy: no SYN is sent again in that time, so none is lost.
const ANSWER: Duration = Duration::from_millis(900);

fn namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "demo", "labels": {"kubernetes.io/metadata.name": "demo"}}})
}

fn pod(name: &str, node: &str, ips: &[IpAddr], app: &str) -> Value {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "demo", "labels": {"app": app}},
        "spec": {"nodeName": node, "containers": [{"name": "main", "ports": [
            {"name": "http", "containerPort": HTTP_TARGET},
            {"name": "dns", "containerPort": DNS_TARGET, "protocol": "UDP"}]}]},
        "status": {"phase": if ips.is_empty() { "Pending" } else { "Running" }, "podIPs": ips},
    })
}

fn policy(app: &str, rest: &Value) -> Value {
    let mut spec = json!({"podSelector": {"matchLabels": {"app": app}}});
    spec.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "guard", "namespace": "demo"}, "spec": spec})
}

/// Lets whom `from` names in to the servers' ports.
fn letting(from: &Value) -> Value {
    let ports = json!([{"port": "http"}, {"port": DNS_TARGET, "protocol": "UDP"}]);
    policy("web", &json!({"ingress": [{"from": [from], "ports": ports}]}))
}

/// A lab whose pods have objects.
fn guarded() -> Stage {
    let stage = Stage::set(SocketLb::On);
    stage.put(&namespace());
    for (name, node, app) in [
        ("web-1", "node-1", "web"),
        ("web-2", "node-2", "web"),
        ("web-3", "node-2", "other"),
        ("client", "node-1", "client"),
    ] {
        stage.put(&pod(name, node, &stage.lab.pod(name).unwrap().ips, app));
    }
    stage.start_agents();
    stage
}

fn probes(to: &[IpAddr], timeout: Duration) -> Vec<Probe> {
    let ports = [(Protocol::Tcp, HTTP_TARGET), (Protocol::Udp, DNS_TARGET)];
    let of = |ip: &IpAddr| {
        let ip = *ip;
        ports.map(|(protocol, port)| Probe {
            tries: 1,
            timeout,
            ..Probe::new(protocol, SocketAddr::new(ip, port))
        })
    };
    to.iter().flat_map(of).collect()
}

/// Who asks, which pod, and in how many of four ways (protocols and families) it is answered.
type Seen<'a> = (&'a str, &'a str, u32);

/// In how many ways there is an answer where so many are wanted.
fn see<'a>(stage: &Stage, (from, to, wanted): Seen<'a>) -> Seen<'a> {
    let timeout = if wanted == 0 { GLANCE } else { ANSWER };
    let ips = stage.lab.pod(to).unwrap().ips;
    let tallies = stage.lab.place(from).unwrap().probe(&probes(&ips, timeout)).unwrap();
    (from, to, tallies.iter().map(sluice_lab::Tally::answers).sum())
}

/// What the programs of both nodes did, and why.
fn told(stage: &Stage) -> String {
    let counters =
        |node: &str| String::from_utf8_lossy(&stage.proxyctl(node, &["counter"]).stdout).into_owned();
    NODES.map(counters).join("\n")
}

/// Waits until each of these gets so many answers.
fn until(stage: &Stage, wanted: &[Seen<'_>]) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let seen: Vec<_> = wanted.iter().map(|wanted| see(stage, *wanted)).collect();
        if seen == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{seen:?} instead of {wanted:?}\n{}", told(stage));
    }
}

#[test]
fn a_policy_isolates_its_pods_on_every_node_and_lets_in_whom_it_names() {
    let stage = guarded();
    until(&stage, &[("client", "web-1", 4), ("client", "web-2", 4), ("web-3", "web-1", 4)]);
    stage.put(&policy("web", &json!({"policyTypes": ["Ingress"]})));
    // Item 34: a pod's own node always reaches it; item 6: what it sends is another thing.
    let isolated = [
        ("client", "web-1", 0),
        ("client", "web-2", 0),
        ("web-3", "web-1", 0),
        ("outside", "web-2", 0),
        ("node-1", "web-1", 4),
        ("node-2", "web-2", 4),
        ("web-1", "web-3", 4),
        ("client", "web-3", 4),
    ];
    let let_in =
        [("client", "web-1", 4), ("client", "web-2", 4), ("web-3", "web-1", 0), ("outside", "web-2", 0)];
    let client = stage.lab.pod("client").unwrap().ips;
    let blocks: Vec<Value> = client
        .iter()
        .map(|ip| json!({"ipBlock": {"cidr": format!("{ip}/{}", if ip.is_ipv4() { 32 } else { 128 })}}))
        .collect();
    until(&stage, &isolated);
    stage.put(&letting(&json!({"podSelector": {"matchLabels": {"app": "client"}}})));
    until(&stage, &let_in);
    stage.put(&policy("web", &json!({"ingress": [{"from": blocks}]})));
    until(&stage, &let_in);
    stage.put(&letting(
        &json!({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "demo"}}}),
    ));
    until(&stage, &[("client", "web-1", 4), ("web-3", "web-1", 4), ("outside", "web-2", 0)]);
    // A port that the pods give another name is none of theirs (item 26).
    stage.put(&policy("web", &json!({"ingress": [{"ports": [{"port": "https"}]}]})));
    until(&stage, &isolated);
    stage.delete(&policy("web", &json!({})));
    until(&stage, &[("client", "web-1", 4), ("client", "web-2", 4), ("outside", "web-2", 4)]);
}

#[test]
fn isolation_outlives_the_agent_and_so_do_connections_that_are_allowed() {
    let stage = guarded();
    stage.put(&letting(&json!({"podSelector": {"matchLabels": {"app": "client"}}})));
    let settled =
        [("client", "web-1", 4), ("web-3", "web-1", 0), ("client", "web-2", 4), ("outside", "web-2", 0)];
    until(&stage, &settled);
    let client = stage.lab.pod("client").unwrap();
    let servers = ["web-1", "web-2"].map(|name| stage.lab.pod(name).unwrap().ips);
    let flows: Vec<(String, Probe)> = servers
        .iter()
        .flatten()
        .map(|ip| Probe::new(Protocol::Tcp, SocketAddr::new(*ip, HTTP_TARGET)))
        .map(|probe| (probe.to.to_string(), probe))
        .collect();
    for (id, probe) in &flows {
        assert!(matches!(client.open(id, probe).unwrap(), Outcome::Answered(_)), "{id}");
    }
    let stand = || {
        for (id, _) in &flows {
            let outcome = client.use_flow(id, Duration::from_secs(2), 1).unwrap();
            assert!(matches!(outcome, Outcome::Answered(_)), "{id}: {outcome:?}");
        }
    };
    stage.stop_agents(Stop::Kill);
    assert_eq!(settled.map(|wanted| see(&stage, wanted)), settled);
    stand();
    stage.start_agents();
    assert_eq!(settled.map(|wanted| see(&stage, wanted)), settled);
    stand();
    // Who is cut off is cut off in the middle of a conversation, too.
    stage.put(&policy("web", &json!({"policyTypes": ["Ingress", "Egress"]})));
    until(&stage, &[("client", "web-1", 0), ("client", "web-2", 0)]);
    for (id, _) in &flows {
        let outcome = client.use_flow(id, GLANCE, 1).unwrap();
        assert!(matches!(outcome, Outcome::Failed(_)), "{id}: {outcome:?}\n{}", told(&stage));
    }
}

#[test]
fn a_pod_that_is_new_sends_nothing_before_its_rules_are_there() {
    let stage = guarded();
    let to_servers = json!([{"to": [{"podSelector": {"matchLabels": {"app": "web"}}}]}]);
    stage.put(&policy("new", &json!({"policyTypes": ["Egress"], "egress": to_servers})));
    // The API knows the pod, but not its address.
    stage.put(&pod("new", "node-1", &[], "new"));
    // A change that both of the above must have been read before.
    stage.put(&json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "mark", "namespace": "demo"},
        "spec": {"podSelector": {"matchLabels": {"app": "other"}}, "policyTypes": ["Ingress"]}}));
    until(&stage, &[("client", "web-3", 0), ("client", "web-1", 4)]);
    let ips: Vec<IpAddr> = ["10.244.1.200", "fd00:244:1::200"].map(|ip| ip.parse().unwrap()).to_vec();
    let spec = PodSpec { name: "new".into(), node: "node-1".into(), ips: ips.clone() };
    let place = stage.lab.pod_add(&spec).unwrap();
    let sockets: Vec<_> = ips.iter().flat_map(|ip| listeners(*ip)).collect();
    place.listen(&sockets).unwrap();
    until(&stage, &[("new", "web-1", 0), ("new", "client", 0)]);
    for _ in 0..3 {
        let nobody = [("new", "web-1", 0), ("new", "web-2", 0)];
        assert_eq!(nobody.map(|wanted| see(&stage, wanted)), nobody);
    }
    stage.put(&pod("new", "node-1", &ips, "new"));
    until(&stage, &[("new", "web-1", 4), ("new", "web-2", 4), ("new", "client", 0), ("client", "new", 4)]);
}
