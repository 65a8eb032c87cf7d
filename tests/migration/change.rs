//! From kube-proxy to Sluice and back to kube-proxy, in the order that `docs/migration.md` gives.

use std::process::{Child, Command, Stdio};

use sluice_lab::binary::Program;
use sluice_lab::{Place, SocketLb, Stop};
use tests::cluster::kube_proxy::Mode;
use tests::ports;

use crate::loads::{Flows, Loads, Removals};
use crate::peer::{self, Peer};
use crate::stage::{NODE, Stage};

/// Requests of each load between two steps.
const MEANWHILE: u32 = 40;
/// Connections that each client keeps open to each frontend, of each of the two who have opened them.
const HELD: usize = 20;
/// Few, but more than connections of a client to a frontend.
const FEW_PORTS: &str = "32768 40959";
/// How long Sluice's connections are waited for.
const DRAIN: &str = "4s";

#[test]
fn from_nftables_to_the_packet_road_and_back_no_connection_breaks() {
    there_and_back(Mode::Nftables, SocketLb::Host);
}

#[test]
fn from_iptables_to_the_socket_road_and_back_no_connection_breaks() {
    there_and_back(Mode::Iptables, SocketLb::On);
}

fn there_and_back(mode: Mode, road: SocketLb) {
    let mut stage = Stage::set(&[]);
    stage.options.socket_lb = road;
    let peer = Peer::of(&stage, mode);
    use_few_ports(&stage);
    let proxy = peer.start(&stage);
    peer::serves(&stage);
    let clients = peer::clients(&stage);
    let loads = Loads::at(&clients);
    let clients = [clients, peer::clients_of_the_host(&stage)].concat();
    let theirs = hold("kube-proxy", &clients);
    loads.go_on_for(MEANWHILE);

    // Its rules stay, and serve.
    drop(proxy);
    loads.go_on_for(MEANWHILE);
    stage.start();
    loads.go_on_for(MEANWHILE);
    stand(&theirs);
    assert!(translated(&stage) > 0, "nobody is served by Sluice");
    let ours = hold("sluice", &clients);
    keep(&stage);
    peer.clean(&stage);
    loads.go_on_for(MEANWHILE);
    stand(&theirs);
    stand(&ours);

    // Its programs stay, and serve.
    stage.lab.stop_agent(NODE, Stop::Terminate).unwrap();
    loads.go_on_for(MEANWHILE);
    let proxy = peer.start(&stage);
    loads.go_on_for(MEANWHILE);
    let drain = drain(&stage);
    stage.until("new connections are left to kube-proxy", || served(&stage) == 0);
    let again = hold("kube-proxy again", &clients);
    loads.go_on_for(MEANWHILE);
    stand(&theirs);
    stand(&ours);
    let output = drain.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    println!("{mode:?}, {road:?}: {said}{}", String::from_utf8_lossy(&output.stderr));
    loads.go_on_for(MEANWHILE);
    stand(&theirs);
    stand(&ours);
    stand(&again);
    println!("held: {} of kube-proxy, {} of Sluice, broken: 0", count(&theirs) + count(&again), count(&ours));
    loads.end(Removals(2));
    drop(proxy);
}

/// Sockets of the node and of the client outside get their ports from few, so that many of the one meet those of masqueraded connections
/// of the other.
fn use_few_ports(stage: &Stage) {
    for place in [stage.lab.node(NODE).unwrap(), stage.lab.place("outside").unwrap()] {
        ports::give(&place, FEW_PORTS).unwrap();
    }
}

/// The kernel follows and translates connections only while some rule asks for it: these do, and change nothing.
const KEEP: &str = "table inet keep { \
    chain nat { type nat hook prerouting priority 0; }; \
    chain track { type filter hook prerouting priority 0; ct state established counter; }; }";

/// Keeps connections that kube-proxy's rules have begun, when those go.
fn keep(stage: &Stage) {
    let mut nft = stage.lab.node(NODE).unwrap().command("nft").unwrap();
    assert!(nft.arg(KEEP).status().unwrap().success());
}

/// Opens connections that stay.
fn hold(name: &str, clients: &[(Place, Vec<sluice_lab::Probe>)]) -> Vec<Flows> {
    (0..HELD).map(|number| Flows::at(&format!("{name} {number} "), clients)).collect()
}

fn stand(held: &[Flows]) {
    held.iter().for_each(Flows::still_stand);
}

fn count(held: &[Flows]) -> usize {
    held.iter().map(|flows| flows.open.len()).sum()
}

/// Connections that Sluice has opened so far.
fn translated(stage: &Stage) -> u64 {
    let counters = stage.ask(&["counter", "list"]);
    let rows = counters.as_array().unwrap().iter();
    let new = rows.filter(|row| row["reason"].as_str().is_some_and(|name| name.ends_with("new")));
    new.filter_map(|row| row["count"].as_u64()).sum()
}

/// Frontends that Sluice serves.
fn served(stage: &Stage) -> u64 {
    let maps = stage.occupancy();
    maps["frontends4"] + maps["frontends6"]
}

fn drain(stage: &Stage) -> Child {
    let program = Program::Agent.find().unwrap();
    let mut command: Command = stage.lab.node(NODE).unwrap().command(&program.to_string_lossy()).unwrap();
    command
        .arg("cleanup")
        .arg(format!("--drain={DRAIN}"))
        .arg("--bpf-root")
        .arg(stage.lab.node_bpf_root(NODE));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
