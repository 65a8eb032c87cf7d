//! The API server is away while the world changes, says nothing of one kind, lies, and breaks off in the middle.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use sluice_lab::{PodSpec, Probe, Protocol, Stop};
use tests::apiserver::{Conduct, Resource};

use crate::loads::{Flows, Loads, Removals};
use crate::objects::{self, HTTP_TARGET};
use crate::stage::{GLANCE, NODE, PATIENCE, SERVERS, Stage, TIMEOUT, WEB, closing, pod};

/// Requests of each load while something lasts.
const MEANWHILE: u32 = 30;
const ONE: [&str; 2] = ["10.96.0.80", "fd00:96::80"];
const OTHER: [&str; 2] = ["10.96.0.81", "fd00:96::81"];
/// Kinds that are held back, unless `SLUICE_DISASTER_KINDS` is set: then each.
const HELD: [Resource; 2] = [Resource::EndpointSlices, Resource::Pods];

/// One Service goes, another comes.
fn change<'a>(stage: &Stage, from: &mut (&'a str, [&'a str; 2]), to: &mut (&'a str, [&'a str; 2])) {
    stage.put_service(to.0, &to.1, &["web-2"]);
    stage.delete_service(from.0);
    std::mem::swap(from, to);
}

#[test]
fn a_world_that_changed_while_the_api_server_was_away_is_taken_over_and_nobody_else_notices() {
    let stage = &mut Stage::set(&[]);
    let (mut now, mut next) = (("one", ONE), ("other", OTHER));
    stage.put_service(now.0, &now.1, &["web-2"]);
    stage.start();
    stage.reaches(&WEB, &SERVERS);
    stage.reaches(&now.1, &["web-2"]);
    let size = stage.occupancy();
    let flows = Flows::open(stage);
    let loads = Loads::start(stage);
    let away: Option<u64> = std::env::var("SLUICE_DISASTER_AWAY").ok().and_then(|text| text.parse().ok());
    // First under an agent that lives, then under one that is killed and begins without an API server.
    for restart in [false, true] {
        let from = stage.log().len();
        stage.api.vanish();
        if restart {
            stage.lab.stop_agent(NODE, Stop::Kill).unwrap();
            stage.launch();
        }
        stage.says(from, &["the watch failed; what it told last stays in force"]);
        change(stage, &mut now, &mut next);
        stage.api.forget();
        let until = Instant::now() + Duration::from_secs(away.unwrap_or(0));
        loads.go_on_for(MEANWHILE);
        while Instant::now() < until {
            loads.go_on_for(MEANWHILE);
        }
        assert_eq!(stage.occupancy(), size, "nothing was deleted");
        stage.api.appear().unwrap();
        stage.lab.agent_ready(NODE, PATIENCE).unwrap();
        stage.reaches(&now.1, &["web-2"]);
        stage.holds(&size);
        flows.still_stand();
    }
    loads.end(Removals(0));
}

#[test]
fn while_one_kind_is_held_back_at_a_start_nothing_is_opened_and_nothing_deleted() {
    let stage = Stage::set(&["--log-level=debug"]);
    let vault = PodSpec {
        name: "vault".to_owned(),
        node: NODE.to_owned(),
        ips: vec!["10.244.1.66".parse().unwrap(), "fd00:244:1::66".parse().unwrap()],
    };
    stage.lab.pod_add(&vault).unwrap();
    stage.serve("vault");
    let (mut now, mut next) = (("one", ONE), ("other", OTHER));
    stage.put_service(now.0, &now.1, &["web-2"]);
    closing("vault").iter().for_each(|object| stage.put(object));
    stage.put(&pod("vault", &vault.ips));
    assert_eq!(stage.answers_of("vault", TIMEOUT), [1, 1], "nobody guards it yet");
    stage.start();
    stage.reaches(&WEB, &SERVERS);
    stage.until("the vault is closed", || stage.answers_of("vault", GLANCE) == [0, 0]);
    let size = stage.occupancy();
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    let knocks = Probe {
        timeout: Duration::from_millis(100),
        ..Probe::new(Protocol::Tcp, SocketAddr::new(vault.ips[0], HTTP_TARGET))
    };
    let knocks = stage.lab.pod("client").unwrap().load("vault", &knocks).unwrap();
    let policies = [Resource::NetworkPolicies, Resource::Namespaces, Resource::Pods];
    let needed = [Resource::Services, Resource::EndpointSlices, Resource::Nodes];
    let all: Vec<Resource> = needed.into_iter().chain(policies).collect();
    let held = if std::env::var_os("SLUICE_DISASTER_KINDS").is_some() { all.clone() } else { HELD.to_vec() };
    for kind in held {
        stage.lab.stop_agent(NODE, Stop::Kill).unwrap();
        change(&stage, &mut now, &mut next);
        stage.api.conduct(kind, Conduct::Holds);
        let from = stage.log().len();
        stage.launch();
        for other in all.iter().filter(|other| **other != kind) {
            // Pods and Namespaces are asked for once there is a policy.
            if kind != Resource::NetworkPolicies || !policies.contains(other) {
                stage.says(from, &["listed", &format!("\"{}\"", other.kind())]);
            }
        }
        loads.go_on_for(MEANWHILE);
        assert_eq!(stage.answers_of("vault", GLANCE), [0, 0], "opened while {kind:?} are held back");
        if needed.contains(&kind) {
            assert_eq!(stage.occupancy(), size, "while {kind:?} are held back");
        }
        stage.api.conduct(kind, Conduct::Answers);
        stage.lab.agent_ready(NODE, PATIENCE).unwrap();
        stage.reaches(&now.1, &["web-2"]);
        stage.holds(&size);
        assert_eq!(stage.answers_of("vault", GLANCE), [0, 0], "opened by {kind:?}");
    }
    let knocks = knocks.stop().unwrap().tally;
    assert_eq!(knocks.answers(), 0, "{knocks}");
    println!("{} attempts at what is closed, none got through", knocks.failures());
    flows.still_stand();
    loads.end(Removals(0));
}

#[test]
fn a_watch_that_breaks_off_lies_or_is_forgotten_is_made_again_and_loses_nothing() {
    let stage = Stage::set(&[]);
    let (mut now, mut next) = (("one", ONE), ("other", OTHER));
    stage.put_service(now.0, &now.1, &["web-2"]);
    stage.start();
    stage.reaches(&WEB, &SERVERS);
    let size = stage.occupancy();
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    for resource in [Resource::Services, Resource::EndpointSlices] {
        let half = "{\"type\":\"MODIFIED\",\"object\":{\"apiVersion\":\"v1\",\"kind\":\"Serv";
        let of_others = json!({"type": "ADDED", "object": {"kind": "Service", "metadata": {"name": 17}}});
        // What was said before is said again, and what is long over.
        let again = json!({"type": "ADDED", "object": objects::service("web", &WEB)});
        let over = json!({"type": "DELETED", "object": objects::service("never", &ONE)});
        let misdeeds: [&dyn Fn(); 6] = [
            &|| stage.api.break_off(resource, half),
            &|| stage.api.say(resource, "\u{0}\u{1}no event at all\""),
            &|| stage.api.say(resource, &of_others.to_string()),
            &|| {
                if resource == Resource::Services {
                    stage.api.say(resource, &again.to_string());
                    stage.api.say(resource, &over.to_string());
                }
                stage.api.bookmark(resource);
                stage.api.end_watches(resource);
            },
            &|| {
                stage.api.conduct(resource, Conduct::BreaksOff);
                stage.api.expire(resource);
            },
            &|| {
                stage.api.conduct(resource, Conduct::Refuses(500));
                stage.api.expire(resource);
            },
        ];
        for misdeed in misdeeds {
            stage.told(&[resource]);
            misdeed();
            change(&stage, &mut now, &mut next);
            loads.go_on_for(MEANWHILE / 3);
            stage.api.conduct(resource, Conduct::Drips(Duration::from_millis(5)));
            stage.reaches(&now.1, &["web-2"]);
            stage.holds(&size);
        }
        stage.api.conduct(resource, Conduct::Answers);
    }
    flows.still_stand();
    loads.end(Removals(0));
}
