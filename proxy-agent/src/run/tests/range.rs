//! Source ranges, as the programs are told of them.

use super::*;

#[test]
fn item_81_the_programs_are_told_of_source_ranges_as_long_as_one_is_in_the_kernel() {
    let mut bench = Bench::over(Fake::default());
    let balancer = |ranges: Value| {
        let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
            "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "loadBalancerSourceRanges": ranges,
                "ports": [{"name": "http", "port": 80}]},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
        put(Object::Service(serde_json::from_value(value).unwrap()))
    };
    let synced = [Kind::Service, Kind::EndpointSlice, Kind::Node].map(Update::Synced);
    let mut told = |updates: Vec<Update>| {
        bench.take(updates);
        let fake = bench.engine.dataplane();
        (fake.node.unwrap().0.ranges, fake.v4.ranges.len())
    };
    assert_eq!(told(synced.into()), (0, 0));
    assert_eq!(told(vec![balancer(json!(["198.51.100.0/24"]))]), (1, 1));
    // The frontend with the flag was still there when the programs were told.
    assert_eq!(told(vec![balancer(json!([]))]), (1, 0));
    assert_eq!(told(vec![service("other", &["10.96.0.2"])]), (0, 0));
}
