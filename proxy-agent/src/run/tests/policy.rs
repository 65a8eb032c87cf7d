//! Policies through the engine: from objects to what the maps say about a pod.

use proxy_common::policy::{RuleId, decide};
use proxy_common::{PeerClass, Policed, PolicyState, RuleSetId, VerdictKey};

use super::*;
use crate::kernel::topology::{Device, DeviceKind, IfIndex};

const ALL: [Kind; 8] = Kind::ALL;

pub(super) fn pod(name: &str, ips: &[&str], labels: Value) -> Update {
    let ips: Vec<Value> = ips.iter().map(|ip| json!({"ip": ip})).collect();
    let value = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": "n1", "containers": []}, "status": {"phase": "Running", "podIPs": ips}});
    put(Object::Pod(serde_json::from_value(value).unwrap()))
}

fn namespace() -> Update {
    let value = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}});
    put(Object::Namespace(serde_json::from_value(value).unwrap()))
}

fn policy(name: &str, spec: Value) -> Update {
    let value = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": name}, "spec": spec});
    put(Object::NetworkPolicy(serde_json::from_value(value).unwrap()))
}

/// Lets pods with `app: client` in to TCP 80 of those with `app: web`.
pub(super) fn web() -> Update {
    policy(
        "web",
        json!({"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [
            {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 80}]}]}),
    )
}

pub(super) fn cluster() -> Vec<Update> {
    vec![
        namespace(),
        pod("web", &["10.244.1.5", "fd00:10::5"], json!({"app": "web"})),
        pod("client", &["10.244.1.6", "fd00:10::6"], json!({"app": "client"})),
        pod("other", &["10.244.1.7"], json!({"app": "other"})),
    ]
}

/// The programs' verdict on a new connection between pods.
fn passes(bench: &mut Bench, from: &str, to: &str, port: u16) -> bool {
    let fake = bench.engine.dataplane();
    let [from, to]: [IpAddr; 2] = [from, to].map(|ip| ip.parse().unwrap());
    let policed = |ip| match ip {
        IpAddr::V4(ip) => fake.v4.policed.get(&ip.into()).copied(),
        IpAddr::V6(ip) => fake.v6.policed.get(&ip.into()).copied(),
    };
    let class = |ip| match ip {
        IpAddr::V4(ip) => fake.v4.peers.get(&ip.into()).copied(),
        IpAddr::V6(ip) => fake.v6.peers.get(&ip.into()).copied(),
    };
    let allows = |rules: RuleSetId, peer: IpAddr| {
        let peer = class(peer).unwrap_or(PeerClass::WORLD);
        let page = |number| fake.verdicts.get(&VerdictKey::new(rules, peer, number));
        rules == RuleSetId::OPEN
            || rules != RuleSetId::CLOSED
                && decide(page, Proto::TCP, port).effect == proxy_common::policy::Effect::ALLOW
    };
    policed(from).is_none_or(|pod| allows(pod.egress, to))
        && policed(to).is_none_or(|pod| allows(pod.ingress, from))
}

pub(super) fn policed(bench: &mut Bench) -> Vec<String> {
    let fake = bench.engine.dataplane();
    fake.v4
        .policed
        .keys()
        .map(ToString::to_string)
        .chain(fake.v6.policed.keys().map(ToString::to_string))
        .collect()
}

/// A node with these addresses of pods behind its devices.
pub(super) fn topology(pods: &[(&str, u32)]) -> Topology {
    let device = |index: &u32| {
        let name = format!("veth{index}");
        (IfIndex(*index), Device { name, kind: DeviceKind::VethAcross, master: None, peer: None })
    };
    let mut across: BTreeMap<IfIndex, BTreeSet<IpAddr>> = BTreeMap::new();
    for (ip, index) in pods {
        across.entry(IfIndex(*index)).or_default().insert(ip.parse().unwrap());
    }
    Topology { devices: pods.iter().map(|(_, index)| device(index)).collect(), across, ..Topology::default() }
}

