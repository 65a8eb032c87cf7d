//! A running node changes the road that its pods' connections take: nothing is lost, and connections that are open stay.

use serde_json::json;
use sluice_lab::{SocketLb, Stop};

use crate::loads::{Flows, Loads, Removals};
use crate::stage::{NODES, SERVERS, Stage, WEB};

/// Requests of each load between two changes.
const MEANWHILE: u32 = 100;

#[test]
fn nobody_is_lost_when_the_next_agent_takes_the_other_road() {
    let mut stage = Stage::begin(SocketLb::On);
    stage.reaches(&WEB, &SERVERS);
    let loads = Loads::start(&stage);
    let before = Flows::open(&stage);
    loads.go_on_for(MEANWHILE);
    for (road, stop) in [(SocketLb::Host, Stop::Kill), (SocketLb::On, Stop::Terminate)] {
        stage.stop_agents(stop);
        stage.options.socket_lb = road;
        stage.start_agents();
        for node in NODES {
            assert_eq!(stage.status(node)["start"]["written"], json!(0), "{node}");
        }
        loads.go_on_for(MEANWHILE);
        before.still_stand();
    }
    loads.end(Removals(0));
}
