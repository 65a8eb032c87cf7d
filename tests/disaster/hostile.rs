//! Objects that somebody writes to take what is not theirs, or to be too much; what a host sends that means harm; and who may read
//! what the agent keeps. Each test counts, and `demo/web` is served all the while.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sluice_lab::binary::Program;
use sluice_lab::{Family, Listen, Place, Probe, Protocol, Stop};

use crate::objects::{self, HTTP, HTTP_TARGET};
use crate::stage::{NODE, SERVERS, Stage, WEB};

/// An address outside, at which a host answers.
const OUTSIDE: &str = "172.18.0.100";
/// The node's own address.
const OWN: &str = "172.18.0.11";
/// A port at which the node itself, and the host outside, have something of their own.
const SECRET: u16 = 4321;

/// A Service that asks for addresses.
fn thief(name: &str, cluster_ip: &str, port: u16, external: &[&str]) -> Value {
    let mut service = objects::service(name, &[cluster_ip]);
    service["spec"]["ports"] =
        json!([{"name": "http", "protocol": "TCP", "port": port, "targetPort": HTTP_TARGET}]);
    service["spec"]["externalIPs"] = json!(external);
    service
}

/// Who answers the client's pod and the node at a place: the name, or how it failed.
fn who(stage: &Stage, ip: &str, port: u16) -> Vec<String> {
    let at = SocketAddr::new(ip.parse().unwrap(), port);
    let probe = Probe { timeout: Duration::from_secs(1), ..Probe::new(Protocol::Tcp, at) };
    let answer = |place: Place| {
        let tally = place.probe(std::slice::from_ref(&probe)).unwrap().remove(0);
        tally.answered.into_values().map(|server| server.name).next().unwrap_or_else(|| "nobody".into())
    };
    stage.clients().map(answer).into()
}

/// The host outside and the node itself answer at [`SECRET`].
fn listening(flags: &[&str]) -> Stage {
    let stage = Stage::begin(flags);
    let listen = |ip: &str| {
        let at = SocketAddr::new(ip.parse::<IpAddr>().unwrap(), SECRET);
        [Listen { protocol: Protocol::Tcp, at }]
    };
    stage.lab.place("outside").unwrap().listen(&listen(OUTSIDE)).unwrap();
    stage.lab.node(NODE).unwrap().listen(&listen(OWN)).unwrap();
    stage
}

#[test]
fn external_ips_take_an_address_unless_they_are_ignored() {
    for (flags, taken) in [(&[][..], true), (&["--ignore-external-ips"], false)] {
        let stage = listening(flags);
        let untouched = who(&stage, OUTSIDE, SECRET);
        assert_eq!(untouched, ["outside", "outside"], "{flags:?}");
        stage.put(&thief("thief", "10.96.0.66", SECRET, &[OUTSIDE]));
        stage.point_at("thief", &["web-3"]);
        stage.until("the Service is served", || who(&stage, "10.96.0.66", SECRET) == ["web-3", "web-3"]);
        let wanted = if taken { "web-3" } else { "outside" };
        // The agent writes one frontend after the other.
        let what = format!("{OUTSIDE} is answered by {wanted} with {flags:?}");
        stage.until(&what, || who(&stage, OUTSIDE, SECRET) == [wanted, wanted]);
        stage.delete(&thief("thief", "10.96.0.66", SECRET, &[]));
        stage.until("the address is the host's again", || who(&stage, OUTSIDE, SECRET) == untouched);
        stage.reaches(&WEB, &SERVERS);
    }
}

/// Item 75: a Service has one port of the address, not the address.
#[test]
fn a_service_on_a_nodes_own_address_takes_the_port_it_names_and_no_other() {
    let stage = listening(&[]);
    let before = stage.occupancy();
    stage.put(&thief("thief", "10.96.0.66", HTTP, &[OWN]));
    stage.point_at("thief", &["web-3"]);
    stage.until("the port is served", || who(&stage, OWN, HTTP) == ["web-3", "web-3"]);
    // The node's own server keeps its port, and so do health and metrics, which `is_ready` asks for.
    assert_eq!(who(&stage, OWN, SECRET), ["node-1", "node-1"]);
    assert!(stage.is_ready());
    stage.delete(&thief("thief", "10.96.0.66", HTTP, &[]));
    stage.until("the port is nobody's", || who(&stage, OWN, HTTP) == ["nobody", "nobody"]);
    stage.delete(&objects::slice("thief", Family::Ipv4, &[]));
    stage.delete(&objects::slice("thief", Family::Ipv6, &[]));
    stage.holds(&before);
}

/// The agent would ask the thief for news, and never hear that it is gone.
#[test]
fn a_service_cannot_take_the_address_at_which_the_agent_asks_the_api_server() {
    let stage = listening(&[]);
    let server = stage.api.address();
    let address = server.ip().to_string();
    let from = stage.log().len();
    let mut service = thief("thief", "10.96.0.66", server.port(), &[&address]);
    service["spec"]["type"] = json!("LoadBalancer");
    service["status"] = json!({"loadBalancer": {"ingress": [{"ip": address}]}});
    stage.put(&service);
    stage.point_at("thief", &["web-3"]);
    stage.until("the Service is served", || who(&stage, "10.96.0.66", server.port()) == ["web-3", "web-3"]);
    for field in ["spec.externalIPs[0]", "status.loadBalancer.ingress[0].ip"] {
        stage.says(from, &["demo/thief", field, "which no Service can have"]);
    }
    // Neither an agent that runs nor one that starts is kept from its news.
    for _ in 0..2 {
        stage.point_at("web", &["web-1"]);
        stage.reaches(&WEB, &["web-1"]);
        stage.point_at("web", &SERVERS);
        stage.reaches(&WEB, &SERVERS);
        stage.lab.stop_agent(NODE, Stop::Kill).unwrap();
        stage.start();
    }
}

