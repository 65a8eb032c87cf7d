//! UDP clients are let go after the plan that moved them is written, and who serves is known at any other time.

use super::*;

fn dns(addresses: &[&str]) -> [Update; 2] {
    let ports = |port| json!([{"name": "dns", "port": port, "protocol": "UDP"}]);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "dns"},
        "spec": {"clusterIPs": ["10.96.0.10"], "ports": ports(53)}});
    let endpoints: Vec<Value> = addresses.iter().map(|ip| json!({"addresses": [ip]})).collect();
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "dns", "labels": {"kubernetes.io/service-name": "dns"}},
        "ports": ports(53), "endpoints": endpoints});
    [
        put(Object::Service(serde_json::from_value(service).unwrap())),
        put(Object::EndpointSlice(serde_json::from_value(slice).unwrap())),
    ]
}

#[test]
fn udp_clients_are_let_go_once_for_each_change_that_moves_them() {
    let mut bench = Bench::synced();
    let mut told = |addresses: &[&str]| {
        bench.take(dns(addresses));
        let told = std::mem::take(&mut bench.engine.dataplane().let_go);
        told.into_iter().map(|(_, servers)| servers).collect::<Vec<_>>()
    };
    assert_eq!(told(&["10.244.1.1", "10.244.1.2"]), [2]);
    assert_eq!(told(&["10.244.1.1", "10.244.1.2", "10.244.1.3"]), [0_usize; 0]);
    assert_eq!(told(&["10.244.1.1", "10.244.1.3"]), [2]);
    assert_eq!(told(&[]), [0_usize; 0]);
}

#[test]
fn udp_clients_are_let_go_again_when_a_write_that_failed_is_made() {
    let mut bench = Bench::synced();
    bench.take(dns(&["10.244.1.1"]));
    let told = |bench: &mut Bench| std::mem::take(&mut bench.engine.dataplane().let_go).len();
    assert_eq!(told(&mut bench), 1);
    bench.engine.dataplane().v4.failures = 2;
    let Next::At(first) = bench.take(dns(&["10.244.1.2"])) else { panic!("no retry") };
    assert_eq!(told(&mut bench), 1, "other frontends are written");
    let Next::At(second) = bench.engine.sync(first) else { panic!("no retry") };
    assert_eq!(told(&mut bench), 0, "they would come back to where they were");
    assert_eq!(bench.engine.sync(second), Next::OnUpdate);
    assert_eq!(told(&mut bench), 1);
}

#[test]
fn udp_clients_are_let_go_when_an_audit_finds_room_for_their_frontend() {
    let mut bench = Bench::synced();
    let ports: Vec<Value> =
        (1..1_000).map(|port| json!({"name": format!("p{port}"), "port": port})).collect();
    let full = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "full"},
        "spec": {"clusterIPs": ["10.96.0.200"], "ports": ports}});
    bench.take([put(Object::Service(serde_json::from_value(full).unwrap()))]);
    bench.take(dns(&["10.244.1.1"]));
    let told = |bench: &mut Bench| std::mem::take(&mut bench.engine.dataplane().let_go).len();
    assert_eq!((told(&mut bench), bench.engine.dataplane().v4.frontends.len()), (1, 1_000));
    // Somebody else makes room.
    bench.engine.dataplane().v4.frontends.clear();
    bench.engine.audit(bench.now + Duration::from_secs(60));
    let mut kept = bench.engine.dataplane().v4.frontends.keys();
    assert_eq!((kept.any(|key| key.proto == Proto::UDP), told(&mut bench)), (true, 1));
}

#[test]
fn items_102_and_103_a_collection_knows_who_serves_also_without_a_change_that_moves_anybody() {
    let mut bench = Bench::synced();
    let mut told = |addresses: &[&str]| {
        bench.take(dns(addresses));
        bench.engine.collect();
        let told = std::mem::take(&mut bench.engine.dataplane().collected);
        told.into_iter()
            .map(|ports| ports.into_iter().map(|(_, servers)| servers).collect())
            .collect::<Vec<Vec<_>>>()
    };
    assert_eq!(told(&["10.244.1.1"]), [[1]]);
    assert_eq!(told(&["10.244.1.1", "10.244.1.2"]), [[2]]);
    assert_eq!(told(&[]), [[0_usize; 0]]);
}
