//! Clients that open new connections without a pause, and what became of those. Knows nothing of the Deployment.

use std::net::SocketAddr;
use std::time::Duration;

use sluice_lab::wire::LoadReport;
use sluice_lab::{Dialect, Load, Place, Probe, Protocol};
use tests::cluster::Cluster;

use crate::update::Frontends;

/// A connection that takes seconds on a busy machine is slow, not failed. The kernel asks again after one second and three.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections of a client at once.
const AT_ONCE: u32 = 2;

/// Loads by what they are called.
pub(crate) struct Clients(Vec<(String, Load)>);

impl Clients {
    /// A pod and a node ask the cluster address, the host outside the node ports, in both families.
    pub(crate) fn start(cluster: &Cluster, frontends: &Frontends) -> Self {
        let node = cluster.lab().node("node-2").unwrap();
        let outsider = cluster.lab().place("outsider").unwrap();
        let inside = [&frontends.client, &node];
        let inside =
            inside.into_iter().flat_map(|place| frontends.cluster.iter().map(move |to| (place, *to)));
        let outside = frontends.node_ports.iter().map(|to| (&outsider, *to));
        Self(inside.chain(outside).map(|(place, to)| start(place, to)).collect())
    }

    /// Whether no connection has failed so far.
    pub(crate) fn are_unharmed(&self) -> bool {
        self.0.iter().all(|(_, load)| load.read().unwrap().tally.failures() == 0)
    }

    /// How many connections there have been.
    pub(crate) fn count(&self) -> String {
        let read = |(name, load): &(String, Load)| {
            let report = load.read().unwrap();
            let LoadReport { tally, slowest, late, .. } = report;
            format!("{name} {} (slowest {} ms, {late} late)", tally.answers(), slowest.as_millis())
        };
        self.0.iter().map(read).collect::<Vec<_>>().join(", ")
    }

    /// Ends them; connections that are under way are waited for.
    pub(crate) fn stop(self) -> Vec<(String, LoadReport)> {
        self.0.into_iter().map(|(name, load)| (name, load.stop().unwrap())).collect()
    }
}

fn start(place: &Place, to: SocketAddr) -> (String, Load) {
    let name = format!("{} -> {to}", place.name);
    let probe = Probe {
        dialect: Dialect::Netexec,
        concurrency: AT_ONCE,
        timeout: PATIENCE,
        ..Probe::new(Protocol::Tcp, to)
    };
    let load = place.load(&name, &probe).unwrap();
    (name, load)
}

/// Fails if a connection did, or if of a hundred connections of a client one took a second. A busy machine delays a few.
pub(crate) fn assert_unharmed(reports: &[(String, LoadReport)]) {
    let harmed = |(name, report): &(String, LoadReport)| {
        let failures = report.tally.failures();
        (failures > 0).then(|| format!("{name}: {failures}: {:?}", report.first_failures))
    };
    assert_eq!(reports.iter().filter_map(harmed).collect::<Vec<_>>(), Vec::<String>::new());
    let late = |report: &LoadReport| report.late > 10 + report.tally.answers() / 100;
    let late =
        |(name, report): &(String, LoadReport)| late(report).then(|| format!("{name}: {}", report.late));
    assert_eq!(reports.iter().filter_map(late).collect::<Vec<_>>(), Vec::<String>::new(), "a second or more");
    let silent = reports.iter().find(|(_, report)| report.tally.answers() == 0);
    assert_eq!(silent.map(|(name, _)| name), None, "nobody has answered");
}
