//! The role of the manifests is enough, and each of its verbs is needed: agents with all of it and with parts of it, as service
//! accounts of a real API server with its real authorizer. They also find that server without any Service.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use regex::Regex;
use serde_json::{Value, json};
use sluice_lab::{AgentOptions, Lab, Listen, Protocol, SocketLb, Source, Topology, netns};
use tests::cluster::binary::ClusterBinary;
use tests::cluster::control_plane::{ControlPlane, Seat};
use tests::cluster::kubectl::Kubectl;
use tests::cluster::node;
use tests::programs::{self, Package};
use tests::repository;

/// One node per agent, and the host of the API server.
const TOPOLOGY: &str = "
nodes:
- {name: all, addresses: [172.18.0.11], podCIDRs: [10.244.1.0/24]}
- {name: no-list, addresses: [172.18.0.12], podCIDRs: [10.244.2.0/24]}
- {name: no-watch, addresses: [172.18.0.13], podCIDRs: [10.244.3.0/24]}
- {name: no-list-of-policies, addresses: [172.18.0.14], podCIDRs: [10.244.4.0/24]}
- {name: no-watch-of-policies, addresses: [172.18.0.15], podCIDRs: [10.244.5.0/24]}
outside:
- {name: control, ips: [172.18.0.200]}
";
const NODES: [&str; 5] = ["all", "no-list", "no-watch", "no-list-of-policies", "no-watch-of-policies"];
const PATIENCE: Duration = Duration::from_secs(120);
const CHECK_PORT: u16 = 31_999;
/// Other kinds are asked for once there is one of these, so they stay while the others are taken away.
const POLICIES: &str = "networkpolicies";

/// What an agent may do: verb, group, resource.
type Grant = (String, String, String);

fn grants(role: &Value) -> BTreeSet<Grant> {
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    let mut all = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for (group, resource) in texts(&rule["apiGroups"]).iter().flat_map(|group| {
            texts(&rule["resources"]).into_iter().map(move |resource| (group.clone(), resource))
        }) {
            all.extend(texts(&rule["verbs"]).into_iter().map(|verb| (verb, group.clone(), resource.clone())));
        }
    }
    all
}

/// What the agent of a node goes without.
fn lacking(node: &str, all: &BTreeSet<Grant>) -> BTreeSet<Grant> {
    let of = |(verb, _, resource): &&Grant| match node {
        "no-list" => verb == "list" && resource != POLICIES,
        "no-watch" => verb == "watch" && resource != POLICIES,
        "no-list-of-policies" => resource == POLICIES && verb == "list" || verb == "create",
        "no-watch-of-policies" => resource == POLICIES && verb == "watch",
        _ => false,
    };
    all.iter().filter(of).cloned().collect()
}

/// A role, a service account and what binds them.
fn account(name: &str, grants: &BTreeSet<Grant>) -> String {
    let rule = |(verb, group, resource): &Grant| json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]});
    let rules: Vec<Value> = grants.iter().map(rule).collect();
    let group = "rbac.authorization.k8s.io";
    let version = "rbac.authorization.k8s.io/v1";
    json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": "kube-system"}},
        {"apiVersion": version, "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules},
        {"apiVersion": version, "kind": "ClusterRoleBinding", "metadata": {"name": name},
         "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
         "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": "kube-system"}]},
    ]})
    .to_string()
}

/// What a node's agent was told that it may not do.
fn refused(lab: &Lab, node: &str) -> BTreeSet<Grant> {
    let pattern = Regex::new(r#"cannot (\w+) resource \\*"(\w+)\\*" in API group \\*"([\w.]*)\\*""#).unwrap();
    let log = fs::read_to_string(lab.log_path(&format!("agent-{node}.log"))).unwrap_or_default();
    let found = pattern
        .captures_iter(&log)
        .map(|found| (found[1].to_owned(), found[3].to_owned(), found[2].to_owned()));
    found.collect()
}

fn eventually(what: &str, mut check: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(why) = check() {
        assert!(Instant::now() < deadline, "{what}: {why}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// The API server on its host, the nodes, and what makes every part of the role necessary: a policy, and a Service whose
/// port for health checks is taken.
fn prepare(lab: &Lab) -> (ControlPlane, Kubectl) {
    let host = lab.place("control").unwrap();
    let topology = lab.topology();
    let seat = Seat {
        netns: &netns::path(&host.netns),
        address: host.ips[0],
        kubelets: topology.nodes.iter().flat_map(|node| node.addresses.clone()).collect(),
        // Servers that stream lists, which is what agents ask for first, need no `list`; others do.
        gates: "WatchList=false",
    };
    let binary = ClusterBinary::build().unwrap();
    let control =
        ControlPlane::start_at(&binary, &lab.id().state_dir().join("control-plane"), &seat).unwrap();
    let kubectl = control.kubectl().inside(&netns::path(&host.netns));
    kubectl.apply(&node::objects(&topology).to_string()).unwrap();
    let selector = json!({"podSelector": {}});
    // As far as an API server looks at it: without the kind nobody can be refused its lists.
    let kind = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "clusternetworkpolicies.policy.networking.k8s.io",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": "policy.networking.k8s.io", "scope": "Cluster",
            "names": {"plural": "clusternetworkpolicies", "singular": "clusternetworkpolicy", "kind": "ClusterNetworkPolicy"},
            "versions": [{"name": "v1alpha2", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true,
            }}}],
        },
    });
    kubectl.apply(&kind.to_string()).unwrap();
    kubectl.run("wait crd --all --for=condition=Established --timeout=60s").unwrap();
    let objects = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "all", "namespace": "default"}, "spec": selector},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "checked", "namespace": "default"}, "spec": {
            "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": CHECK_PORT,
            "selector": {"app": "none"}, "ports": [{"port": 80}],
        }},
    ]});
    kubectl.apply(&objects.to_string()).unwrap();
    for node in NODES {
        let at = format!("0.0.0.0:{CHECK_PORT}").parse().unwrap();
        lab.node(node).unwrap().listen(&[Listen { protocol: Protocol::Tcp, at }]).unwrap();
    }
    (control, kubectl)
}

