//! What programs hang on changes under them: devices are made anew under their old names, an uplink goes down and comes back, the
//! node's address changes, others hang programs on the same hooks, and an agent comes back with clocks that are far off.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::time::Duration;

use serde_json::{Value, json};
use sluice_lab::wire::Outcome;
use sluice_lab::{NodeSpec, PlaceKind, Probe, Protocol, Stop, netns, plan, pod};

use crate::foreign::{Foreign, Order, Says};
use crate::loads::{Flows, Loads, Removals};
use crate::objects::{self, HTTP};
use crate::stage::{NODE, PATIENCE, SERVERS, Stage, WEB, frontends};

/// Requests of each load between two events.
const MEANWHILE: u32 = 30;
const NODE_PORT: u16 = 30_080;
const NEW_ADDRESSES: [&str; 2] = ["172.18.0.21", "fd00:18::21"];

fn node_netns(stage: &Stage) -> String {
    stage.lab.node(NODE).unwrap().netns
}

fn outside_reaches(stage: &Stage, probes: &[Probe]) {
    let outside = stage.lab.place("outside").unwrap();
    stage.until("the outside client is served", || {
        outside.probe(probes).unwrap().iter().all(|tally| tally.failures() == 0)
    });
}

/// Every hook hangs on something, and nothing hangs on what is gone.
fn is_attached(stage: &Stage) -> bool {
    let status = stage.ask(&["status"]);
    status["hooks"].as_array().unwrap().iter().all(|hook| hook["state"] == "attached")
}

/// Deletes a pod's device and makes one of the same name.
fn make_anew(stage: &Stage, name: &str) {
    let topology = stage.lab.topology();
    let place = stage.lab.pod(name).unwrap();
    let PlaceKind::Pod { link, .. } = place.kind else { panic!("{name} is a pod") };
    let device = pod::device(link);
    let spec = topology.pods.iter().find(|pod| pod.name == name).unwrap();
    let plan = plan::pod(&topology, topology.node(NODE).unwrap(), spec, &device, &place.netns);
    let node = node_netns(stage);
    netns::ip(&node, &[format!("link del {device}")]).unwrap();
    netns::ip(&node, &plan.node_lines).unwrap();
    netns::ip(&place.netns, &plan.space.lines).unwrap();
}

/// What makes the node's uplink what it is, whatever of it is there.
fn uplink_lines(stage: &Stage, node: &NodeSpec) -> Vec<String> {
    let lines = plan::node(&stage.lab.topology(), node).lines.into_iter();
    let of_uplink = lines.filter(|line| line.contains("dev eth0") && !line.contains("link"));
    of_uplink
        .map(|line| line.replacen("addr add", "addr replace", 1).replacen("route add", "route replace", 1))
        .collect()
}

#[test]
fn a_device_that_is_made_anew_and_an_uplink_that_flaps_are_served_again() {
    let stage = Stage::begin(&[]);
    let size = stage.occupancy();
    outside_reaches(&stage, &frontends(&WEB));
    let outside = stage.lab.place("outside").unwrap();
    let standing = &frontends(&WEB)[0];
    let server = |outcome: Outcome| match outcome {
        Outcome::Answered(answer) => answer.at,
        Outcome::Failed(failure) => panic!("the flow broke: {failure}"),
    };
    let first = server(outside.open("standing", standing).unwrap());
    stage.point_at("web", &["web-1", "web-2"]);
    stage.reaches(&WEB, &["web-1", "web-2"]);
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    for _ in 0..3 {
        make_anew(&stage, "web-3");
        loads.go_on_for(MEANWHILE);
    }
    stage.point_at("web", &SERVERS);
    stage.reaches(&WEB, &SERVERS);
    stage.until("nothing hangs on a device that is gone", || is_attached(&stage));
    stage.holds(&size);
    loads.end(Removals(1));
    // The address of an uplink that is down is gone, over IPv6, and the node has no other: nothing of the node's own is tried.
    let pod = Loads::of(&[stage.lab.pod("client").unwrap()]);
    let node = stage.lab.topology().node(NODE).unwrap().clone();
    for _ in 0..3 {
        netns::ip(&node_netns(&stage), &["link set eth0 down".to_owned()]).unwrap();
        pod.go_on_for(MEANWHILE);
        netns::ip(&node_netns(&stage), &["link set eth0 up".to_owned()]).unwrap();
        netns::ip(&node_netns(&stage), &uplink_lines(&stage, &node)).unwrap();
        outside_reaches(&stage, &frontends(&WEB));
    }
    stage.holds(&size);
    if !first.contains("244.1.13") {
        assert_eq!(server(outside.use_flow("standing", Duration::from_secs(20), 1).unwrap()), first);
    }
    flows.still_stand();
    pod.end(Removals(0));
}

