//! A Service is scaled while its clients go on connecting: every state is reached, and nobody is sent where nobody is.

use sluice_lab::SocketLb;

use crate::loads::{Flows, Loads};
use crate::stage::{SERVERS, Stage, WEB};

const CHANGES: usize = 50;
/// Every set of the three servers but the empty one, ordered so that servers come, go and are swapped all at once.
const STATES: [&[&str]; 7] = [
    &["web-1"],
    &["web-2", "web-3"],
    &["web-2"],
    &["web-1", "web-2", "web-3"],
    &["web-3"],
    &["web-1", "web-2"],
    &["web-1", "web-3"],
];

#[test]
fn fifty_changes_of_the_endpoints_cost_no_request_on_the_socket_road() {
    scales(SocketLb::On);
}

#[test]
fn fifty_changes_of_the_endpoints_cost_no_request_on_the_packet_road() {
    scales(SocketLb::Host);
}

fn scales(road: SocketLb) {
    let stage = Stage::begin(road);
    stage.reaches(&WEB, &SERVERS);
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    for pods in STATES.into_iter().cycle().take(CHANGES) {
        stage.point_web_at(pods);
        stage.reaches(&WEB, pods);
    }
    flows.still_stand();
    loads.end_without_a_failure();
}
