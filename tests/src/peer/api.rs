//! Objects of cases as an API server takes them: without what only it may set, and status apart. Knows which kinds kube-proxy
//! watches; what it watches not is left out.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use kube::Client;
use kube::api::{
    Api as Typed, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};
use sluice_lab::Op;
use sluice_lab::fixture::product::NotExpressible;
use tokio::runtime::Runtime;

/// The Service by which the API server itself is reached; it is not the cases'.
const OWN: (&str, &str) = ("default", "kubernetes");
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Writes objects one after the other.
pub(super) struct Api {
    runtime: Runtime,
    client: Client,
}

#[derive(Clone, Copy)]
enum Kind {
    Service,
    EndpointSlice,
    Node,
    Namespace,
}

impl Kind {
    /// `None` for what kube-proxy does not watch.
    fn of(object: &Value) -> Result<Option<Self>> {
        match object["kind"].as_str() {
            Some("Service") => Ok(Some(Self::Service)),
            Some("EndpointSlice") => Ok(Some(Self::EndpointSlice)),
            Some("Node") => Ok(Some(Self::Node)),
            Some("Namespace") => Ok(Some(Self::Namespace)),
            Some("Pod") => Ok(None),
            other => Err(NotExpressible(format!("objects of kind {other:?}")).into()),
        }
    }

    fn resource(self) -> ApiResource {
        let (group, version, kind) = match self {
            Self::Service => ("", "v1", "Service"),
            Self::EndpointSlice => ("discovery.k8s.io", "v1", "EndpointSlice"),
            Self::Node => ("", "v1", "Node"),
            Self::Namespace => ("", "v1", "Namespace"),
        };
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
    }
}

impl Api {
    /// # Errors
    /// The kubeconfig is none.
    pub(super) fn new(kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("the administrator's kubeconfig")?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let client = runtime.block_on(async {
            let config =
                kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            Client::try_from(config).context("a client for the cases' objects")
        })?;
        Ok(Self { runtime, client })
    }

    /// Applies one change of a case. Namespaces stay, and Nodes only change their labels: the nodes of a lab are what they are.
    ///
    /// # Errors
    /// [`NotExpressible`] if the API server finds the object invalid.
    pub(super) fn apply(&self, op: Op, object: &Value) -> Result<()> {
        let Some(kind) = Kind::of(object)? else { return Ok(()) };
        let name =
            object.pointer("/metadata/name").and_then(Value::as_str).context("an object without name")?;
        let space = object.pointer("/metadata/namespace").and_then(Value::as_str).unwrap_or_default();
        match (kind, op) {
            (Kind::Namespace, Op::Create | Op::Update) => self.namespace(name),
            (Kind::Node, Op::Create | Op::Update) => self.label_node(name, &object["metadata"]["labels"]),
            (Kind::Namespace | Kind::Node, Op::Delete) => {
                Err(NotExpressible(format!("deleting {} {name}", object["kind"])).into())
            }
            (Kind::Service | Kind::EndpointSlice, Op::Delete) => self.remove(kind, space, name),
            (Kind::Service | Kind::EndpointSlice, Op::Create | Op::Update) => self.put(kind, op, object),
        }
    }

