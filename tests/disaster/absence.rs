//! A pod that comes while no agent runs: open on its own node until there is one, which closes it once it has
//! listed policies, pods and namespaces.
//! `docs/security.md` says so.

use sluice_lab::{PodSpec, Stop};

use crate::loads::{Flows, Loads, Removals};
use crate::stage::{GLANCE, NODE, Stage, TIMEOUT, closing, pod};

#[test]
fn a_pod_that_comes_while_no_agent_runs_is_closed_by_the_next_one_and_older_pods_stay_closed() {
    let stage = Stage::set(&[]);
    let spec = |name: &str, number: u8| PodSpec {
        name: name.to_owned(),
        node: NODE.to_owned(),
        ips: vec![
            format!("10.244.1.{number}").parse().unwrap(),
            format!("fd00:244:1::{number}").parse().unwrap(),
        ],
    };
    let come = |spec: &PodSpec| {
        stage.lab.pod_add(spec).unwrap();
        stage.serve(&spec.name);
        let mut object = pod(&spec.name, &spec.ips);
        object["metadata"]["labels"]["name"] = "closed".into();
        stage.put(&object);
    };
    closing("closed").iter().for_each(|object| stage.put(object));
    come(&spec("old", 70));
    stage.start();
    stage.until("the old pod is closed", || stage.answers_of("old", GLANCE) == [0, 0]);
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    for (round, name) in ["one", "two"].into_iter().enumerate() {
        stage.lab.stop_agent(NODE, Stop::Kill).unwrap();
        come(&spec(name, 71 + round as u8));
        // Nobody has told the programs of it: this is the window that the page speaks of, and not more.
        assert_eq!(stage.answers_of(name, TIMEOUT), [1, 1], "{name}");
        assert_eq!(stage.answers_of("old", GLANCE), [0, 0], "the old pod is closed to both families");
        stage.start();
        assert_eq!(stage.answers_of(name, GLANCE), [0, 0], "the agent is ready, and {name} still open");
        assert_eq!(stage.answers_of("old", GLANCE), [0, 0], "the old pod is closed to both families");
    }
    flows.still_stand();
    loads.end(Removals(0));
}
