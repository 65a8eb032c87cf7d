//! How pods are told from other clients (item 62). A pod that is known as one reaches a Service whose policy is Local
//! also where only another node has a server (item 85); somebody else does not (item 84).

use sluice_lab::SocketLb;

use crate::stage::{FAR, Seen, Stage, Until, at_node};

fn stage(link: &str, flags: &[&str]) -> Stage {
    let mut stage = Stage::set(link, SocketLb::Off);
    stage.options.cluster_cidrs.clear();
    stage.options.extra.extend(flags.iter().map(|flag| (*flag).to_owned()));
    stage.begin()
}

#[test]
fn item_62_pods_are_told_by_the_beginning_of_their_devices_names() {
    let stage = stage("ptp", &["--detect-local-mode=InterfaceNamePrefix", "--interface-name-prefix=pod"]);
    stage.reaches("client", &at_node(1, FAR), &["far"], Seen::Anything);
    stage.reaches_nobody("laptop", &at_node(1, FAR));
}

#[test]
fn item_62_pods_are_told_by_their_bridge() {
    let stage = stage("bridge", &["--detect-local-mode=BridgeInterface", "--bridge-interface=cni0"]);
    stage.reaches("client", &at_node(1, FAR), &["far"], Seen::Anything);
    stage.reaches_nobody("laptop", &at_node(1, FAR));
}

#[test]
fn item_62_pods_are_told_by_the_ranges_of_their_node_as_they_are_now_in_each_family() {
    let stage = stage("ptp", &["--detect-local-mode=NodeCIDR"]);
    let [four, six] = at_node(1, FAR);
    stage.reaches("client", &[four, six], &["far"], Seen::Anything);
    let node = stage.lab.topology().node("node-1").unwrap().clone();
    stage.put_node(&node, &["fd00:244:1::/64".to_owned()]);
    // Without a range there is no detector: a pod is an outsider.
    stage.waits("client", &[four], Until::Silent);
    stage.reaches("client", &[six], &["far"], Seen::Anything);
    stage.put_node(&node, &["10.244.1.0/24".to_owned()]);
    stage.waits("client", &[four], Until::Answered);
    stage.waits("client", &[six], Until::Silent);
}
