//! Audits while Services and endpoints change and connections are made as fast as they can be: what somebody else has done to the
//! maps is found and put right, and nothing else is taken for it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use proxy_common::{Addr4, FrontendKey, Port, Proto};
use serde_json::json;
use tests::sync::view::View;

use crate::loads::{Flows, Loads, Removals};
use crate::objects::HTTP;
use crate::stage::{NODE, PATIENCE, SERVERS, Stage, WEB};

/// A Service that nobody changes. It has the backends of `demo/web` and shares their slots: whatever is done to its frontends, the
/// slots stay in use.
const KEPT: [&str; 2] = ["10.96.0.60", "fd00:96::60"];
/// One that comes, changes and goes.
const BUSY: [&str; 2] = ["10.96.0.61", "fd00:96::61"];
/// A port that no Service has.
const STRAY: u16 = 4_242;
/// Changes before anything else is done.
const RUN_UP: u32 = 20;

fn key(address: &str, port: u16) -> FrontendKey<Addr4> {
    let address: Ipv4Addr = address.parse().unwrap();
    FrontendKey::new(address.into(), Port::new(port), Proto::TCP)
}

/// A Service comes, gets other endpoints and goes; each step once the one before it is in the kernel.
fn turn(stage: &Stage, view: &View) {
    let busy = key(BUSY[0], HTTP);
    stage.put_service("busy", &BUSY, &["web-1"]);
    view.until(&busy, |now| now.is_some_and(|now| now.cluster.len == 1)).unwrap();
    stage.point_at("busy", &["web-2", "web-3"]);
    view.until(&busy, |now| now.is_some_and(|now| now.cluster.len == 2)).unwrap();
    stage.delete_service("busy");
    view.until(&busy, |now| now.is_none()).unwrap();
}

/// What audits have put right, as `/metrics` and `proxyctl status` have it: both say the same.
fn repairs(stage: &Stage) -> BTreeMap<String, u64> {
    let page = stage.page();
    let lines = page.lines().filter_map(|line| line.strip_prefix("sluice_audit_repairs_total{map=\""));
    let counted: BTreeMap<String, u64> = lines
        .filter_map(|line| {
            let (map, count) = line.split_once("\"} ")?;
            Some((map.to_owned(), count.parse().ok()?))
        })
        .filter(|(_, count)| *count > 0)
        .collect();
    assert_eq!(stage.ask(&["status"])["start"]["repairs"], json!(counted));
    counted
}

#[test]
fn audits_under_load_find_what_somebody_else_did_and_nothing_else() {
    let stage = Stage::set(&["--audit-period=1s"]);
    stage.put_service("kept", &KEPT, &SERVERS);
    stage.start();
    for addresses in [&WEB, &KEPT] {
        stage.reaches(addresses, &SERVERS);
    }
    let size = stage.occupancy();
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    let mut view = View::open(&stage.lab.node_bpf_root(NODE)).unwrap();
    let mut turns = 0;
    let mut change = |view: &View| {
        turn(&stage, view);
        turns += 1;
    };
    (0..RUN_UP).for_each(|_| change(&view));
    assert_eq!(repairs(&stage), BTreeMap::new());

    let (kept, stray) = (key(KEPT[0], HTTP), key(KEPT[0], STRAY));
    let value = view.get(&kept).unwrap();
    let deadline = std::time::Instant::now() + 2 * PATIENCE;
    view.remove(&kept).unwrap();
    while view.get(&kept).is_none() {
        change(&view);
        assert!(std::time::Instant::now() < deadline, "not repaired\n{}", stage.lab.agent_log(NODE, 25));
    }
    assert_eq!(repairs(&stage), BTreeMap::from([("frontends4".to_owned(), 1)]));
    view.put(&stray, &value).unwrap();
    while view.get(&stray).is_some() {
        change(&view);
        assert!(std::time::Instant::now() < deadline, "not removed\n{}", stage.lab.agent_log(NODE, 25));
    }
    assert_eq!(repairs(&stage), BTreeMap::from([("frontends4".to_owned(), 2)]));
    stage.reaches(&KEPT, &SERVERS);
    println!("{} changes, 2 repairs", 3 * turns);
    stage.holds(&size);
    flows.still_stand();
    loads.end(Removals(0));
}
