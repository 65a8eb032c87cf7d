//! Source ranges, as the programs are told of them.

use proxy_common::Cidr;
use proxy_model::fact::Prefix;

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

fn cidr(range: &str) -> Update {
    let value = json!({"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": [range]}});
    put(Object::ServiceCidr(serde_json::from_value(value).unwrap()))
}

/// A Service of another proxy, with a port that would be a problem if it were ours.
fn anothers(ip: &str) -> Update {
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web",
            "labels": {"service.kubernetes.io/service-proxy-name": "other"}},
        "spec": {"clusterIPs": [ip], "ports": [{"name": "http", "port": 0}]}});
    put(Object::Service(serde_json::from_value(value).unwrap()))
}

/// The ranges that the programs know, of IPv4.
fn ranges(bench: &mut Bench) -> Vec<String> {
    let told = bench.engine.dataplane().node.unwrap().0.service_cidrs;
    let used = told.into_iter().filter(|cidr| *cidr != Cidr::unused());
    used.map(|Cidr { net, mask }| format!("{net}/{}", mask.word().count_ones())).collect()
}

#[test]
fn items_1_and_53_the_ranges_lie_around_the_services_of_other_proxies() {
    let given =
        Settings { service_cidrs: vec![Prefix { addr: [10, 97, 0, 0].into(), len: 31 }], ..settings() };
    let mut bench = Bench::with(Fake::default(), given);
    bench.take(Kind::ALL.map(Update::Synced));
    bench.take([cidr("10.96.0.0/30")]);
    assert_eq!(ranges(&mut bench), ["10.97.0.0/31", "10.96.0.0/30"]);
    bench.take([anothers("10.96.0.1")]);
    assert_eq!(ranges(&mut bench), ["10.97.0.0/31", "10.96.0.0/32", "10.96.0.2/31"]);
    assert_eq!(bench.status.snapshot().problems, BTreeMap::new(), "it is another's to complain");
    bench.take([anothers("10.97.0.0")]);
    assert_eq!(ranges(&mut bench), ["10.97.0.1/32", "10.96.0.0/30"]);
    bench.take([gone(Kind::Service, "web")]);
    assert_eq!(ranges(&mut bench), ["10.97.0.0/31", "10.96.0.0/30"]);
}

#[test]
fn items_53_and_145_a_proxy_of_a_name_tells_no_ranges() {
    let mine = Settings {
        service_proxy_name: Some("mine".into()),
        service_cidrs: vec![Prefix { addr: [10, 97, 0, 0].into(), len: 31 }],
        ..settings()
    };
    let mut bench = Bench::with(Fake::default(), mine);
    bench.take(Kind::ALL.map(Update::Synced));
    bench.take([cidr("10.96.0.0/30")]);
    assert_eq!(ranges(&mut bench), [""; 0]);
}