#[test]
fn a_policy_isolates_its_pods_and_its_end_lets_them_go() {
    let mut bench = Bench::synced();
    bench.take(cluster());
    assert_eq!((passes(&mut bench, "10.244.1.7", "10.244.1.5", 80), policed(&mut bench)), (true, vec![]));
    bench.take([web()]);
    assert_eq!(policed(&mut bench), ["10.244.1.5", "fd00:10::5"]);
    for (from, to, port, expected) in [
        ("10.244.1.6", "10.244.1.5", 80, true),
        ("fd00:10::6", "fd00:10::5", 80, true),
        ("10.244.1.6", "10.244.1.5", 81, false),
        ("10.244.1.7", "10.244.1.5", 80, false),
        ("10.244.1.5", "10.244.1.7", 80, true),
    ] {
        assert_eq!(passes(&mut bench, from, to, port), expected, "{from} {to} {port}");
    }
    bench.take([pod("other", &["10.244.1.7"], json!({"app": "client"}))]);
    assert!(passes(&mut bench, "10.244.1.7", "10.244.1.5", 80));
    bench.take([gone(Kind::NetworkPolicy, "web")]);
    assert_eq!((passes(&mut bench, "10.244.1.7", "10.244.1.5", 81), policed(&mut bench)), (true, vec![]));
}

#[test]
fn after_a_restart_nothing_opens_before_policies_and_pods_are_known() {
    let mut before = Bench::synced();
    before.take(cluster().into_iter().chain([web()]));
    let fake = std::mem::take(before.engine.dataplane());
    let epoch = fake.policy.epoch;
    let mut after = Bench::over(fake);
    let settled = |bench: &mut Bench| {
        assert_eq!(bench.engine.dataplane().judged, 0);
        assert!(!passes(bench, "10.244.1.7", "10.244.1.5", 80));
        assert!(passes(bench, "10.244.1.6", "10.244.1.5", 80));
    };
    after.engine.dataplane().judged = 0;
    settled(&mut after);
    // Services are known long before; policies, and whom they are about, last.
    after.take([Kind::Service, Kind::EndpointSlice, Kind::Node].map(Update::Synced));
    settled(&mut after);
    after.take([web()]);
    after.take([Kind::NetworkPolicy, Kind::ClusterNetworkPolicy].map(Update::Synced));
    settled(&mut after);
    after.take([namespace(), Update::Synced(Kind::Namespace)]);
    settled(&mut after);
    after.take(cluster());
    settled(&mut after);
    after.take([Update::Synced(Kind::Pod)]);
    settled(&mut after);
    assert_eq!(after.engine.dataplane().policy.epoch, epoch, "nothing is judged again");
    after.take([gone(Kind::NetworkPolicy, "web")]);
    assert!(passes(&mut after, "10.244.1.7", "10.244.1.5", 80));
}

#[test]
fn a_write_that_fails_is_tried_again_and_nothing_behind_it_is_made() {
    let mut bench = Bench::synced();
    bench.take(cluster());
    bench.engine.dataplane().fails_after = Some(1);
    let next = bench.take([web()]);
    assert_eq!(policed(&mut bench), [""; 0]);
    let Next::At(at) = next else { panic!("nothing is tried again") };
    bench.engine.sync(at);
    assert_eq!(policed(&mut bench), ["10.244.1.5", "fd00:10::5"]);
    assert!(!passes(&mut bench, "10.244.1.7", "10.244.1.5", 80));
}

#[test]
fn a_pod_is_tied_to_its_device_after_its_rules_and_let_go_before() {
    let mut bench = Bench::synced();
    bench.take(cluster());
    bench.engine.take_topology(topology(&[("10.244.1.5", 4), ("fd00:10::5", 4), ("10.244.1.6", 6)]));
    bench.take([web()]);
    let web_v4 = |bench: &mut Bench| {
        let policed = &bench.engine.dataplane().v4.policed;
        policed.iter().map(|(ip, pod)| (ip.to_string(), pod.device)).collect::<Vec<_>>()
    };
    assert_eq!(web_v4(&mut bench), [("10.244.1.5".to_owned(), 4)]);
    assert_eq!(bench.engine.dataplane().guarded.last(), Some(&BTreeSet::from([4])));
    // Its device is replaced.
    bench.engine.take_topology(topology(&[("10.244.1.5", 9), ("fd00:10::5", 9), ("10.244.1.6", 6)]));
    bench.take([]);
    assert_eq!(web_v4(&mut bench), [("10.244.1.5".to_owned(), 9)]);
    let told = bench.engine.dataplane().guarded.clone();
    assert_eq!(told[told.len() - 2..], [BTreeSet::new(), BTreeSet::from([9])]);
    bench.take([gone(Kind::NetworkPolicy, "web")]);
    assert_eq!(bench.engine.dataplane().guarded.last(), Some(&BTreeSet::new()));
}

