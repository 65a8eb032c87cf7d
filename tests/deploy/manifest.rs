//! The manifests and the API server that they are for.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use tests::cluster::binary::ClusterBinary;
use tests::cluster::control_plane::{ControlPlane, SERVICE_CIDRS};
use tests::repository;

/// The kinds of the Prometheus operator, which a cluster need not have, as far as an API server looks at them.
fn operator() -> String {
    let kind = |plural: &str, kind: &str| {
        json!({
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
            "spec": {
                "group": "monitoring.coreos.com",
                "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind},
                "scope": "Namespaced",
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object",
                    "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
                }}}],
            },
        })
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [kind("podmonitors", "PodMonitor"), kind("prometheusrules", "PrometheusRule")]})
        .to_string()
}

fn manifests() -> Vec<PathBuf> {
    let entries =
        fs::read_dir(repository().join("deploy/manifests")).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = entries.filter(|path| !path.ends_with("kustomization.yaml")).collect();
    all.sort();
    all
}

#[test]
fn the_api_server_accepts_every_manifest_as_it_is() {
    let dir = std::env::temp_dir().join(format!("sluice-deploy-{}", std::process::id()));
    let control = ControlPlane::start(&ClusterBinary::build().unwrap(), &dir, SERVICE_CIDRS).unwrap();
    let kubectl = control.kubectl();
    kubectl.apply(&operator()).unwrap();
    kubectl.run("wait crd --all --for=condition=Established --timeout=60s").unwrap();
    let all = manifests();
    assert!(all.len() >= 3, "{all:?}");
    for path in all {
        let text = fs::read_to_string(&path).unwrap();
        // Strict: a field that nobody knows is an error, not a warning.
        let flags = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        let said = kubectl.run_with(&flags, &text).unwrap();
        let objects = text.lines().filter(|line| line.starts_with("kind: ")).count();
        assert_eq!(said.lines().count(), objects, "{}: {said}", path.display());
    }
    let overlay = repository().join("deploy/kustomize/own-cluster");
    let text = kubectl.run_with(&["kustomize", overlay.to_str().unwrap()], "").unwrap();
    assert!(text.contains("image: registry.example.net/net/sluice:0.1.0"), "{text}");
    assert!(text.contains("- --api-server=192.0.2.11:6443,192.0.2.12:6443"), "{text}");
    kubectl
        .run_with(&["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"], &text)
        .unwrap();
    control.stop().unwrap();
    fs::remove_dir_all(dir).unwrap();
}
