//! The agent's HTTP servers and its configuration file, as their users meet them.

use serde_json::{Value, json};

use crate::node::{eventually, on_a_node};

const CONFIG: &str = "
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
hostnameOverride: not-this-one
bindAddress: 192.0.2.1
conntrack: {maxPerCore: 5}
mode: nftables
nftables: {syncPeriod: 1m}
";

const CHECKED: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  ports: [{name: http, port: 80, nodePort: 30000}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [192.0.2.7], nodeName: n1}
- {addresses: [192.0.2.8], nodeName: n1, conditions: {ready: false, serving: true, terminating: true}}
";

#[test]
fn items_133_and_143_pages_tell_the_configuration_in_force_and_a_changed_file_ends_the_agent() {
    on_a_node(|node| {
        let config = node.file("config.conf", CONFIG);
        node.start_with(&[("--config", &config)]);
        let shown: Value = serde_json::from_str(&node.metrics("/configz")).unwrap();
        let shown = &shown["kubeproxy.config.k8s.io"];
        assert_eq!(
            [&shown["hostnameOverride"], &shown["bindAddress"], &shown["syncPeriod"], &shown["mode"]],
            [&json!("n1"), &json!("192.0.2.1"), &json!("1m"), &json!("ebpf")]
        );
        let flags = node.metrics("/flagz");
        for line in ["node-name=n1".to_owned(), format!("config={config}"), "ip-family=auto".to_owned()] {
            assert!(flags.lines().any(|found| found == line), "{line} is not in\n{flags}");
        }
        assert!(
            node.metrics("/statusz").contains("Paths: /configz /flagz /healthz /metrics /proxyMode /statusz")
        );
        assert_eq!((node.metrics("/healthz").as_str(), node.metrics("/proxyMode").as_str()), ("ok", "ebpf"));
        assert_eq!(
            node.said().matches("conntrack.maxPerCore of the configuration is not followed").count(),
            1
        );

        node.file("config.conf", &CONFIG.replace("1m", "2m"));
        assert_eq!(node.await_end(), Some(1));
        assert!(node.is_pinned(), "the dataplane stays");
    });
}

#[test]
fn items_125_to_132_health_checks_and_the_health_of_the_agent_over_http() {
    on_a_node(|node| {
        node.write("web.yaml", CHECKED);
        node.start();
        let answer = eventually("health checks are answered", || node.http("192.0.2.1:32000", "/any"));
        let body: Value = serde_json::from_str(&answer.body).unwrap();
        let expected = json!({"service": {"namespace": "shop", "name": "web"}, "localEndpoints": 1, "serviceProxyHealthy": true});
        assert_eq!((answer.code, body), (200, expected));
        for header in [
            "content-type: application/json",
            "x-content-type-options: nosniff",
            "x-load-balancing-endpoint-weight: 1",
        ] {
            assert!(
                answer.head.to_lowercase().lines().any(|line| line == header),
                "{header} is not in {}",
                answer.head
            );
        }
        node.write(
            "web.yaml",
            &CHECKED
                .replace("{addresses: [192.0.2.7], nodeName: n1}", "{addresses: [192.0.2.7], nodeName: n2}"),
        );
        eventually("only a terminating endpoint is left here", || {
            node.http("192.0.2.1:32000", "/").filter(|answer| answer.code == 503)
        });
        let (code, body) = node.health("/healthz");
        let families = body["status"].as_object().unwrap();
        assert_eq!((code, &body["healthy"], &body["nodeEligible"]), (200, &json!(true), &json!(true)));
        assert_eq!(families.keys().collect::<Vec<_>>(), ["IPv4"]);
        let (code, body) = node.health("/livez");
        assert_eq!((code, body.get("nodeEligible")), (200, None));
        let metrics = node.metrics("/metrics");
        for line in [
            "# TYPE kubeproxy_proxy_healthz_total counter",
            "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
            "kubeproxy_proxy_livez_total{code=\"200\"} 1",
            "kubeproxy_sync_proxy_rules_service_changes_pending 0",
        ] {
            assert!(metrics.lines().any(|found| found == line), "{line} is not in\n{metrics}");
        }
    });
}
