//! `proxyctl` explains Services and the agent: from what the agent wrote down beside the maps, alive or dead.

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::node::{eventually, on_a_node};

const ZONED: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: za}}
status: {addresses: [{type: InternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  sessionAffinity: ClientIP
  loadBalancerSourceRanges: [198.51.100.0/24]
  ports: [{name: http, port: 80}, {name: admin, port: 81}]
status: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [192.0.2.7], nodeName: n1, zone: za, hints: {forZones: [{name: za}]}}
- {addresses: [192.0.2.8], nodeName: n2, zone: zb, hints: {forZones: [{name: zb}]}}
- {addresses: [192.0.2.9], nodeName: n1, zone: za, conditions: {ready: false}}
- {addresses: [192.0.2.10], nodeName: n2, zone: zb, conditions: {ready: false, serving: true, terminating: true}}
- {addresses: [192.0.2.11], nodeName: n2, zone: zb, conditions: {ready: false, serving: false, terminating: true}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: web-2, namespace: shop, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [192.0.2.7], nodeName: n1, conditions: {ready: false}}
";

/// Address, node and reason of each endpoint that is not used.
fn not_used(port: &Value) -> Vec<[String; 3]> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let rows = port["notUsed"].as_array().expect("rows").iter();
    rows.map(|row| [text(&row["address"]), text(&row["node"]), text(&row["why"])]).collect()
}

fn reasons() -> Vec<[String; 3]> {
    [
        ["192.0.2.7", "n1", "duplicate of an entry in slice web-1"],
        ["192.0.2.8", "n2", "zone zb; hints select zone za"],
        ["192.0.2.9", "n1", "not ready"],
        ["192.0.2.10", "n2", "terminating; ready ones exist"],
        ["192.0.2.11", "n2", "terminating, not serving"],
    ]
    .map(|row| row.map(str::to_owned))
    .into()
}

#[test]
fn a_service_is_explained_with_the_agent_and_without_it() {
    on_a_node(|node| {
        node.write("web.yaml", ZONED);
        node.start();
        let port = eventually("the reasons are written down", || {
            let page = node.ctl_if(&["service", "get", "shop/web:http"])?;
            Some(page["ports"][0].clone()).filter(|port| not_used(port) == reasons())
        });
        let ours = json!([{"address": "192.0.2.7", "port": 8080, "place": "local", "terminating": false, "node": "n1",
            "zone": "za", "state": "ready", "weight": 1, "slots": 1}]);
        assert_eq!(port["cluster"], ours);
        assert_eq!(
            [&port["sourceRanges"], &port["affinitySeconds"], &port["affinityClients"], &port["family"]],
            [&json!(["198.51.100.0/24"]), &json!(10_800), &json!(0), &json!("IPv4")]
        );
        assert_eq!(node.ctl(&["service", "get", "shop/web"])["ports"].as_array().unwrap().len(), 2);

        node.end(Signal::KILL);
        let page = node.ctl(&["service", "get", "shop/web:80"]);
        assert_eq!(not_used(&page["ports"][0]), reasons());
        assert_eq!(
            [&page["reasons"]["node"], &page["reasons"]["zone"], &page["reasons"]["known"]],
            [&json!("n1"), &json!("za"), &json!(true)]
        );
        let text = node.ctl_text(&["service", "get", "shop/web"]);
        for line in [
            "sources   http/TCP/IPv4: 198.51.100.0/24",
            "affinity  http/TCP/IPv4: ClientIP for 10800s, 0 clients",
        ] {
            assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        }
        assert!(text.contains(" ago), node n1, zone za"), "{text}");
    });
}

#[test]
fn the_status_names_the_node_its_modes_and_what_is_wrong() {
    on_a_node(|node| {
        node.write("web.yaml", ZONED);
        node.write("bad.yaml", "kind: [unclosed");
        node.start();
        let report = eventually("the agent has said what it is", || {
            let report = node.ctl(&["status"])["report"].clone();
            (report["zone"] == "za" && report["degraded"] != json!([])).then_some(report)
        });
        assert_eq!([&report["node"], &report["nodeEligible"]], [&json!("n1"), &json!(true)]);
        assert_eq!(
            report["degraded"],
            json!(["manifests that cannot be read in full: 1; the log names them"])
        );
        assert!(report["source"].as_str().unwrap().starts_with("manifests in "), "{report}");
        assert_eq!(
            [&report["families"]["IPv4"]["healthy"], &report["modes"]["socket-lb"]],
            [&json!(true), &json!("on")]
        );
        node.write("bad.yaml", "");
        eventually("nothing is wrong any more", || {
            (node.ctl(&["status"])["report"]["degraded"] == json!([])).then_some(())
        });
        let text = node.ctl_text(&["status"]);
        assert!(text.contains("node        n1, zone za\n") && !text.contains("degraded"), "{text}");
        node.end(Signal::KILL);
        assert!(node.ctl_text(&["status"]).contains("\nas of"), "a dead agent's words have a date");
    });
}