/// A thousand ports, slices of a thousand endpoints each, and annotations as long as the API takes them.
#[test]
fn huge_objects_are_served_and_leave_nothing_behind() {
    const PORTS: u16 = 1_000;
    const SLICES: u16 = 8;
    let stage = Stage::begin(&[]);
    let before = stage.occupancy();
    let frontends = |stage: &Stage| stage.occupancy()["frontends4"];
    let mut broad = objects::service("broad", &["10.96.0.70"]);
    let port = |n: u16| json!({"name": format!("p{n}"), "protocol": "TCP", "port": 1_000 + n, "targetPort": HTTP_TARGET});
    broad["spec"]["ports"] = (0..PORTS).map(port).collect();
    broad["metadata"]["annotations"] =
        json!({"example.net/long": "x".repeat(256 << 10), "sluice.dev/weights": "9,".repeat(100 << 10)});
    let mut slice = objects::slice("broad", Family::Ipv4, &[stage.lab.pod("web-3").unwrap().ips[0]]);
    let target = |n: u16| json!({"name": format!("p{n}"), "protocol": "TCP", "port": HTTP_TARGET});
    slice["ports"] = (0..PORTS).map(target).collect();
    let began = Instant::now();
    stage.put(&broad);
    stage.put(&slice);
    let wanted = before["frontends4"] + u64::from(PORTS) + 1;
    stage.until("a thousand ports are served", || frontends(&stage) == wanted);
    // Without endpoints, the Service has its ports already.
    for port in [1_000, 1_000 + PORTS - 1] {
        let what = format!("port {port} is answered");
        stage.until(&what, || who(&stage, "10.96.0.70", port) == ["web-3", "web-3"]);
    }
    println!("a Service of {PORTS} ports: served after {:.1} s", began.elapsed().as_secs_f64());

    let began = Instant::now();
    stage.put(&objects::service("deep", &["10.96.0.71"]));
    let deep: Vec<Value> = (0..SLICES).map(|n| crowd(&format!("deep-{n}"), n)).collect();
    deep.iter().for_each(|slice| stage.put(slice));
    let wanted = usize::from(SLICES) * 1_000;
    let behind = || {
        stage.ask(&["service", "list"]).as_array().map_or(0, |rows| {
            let deep = rows.iter().find(|row| row["service"] == "demo/deep" && row["portName"] == "http");
            deep.map_or(0, |row| row["clusterBackends"].as_u64().unwrap_or(0) as usize)
        })
    };
    stage.until("all endpoints are behind it", || behind() == wanted);
    println!("a Service of {wanted} endpoints: served after {:.1} s", began.elapsed().as_secs_f64());
    stage.reaches(&WEB, &SERVERS);
    for object in [broad, slice, objects::service("deep", &["10.96.0.71"])].iter().chain(&deep) {
        stage.delete(object);
    }
    stage.holds(&before);
}

/// A slice of `demo/deep` with a thousand endpoints, at which nobody is.
fn crowd(name: &str, number: u16) -> Value {
    let ip = |n: u16| IpAddr::from([10, 244, 128 + number as u8 * 4 + (n / 250) as u8, (n % 250) as u8 + 1]);
    let ips: Vec<IpAddr> = (0..1_000).map(ip).collect();
    let mut slice = objects::slice("deep", Family::Ipv4, &ips);
    slice["metadata"]["name"] = json!(name);
    slice
}

/// `nobody` can read neither the maps nor what is written down beside them, and `proxyctl` says why.
#[test]
fn nobody_but_root_can_read_the_maps_or_what_is_written_beside_them() {
    let stage = Stage::begin(&[]);
    let root = stage.lab.node_bpf_root(NODE);
    let notes = proxy_notes(&root);
    let mut files = Vec::new();
    for folder in [&root, &notes] {
        walk(folder, &mut files);
    }
    let named = |name: &str| files.iter().filter(|file| file.to_string_lossy().contains(name)).count();
    let counted = [named("/maps/"), named("/links/"), named(&notes.to_string_lossy())];
    assert!(counted[0] > 30 && counted[1] > 5 && counted[2] > 3, "{counted:?}");
    let as_nobody = |program: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--", program]);
        command
    };
    for file in &files {
        let opened = as_nobody("cat").arg(file).output().unwrap();
        let said = String::from_utf8_lossy(&opened.stderr).into_owned();
        assert!(!opened.status.success() && said.contains("Permission denied"), "{}: {said}", file.display());
    }
    println!("{} maps, {} links, {} notes: none can be opened", counted[0], counted[1], counted[2]);
    // A copy where everybody may run it.
    let folder = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
    let program = folder.path().join("proxyctl");
    // By another process: a child that is forked elsewhere in this one just now would hold a file that is open for writing here,
    // and nobody could run it before that child runs something else (ETXTBSY).
    let original = Program::Agent.find().unwrap().with_file_name("proxyctl");
    assert!(Command::new("cp").args([&original, &program]).status().unwrap().success());
    let asked =
        as_nobody(&program.to_string_lossy()).args(["status", "--bpf-root"]).arg(&root).output().unwrap();
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(!asked.status.success() && said.contains("run as root, with CAP_BPF"), "{said}");
}

fn open_to_all() -> std::fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

/// Where the agent of a root writes things down; the path follows from the root as in the agent.
fn proxy_notes(root: &Path) -> PathBuf {
    let name = root.to_string_lossy().trim_matches('/').replace('-', "--").replace('/', "-");
    Path::new("/run/sluice").join(name)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, found) } else { found.push(path) }
    }
}
