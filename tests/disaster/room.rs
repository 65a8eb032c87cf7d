//! Tables that are too small. The newest that does not fit is refused, with an Event on its Service and a metric; whoever was there
//! before keeps what it has, and who was refused enters once there is room.

use serde_json::Value;

use crate::loads::{Flows, Loads, Removals};
use crate::stage::{SERVERS, Stage, WEB};

const SERVICES: usize = 20;
/// There is room for four backends beside those of `demo/web`, once for each of two ports.
const SETS: [&[&str]; 5] = [&["web-1", "web-2"], &["web-1"], &["web-2"], &["web-3"], &["web-2", "web-3"]];

#[test]
fn frontends_that_find_no_room_are_refused_the_newest_first_and_enter_later() {
    fills("--frontend-table-size=32", |_| &SERVERS);
}

#[test]
fn backends_that_find_no_room_are_refused_the_newest_first_and_enter_later() {
    // Services with the same backends share them.
    fills("--backend-table-size=10", |number| SETS[number % SETS.len()]);
}

fn addresses(number: usize) -> [String; 2] {
    [format!("10.96.1.{number}"), format!("fd00:96::1:{number}")]
}

fn fills(flag: &str, servers: impl Fn(usize) -> &'static [&'static str]) {
    let stage = Stage::begin(&[flag]);
    let size = stage.occupancy();
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    let from = stage.log().len();
    for number in 1..=SERVICES {
        let [four, six] = addresses(number);
        stage.put_service(&format!("many-{number}"), &[&four, &six], servers(number));
    }
    stage.until("some are refused", || {
        stage.metric("sluice_refused_frontends").is_some_and(|count| count > 0.0)
    });
    let regards = |event: &Value| event["regarding"]["name"].as_str().unwrap_or_default().to_owned();
    stage.until("an Event says so", || {
        stage
            .api
            .events()
            .iter()
            .any(|event| event["reason"] == "NoRoomForService" && regards(event).starts_with("many-"))
    });
    stage.says(from, &["Service demo/many-", "no room"]);
    // The first was there before the table was full.
    let [four, six] = addresses(1);
    stage.reaches(&[&four, &six], servers(1));
    stage.reaches(&WEB, &SERVERS);
    assert!(stage.api.events().iter().all(|event| regards(event) != "web"), "{:?}", stage.api.events());
    for number in 1..SERVICES {
        stage.delete_service(&format!("many-{number}"));
    }
    let [four, six] = addresses(SERVICES);
    stage.reaches(&[&four, &six], servers(SERVICES));
    stage.until("none is refused", || stage.metric("sluice_refused_frontends") == Some(0.0));
    stage.delete_service(&format!("many-{SERVICES}"));
    stage.holds(&size);
    flows.still_stand();
    loads.end(Removals(0));
}
