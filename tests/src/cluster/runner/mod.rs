//! The pod runner: what a kubelet and a CNI plugin do, with a lab for a machine room. It watches Pods, stands each up at the
//! addresses that the API holds, says so, sends SIGTERM when the Pod is deleted, and clears it away when its object is gone.
//!
//! ```text
//! watch ─► workload ─► sandbox (lab pod, agnhost) ─► listening? ─► report (annotations) ─► fake kubelet: Running, Ready
//! ```
//!
//! It does not allocate addresses and does not decide who is ready; probes, volumes and images are beyond it.

mod journal;
mod listening;
mod report;
mod sandbox;
mod standing;
mod workload;

pub use workload::PodKey;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::WatchStreamExt;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, Event, watcher};
use sluice_lab::Lab;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::binary::ClusterBinary;
use journal::Journal;
use standing::Standing;
use workload::{Fate, Workload, key_of};

/// A runner in a thread of its own. Dropping it ends the processes of all Pods; their places go with the lab.
pub struct PodRunner {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
    journal: Journal,
}

impl PodRunner {
    /// Starts it. Its own log and those of the containers go to `logs`.
    ///
    /// # Errors
    /// The log cannot be written or the kubeconfig not read.
    pub fn start(lab: Arc<Lab>, binary: &ClusterBinary, kubeconfig: &Path, logs: &Path) -> Result<Self> {
        let journal = Journal::open(&logs.join("pod-runner.log"))?;
        let kubeconfig = Kubeconfig::read_from(kubeconfig).context("the pod runner's kubeconfig")?;
        let (stop, stopped) = oneshot::channel();
        let floor = Floor { lab, binary: binary.clone(), logs: logs.to_owned(), journal: journal.clone() };
        let work = move || {
            // One thread: events are worked off in their order, and the processes of Pods end with it.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(floor, kubeconfig, stopped))
        };
        let thread = std::thread::Builder::new().name("pod-runner".to_owned()).spawn(work)?;
        Ok(Self { stop: Some(stop), thread: Some(thread), journal })
    }

    /// What went wrong so far: Pods that could not be stood up, processes that ended by themselves.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        self.journal.troubles()
    }

    /// Ends it and the processes of all Pods.
    ///
    /// # Errors
    /// It had come to an end by itself.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        if let Some(stop) = self.stop.take() {
            // A runner that has failed does not listen; `join` says why.
            let _ = stop.send(());
        }
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("the pod runner panicked"))?.context("the pod runner failed")
    }
}

impl Drop for PodRunner {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}

/// What every Pod is stood up on.
struct Floor {
    lab: Arc<Lab>,
    binary: ClusterBinary,
    logs: PathBuf,
    journal: Journal,
}

/// An API server that was killed is back within seconds; a test waits for it.
struct Soon;

const RETRY: Duration = Duration::from_millis(200);

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(RETRY)
    }
}

impl Backoff for Soon {
    fn reset(&mut self) {}
}

async fn run(floor: Floor, kubeconfig: Kubeconfig, stopped: oneshot::Receiver<()>) -> Result<()> {
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    let client = Client::try_from(config).context("a client for the pod runner")?;
    let mut runner = Runner { floor, client, standing: BTreeMap::new(), tasks: JoinSet::new() };
    let result = tokio::select! {
        error = runner.watch() => Err(error),
        _ = stopped => Ok(()),
    };
    runner.standing.values().for_each(Standing::die);
    while runner.tasks.join_next().await.is_some() {}
    result
}

struct Runner {
    floor: Floor,
    client: Client,
    standing: BTreeMap<PodKey, Standing>,
    tasks: JoinSet<()>,
}

impl Runner {
    /// Follows the Pods of the cluster; returns only when that is no longer possible.
    async fn watch(&mut self) -> anyhow::Error {
        let api = Api::<Pod>::all(self.client.clone());
        let mut pods = watcher(api, watcher::Config::default()).backoff(Soon).boxed();
        let mut listed = Vec::new();
        while let Some(event) = pods.next().await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) => listed.push(pod),
                Ok(Event::InitDone) => self.replace(&std::mem::take(&mut listed)),
                Ok(Event::Apply(pod)) => self.apply(&pod),
                Ok(Event::Delete(pod)) => self.delete(&pod),
                Err(error) => self.floor.journal.note(&format!("watching pods: {error}")),
            }
        }
        anyhow!("the watch of Pods has ended")
    }

    /// All Pods there are, after the watch was interrupted. What is gone goes first: its addresses may be lent again.
    fn replace(&mut self, pods: &[Pod]) {
        let uids: BTreeSet<&str> = pods.iter().filter_map(|pod| pod.metadata.uid.as_deref()).collect();
        let gone = self.standing.iter().filter(|(_, standing)| !uids.contains(standing.uid.as_str()));
        let gone: Vec<PodKey> = gone.map(|(key, _)| key.clone()).collect();
        gone.iter().for_each(|key| self.clear(key));
        pods.iter().for_each(|pod| self.apply(pod));
    }

    fn apply(&mut self, pod: &Pod) {
        let workload = match Workload::of(pod) {
            Ok(Some(workload)) => workload,
            Ok(None) => return,
            Err(error) => return self.floor.journal.trouble(&format!("{error:#}")),
        };
        if self.standing.get(&workload.key).is_some_and(|standing| standing.uid != workload.uid) {
            self.clear(&workload.key);
        }
        match (self.standing.get(&workload.key), workload.fate) {
            (None, Fate::Lives) => {
                let standing = Standing::set_up(&self.floor, self.client.clone(), &workload, &mut self.tasks);
                self.standing.insert(workload.key, standing);
            }
            (Some(standing), Fate::Ends) => standing.terminate(),
            (Some(_), Fate::Lives) | (None, Fate::Ends) => {}
        }
    }

    fn delete(&mut self, pod: &Pod) {
        match key_of(pod) {
            Ok(key) => self.clear(&key),
            Err(error) => self.floor.journal.trouble(&format!("{error:#}")),
        }
    }

    fn clear(&mut self, key: &PodKey) {
        let Some(standing) = self.standing.remove(key) else { return };
        match standing.clear(&self.floor) {
            Ok(()) => self.floor.journal.note(&format!("pod {key} is gone")),
            Err(error) => self.floor.journal.trouble(&format!("pod {key}: taking it away: {error:#}")),
        }
    }
}