#[test]
fn without_policies_what_an_earlier_run_enforced_is_ended() {
    let mut before = Bench::synced();
    before.take(cluster().into_iter().chain([web()]));
    let fake = std::mem::take(before.engine.dataplane());
    let off = PolicyArgs { network_policy: Switch::Off, ..ENFORCED };
    let mut after = Bench::asked(fake, settings(), off);
    let fake = after.engine.dataplane();
    assert_eq!((fake.policy, fake.v4.policed.len(), fake.verdicts.len()), (PolicyState::default(), 0, 0));
    after.take(cluster().into_iter().chain([web()]).chain(ALL.map(Update::Synced)));
    assert_eq!(policed(&mut after), [""; 0]);
}

#[test]
fn connections_that_are_there_are_judged_again_only_if_they_shall_be() {
    for (change, judged_again) in [(PolicyChangeArg::All, true), (PolicyChangeArg::NewFlows, false)] {
        let args = PolicyArgs { policy_on_change: change, ..ENFORCED };
        let mut bench = Bench::asked(Fake::default(), settings(), args);
        bench.take(ALL.map(Update::Synced));
        bench.take(cluster().into_iter().chain([web()]));
        let first = bench.engine.dataplane().policy.epoch;
        assert_ne!(first, 0, "policies are in use");
        bench.take([pod("client", &["10.244.1.6"], json!({"app": "nobody"}))]);
        assert!(!passes(&mut bench, "10.244.1.6", "10.244.1.5", 80));
        assert_eq!(bench.engine.dataplane().policy.epoch != first, judged_again, "{change:?}");
    }
}

#[test]
fn a_policy_without_room_isolates_its_pods_and_its_object_says_so() {
    let (events, mut notices) = Events::channel();
    let capacity = PolicyCapacity { verdicts: 2, ..PolicyCapacity::default() };
    let mut bench =
        Bench::enforcing(Fake::default(), settings(), Enforcing { args: ENFORCED, capacity, events });
    bench.take(ALL.map(Update::Synced));
    bench.take(cluster().into_iter().chain([web()]));
    assert!(passes(&mut bench, "10.244.1.6", "10.244.1.5", 80));
    let wide = json!({"podSelector": {"matchLabels": {"app": "other"}}, "ingress": [
        {"from": [{"podSelector": {"matchLabels": {"app": "client"}}}], "ports": [{"port": 80}]},
        {"from": [{"podSelector": {"matchLabels": {"app": "web"}}}], "ports": [{"port": 81}]}]});
    let mut wide = policy("wide", wide);
    if let Update::Put(_, parsed) = &mut wide
        && let parse::Fact::Model(proxy_model::Event::NetworkPolicy(proxy_model::Change::Put(policy))) =
            &mut parsed.fact
    {
        policy.created = 7;
    }
    bench.take([wide]);
    assert!(!passes(&mut bench, "10.244.1.6", "10.244.1.7", 80), "isolated");
    assert!(passes(&mut bench, "10.244.1.6", "10.244.1.5", 80), "others keep working");
    let notice = notices.try_recv().unwrap();
    assert_eq!((notice.reason, notice.action), ("NoRoomForPolicy", "Enforce"));
    assert!(notice.note.starts_with("node n1: NetworkPolicy default/wide: no room for "), "{}", notice.note);
    assert_eq!(bench.status.snapshot().refused_policies, 1);
    assert!(
        bench
            .engine
            .metrics()
            .text(&bench.status.snapshot(), SystemTime::now())
            .contains("sluice_policy_refused 1\n")
    );
    bench.take([gone(Kind::NetworkPolicy, "wide")]);
    assert_eq!(
        (passes(&mut bench, "10.244.1.6", "10.244.1.7", 80), notices.try_recv().is_err()),
        (true, true)
    );
    assert_eq!(bench.status.snapshot().refused_policies, 0);
}