/// A kubeconfig of a service account.
fn kubeconfig(lab: &Lab, control: &ControlPlane, kubectl: &Kubectl, account: &str) -> PathBuf {
    let token = kubectl.run(&format!("create token {account} -n kube-system")).unwrap();
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": format!("https://{}", control.server()), "certificate-authority": control.file("ca.crt")}}],
        "users": [{"name": "u", "user": {"token": token.trim()}}],
    });
    let path = lab.log_path(&format!("{account}.kubeconfig"));
    fs::write(&path, config.to_string()).unwrap();
    path
}

#[test]
fn the_role_of_the_manifests_is_enough_and_each_of_its_verbs_is_missed() {
    programs::build(Package::Lab).unwrap();
    programs::build(Package::Agent).unwrap();
    let lab = Lab::up(&Topology::parse(TOPOLOGY).unwrap()).unwrap();
    let (control, kubectl) = prepare(&lab);
    let manifest = fs::read_to_string(repository().join("deploy/manifests/sluice.yaml")).unwrap();
    kubectl.apply(&manifest).unwrap();
    let all = grants(&kubectl.get("clusterrole sluice").unwrap());
    assert_eq!(all.len(), 17, "{all:?}");
    let mut missed = BTreeSet::new();
    for node in NODES {
        let lacks = lacking(node, &all);
        let name = if node == "all" { "sluice".to_owned() } else { format!("sluice-{node}") };
        if node != "all" {
            let rest = all.difference(&lacks).cloned().collect();
            kubectl.apply(&account(&name, &rest)).unwrap();
        }
        missed.extend(lacks);
        let mut options = AgentOptions::new(SocketLb::Off);
        options.source = Source::Kubeconfig(kubeconfig(&lab, &control, &kubectl, &name));
        options.cluster_cidrs = vec!["10.244.0.0/16".parse().unwrap()];
        // Nobody listens at the first.
        options.extra =
            vec![format!("--api-server=172.18.0.200:1,{}", control.server()), "--ip-family=ipv4".to_owned()];
        lab.start_agent(node, &options).unwrap();
    }
    assert_eq!(missed, all, "every verb is taken from somebody");

    for node in NODES {
        let lacks = lacking(node, &all);
        eventually(&format!("the agent on {node} misses what it lacks"), || {
            let refused = refused(&lab, node);
            if refused.is_superset(&lacks) {
                Ok(())
            } else {
                Err(format!("{:?}\n{}", lacks.difference(&refused), lab.agent_log(node, 12)))
            }
        });
    }
    lab.agent_ready("all", PATIENCE).unwrap();
    eventually("an Event was written", || {
        let events = kubectl.get("events.events.k8s.io").unwrap();
        let ours = |event: &Value| {
            event["reason"] == "FailedToStartServiceHealthcheck"
                && event["reportingInstance"].to_string().contains("all")
        };
        if events["items"].as_array().unwrap().iter().any(ours) { Ok(()) } else { Err(events.to_string()) }
    });
    eventually("pods were asked for", || {
        let log = lab.agent_log("all", 1000);
        if log.contains("asking for pods and namespaces") { Ok(()) } else { Err(log) }
    });
    for node in NODES {
        assert_eq!(refused(&lab, node), lacking(node, &all), "{node}");
    }
    assert_eq!(remembered(&lab), [format!("https://{}/", control.server())]);
    NODES.iter().for_each(|node| lab.stop_agent(node, sluice_lab::Stop::Terminate).unwrap());
    control.stop().unwrap();
    lab.down().unwrap();
}

/// The API servers that the agent with the whole role has learned of.
fn remembered(lab: &Lab) -> Vec<String> {
    // As the agent names the folder of a root.
    let root = lab.node_bpf_root("all").display().to_string();
    let name = root.trim_matches('/').replace('-', "--").replace('/', "-");
    let text =
        fs::read_to_string(Path::new("/run/sluice").join(name).join("api-servers")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}
