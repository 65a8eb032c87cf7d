//! How long a new pod is open that a policy selects: from its device on, while the API does not know its addresses yet.
//! `docs/security.md` says what was measured.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;
use sluice_lab::{Load, PodSpec, Probe, Protocol};

use crate::stage::{PATIENCE, Stage, first_state};
use crate::state::{Begun, network_policy};

/// How many pods are made, if `SLUICE_WINDOW_ROUNDS` says no other number.
const ROUNDS: usize = 3;

#[test]
fn a_selected_pod_is_isolated_before_the_api_knows_its_address() {
    let rounds = std::env::var("SLUICE_WINDOW_ROUNDS").ok().and_then(|text| text.parse().ok());
    let state = first_state();
    let mut stage = Stage::begin(&state, &[]);
    let everybody = json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]});
    let deny = network_policy("x", "deny", &everybody);
    let open = round(&mut stage, Begun::Yes);
    println!("without a policy: {open}");
    assert!(open.passed > 0);
    stage.put(&deny);
    for number in 0..rounds.unwrap_or(ROUNDS) {
        let closed = round(&mut stage, Begun::No);
        println!("round {number}: {closed}");
        assert!(closed.isolated, "{closed}: still open\n{}", stage.logs());
    }
}

/// What became of the pings to a new pod.
struct Seen {
    /// Pings that were answered, of those that were sent all the time.
    passed: u32,
    /// From the request for the pod's device to the beginning of the last ping that was answered.
    last: Option<Duration>,
    /// From there to the first ping: the pod has a process, and its node has pinged it.
    up: Duration,
    /// At the end nothing passed.
    isolated: bool,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, last, up, .. } = self;
        let last = last.map_or_else(|| "none".to_owned(), |last| format!("the last begun after {last:?}"));
        write!(f, "{passed} pings passed ({last}), up after {up:?}")
    }
}

/// Makes the pod `e` anew, which pings pods of both nodes as soon as it has a process, and they it. With an address that the API knows from the beginning, or none.
fn round(stage: &mut Stage, known: Begun) -> Seen {
    let state = first_state();
    stage.delete(&state.pod("e", Begun::Yes));
    stage.lab.pod_remove("e").unwrap();
    stage.settle();
    stage.put(&state.pod("e", known));
    stage.settle();
    let begin = SystemTime::now();
    let pod = &state.pods["e"];
    let spec = PodSpec { name: "e".into(), node: pod.node.into(), ips: pod.ips.to_vec() };
    stage.lab.pod_add(&spec).unwrap();
    let up = begin.elapsed().unwrap();
    // Not before: a ping to nobody keeps the node from asking for the pod's hardware address for a second.
    let ways = [("e", "d"), ("e", "b"), ("d", "e"), ("b", "e")];
    let ways = ways.into_iter().flat_map(|(from, to)| state.pods[to].ips.map(|ip| (from, ip)));
    let begin_load = |(from, ip): (&str, IpAddr)| {
        let ping = Probe {
            timeout: Duration::from_millis(60),
            tries: 1,
            concurrency: 64,
            pause: Duration::from_millis(1),
            ..Probe::new(Protocol::Icmp, SocketAddr::new(ip, 0))
        };
        stage.lab.pod(from).unwrap().load(&ip.to_string(), &ping).unwrap()
    };
    let loads: Vec<Load> = ways.map(begin_load).collect();
    let last = |load: &Load| load.read().unwrap().last.values().max().copied();
    let deadline = Instant::now() + PATIENCE / 4;
    if known == Begun::Yes {
        // Long enough for some to pass.
        while loads.iter().all(|load| last(load).is_none()) && Instant::now() < deadline {}
    }
    // Isolated: for a while nothing has passed, though pings are sent all the time.
    let quiet = || {
        let end = SystemTime::now();
        let newest = loads.iter().filter_map(last).max();
        newest
            .is_none_or(|newest| end.duration_since(newest).is_ok_and(|age| age > Duration::from_millis(500)))
    };
    while !quiet() && known == Begun::No && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    let isolated = quiet();
    let newest = loads.iter().filter_map(last).max().and_then(|at| at.duration_since(begin).ok());
    let passed = loads.into_iter().map(|load| load.stop().unwrap().tally.answers()).sum();
    Seen { passed, last: newest, up, isolated }
}