/// Policy item 58: what stands in for it isolates until it is understood.
#[test]
fn a_policy_that_cannot_be_decoded_isolates_its_namespace_and_says_so_on_its_object() {
    let (events, mut notices) = Events::channel();
    let enforcing = Enforcing { args: ENFORCED, capacity: PolicyCapacity::default(), events };
    let mut bench = Bench::enforcing(Fake::default(), settings(), enforcing);
    bench.take(ALL.map(Update::Synced));
    bench.take(cluster());
    assert!(passes(&mut bench, "10.244.1.6", "10.244.1.5", 80));
    let key = Key { kind: Kind::NetworkPolicy, namespace: "default".into(), name: "web".into() };
    let closed = Update::Put(key.clone(), Box::new(parse::object(&key, &Object::closed_policy())));
    let fault = parse::Fault::Misshapen { error: "invalid type".into() };
    let problem = parse::Problem { object: key, field: "spec.policyTypes".into(), fault };
    bench.take([closed, Update::Misshapen(Box::new(problem))]);
    for (from, to) in
        [("10.244.1.6", "10.244.1.5"), ("10.244.1.5", "10.244.1.7"), ("fd00:10::6", "fd00:10::5")]
    {
        assert!(!passes(&mut bench, from, to, 80), "{from} {to}");
    }
    let notice = notices.try_recv().unwrap();
    assert_eq!((notice.reason, notice.action), ("NotDecoded", "Read"));
    let said = "node n1: NetworkPolicy default/web spec.policyTypes: invalid type; ";
    assert!(notice.note.starts_with(said), "{}", notice.note);
    assert_eq!(bench.status.snapshot().problems, BTreeMap::from([(Kind::NetworkPolicy, 1)]));
    bench.take([web()]);
    assert!(
        passes(&mut bench, "10.244.1.6", "10.244.1.5", 80)
            && passes(&mut bench, "10.244.1.5", "10.244.1.7", 80)
    );
    assert!(!passes(&mut bench, "10.244.1.7", "10.244.1.5", 80));
    assert_eq!(bench.status.snapshot().problems, BTreeMap::new());
}

#[test]
fn an_audit_repairs_what_policies_say() {
    let mut bench = Bench::synced();
    bench.take(cluster().into_iter().chain([web()]));
    bench.now += Duration::from_secs(60);
    bench.engine.sync(bench.now);
    let fake = bench.engine.dataplane();
    fake.v4.policed.clear();
    fake.verdicts.clear();
    assert!(passes(&mut bench, "10.244.1.7", "10.244.1.5", 80));
    bench.now += Duration::from_secs(60);
    bench.engine.audit(bench.now);
    assert!(!passes(&mut bench, "10.244.1.7", "10.244.1.5", 80));
    assert!(passes(&mut bench, "10.244.1.6", "10.244.1.5", 80));
    let repaired = &bench.engine.dataplane().repaired;
    let places: Vec<_> = repaired.iter().flat_map(|one| one.split(", ")).collect();
    assert!(places.iter().any(|place| place.starts_with("policed4 ")), "{places:?}");
    assert!(places.iter().any(|place| place.starts_with("verdicts ")), "{places:?}");
}

#[test]
fn the_numbers_in_the_maps_have_names() {
    let mut bench = Bench::synced();
    bench.take(cluster().into_iter().chain([web()]));
    bench.engine.write_names(bench.now + Duration::from_secs(2));
    let fake = bench.engine.dataplane();
    let names = fake.names.borrow().clone();
    let Policed { ingress, .. } = fake.v4.policed.values().next().copied().unwrap();
    let set = &names.rule_sets[0];
    assert_eq!((set.id, names.rule_sets.len()), (ingress.into(), 1));
    assert_eq!(set.policies[0].to_string(), "NetworkPolicy default/web");
    let page = fake.verdicts.values().find(|page| page.count > 0).unwrap();
    assert_eq!(set.rules, [page.intervals[0].by.into()]);
    assert_ne!(page.intervals[0].by, RuleId::NONE);
    let rule = names.rules.iter().find(|rule| rule.id == set.rules[0]).unwrap();
    assert_eq!((rule.to_string(), rule.index), ("NetworkPolicy default/web ingress rule 0".to_owned(), 0));
    let pods: Vec<_> = names.pods.iter().map(|pod| pod.pod.as_str()).collect();
    assert_eq!(pods, ["default/client", "default/other", "default/web"]);
}
