//! The binaries as their operator uses them, on a real kernel: started, killed, started again, asked, told nonsense.

mod explain;
mod family;
mod node;
mod pages;
mod policy;

use node::{Node, eventually, on_a_node};
use rustix::process::Signal;
use serde_json::{Value, json};

const WEB: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
addressType: IPv4
metadata: {name: web-1, namespace: shop, labels: {kubernetes.io/service-name: web}}
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [192.0.2.7], nodeName: n1}
- {addresses: [192.0.2.8], nodeName: n2}
";

fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}\n"
    )
}

/// Names of the Services that are served.
fn served(node: &Node) -> Vec<Value> {
    let rows = node.ctl(&["service", "list"]);
    rows.as_array().expect("rows").iter().map(|row| row["service"].clone()).collect()
}

#[test]
fn a_service_is_served_shown_changed_and_gone() {
    on_a_node(|node| {
        node.write("web.yaml", WEB);
        node.start();
        let page = eventually("names are written down", || {
            (served(node) == ["shop/web"]).then(|| node.ctl(&["service", "get", "shop/web"]))
        });
        let frontend = &page["frontends"][0];
        assert_eq!(
            [&frontend["address"], &frontend["port"], &frontend["protocol"], &frontend["kind"]],
            [&json!("10.96.0.10"), &json!(80), &json!("TCP"), &json!("ClusterIP")]
        );
        let mut places: Vec<_> =
            frontend["cluster"].as_array().unwrap().iter().map(|b| [&b["address"], &b["place"]]).collect();
        places.sort_by_key(|[address, _]| address.to_string());
        assert_eq!(places, [[&json!("192.0.2.7"), &json!("local")], [&json!("192.0.2.8"), &json!("remote")]]);
        assert_eq!([&frontend["clusterBackends"], &frontend["localBackends"]], [&json!(2), &json!(1)]);
        assert_eq!(node.ctl(&["backend", "list"]).as_array().unwrap().len(), 2);

        node.write("web.yaml", &service("other", "10.96.0.11"));
        eventually("the new Service alone", || (served(node) == ["shop/other"]).then_some(()));
        assert_eq!(node.metrics("/proxyMode"), "ebpf");
        assert!(node.metrics("/metrics").contains("sluice_ready 1"));
    });
}

#[test]
fn after_a_kill_the_next_agent_adopts_and_after_a_sigterm_the_dataplane_stays() {
    on_a_node(|node| {
        node.write("web.yaml", WEB);
        node.start();
        eventually("names are written down", || (served(node) == ["shop/web"]).then_some(()));
        node.end(Signal::KILL);
        let status = node.ctl(&["status"]);
        assert_eq!([&status["agent"]["alive"], &status["services"]], [&json!(false), &json!(1)]);

        node.start();
        let status = node.ctl(&["status"]);
        let start = &status["start"];
        assert_eq!(
            [
                &status["agent"]["alive"],
                &start["adopted"],
                &start["kept"],
                &start["written"],
                &start["deleted"]
            ],
            [&json!(true), &json!(true), &json!(2), &json!(0), &json!(0)]
        );
        assert_eq!(node.end(Signal::TERM), Some(0));
        assert_eq!(served(node), ["shop/web"]);
        assert!(node.cleanup().status.success());
        assert!(!node.is_pinned());
    });
}

#[test]
fn a_start_with_an_unreadable_file_keeps_what_an_earlier_run_served_from_it() {
    on_a_node(|node| {
        node.write("web.yaml", WEB);
        node.write("other.yaml", &service("other", "10.96.0.11"));
        node.start();
        eventually("names are written down", || (served(node).len() == 2).then_some(()));
        node.end(Signal::KILL);

        node.write("web.yaml", "kind: [unclosed");
        node.start();
        assert_eq!(node.ctl(&["status"])["start"]["deleted"], json!(0));
        assert_eq!(served(node), ["shop/other", "shop/web"]);
        let said = node.said();
        assert_eq!(said.matches("frontends of an earlier run").count(), 1, "{said}");
        node.write("other.yaml", "");
        eventually("what is known goes", || (served(node) == ["shop/web"]).then_some(()));
        node.write("web.yaml", &service("new", "10.96.0.12"));
        eventually("what is read counts", || (served(node) == ["shop/new"]).then_some(()));
    });
}

#[test]
fn objects_that_make_no_sense_are_named_and_stop_nobody() {
    on_a_node(|node| {
        node.write("a.yaml", WEB);
        node.write("b.yaml", &service("bad", "10.96.0.999"));
        node.write("c.yaml", "kind: [unclosed");
        node.write(
            "d.yaml",
            "apiVersion: v1\nkind: Service\nmetadata: {name: odd}\nspec: {ports: [{port: http}]}\n",
        );
        node.write(
            "e.yaml",
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\nmetadata: {name: lost}\n",
        );
        node.start();
        eventually("the good one is served", || (served(node) == ["shop/web"]).then_some(()));
        let said = node.said();
        for complaint in [
            "Service shop/bad spec.clusterIP: \"10.96.0.999\" is not an IP address",
            "c.yaml, document 1: ",
            "d.yaml, document 1, Service odd, spec.ports[0].port: invalid type: string \"http\", expected i32",
            "EndpointSlice default/lost metadata.labels[kubernetes.io/service-name]: missing: the slice names no Service",
        ] {
            assert_eq!(said.matches(complaint).count(), 1, "{complaint:?} in\n{said}");
        }
        let (code, body) = node.health("/healthz");
        assert_eq!(
            (code, &body["unreadableFiles"], &body["objectsWithProblems"]),
            (200, &json!(2), &json!(2))
        );
    });
}

#[test]
fn what_keeps_an_agent_from_serving_is_one_line_with_the_remedy() {
    on_a_node(|node| {
        for (flag, value, expected) in [
            ("--manifests", "/nonexistent", "--manifests /nonexistent: the directory cannot be read"),
            (
                "--bpf-root",
                "/tmp/no-bpffs",
                "is not on a BPF file system; mount one (mount -t bpf bpf /sys/fs/bpf)",
            ),
            ("--cluster-cidr", "10.0.0.0", "--cluster-cidr: \"10.0.0.0\" is not an address range"),
        ] {
            let (code, said) = node.refused(&[(flag, value)]);
            assert!(said.contains(expected), "{flag}: {said}");
            assert_eq!((code, said.lines().count()), (Some(1), 1), "{said}");
        }
        let (code, said) = node.ctl_refused(&["status"]);
        assert!(said.contains("nothing is pinned below") && said.contains("SLUICE_BPF_ROOT"), "{said}");
        assert_eq!(code, Some(1));
    });
}

#[test]
fn an_agent_takes_as_many_descriptors_as_it_may_have() {
    on_a_node(|node| {
        node.start();
        let [soft, hard] = node.descriptors();
        assert_ne!(hard, "256", "nothing could be raised");
        assert_eq!(soft, hard);
    });
}

#[test]
fn a_second_agent_on_one_root_is_refused_and_the_first_goes_on() {
    on_a_node(|node| {
        node.write("web.yaml", WEB);
        node.start();
        let (code, said) = node.refused(&[]);
        assert!(said.contains("another agent (pid ") && said.contains("--bpf-root"), "{said}");
        assert_eq!(code, Some(1));
        assert_eq!(node.health("/healthz").0, 200);
        let (code, said) = node.ctl_refused(&["service", "get", "no/such"]);
        assert!(said.contains("Service no/such is not in the maps"), "{said}");
        assert_eq!(code, Some(1));
    });
}
