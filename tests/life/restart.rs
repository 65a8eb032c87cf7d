//! An agent that dies, by a signal or by order, is missed by nobody; the next one takes over what it finds and writes
//! only what changed in between.

use serde_json::{Value, json};
use sluice_lab::{Family, SocketLb, Stop};

use crate::loads::{Flows, Loads, Removals};
use crate::objects;
use crate::stage::{FRONTENDS, NODES, SERVERS, Stage, WEB};

/// Requests of each load while no agent runs, and between two deaths.
const MEANWHILE: u32 = 50;
const OLD: [&str; 2] = ["10.96.0.20", "fd00:96::20"];
const NEW: [&str; 2] = ["10.96.0.30", "fd00:96::30"];

#[test]
fn nobody_notices_the_deaths_of_an_agent_on_the_socket_road() {
    survives(SocketLb::On);
}

#[test]
fn nobody_notices_the_deaths_of_an_agent_on_the_packet_road() {
    survives(SocketLb::Host);
}

fn survives(road: SocketLb) {
    let stage = Stage::set(road);
    stage.put(&objects::service("old", &OLD));
    stage.start_agents();
    stage.reaches(&WEB, &SERVERS);
    for node in NODES {
        let start = &stage.status(node)["start"];
        assert_eq!(writes(start), json!([false, 0, 2 * FRONTENDS, 0]), "{node}: {start}");
    }
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    loads.go_on_for(MEANWHILE);
    for stop in [Stop::Kill, Stop::Terminate, Stop::Kill] {
        comes_back(&stage, &loads, stop, || {}, json!([true, 2 * FRONTENDS, 0, 0]));
        flows.still_stand();
    }
    loads.end(Removals(0));
    let loads = Loads::start(&stage);
    comes_back(
        &stage,
        &loads,
        Stop::Kill,
        || {
            // One family of one Service: two frontends get another segment. A Service less, and one more.
            let ips = ["web-1", "web-2"].map(|pod| stage.lab.pod(pod).unwrap().ips[0]);
            stage.put(&objects::slice("web", Family::Ipv4, &ips));
            stage.delete(&objects::service("old", &OLD));
            stage.put(&objects::service("new", &NEW));
            stage.point_at("new", &["web-3"]);
        },
        json!([true, FRONTENDS - 2, 2 + FRONTENDS, FRONTENDS]),
    );
    flows.still_stand();
    stage.reaches(&WEB[..1], &["web-1", "web-2"]);
    stage.reaches(&WEB[1..], &SERVERS);
    stage.reaches(&NEW, &["web-3"]);
    comes_back(
        &stage,
        &loads,
        Stop::Terminate,
        || stage.point_web_at(&SERVERS),
        json!([true, 2 * FRONTENDS - 2, 2, 0]),
    );
    stage.reaches(&WEB, &SERVERS);
    flows.still_stand();
    loads.end(Removals(1));
}

/// Ends both agents, changes the world, starts them again, and compares what the new ones did.
fn comes_back(stage: &Stage, loads: &Loads, stop: Stop, change: impl Fn(), wanted: Value) {
    let hooks: Vec<Value> = NODES.into_iter().map(|node| links(&stage.status(node))).collect();
    stage.stop_agents(stop);
    for node in NODES {
        assert_eq!(stage.status(node)["agent"]["alive"], json!(false), "{node}");
    }
    loads.go_on_for(MEANWHILE);
    change();
    stage.start_agents();
    for (node, before) in NODES.into_iter().zip(hooks) {
        let status = stage.status(node);
        assert_eq!(status["agent"]["alive"], json!(true), "{node}");
        assert_eq!(writes(&status["start"]), wanted, "{node} after {stop:?}: {}", status["start"]);
        assert_eq!(links(&status), before, "{node}: the links are the same, with other programs");
        let count = status["hooks"].as_array().unwrap().len();
        assert_eq!(
            (&status["start"]["linksReplaced"], &status["start"]["linksCreated"]),
            (&json!(count), &json!(0)),
            "{node}"
        );
    }
    loads.go_on_for(MEANWHILE);
}

/// Whether it adopted, and how many frontends it kept, wrote and deleted.
fn writes(start: &Value) -> Value {
    json!([start["adopted"], start["kept"], start["written"], start["deleted"]])
}

/// Hook, target, link and state of every hook.
fn links(status: &Value) -> Value {
    let hooks = status["hooks"].as_array().unwrap().iter();
    hooks.map(|hook| json!([hook["hook"], hook["target"], hook["linkId"], hook["state"]])).collect()
}
