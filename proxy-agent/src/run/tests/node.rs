//! What this node is, and whose Services it serves, may change while the agent runs.

use super::*;

fn at(address: &str) -> Update {
    node(json!({"status": {"addresses": [{"type": "InternalIP", "address": address}]}}))
}

/// A load balancer's Service with a node port and health checks.
fn exposed() -> Update {
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 32_000, "ports": [{"name": "http", "port": 80, "nodePort": 30_000}]}});
    put(Object::Service(serde_json::from_value(value).unwrap()))
}

fn labelled(label: Option<(&str, &str)>) -> Update {
    let labels: BTreeMap<_, _> = label.into_iter().collect();
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "labels": labels},
        "spec": {"clusterIPs": ["10.96.0.1"], "ports": [{"name": "http", "port": 80}]}});
    put(Object::Service(serde_json::from_value(value).unwrap()))
}

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
const HEADLESS: &str = "service.kubernetes.io/headless";

#[test]
fn item_121_a_node_that_gets_another_address_takes_its_node_ports_and_health_checks_there() {
    let mut bench = Bench::synced();
    bench.take([at("192.0.2.1"), exposed(), slice("a", "web", &["10.244.1.1"])]);
    let checks = |bench: &Bench| {
        bench.status.health_checks().borrow().keys().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(bench.lookup("192.0.2.1:30000"), backends(&["10.244.1.1:8080"]));
    assert_eq!(checks(&bench), ["192.0.2.1:32000"]);
    bench.take([at("192.0.2.2")]);
    assert_eq!(bench.lookup("192.0.2.1:30000"), None);
    assert_eq!(bench.lookup("192.0.2.2:30000"), backends(&["10.244.1.1:8080"]));
    assert_eq!(checks(&bench), ["192.0.2.2:32000"]);
    assert_eq!(bench.engine.dataplane().node.unwrap().0.address.to_string(), "192.0.2.2");
}

#[test]
fn items_122_and_143_an_address_that_the_operator_gives_is_the_nodes_whatever_its_object_says() {
    let given = Settings { primary_address: "192.0.2.7".parse().ok(), ..settings() };
    let mut bench = Bench::with(Fake::default(), given);
    bench.take(Kind::ALL.map(Update::Synced));
    bench.take([at("192.0.2.1"), exposed(), slice("a", "web", &["10.244.1.1"])]);
    assert_eq!(bench.lookup("192.0.2.1:30000"), None);
    assert_eq!(bench.lookup("192.0.2.7:30000"), backends(&["10.244.1.1:8080"]));
}

#[test]
fn items_1_and_145_a_service_comes_and_goes_with_the_label_that_names_its_proxy() {
    let mine = Settings { service_proxy_name: Some("mine".into()), ..settings() };
    for (settings, ours, others) in [
        (settings(), [None].to_vec(), [Some((PROXY_NAME, "mine")), Some((PROXY_NAME, ""))].to_vec()),
        (
            mine,
            [Some((PROXY_NAME, "mine"))].to_vec(),
            [None, Some((PROXY_NAME, "other")), Some((PROXY_NAME, ""))].to_vec(),
        ),
    ] {
        let mut bench = Bench::with(Fake::default(), settings);
        bench.take(Kind::ALL.map(Update::Synced));
        bench.take([slice("a", "web", &["10.244.1.1"])]);
        for label in others {
            bench.take([labelled(ours[0])]);
            assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]), "before {label:?}");
            bench.take([labelled(label)]);
            assert_eq!(bench.lookup("10.96.0.1:80"), None, "{label:?}");
        }
        bench.take([labelled(ours[0])]);
        assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]));
    }
}

#[test]
fn item_2_the_label_that_makes_a_service_or_a_slice_headless_works_when_it_comes_and_when_it_goes() {
    let headless_slice = |headless: bool| {
        let mut labels = BTreeMap::from([("kubernetes.io/service-name", "web")]);
        if headless {
            labels.insert(HEADLESS, "");
        }
        let value = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "a", "labels": labels}, "ports": [{"name": "http", "port": 8080}],
            "endpoints": [{"addresses": ["10.244.1.1"]}]});
        put(Object::EndpointSlice(serde_json::from_value(value).unwrap()))
    };
    let mut bench = Bench::synced();
    bench.take([labelled(None), headless_slice(false)]);
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]));
    bench.take([headless_slice(true)]);
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&[]));
    bench.take([headless_slice(false), labelled(Some((HEADLESS, "")))]);
    assert_eq!(bench.lookup("10.96.0.1:80"), None);
    bench.take([labelled(None)]);
    assert_eq!(bench.lookup("10.96.0.1:80"), backends(&["10.244.1.1:8080"]));
}
