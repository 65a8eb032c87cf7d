//! What the runner tells the API about a Pod, by annotations: see `tests/cluster/README.md`. Tried again while the API server is
//! away.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::journal::Journal;
use super::sandbox::Sandbox;
use super::workload::Workload;

const RETRY: Duration = Duration::from_millis(200);

/// One Pod's line to the API.
#[derive(Clone)]
pub(super) struct Report {
    api: Api<Pod>,
    name: String,
    uid: String,
    journal: Journal,
}

impl Report {
    pub(super) fn new(client: kube::Client, workload: &Workload, journal: Journal) -> Self {
        let api = Api::namespaced(client, &workload.key.namespace);
        Self { api, name: workload.key.name.clone(), uid: workload.uid.clone(), journal }
    }

    /// Its processes are there and listen.
    pub(super) async fn running(&self, sandbox: &Sandbox) {
        self.annotate(json!({
            "lab.sluice.dev/running": "true",
            "lab.sluice.dev/netns": sandbox.netns,
            "lab.sluice.dev/cgroup": sandbox.cgroup,
        }))
        .await;
    }

    /// It does not run, and why. The Pod becomes unready.
    pub(super) async fn broken(&self, why: &str) {
        self.journal.trouble(&format!("pod {}: {why}", self.name));
        self.annotate(json!({"lab.sluice.dev/running": why})).await;
    }

    /// Its processes get SIGTERM; the API knows that it was deleted.
    pub(super) fn terminating(&self) {
        self.journal.note(&format!("pod {}: terminating", self.name));
    }

    /// Its processes have ended because it was deleted: the object may go at once.
    pub(super) async fn ended(&self) {
        self.journal.note(&format!("pod {}: its processes have ended", self.name));
        self.annotate(json!({"lab.sluice.dev/end-after": "0s"})).await;
    }

    async fn annotate(&self, annotations: Value) {
        // With the uid, the patch fails for another Pod of the same name.
        let patch = json!({"metadata": {"uid": self.uid, "annotations": annotations}});
        loop {
            match self.api.patch(&self.name, &PatchParams::default(), &Patch::Merge(&patch)).await {
                Ok(_) => return,
                // The Pod is gone, or another one has its name; so nobody wants to know any more.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409 | 422) => return,
                Err(error) => self.journal.note(&format!("pod {}: patching: {error}", self.name)),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}
