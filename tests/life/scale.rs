//! A Service is scaled while its clients go on connecting: every state is reached, and nobody is sent where nobody is.

use sluice_lab::SocketLb;

use crate::loads::{Flows, Loads, Removals};
use crate::stage::{SERVERS, Stage, WEB};

const CHANGES: u32 = 50;
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
fn fifty_changes_of_the_endpoints_cost_no_connection_on_the_socket_road() {
    scales(SocketLb::On);
}

#[test]
fn fifty_changes_of_the_endpoints_cost_no_connection_on_the_packet_road() {
    scales(SocketLb::Host);
}

fn scales(road: SocketLb) {
    let stage = Stage::begin(road);
    stage.reaches(&WEB, &SERVERS);
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    for pods in STATES.into_iter().cycle().take(CHANGES as usize) {
        stage.point_web_at(pods);
        stage.reaches(&WEB, pods);
    }
    flows.still_stand();
    loads.end(Removals(CHANGES));
}