#[test]
fn node_ports_follow_the_nodes_addresses() {
    let stage = Stage::begin(&[]);
    let mut ports = objects::service("ports", &["10.96.0.95", "fd00:96::95"]);
    ports["spec"]["type"] = json!("NodePort");
    ports["spec"]["ports"][0]["nodePort"] = json!(NODE_PORT);
    ports["spec"]["ports"][1]["nodePort"] = json!(NODE_PORT + 1);
    stage.put(&ports);
    stage.point_at("ports", &SERVERS);
    let loads = Loads::start(&stage);
    let mut node = stage.lab.topology().node(NODE).unwrap().clone();
    let old = node.addresses.clone();
    let at = |ips: &[IpAddr]| -> Vec<Probe> {
        ips.iter().map(|ip| Probe::new(Protocol::Tcp, SocketAddr::new(*ip, NODE_PORT))).collect()
    };
    outside_reaches(&stage, &at(&old));
    let new: Vec<IpAddr> = NEW_ADDRESSES.iter().map(|ip| ip.parse().unwrap()).collect();
    // A node may have both for a while, and the Node object says which counts.
    netns::ip(
        &node_netns(&stage),
        &[format!("addr add {}/24 dev eth0", new[0]), format!("addr add {}/64 dev eth0 nodad", new[1])],
    )
    .unwrap();
    node.addresses.clone_from(&new);
    stage.put(&objects::node(&node));
    outside_reaches(&stage, &at(&new));
    loads.go_on_for(MEANWHILE);
    loads.end(Removals(0));
    // The lab's routes to pods name the address; they go with it, and this node serves nobody any more.
    netns::ip(
        &node_netns(&stage),
        &[format!("addr del {}/24 dev eth0", old[0]), format!("addr del {}/64 dev eth0", old[1])],
    )
    .unwrap();
    stage.until("the old addresses are the node's no more", || {
        let addresses: Vec<Value> = stage.ask(&["status"])["nodeAddresses"].as_array().unwrap().clone();
        addresses == NEW_ADDRESSES.map(|ip| json!(ip))
    });
}

#[test]
fn programs_of_others_on_the_same_hooks_neither_disturb_nor_are_disturbed() {
    let stage = Stage::begin(&[]);
    let PlaceKind::Pod { link, .. } = stage.lab.pod("client").unwrap().kind else { panic!("a pod") };
    let device = pod::device(link);
    let hang = |order: Order, says: Says| Foreign::hang(&node_netns(&stage), &device, order, says).unwrap();
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    let links = || -> Vec<Value> {
        let status = stage.ask(&["status"]);
        status["hooks"].as_array().unwrap().iter().map(|hook| hook["linkId"].clone()).collect()
    };
    let ours = links();
    let (before, after) = (hang(Order::Before, Says::Next), hang(Order::After, Says::Pass));
    loads.go_on_for(MEANWHILE);
    stage.lab.stop_agent(NODE, Stop::Kill).unwrap();
    loads.go_on_for(MEANWHILE);
    stage.start();
    assert_eq!(links(), ours, "the links are the same, with other programs");
    assert!(before.hangs() && after.hangs());
    drop((before, after));
    loads.go_on_for(MEANWHILE);
    flows.still_stand();
    loads.end(Removals(0));
    // Who hangs a program ahead of ours that ends the chain takes those packets away from us, and gives them back.
    let thief = hang(Order::Before, Says::Pass);
    let probe = [Probe::new(Protocol::Tcp, SocketAddr::new(WEB[0].parse().unwrap(), HTTP))];
    let [pod, node] = stage.clients();
    assert_eq!(pod.probe(&probe).unwrap()[0].answers(), 0, "the pod's packets are not ours");
    assert_eq!(node.probe(&probe).unwrap()[0].answers(), 1, "the node's sockets are");
    drop(thief);
    stage.reaches(&WEB, &SERVERS);
}

#[test]
fn an_agent_whose_clocks_are_a_month_off_keeps_every_connection() {
    let stage = Stage::begin(&[]);
    let size = stage.occupancy();
    let flows = Flows::open(&stage);
    let loads = Loads::start(&stage);
    for days in [30, 0] {
        stage.lab.stop_agent(NODE, Stop::Kill).unwrap();
        let shifted = move |command: &mut std::process::Command| {
            let offset = days * 24 * 60 * 60;
            let text = format!("monotonic {offset} 0\nboottime {offset} 0\n");
            let shift = move || {
                // SAFETY: only the clocks of what is executed next are unshared.
                if unsafe { libc::unshare(libc::CLONE_NEWTIME) } != 0 {
                    return Err(std::io::Error::last_os_error());
                }
                std::fs::write("/proc/self/timens_offsets", &text)
            };
            // SAFETY: between fork and exec the closure makes some system calls; the one allocation that opening a file takes
            // is safe in a child whose parent holds no lock of the allocator at the fork (glibc sees to that).
            unsafe { command.pre_exec(shift) };
            Ok(())
        };
        stage.lab.start_agent_with(NODE, &stage.options, shifted).unwrap();
        stage.lab.agent_ready(NODE, PATIENCE).unwrap();
        let pid = stage.lab.agent_process(NODE).unwrap().unwrap().pid;
        let clocks = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/time")).unwrap();
        assert_ne!(clocks(&pid.to_string()), clocks("self"));
        // Longer than from one collection of what is over to the next.
        let ticks = std::time::Instant::now() + Duration::from_secs(11);
        while std::time::Instant::now() < ticks {
            loads.go_on_for(MEANWHILE);
        }
        flows.still_stand();
        stage.holds(&size);
    }
    stage.point_at("web", &["web-1"]);
    stage.reaches(&WEB, &["web-1"]);
    loads.end(Removals(2));
}
