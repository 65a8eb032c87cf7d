//! Objects that make no sense: each is one error that names it, and everything else goes on as if it were not there.

use std::time::Instant;

use serde_json::{Value, json};
use sluice_lab::{Family, SocketLb};

use crate::loads::{Loads, Removals};
use crate::objects;
use crate::stage::{Log, NODES, PATIENCE, SERVERS, Stage, WEB};

const LATE: [&str; 2] = ["10.96.0.40", "fd00:96::40"];

/// What is written, and what is said of it.
struct Nonsense {
    file: &'static str,
    text: String,
    /// After the level; `{dir}` is the folder.
    complaint: &'static str,
}

fn nonsense() -> [Nonsense; 6] {
    let mut no_address = objects::service("no-address", &["10.96.0.300"]);
    no_address["spec"]["ports"][1]["port"] = json!(53);
    let mut no_port = objects::service("no-port", &["10.96.0.50"]);
    no_port["spec"]["ports"][0]["port"] = json!("http");
    let mut nobodys = objects::slice("nobodys", Family::Ipv4, &["10.244.1.11".parse().unwrap()]);
    nobodys["metadata"]["labels"] = json!({});
    let mut misplaced = objects::slice("web", Family::Ipv4, &[]);
    misplaced["metadata"]["name"] = json!("misplaced");
    misplaced["endpoints"] = json!([{"addresses": ["10.244.1"]}]);
    let mut old = objects::slice("old", Family::Ipv4, &[]);
    old["apiVersion"] = json!("discovery.k8s.io/v1beta1");
    let json = |value: &Value| value.to_string();
    [
        Nonsense {
            file: "syntax.yaml",
            text: "apiVersion: v1\nkind: [Service\nmetadata: {name: web\n".into(),
            complaint: "syntax.yaml, document 1: did not find expected ',' or ']' at line 3 column 9, while \
                        parsing a flow sequence at line 2 column 7; what it said last stays directory={dir}",
        },
        Nonsense {
            file: "type.json",
            text: json(&no_port),
            complaint: "type.json, document 1, Service demo/no-port, spec.ports[0].port: invalid type: string \
                        \"http\", expected i32; what it said last stays directory={dir}",
        },
        Nonsense {
            file: "address.json",
            text: json(&no_address),
            complaint: "Service demo/no-address spec.clusterIPs[0]: \"10.96.0.300\" is not an IP address; it is \
                        left out",
        },
        Nonsense {
            file: "label.json",
            text: json(&nobodys),
            complaint: "EndpointSlice demo/nobodys-ipv4 metadata.labels[kubernetes.io/service-name]: missing: the \
                        slice names no Service and is ignored",
        },
        Nonsense {
            file: "endpoint.json",
            text: json(&misplaced),
            complaint: "EndpointSlice demo/misplaced endpoints[0].addresses[0]: \"10.244.1\" is not an IP address; \
                        it is left out",
        },
        Nonsense {
            file: "version.json",
            text: json(&old),
            complaint: "version.json, document 1, EndpointSlice demo/old-ipv4, apiVersion: \
                        \"discovery.k8s.io/v1beta1\" is not read, write \"discovery.k8s.io/v1\"; what it said last \
                        stays directory={dir}",
        },
    ]
}

#[test]
fn each_object_that_makes_no_sense_is_one_error_and_the_others_are_served() {
    let stage = Stage::begin(SocketLb::On);
    stage.reaches(&WEB, &SERVERS);
    let loads = Loads::start(&stage);
    let dir = stage.lab.manifests().path().to_owned();
    for (index, Nonsense { file, text, complaint }) in nonsense().into_iter().enumerate() {
        let logs = NODES.map(|node| Log::follow(&stage, node));
        let draft = dir.join(".draft");
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(&draft, dir.join(file)).unwrap();
        // What is written behind it is in force: by then it has been read.
        let pods = &SERVERS[..1 + index % 3];
        stage.point_web_at(pods);
        stage.reaches(&WEB, pods);
        let wanted = format!("ERROR {}", complaint.replace("{dir}", &dir.display().to_string()));
        for log in logs {
            assert_eq!(log.complaints(), [wanted.as_str()], "{file}");
        }
    }
    stage.point_web_at(&SERVERS);
    stage.reaches(&WEB, &SERVERS);
    // The next agents find it all at once.
    let logs = NODES.map(|node| Log::follow(&stage, node));
    stage.stop_agents(sluice_lab::Stop::Kill);
    stage.start_agents();
    stage.reaches(&WEB, &SERVERS);
    for log in logs {
        assert_eq!(log.complaints().len(), nonsense().len(), "{:#?}", log.complaints());
    }
    loads.end(Removals(6));
}

#[test]
fn a_slice_that_comes_before_its_service_is_no_error_and_takes_effect_with_it() {
    let stage = Stage::begin(SocketLb::On);
    let logs = NODES.map(|node| Log::follow(&stage, node));
    stage.point_at("late", &["web-2"]);
    stage.point_web_at(&["web-1"]);
    stage.reaches(&WEB, &["web-1"]);
    let before = stage.status("node-1")["services"].clone();
    stage.put(&objects::service("late", &LATE));
    let deadline = Instant::now() + PATIENCE;
    while stage.status("node-1")["services"] == before {
        assert!(Instant::now() < deadline, "the Service does not come");
    }
    stage.reaches(&LATE, &["web-2"]);
    for log in logs {
        assert_eq!(log.complaints(), [""; 0]);
    }
}

#[test]
fn a_folder_that_goes_away_is_one_error_and_what_it_said_stays_until_it_is_back() {
    let stage = Stage::begin(SocketLb::Host);
    stage.reaches(&WEB, &SERVERS);
    let loads = Loads::start(&stage);
    let logs = NODES.map(|node| Log::follow(&stage, node));
    let dir = stage.lab.manifests().path().to_owned();
    let away = dir.with_file_name("away");
    std::fs::rename(&dir, &away).unwrap();
    let wanted = format!(
        "ERROR the directory is gone; what it said last stays until it is back directory={}",
        dir.display()
    );
    let deadline = Instant::now() + PATIENCE;
    while logs.iter().any(|log| log.complaints().is_empty()) {
        assert!(Instant::now() < deadline, "nobody says that the folder is gone");
    }
    stage.reaches(&WEB, &SERVERS);
    std::fs::rename(&away, &dir).unwrap();
    stage.point_web_at(&["web-3"]);
    stage.reaches(&WEB, &["web-3"]);
    for log in logs {
        assert_eq!(log.complaints(), [wanted.as_str()]);
    }
    loads.end(Removals(1));
}
