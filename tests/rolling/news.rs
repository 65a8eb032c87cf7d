//! How long the news of a Pod's end is on its way: from SIGTERM until the slices say so, and until the last new connection to it.
//! For people who wonder why a connection was lost; nothing is asserted here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use futures_util::StreamExt;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher::{self, Event, watcher};
use sluice_lab::wire::LoadReport;
use tests::cluster::Cluster;
use tests::cluster::control_plane::User;
use tokio::sync::oneshot;

type Times = BTreeMap<String, SystemTime>;

/// Follows the slices in a thread of its own, until it is dropped.
pub(crate) struct News {
    unready: Arc<Mutex<Times>>,
    _stop: oneshot::Sender<()>,
}

impl News {
    /// From now on.
    pub(crate) fn follow(cluster: &Cluster) -> Self {
        let path = cluster.control_plane().kubeconfig(User::Admin);
        let unready = Arc::new(Mutex::new(Times::new()));
        let (stop, stopped) = oneshot::channel();
        let times = Arc::clone(&unready);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let kubeconfig = Kubeconfig::read_from(path).unwrap();
                let options = KubeConfigOptions::default();
                let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.unwrap();
                let client = kube::Client::try_from(config).unwrap();
                let slices = watcher(Api::<EndpointSlice>::all(client), watcher::Config::default());
                let note = slices.for_each(|event| {
                    if let Ok(Event::Apply(slice) | Event::InitApply(slice)) = event {
                        note(&mut times.lock().unwrap(), &slice);
                    }
                    std::future::ready(())
                });
                tokio::select! {
                    () = note => {}
                    _ = stopped => {}
                }
            });
        });
        Self { unready, _stop: stop }
    }

    /// The delays, over all Pods that ended.
    pub(crate) fn delays(&self, cluster: &Cluster, reports: &[(String, LoadReport)]) -> String {
        let told = times_in(&std::fs::read_to_string(cluster.logs().join("pod-runner.log")).unwrap());
        let mut last = Times::new();
        for (name, at) in reports.iter().flat_map(|(_, report)| &report.last) {
            let known = last.entry(name.clone()).or_insert(*at);
            *known = (*known).max(*at);
        }
        let unready = self.unready.lock().unwrap();
        format!(
            "after SIGTERM the slices say so after {}, and new connections end after {}",
            spread(&told, &unready),
            spread(&told, &last)
        )
    }
}

fn note(times: &mut Times, slice: &EndpointSlice) {
    for endpoint in &slice.endpoints {
        let ends = endpoint.conditions.as_ref().is_some_and(|state| state.terminating == Some(true));
        if let (true, Some(name)) = (ends, endpoint.target_ref.as_ref().and_then(|pod| pod.name.clone())) {
            times.entry(name).or_insert_with(SystemTime::now);
        }
    }
}

/// When Pods got SIGTERM, as the pod runner has written down.
fn times_in(log: &str) -> Times {
    let line = |line: &str| {
        let (at, rest) = line.split_once(" pod ")?;
        let name = rest.strip_suffix(": terminating")?;
        Some((name.to_owned(), humantime::parse_rfc3339(at).ok()?))
    };
    log.lines().filter_map(line).collect()
}

/// Negative where the news was there before SIGTERM: the pod runner works off its events one by one.
fn spread(from: &Times, to: &Times) -> String {
    let delay = |(name, from): (&String, &SystemTime)| to.get(name).map(|to| millis(*from, *to));
    let mut delays: Vec<i128> = from.iter().filter_map(delay).collect();
    delays.sort_unstable();
    let last = delays.len().saturating_sub(1);
    let at = |share: usize| delays.get((delays.len() * share / 100).min(last)).unwrap_or(&0);
    format!("{}/{}/{} ms (half/95 %/all of {})", at(50), at(95), at(100), delays.len())
}

fn millis(from: SystemTime, to: SystemTime) -> i128 {
    let epoch =
        |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis();
    epoch(to).cast_signed() - epoch(from).cast_signed()
}
