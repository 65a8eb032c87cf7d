//! What an image is made of: a bill of materials in CycloneDX's JSON, from what cargo says of the agent's dependencies.
//!
//! <https://cyclonedx.org/docs/1.5/json/>

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::child;

/// The bill of the agent. It says nothing of when it was written: the same lock file makes the same bill.
pub(super) fn bill() -> Result<String> {
    let mut cargo = child::cargo(["metadata", "--format-version", "1", "--locked", "--filter-platform"]);
    let output = cargo.arg("x86_64-unknown-linux-musl").output().context("cannot run cargo metadata")?;
    ensure!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is no JSON")?;
    Ok(serde_json::to_string_pretty(&describe(&metadata, "proxy-agent")?)? + "\n")
}

fn describe(metadata: &Value, root: &str) -> Result<Value> {
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).filter_map(|one| Some((one["id"].as_str()?, one))).collect();
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).filter_map(|one| Some((one["id"].as_str()?, one))).collect();
    let top = packages.iter().find(|(_, package)| package["name"] == root).map(|(id, _)| *id);
    let top = top.with_context(|| format!("cargo knows no package {root}"))?;
    let mut reached = BTreeSet::new();
    let mut open = vec![top];
    while let Some(id) = open.pop() {
        if reached.insert(id) {
            open.extend(nodes.get(id).into_iter().flat_map(|node| linked(node)));
        }
    }
    let described: Vec<Value> =
        reached.iter().filter(|id| **id != top).map(|id| component(packages[*id])).collect();
    let dependencies: Vec<Value> = reached
        .iter()
        .map(|id| {
            let on: Vec<String> = nodes
                .get(id)
                .into_iter()
                .flat_map(|node| linked(node))
                .map(|one| url(packages[one]))
                .collect();
            json!({"ref": url(packages[*id]), "dependsOn": on})
        })
        .collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": component(packages[top])},
        "components": described,
        "dependencies": dependencies,
    }))
}

/// Ids of what a package links: neither what only builds it nor what only tests it.
fn linked(node: &Value) -> impl Iterator<Item = &str> {
    let normal = |one: &&Value| list(&one["dep_kinds"]).any(|kind| kind["kind"].is_null());
    list(&node["deps"]).filter(normal).filter_map(|one| one["pkg"].as_str())
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn component(package: &Value) -> Value {
    let mut all = json!({
        "type": "library",
        "bom-ref": url(package),
        "name": package["name"],
        "version": package["version"],
        "purl": url(package),
    });
    if let Some(license) = package["license"].as_str() {
        all["licenses"] = json!([{"expression": license.replace('/', " OR ")}]);
    }
    all
}

/// <https://github.com/package-url/purl-spec>
fn url(package: &Value) -> String {
    format!(
        "pkg:cargo/{}@{}",
        package["name"].as_str().unwrap_or(""),
        package["version"].as_str().unwrap_or("")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bill_names_what_is_linked_and_nothing_else() {
        let package =
            |name: &str| json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT/Apache-2.0"});
        let dep = |name: &str, kind: Value| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("agent"), package("used"), package("builds"), package("tests"), package("deep")],
            "resolve": {"nodes": [
                {"id": "agent", "deps": [dep("used", Value::Null), dep("builds", json!("build")), dep("tests", json!("dev"))]},
                {"id": "used", "deps": [dep("deep", Value::Null)]},
                {"id": "deep", "deps": []},
            ]},
        });
        let bill = describe(&metadata, "agent").expect("a bill");
        let names: Vec<_> =
            list(&bill["components"]).map(|one| one["purl"].as_str().expect("a name")).collect();
        assert_eq!(names, ["pkg:cargo/deep@1.0.0", "pkg:cargo/used@1.0.0"]);
        assert_eq!(bill["components"][0]["licenses"], json!([{"expression": "MIT OR Apache-2.0"}]));
        assert_eq!(
            bill["dependencies"][0],
            json!({"ref": "pkg:cargo/agent@1.0.0", "dependsOn": ["pkg:cargo/used@1.0.0"]})
        );
        describe(&metadata, "nobody").unwrap_err();
    }
}
