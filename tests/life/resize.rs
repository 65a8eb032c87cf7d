//! The table of flows gets another size under load, up and down: no connection is lost on the way from one to the other.

use sluice_lab::{SocketLb, Stop};

use crate::loads::{Flows, Loads, Removals};
use crate::stage::{NODES, SERVERS, Stage, WEB};

/// Requests of each load between two changes.
const MEANWHILE: u32 = 100;
/// Each is a start of both agents, with three generations of programs. `SLUICE_RESIZES` makes it more; no agent lives long
/// enough to collect then, so the tables are large.
const RESIZES: usize = 3;

#[test]
fn the_table_of_flows_is_resized_under_load_and_nothing_is_lost() {
    let asked = std::env::var("SLUICE_RESIZES").ok().and_then(|count| count.parse().ok());
    let mut stage = Stage::begin(SocketLb::Host);
    stage.reaches(&WEB, &SERVERS);
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    loads.go_on_for(MEANWHILE);
    let sizes = ["262144", "524288"].into_iter().cycle();
    for (size, stop) in
        sizes.zip([Stop::Terminate, Stop::Kill].into_iter().cycle()).take(asked.unwrap_or(RESIZES))
    {
        stage.stop_agents(stop);
        stage.options.extra = vec!["--flow-table-size".to_owned(), size.to_owned()];
        stage.start_agents();
        for node in NODES {
            let status = stage.status(node);
            let maps = status["maps"].as_array().unwrap().iter();
            let sizes: Vec<_> = maps
                .filter(|map| map["name"].as_str().is_some_and(|name| name.starts_with("flows")))
                .map(|map| map["size"].to_string())
                .collect();
            assert_eq!(sizes, [size; 2], "{node}: {}", status["maps"]);
        }
        loads.go_on_for(MEANWHILE);
        flows.still_stand();
    }
    loads.end(Removals(0));
}
