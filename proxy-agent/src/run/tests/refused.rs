//! What the kernel may refuse, with every number it has for that: it is counted, said with what can be done, said on the object
//! that it hits, tried again, and in the end nothing is missing.

use std::io;

use proxy_common::PolicyState;
use tokio::sync::mpsc::Receiver;

use super::memory::Seam;
use super::policy::{cluster, policed, topology, web};
use super::*;
use crate::kernel::remedy::{Asked, Remedy};
use crate::observe::event::{Notice, Regarding};

const ERRORS: [i32; 6] = [libc::ENOMEM, libc::E2BIG, libc::EBUSY, libc::EAGAIN, libc::ENOSPC, libc::EPERM];
/// Tries that fail.
const TRIES: usize = 4;

/// Something that the kernel is asked for.
struct Story {
    refused: Seam,
    /// What is there before.
    before: fn(&mut Bench),
    /// What then leads to the refused call.
    act: fn(&mut Bench) -> Next,
    /// As metrics name it.
    step: &'static str,
    /// The map, and what was to be written to it, of an Event on the Service or policy `web`.
    event: Option<(&'static str, &'static str)>,
    /// Nothing is missing any more.
    done: fn(&mut Bench) -> bool,
}

fn balancer(ranges: &[&str]) -> Update {
    let value = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
        "spec": {"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "loadBalancerSourceRanges": ranges,
            "ports": [{"name": "http", "port": 80}]},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}});
    put(Object::Service(serde_json::from_value(value).unwrap()))
}

fn nothing(_: &mut Bench) {}

fn served(bench: &mut Bench) {
    bench.take([service("web", &["10.96.0.1"])]);
}

/// Long after the last write, so that nothing rests.
fn doubt(bench: &mut Bench) -> Next {
    bench.now += Duration::from_secs(60);
    bench.engine.sync(bench.now);
    bench.engine.dataplane().v4.frontends.clear();
    bench.engine.audit(bench.now + Duration::from_secs(60))
}