    /// Makes a namespace, if it is not there.
    pub(super) fn namespace(&self, name: &str) -> Result<()> {
        let object = dynamic(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}))?;
        let api = Typed::<DynamicObject>::all_with(self.client.clone(), &Kind::Namespace.resource());
        match self.runtime.block_on(api.create(&PostParams::default(), &object)) {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            result => result.map(drop).with_context(|| format!("making namespace {name}")),
        }
    }

    /// Removes all Services and slices but the API server's own and those of one namespace.
    pub(super) fn clear(&self, but: &str) -> Result<()> {
        for kind in [Kind::Service, Kind::EndpointSlice] {
            let all = Typed::<DynamicObject>::all_with(self.client.clone(), &kind.resource());
            for object in
                self.runtime.block_on(all.list(&ListParams::default())).context("listing objects")?
            {
                let space = object.metadata.namespace.unwrap_or_default();
                let name = object.metadata.name.unwrap_or_default();
                if space != but && (space.as_str(), name.as_str()) != OWN {
                    self.remove(kind, &space, &name)?;
                }
            }
        }
        Ok(())
    }

    /// Removes a Service and its slices.
    pub(super) fn remove_all(&self, space: &str, service: &str) -> Result<()> {
        self.remove(Kind::Service, space, service)?;
        let slices = self.of(Kind::EndpointSlice, space);
        let label = ListParams::default().labels(&format!("{SERVICE_NAME}={service}"));
        for slice in self.runtime.block_on(slices.list(&label)).context("listing slices")? {
            self.remove(Kind::EndpointSlice, space, &slice.metadata.name.unwrap_or_default())?;
        }
        Ok(())
    }

    /// Gives the Nodes of a List their labels back.
    pub(super) fn relabel_nodes(&self, list: &Value) -> Result<()> {
        let nodes = list["items"].as_array().into_iter().flatten();
        nodes.into_iter().try_for_each(|node| {
            let name = node.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
            self.label_node(name, &node["metadata"]["labels"])
        })
    }

    fn of(&self, kind: Kind, space: &str) -> Typed<DynamicObject> {
        Typed::namespaced_with(self.client.clone(), space, &kind.resource())
    }

    fn remove(&self, kind: Kind, space: &str, name: &str) -> Result<()> {
        match self.runtime.block_on(self.of(kind, space).delete(name, &DeleteParams::default())) {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            result => result.map(drop).with_context(|| format!("deleting {space}/{name}")),
        }
    }

    /// Writes an object as a whole, then its status: a status that comes with the object is passed over by the API server.
    fn put(&self, kind: Kind, op: Op, object: &Value) -> Result<()> {
        let clean = dynamic(&cleaned(object))?;
        let name = clean.metadata.name.clone().unwrap_or_default();
        let api = self.of(kind, clean.metadata.namespace.as_deref().unwrap_or_default());
        let balancer = json!({"status": {"loadBalancer": object["status"]["loadBalancer"]}});
        let write = async {
            if op == Op::Update {
                api.replace(&name, &PostParams::default(), &clean).await?;
            } else {
                api.create(&PostParams::default(), &clean).await?;
            }
            if matches!(kind, Kind::Service) {
                api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&balancer)).await?;
            }
            Ok(())
        };
        self.runtime.block_on(write).map_err(|error: kube::Error| {
            if let kube::Error::Api(status) = &error
                && matches!(status.code, 400 | 422)
            {
                return NotExpressible(status.message.clone()).into();
            }
            anyhow::Error::new(error).context(format!("writing {name}"))
        })
    }

    /// Makes the labels of a Node exactly these.
    fn label_node(&self, name: &str, labels: &Value) -> Result<()> {
        let wanted: BTreeMap<String, String> = serde_json::from_value(labels.clone()).unwrap_or_default();
        let api = Typed::<DynamicObject>::all_with(self.client.clone(), &Kind::Node.resource());
        let write = async {
            let now = api.get(name).await?.metadata.labels.unwrap_or_default();
            if now == wanted {
                return Ok(());
            }
            let gone =
                now.keys().filter(|key| !wanted.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let new = wanted.iter().map(|(key, value)| (key.clone(), json!(value)));
            let labels: serde_json::Map<String, Value> = gone.chain(new).collect();
            let patch = json!({"metadata": {"labels": labels}});
            api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.map(drop)
        };
        let result: kube::Result<()> = self.runtime.block_on(write);
        result.with_context(|| format!("labelling node {name}"))
    }
}

fn dynamic(object: &Value) -> Result<DynamicObject> {
    serde_json::from_value(object.clone()).context("an object of a case")
}

/// The object without what the API server sets, and without the mark by which the real controllers would take a slice for theirs
/// and correct it (item 10: who manages a slice does not matter).
fn cleaned(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in
            ["uid", "resourceVersion", "generation", "creationTimestamp", "managedFields", "ownerReferences"]
        {
            metadata.remove(field);
        }
        if let Some(manager) = metadata.get_mut("labels").and_then(|labels| labels.get_mut(MANAGED_BY)) {
            *manager = json!("fixtures");
        }
    }
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_cleaned_of_what_the_api_server_sets_and_of_its_manager() {
        let slice = json!({
            "kind": "EndpointSlice",
            "metadata": {"name": "s-1", "uid": "u", "resourceVersion": "7", "labels": {
                SERVICE_NAME: "s", MANAGED_BY: "endpointslice-controller.k8s.io",
            }},
            "endpoints": [],
            "status": {},
        });
        assert_eq!(
            cleaned(&slice),
            json!({
                "kind": "EndpointSlice",
                "metadata": {"name": "s-1", "labels": {SERVICE_NAME: "s", MANAGED_BY: "fixtures"}},
                "endpoints": [],
            })
        );
    }

    #[test]
    fn pods_are_left_out_and_unknown_kinds_cannot_be_expressed() {
        assert!(Kind::of(&json!({"kind": "Pod"})).unwrap().is_none());
        let error = Kind::of(&json!({"kind": "Ingress"})).err().unwrap();
        assert!(error.is::<NotExpressible>(), "{error}");
    }
}