const STORIES: [Story; 9] = [
    Story {
        refused: Seam::PutFrontends,
        before: nothing,
        act: |bench| bench.take([service("web", &["10.96.0.1"])]),
        step: "services",
        event: Some(("frontends4", "10.96.0.1:80/TCP ")),
        done: |bench| bench.lookup("10.96.0.1:80") == backends(&[]),
    },
    Story {
        refused: Seam::DeleteFrontends,
        before: served,
        act: |bench| bench.take([gone(Kind::Service, "web")]),
        step: "services",
        event: None,
        done: |bench| bench.lookup("10.96.0.1:80").is_none(),
    },
    Story {
        refused: Seam::PutRange,
        before: nothing,
        act: |bench| bench.take([balancer(&["198.51.100.0/24"])]),
        step: "services",
        event: Some(("ranges4", "a source range ")),
        done: |bench| bench.engine.dataplane().v4.ranges.len() == 1,
    },
    Story {
        refused: Seam::DeleteRange,
        before: |bench| {
            bench.take([balancer(&["198.51.100.0/24"])]);
        },
        act: |bench| bench.take([balancer(&[])]),
        step: "services",
        event: Some(("ranges4", "a source range ")),
        done: |bench| bench.engine.dataplane().v4.ranges.is_empty(),
    },
    Story {
        refused: Seam::Judge,
        before: |bench| {
            bench.take(cluster());
        },
        act: |bench| bench.take([web()]),
        step: "policies",
        event: Some(("verdicts", "")),
        done: |bench| policed(bench).len() == 2,
    },
    Story {
        refused: Seam::Guard,
        before: |bench| {
            bench.take(cluster());
            bench.engine.take_topology(topology(&[("10.244.1.5", 4)]));
        },
        act: |bench| bench.take([web()]),
        step: "policies",
        event: None,
        done: |bench| bench.engine.dataplane().guarded.last() == Some(&BTreeSet::from([4])),
    },
    Story {
        refused: Seam::Node,
        before: nothing,
        act: |bench| {
            bench.take([
                node(json!({"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})),
                service("web", &["10.96.0.1"]),
            ])
        },
        step: "node",
        event: None,
        done: |bench| {
            bench.engine.dataplane().node.is_some_and(|(v4, _)| v4.address.to_string() == "192.0.2.1")
        },
    },
    Story {
        refused: Seam::Devices,
        before: nothing,
        act: |bench| {
            bench.engine.take_topology(topology(&[("10.244.1.5", 4)]));
            bench.take([])
        },
        step: "devices",
        event: None,
        done: |bench| !bench.engine.dataplane().followed.is_empty(),
    },
    Story {
        refused: Seam::PutFrontends,
        before: served,
        act: doubt,
        step: "services",
        event: Some(("frontends4", "10.96.0.1:80/TCP ")),
        done: |bench| bench.lookup("10.96.0.1:80") == backends(&[]),
    },
];

fn begin() -> (Bench, Receiver<Notice>) {
    let (events, notices) = Events::channel();
    let enforcing = Enforcing { args: ENFORCED, capacity: PolicyCapacity::default(), events };
    let mut bench = Bench::enforcing(Fake::default(), settings(), enforcing);
    bench.take(Kind::ALL.map(Update::Synced));
    (bench, notices)
}

/// How often the kernel has refused something for this.
fn refusals(bench: &Bench, step: &str) -> usize {
    let text = bench.engine.metrics().text(&bench.status.snapshot(), SystemTime::now());
    let beginning = format!("sluice_kernel_errors_total{{step=\"{step}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&beginning)).unwrap().parse().unwrap()
}

/// Does what is due, as often as it fails, and then until nothing is.
fn go_on(bench: &mut Bench, mut next: Next) {
    for tries in 0..4 * TRIES {
        let Next::At(at) = next else { return };
        if tries == TRIES {
            bench.engine.dataplane().v4.refuses = None;
        }
        bench.now = at;
        next = bench.engine.sync(at);
    }
}

fn expected(map: &str, write: &str, errno: i32) -> String {
    let error = io::Error::from_raw_os_error(errno);
    let remedy = Remedy::after(Asked::Entry(map), &error).to_string();
    assert!(remedy.starts_with(" (") && remedy.ends_with(')'), "{error}: {remedy}");
    let to = if write.is_empty() { "write to map" } else { "write WHAT to map" };
    format!("node n1: cannot {} {map}: {error}{remedy}; trying again", to.replace("WHAT", write.trim_end()))
}

#[test]
fn whatever_the_kernel_refuses_is_counted_said_on_its_object_once_and_made_in_the_end() {
    for (number, story) in STORIES.iter().enumerate() {
        for errno in ERRORS {
            let case = format!("story {number}, {:?}, error {errno}", story.refused);
            let (mut bench, mut notices) = begin();
            (story.before)(&mut bench);
            assert_eq!(refusals(&bench, story.step), 0, "{case}");
            bench.engine.dataplane().v4.refuses = Some((story.refused, errno));
            let next = (story.act)(&mut bench);
            assert!(matches!(next, Next::At(_)), "{case}: nothing is tried again");
            assert!(!(story.done)(&mut bench), "{case}: nothing was refused");
            go_on(&mut bench, next);
            assert!((story.done)(&mut bench), "{case}: something is missing");
            assert!(refusals(&bench, story.step) > TRIES, "{case}: {}", refusals(&bench, story.step));
            let said: Vec<_> = std::iter::from_fn(|| notices.try_recv().ok()).collect();
            let wanted: Vec<_> =
                story.event.map(|(map, write)| expected(map, write, errno)).into_iter().collect();
            assert_eq!(said.iter().map(|notice| notice.note.clone()).collect::<Vec<_>>(), wanted, "{case}");
            for Notice { regarding, reason, .. } in said {
                let object = match regarding {
                    Regarding::Service(key) => key.to_string(),
                    Regarding::Policy(name) => name.to_string(),
                    Regarding::Object(key) => key.to_string(),
                };
                let wanted =
                    if story.step == "policies" { "NetworkPolicy default/web" } else { "default/web" };
                assert_eq!((object.as_str(), reason), (wanted, "NotWritten"), "{case}");
            }
        }
    }
}

#[test]
fn an_audit_that_the_kernel_refuses_is_counted_and_the_next_one_repairs() {
    for (seam, errno) in
        [Seam::Read, Seam::Audit].into_iter().flat_map(|seam| ERRORS.map(|errno| (seam, errno)))
    {
        let (mut bench, _notices) = begin();
        served(&mut bench);
        bench.engine.take_topology(topology(&[("10.244.1.5", 4)]));
        bench.take([]);
        bench.engine.dataplane().v4.refuses = Some((seam, errno));
        doubt(&mut bench);
        assert!(refusals(&bench, "audit") > 0, "{seam:?}, error {errno}");
        bench.engine.dataplane().v4.refuses = None;
        bench.engine.audit(bench.now + Duration::from_secs(120));
        assert_eq!(bench.lookup("10.96.0.1:80"), backends(&[]), "{seam:?}, error {errno}");
    }
}

#[test]
fn what_an_earlier_run_enforced_is_ended_also_if_the_kernel_refuses_at_first() {
    for (seam, errno) in
        [Seam::Judge, Seam::Guard].into_iter().flat_map(|seam| ERRORS.map(|errno| (seam, errno)))
    {
        let (mut before, _notices) = begin();
        before.take(cluster().into_iter().chain([web()]));
        let mut fake = std::mem::take(before.engine.dataplane());
        fake.v4.refuses = Some((seam, errno));
        let off = PolicyArgs { network_policy: Switch::Off, ..ENFORCED };
        let mut after = Bench::asked(fake, settings(), off);
        let next = after.take([]);
        assert!(refusals(&after, "policies") > 0, "{seam:?}, error {errno}");
        go_on(&mut after, next);
        let fake = after.engine.dataplane();
        let told = fake.guarded.last().cloned();
        assert_eq!((fake.policy, fake.v4.policed.len(), fake.verdicts.len()), (PolicyState::default(), 0, 0));
        assert_eq!(told, Some(BTreeSet::new()), "{seam:?}, error {errno}");
    }
}
